"""Checks what only a GPU can show, in at most eight minutes on one: python scripts/gpu_check.py --out gpu_check.json

Needs torch, transformers and this checkout; no vLLM, nothing installed from here. log_probs.py is taken from an
installed patched OpenRLHF or from build/openrlhf (patches/patches.py apply). DeepSpeed's part is left out with a line
where it is not installed. Each part is a dictionary in the JSON with "passed", or "skipped" and why; exit code 1 if
one did not pass. --device cpu --quick runs all of it small, for the tests.

    loss       mirror-descent loss and its gradient through a bf16 head, against float64 on the CPU by the formula
    reset      an optimizer after its reset against a fresh one: torch's Adam, DeepSpeed's under ZeRO 0 to 3
    log_probs  log-probs without whole logits: seconds, memory, and the difference to float64
    ipc        weights to another process of this device (CUDA IPC), one by one and packed into one tensor
"""

import argparse
import importlib.util
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kimi_plugins.policy.mirror_descent import MirrorDescentLoss  # noqa: E402
from kimi_plugins.policy.optimizer_reset import reset_optimizer  # noqa: E402

SECONDS = 480
MIB = 2**20
ADAM = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.01}


@dataclass(frozen=True)
class Sizes:
    """hidden, vocabulary: of the head. tokens: lengths of a response; checked: tokens that float64 is computed for.
    tensors, shape: of the weights that are sent."""

    hidden: int
    vocabulary: int
    tokens: tuple[int, ...]
    checked: int
    tensors: int
    shape: tuple[int, int]


FULL = Sizes(3584, 151_936, (32_768, 131_072), 1024, 272, (2048, 2048))
QUICK = Sizes(64, 512, (256, 1024), 128, 16, (64, 64))


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return ((found - expected).abs().max() / expected.abs().max()).item()


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# loss


def loss(device: str, sizes: Sizes) -> dict:
    """The surrogate of 16 sequences of uneven length, by MirrorDescentLoss on the device and by its formula."""
    generator = torch.Generator().manual_seed(0)
    rows, length, tau = 16, 64, 0.1
    hidden = (torch.randn(rows, length, sizes.hidden, generator=generator) / sizes.hidden**0.5).bfloat16()
    vocabulary = min(sizes.vocabulary, 8192)
    weight = torch.randn(vocabulary, sizes.hidden, generator=generator).bfloat16()
    tokens = torch.randint(vocabulary, (rows, length), generator=generator)
    mask = torch.arange(length) < torch.randint(1, length + 1, (rows, 1), generator=generator)
    rewards = torch.randint(2, (rows,), generator=generator).double()
    advantages = (rewards - rewards.mean())[:, None].expand(rows, length)

    def log_probs(hidden, weight, dtype):
        # As OpenRLHF's actor: the head in the model's type, log-probs in float32.
        logits = (hidden @ weight.T).to(dtype)
        return logits.log_softmax(-1).gather(-1, tokens.to(logits.device)[..., None]).squeeze(-1)

    with torch.no_grad():
        exact = log_probs(hidden.double(), weight.double(), torch.float64)
        old = exact - 0.05 * torch.randn(rows, length, generator=generator, dtype=torch.float64)

    reference = [tensor.double().requires_grad_() for tensor in (hidden, weight)]
    ratio = torch.where(mask, log_probs(*reference, torch.float64) - old, 0.0).sum(-1)
    expected = ((rewards - rewards.mean() - tau * ratio) ** 2).mean()
    expected.backward()

    tensors = [tensor.to(device).requires_grad_() for tensor in (hidden, weight)]
    module = MirrorDescentLoss(tau=tau, max_log_ratio=1e6, log_ratio="sequence", token_level_loss=True)
    inputs = (old.float(), advantages.float(), mask)
    found = module(log_probs(*tensors, torch.float32), *(tensor.to(device) for tensor in inputs))[0]
    found.backward()
    result = {
        "loss": error(found, expected),
        "gradient of hidden states": error(tensors[0].grad, reference[0].grad),
        "gradient of the head": error(tensors[1].grad, reference[1].grad),
    }
    # bf16 keeps 8 bits; a sequence's ratio sums up to 64 log-probs, each off by some thousandths.
    return result | {"passed": max(result.values()) < 0.05}


# reset


def train(optimizer: torch.optim.Optimizer, parameter: torch.Tensor, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter)
        optimizer.step()


