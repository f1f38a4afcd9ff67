"""Seconds that new weights take from the actor to a vLLM engine on the CPU, over gloo.

batched: the trainer's own sync, one call per engine that announces all tensors, then the tensors.
per_tensor: OpenRLHF's update_weight protocol, one awaited call for every tensor. The CPU engine repacks what it loads
and so takes weights only all together: the tensors are kept and loaded after the last one, exactly as in `batched`.
load_only: the engine loads again what it kept. No transport can be faster than that.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import ray
from common import RESULTS, machine, progress, spread, write_json
from openrlhf.trainer.ray.vllm_worker_wrap import WorkerWrap

PROTOCOLS = ("batched", "per_tensor")
PROBE_TOKENS = 64
# Every sync sends other weights: the model's, with noise of this share of each tensor's root mean square.
NOISE = 0.1
# With the new weights in the engine its log-probs differ from the sender's by rounding only.
MAX_STALENESS = 0.2


class PerTensorWorker(WorkerWrap):
    """The engine's side of per_tensor."""

    _received = ()

    def update_weight(self, name, dtype, shape, empty_cache=False):
        import torch
        from openrlhf.utils.distributed_util import broadcast_from_trainer

        weight = torch.empty(shape, dtype=dtype, device=self.device)
        broadcast_from_trainer(weight, self._model_update_group)
        self._received = [*self._received, (name, weight)]
        if empty_cache:  # how the trainer marks the last tensor
            self._kept, self._received = self._received, ()
            self.load_kept()

    def load_kept(self):
        self.reload_weights(weights_iterator=iter(self._kept))
        self._repack_output_head()


@ray.remote(num_cpus=1)
class Sender:
    """An actor process with the model in bfloat16, which sends by the trainer's code and without its optimizer."""

    def __init__(self, model_dir, engine):
        from types import SimpleNamespace

        import torch
        from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer
        from transformers import AutoModelForCausalLM

        torch.manual_seed(0)
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        self.engine = engine
        self.model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16)
        self.parameters = list(self.model.named_parameters())
        self.original = [parameter.detach().clone() for _, parameter in self.parameters]
        self.probe = torch.randint(self.model.config.vocab_size, (1, PROBE_TOKENS))  # [1, A]

        self.trainer = ActorPPOTrainer.__new__(ActorPPOTrainer)  # its __init__ wants the optimizer and the rest
        self.trainer.vllm_engines = [engine]
        self.trainer.sync_in_one_call, self.trainer.use_cuda_ipc = True, False
        self.trainer.actor = SimpleNamespace(model=SimpleNamespace(module=self.model))
        sizes = SimpleNamespace(zero_stage=0, tensor_parallel_size=1)
        vllm = SimpleNamespace(num_engines=1, tensor_parallel_size=1)
        self.trainer.strategy = SimpleNamespace(args=SimpleNamespace(ds=sizes, vllm=vllm))
        self.trainer._init_vllm_sync_group("gloo")

    def describe(self):
        """(tensors, parameters, bytes) of one sync."""
        tensors = [parameter for _, parameter in self.parameters]
        return len(tensors), sum(t.numel() for t in tensors), sum(t.numel() * t.element_size() for t in tensors)

    def change_weights(self):
        import torch

        with torch.no_grad():
            for (_, parameter), original in zip(self.parameters, self.original, strict=True):
                scale = NOISE * original.float().square().mean().sqrt()
                parameter.copy_(original + scale * torch.randn_like(original))

    def sync(self, protocol) -> float:
        """Send the weights; returns the seconds until the engine has loaded them."""
        start = time.perf_counter()
        self.trainer.broadcast_to_vllm() if protocol == "batched" else self._send_per_tensor()
        return time.perf_counter() - start

    def _send_per_tensor(self):
        from openrlhf.utils.distributed_util import broadcast_from_trainer

        for count, (name, parameter) in enumerate(self.parameters, start=1):
            is_last = count == len(self.parameters)
            call = self.engine.update_weight.remote(name, parameter.dtype, tuple(parameter.shape), is_last)
            broadcast_from_trainer(parameter.data, self.trainer._model_update_group)
            ray.get(call)

    def probe_tokens(self) -> list[int]:
        return self.probe[0].tolist()

    def log_probs(self) -> list[float]:
        """Log-prob of each probe token but the first, given those before it."""
        import torch

        with torch.no_grad():
            logits = self.model(self.probe).logits[:, :-1].float()  # [1, A-1, vocabulary]
        return logits.log_softmax(-1).gather(-1, self.probe[:, 1:, None]).flatten().tolist()


def start_engine(model_dir: Path):
    """An engine as create_vllm_engines starts it on the CPU, with PerTensorWorker's method added."""
    from openrlhf.trainer.ray.vllm_engine import RolloutRayActor

    return RolloutRayActor.options(num_cpus=1, num_gpus=1).remote(
        model=str(model_dir),
        skip_tokenizer_init=True,
        worker_extension_cls="weight_sync.PerTensorWorker",
        distributed_executor_backend="uni",
        dtype="bfloat16",
        enforce_eager=True,
        max_model_len=2 * PROBE_TOKENS,
        gpu_memory_utilization=0.1,
        num_gpus=1,
    )