def reset_of_torch(device: str, fused: bool) -> float:
    """Largest difference of the weights after three updates, to those of a fresh optimizer."""
    parameter = torch.nn.Parameter(torch.ones(4096, device=device))
    optimizer = torch.optim.AdamW([parameter], fused=fused, **ADAM)
    train(optimizer, parameter, range(5))
    reset_optimizer(optimizer)
    twin = torch.nn.Parameter(parameter.detach().clone())
    train(optimizer, parameter, range(5, 8))
    train(torch.optim.AdamW([twin], fused=fused, **ADAM), twin, range(5, 8))
    return (parameter - twin).abs().max().item()


def reset_of_deepspeed(device: str, stage: int, torch_adam: bool) -> float:
    """The same, in float32 under a ZeRO stage, one rank."""
    import deepspeed

    def engine_of(state: dict | None):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Tanh(), torch.nn.Linear(128, 8))
        if state is not None:
            model.load_state_dict(state)
        config = {
            "train_micro_batch_size_per_gpu": 4,
            "optimizer": {"type": "AdamW", "params": ADAM | {"torch_adam": torch_adam}},
            "zero_optimization": {"stage": stage, "reduce_bucket_size": 10_000, "allgather_bucket_size": 10_000},
        }
        return deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)[0]

    def update(engine, steps: range) -> None:
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            rows = torch.randn(4, 64, generator=generator).to(device)
            engine.backward((engine(rows) ** 2).mean())
            engine.step()

    def state_of(engine) -> dict:
        parameters = list(engine.module.parameters())
        with deepspeed.zero.GatheredParameters(parameters, enabled=stage == 3):
            return {name: tensor.detach().cpu().clone() for name, tensor in engine.module.state_dict().items()}

    engine = engine_of(None)
    update(engine, range(5))
    reset_optimizer(engine.optimizer)
    fresh = engine_of(state_of(engine))
    for one in (engine, fresh):
        update(one, range(5, 8))
    pairs = zip(state_of(engine).values(), state_of(fresh).values(), strict=True)
    return max((mine - theirs).abs().max().item() for mine, theirs in pairs)


def reset(device: str, sizes: Sizes) -> dict:
    found = {"torch": reset_of_torch(device, fused=False)}
    if device == "cuda":
        found["torch, fused"] = reset_of_torch(device, fused=True)
    result: dict = {"difference": found}
    if importlib.util.find_spec("deepspeed") is None:
        result["left out"] = "DeepSpeed is not installed: ZeRO 0 to 3"
    else:
        import deepspeed

        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        single = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        os.environ.update(single | {"MASTER_PORT": str(port)})
        deepspeed.init_distributed("nccl" if device == "cuda" else "gloo")
        for stage in range(4):
            found[f"ZeRO {stage}"] = reset_of_deepspeed(device, stage, torch_adam=True)
        torch.distributed.destroy_process_group()
    return result | {"passed": max(found.values()) <= 1e-6}


# log_probs


def load_log_probs():
    """OpenRLHF's models/log_probs.py, which imports nothing but torch; None if it is nowhere."""
    places = [ROOT / "build" / "openrlhf" / "openrlhf" / "models" / "log_probs.py"]
    if (spec := importlib.util.find_spec("openrlhf")) is not None and spec.origin is not None:
        places.insert(0, Path(spec.origin).parent / "models" / "log_probs.py")
    path = next((place for place in places if place.exists()), None)
    if path is None:
        return None
    spec = importlib.util.spec_from_file_location("log_probs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def log_probs(device: str, sizes: Sizes) -> dict:
    module = load_log_probs()
    if module is None:
        return {"skipped": "no patched OpenRLHF: run python patches/patches.py apply first"}
    if importlib.util.find_spec("transformers") is None:
        return {"skipped": "transformers is not installed"}
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        intermediate_size=2 * sizes.hidden,
        num_hidden_layers=1,
        num_attention_heads=sizes.hidden // 64,
        num_key_value_heads=sizes.hidden // 64,
        max_position_embeddings=max(sizes.tokens),
        attn_implementation="sdpa",
        use_cache=False,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2ForCausalLM(config).bfloat16()
    head = module.ChunkedHead(model, 512)

    def inputs(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        sequence = torch.randint(sizes.vocabulary, (1, tokens + 1), generator=torch.Generator().manual_seed(tokens))
        return sequence[:, :-1].to(device), sequence[:, 1:].to(device)

    def chunked(sequence: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        mask = torch.ones_like(labels, dtype=torch.bool)
        return head(model, sequence, labels, mask, lambda logits: logits)[1]

    def whole(sequence: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return -torch.nn.functional.cross_entropy(model(sequence).logits[0].float(), labels[0], reduction="none")[None]

    # Exactness, of the log-probs and of the head's gradient, against float64 from the same hidden states.
    sequence, labels = inputs(sizes.checked)
    found = chunked(sequence, labels)
    found.mean().backward()
    gradient = model.lm_head.weight.grad.clone()
    model.zero_grad()
    with torch.no_grad():
        states = model.model(sequence).last_hidden_state[0].double()
        logits = states @ model.lm_head.weight.double().T
        expected = logits.log_softmax(-1).gather(-1, labels[0][:, None]).squeeze(-1)
        upstream = -logits.softmax(-1)
        upstream[torch.arange(sizes.checked), labels[0]] += 1
        expected_gradient = (upstream / sizes.checked).T @ states
        del logits, upstream
    result: dict = {
        "log-probs against float64": error(found[0], expected),
        "head's gradient against float64": error(gradient, expected_gradient),
        "log-probs against whole logits": error(found, whole(sequence, labels)),
    }
    passed = max(result.values()) < 0.02
    del found, expected, expected_gradient, gradient, states

    result["lengths"] = []
    for tokens in sizes.tokens:
        for name, compute in (("chunks", chunked), ("whole", whole)):
            result["lengths"].append(
                {"tokens": tokens, "path": name} | measure(device, model, compute, inputs(tokens))
            )
    fits = [one for one in result["lengths"] if one["path"] == "chunks"]
    return result | {"passed": passed and all("seconds" in one for one in fits)}


def measure(device: str, model: torch.nn.Module, compute: Callable, inputs: tuple) -> dict:
    """Seconds of a forward and a backward pass, the second of two, and the peak of memory above what was held."""
    try:
        for _ in range(2):
            model.zero_grad()
            if device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated() if device == "cuda" else 0
            synchronize(device)
            began = time.perf_counter()
            compute(*inputs).mean().backward()
            synchronize(device)
            seconds = time.perf_counter() - began
    except torch.OutOfMemoryError:
        model.zero_grad()
        return {"out of memory": True}
    result = {"seconds": round(seconds, 4)}
    if device == "cuda":
        result["MiB"] = round((torch.cuda.max_memory_allocated() - held) / MIB)
    return result


# ipc


def receive(queue, answers) -> None:
    """The other process: sums of each list of tensors that comes, until None comes."""
    while (tensors := queue.get()) is not None:
        total = sum(tensor.float().sum().item() for tensor in tensors)
        del tensors  # the sender's memory is held as long as they live
        answers.put(total)


def ipc(device: str, sizes: Sizes) -> dict:
    """Weights shared with a process that was started afresh, as with an engine that shares its card with a rank."""
    context = torch.multiprocessing.get_context("spawn")
    queue, answers = context.Queue(), context.Queue()
    process = context.Process(target=receive, args=(queue, answers), daemon=True)
    process.start()
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randint(-8, 8, sizes.shape, generator=generator).bfloat16() for _ in range(sizes.tensors)]
    weights = [weight.to(device) for weight in weights]
    expected = sum(weight.float().sum().item() for weight in weights)
    result: dict = {"MiB": round(sum(weight.nbytes for weight in weights) / MIB, 1), "tensors": len(weights)}
    sent = {}
    try:
        for name in ("first", "one by one", "packed"):  # the first time the process starts its device
            synchronize(device)
            began = time.perf_counter()
            packed = [torch.cat([weight.flatten() for weight in weights])] if name == "packed" else weights
            queue.put(packed)
            sent[name] = answers.get(timeout=120)
            result[f"seconds, {name}"] = round(time.perf_counter() - began, 4)
        queue.put(None)
        process.join(60)
    finally:
        process.kill()
    return result | {"passed": all(total == expected for total in sent.values())}


PARTS = {"loss": loss, "reset": reset, "log_probs": log_probs, "ipc": ipc}


def about(device: str) -> dict:
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def run(device: str, sizes: Sizes, parts: list[str]) -> Iterator[tuple[str, dict]]:
    began = time.monotonic()
    for name in parts:
        if time.monotonic() - began > SECONDS:
            yield name, {"skipped": f"{SECONDS} s are over"}
            continue
        start = time.monotonic()
        result = PARTS[name](device, sizes)
        yield name, result | {"part took, seconds": round(time.monotonic() - start, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="of the JSON; also printed")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device that torch can use: see `openrlhf kimi doctor`, or take --device cpu --quick")
    report: dict = {"machine": about(args.device), "quick": args.quick}
    for name, result in run(args.device, QUICK if args.quick else FULL, args.parts):
        report[name] = result
        print(f"{name}: {json.dumps(result)}", file=sys.stderr, flush=True)
        if args.out:
            args.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return int(any(not report[name].get("passed", "skipped" in report[name]) for name in args.parts))


if __name__ == "__main__":
    sys.exit(main())