async def load_kept(engine) -> float:
    """Runs in the engine's actor: seconds to load once more what the last sync by per_tensor sent."""
    start = time.perf_counter()
    await engine.llm.collective_rpc("load_kept")
    return time.perf_counter() - start


def engine_log_probs(output, tokens: list[int]) -> list[float]:
    return [entry[token].logprob for entry, token in zip(output.prompt_logprobs[1:], tokens[1:], strict=True)]


def mean_gap(one: list[float], other: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def make_tiny_model(directory: Path) -> None:
    """A random Llama of 0.86 M parameters, with its own output head."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=64, **sizes, max_position_embeddings=512, initializer_range=0.1)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)


def measure(model_dir: Path, repeats: int) -> dict:
    """Start engine and sender on a Ray cluster that runs, sync by both protocols in turn, check every sync."""
    from openrlhf.trainer.ray import watch
    from vllm import SamplingParams

    engine = start_engine(model_dir)
    sender = Sender.remote(str(model_dir), engine)

    def get(call):
        return watch.get([call], [engine])[0]

    tensors, parameters, size = get(sender.describe.remote())
    progress(f"{tensors} tensors, {size / 1e6:.1f} MB; engine and sender are up")
    tokens = get(sender.probe_tokens.remote())
    probe = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
    seconds = {protocol: [] for protocol in PROTOCOLS}
    gaps = {protocol: [] for protocol in PROTOCOLS}
    loads = []
    for repeat in range(repeats + 1):  # the first is the warm-up
        for protocol in PROTOCOLS if repeat % 2 else PROTOCOLS[::-1]:
            get(sender.change_weights.remote())
            new = get(sender.log_probs.remote())
            stale = mean_gap(engine_log_probs(get(engine.generate.remote(tokens, probe)), tokens), new)
            taken = get(sender.sync.remote(protocol))
            gap = mean_gap(engine_log_probs(get(engine.generate.remote(tokens, probe)), tokens), new)
            progress(
                f"{'repeat ' + str(repeat) if repeat else 'warm-up'}, {protocol}: {taken:.3f} s; "
                f"mean |Δ log-prob| engine − sender {stale:.4f} before, {gap:.4f} after"
            )
            if not gap <= MAX_STALENESS * stale:  # NaN too
                raise SystemExit(f"{protocol}: the engine does not have the sender's weights")
            if repeat:
                seconds[protocol].append(round(taken, 4))
                gaps[protocol].append(round(gap, 5))
        if repeat:
            loads.append(round(get(engine.run.remote(load_kept)), 4))

    # What is compared was measured within a repeat, under much the same load of the machine.
    def ratio(others: list[float]) -> dict:
        return spread([round(slow / fast, 2) for slow, fast in zip(seconds["per_tensor"], others, strict=True)])

    return {
        "model": {"name": model_dir.name, "tensors": tensors, "parameters": parameters, "bytes": size},
        "seconds": {protocol: spread(seconds[protocol]) for protocol in PROTOCOLS} | {"load_only": spread(loads)},
        "ratio": ratio(seconds["batched"]),
        "highest_ratio": ratio(loads),  # of a sync that takes no time beside the loading
        "logprob_gap_after": {protocol: spread(gaps[protocol]) for protocol in PROTOCOLS},
    }


def main() -> None:
    from openrlhf.cli.train_ppo_ray import cpu_env_vars, local_cluster
    from openrlhf.trainer.ray import watch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, metavar="DIR", help="Hugging Face model directory; default: a tiny one")
    parser.add_argument("--repeats", type=int, default=5, help="syncs by each protocol, after one warm-up; default 5")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="JSON to write; default benchmarks/results/weight_sync_<model>.json"
    )
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error(f"--repeats {args.repeats}: give at least 1")
    if args.model and not (args.model / "config.json").is_file():
        parser.error(f"--model {args.model}: no config.json there; name a directory with a Hugging Face model")
    env_vars = cpu_env_vars()
    if not env_vars:
        parser.error("this measures the CPU engine, and there is a CUDA device: use a machine without one")

    with tempfile.TemporaryDirectory() as scratch:
        model_dir = args.model
        if model_dir is None:
            model_dir = Path(scratch) / "tiny"
            make_tiny_model(model_dir)
        host = machine()
        # The engine's process imports PerTensorWorker from here.
        env_vars["PYTHONPATH"] = str(Path(__file__).parent.resolve())
        try:
            progress("starting Ray, the engine and the sender")
            ray.init(runtime_env={"env_vars": env_vars}, log_to_driver=False, **local_cluster())
            result = {"machine": host, **measure(model_dir.resolve(), args.repeats)}
        finally:
            watch.shutdown()
    write_json(args.out or RESULTS / f"weight_sync_{result['model']['name']}.json", result)
    middle = {name: found["median"] for name, found in result["seconds"].items()}
    ratios = result["ratio"]["median"], result["highest_ratio"]["median"]
    print("batched {batched:.3f} s, per tensor {per_tensor:.3f} s, loading alone {load_only:.3f} s".format(**middle))
    print("per tensor over batched {:.1f}, over loading alone {:.1f}".format(*ratios))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("weight_sync: interrupted")
