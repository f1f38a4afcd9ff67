"""One rank of the test of the chunked output head under ZeRO: python chunked_worker.py DIRECTORY; RANK … are set.

OpenRLHF's actor on a real DeepSpeed engine. Rank 0 writes gradients.pt: by case and path the gradients of all ranks'
samples together, "alone" those of plain autograd; every rank writes gathers_RANK.json, the fetches of the head a pass.
"""

import json
import sys
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator
from openrlhf.cli.train_ppo_ray import get_parser
from openrlhf.models import Actor
from openrlhf.models.log_probs import ChunkedHead
from openrlhf.utils import get_strategy
from openrlhf.utils.config import hierarchize
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

CASES = {"0": (0, False), "1": (1, False), "2": (2, False), "3": (3, False), "3, tied": (3, True)}  # stage, tied
PATHS = {"whole": None, "chunks of 3": 3, "one chunk": 64}
# Action tokens at the end of each of a rank's two samples. In the second step one rank has no chunk at all.
STEPS = [[(7, 6), (2, 0)], [(8, 5), (0, 0)]]


def batch_of(step: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """(tokens [2, 10], action mask [2, 8], what each action's log-prob counts [2, 8])."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    tokens = torch.randint(1, 31, (2, 10), generator=generator)
    actions = torch.arange(8) >= 8 - torch.tensor(STEPS[step][rank])[:, None]
    return tokens, actions.long(), torch.randn(2, 8, generator=generator)


def loss_of(actor: Actor, step: int, rank: int) -> Tensor:
    tokens, actions, weights = batch_of(step, rank)
    log_probs, output = actor(
        tokens, actions, attention_mask=torch.ones_like(tokens), return_output=True, return_entropy=True
    )
    return ((log_probs + 0.3 * output.entropy[:, -8:]) * weights * actions).sum()


def by_autograd(base: Path) -> list[dict[str, Tensor]]:
    """The gradients of each step: whole logits, without DeepSpeed, the mean over the ranks."""
    found = []
    for step in range(len(STEPS)):
        actor = Actor(Qwen2ForCausalLM.from_pretrained(base))
        actor.packing_samples = False
        sum(loss_of(actor, step, rank) / 2 for rank in range(2)).backward()
        found.append({name: parameter.grad for name, parameter in actor.model.named_parameters()})
    return found


def by_engine(stage: int, base: Path, fetches: list) -> tuple[dict, dict]:
    """({path: the gradients of each step}, {path: fetches of the head in each step})."""
    words = f"--ds.zero_stage {stage} --ds.param_dtype fp32 --vllm.sync_backend gloo --ds.attn_implementation eager"
    words += " --train.micro_batch_size 2 --train.batch_size 4"
    strategy = get_strategy(hierarchize(get_parser().parse_args(words.split())))
    strategy.setup_distributed()
    actor = Actor(str(base), attn_implementation="eager", param_dtype="fp32", ds_config=strategy.get_ds_train_config())
    head = actor.model.get_output_embeddings()
    heads = {size: ChunkedHead(actor.model, size) for size in PATHS.values() if size}
    # At a learning rate of 0 every step's gradient is that of the same policy.
    adam = {"lr": 0.0, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0}
    settings = {"optim": "adam", "muon": {}, "adam": adam, "lr_scheduler": "constant", "max_norm": 0.0}
    actor, optimizer, scheduler = strategy.prepare((actor, settings | {"scheduler_steps": 10}))
    actor.train()
    gradients: dict[str, list] = {path: [] for path in PATHS}
    counts: dict[str, list] = {path: [] for path in PATHS}
    for path, size in PATHS.items():
        actor.chunked_head = heads.get(size)
        for step in range(len(STEPS)):
            fetches.clear()
            strategy.backward(loss_of(actor, step, dist.get_rank()), actor, optimizer)
            counts[path].append(sum(module is head for module in fetches))
            full = {name: deepspeed.utils.safe_get_full_grad(p) for name, p in actor.model.module.named_parameters()}
            gradients[path].append({name: gradient.float().clone() for name, gradient in full.items()})
            strategy.optimizer_step(optimizer, actor, scheduler, name="actor")
    return gradients, counts


def main(directory: Path) -> None:
    torch.set_num_threads(1)
    deepspeed.init_distributed("gloo")
    fetches: list = []
    fetch = PartitionedParameterCoordinator.fetch_sub_module

    def noted(coordinator, module, forward):
        fetches.append(module)
        return fetch(coordinator, module, forward)

    PartitionedParameterCoordinator.fetch_sub_module = noted
    gradients, counts = {}, {}
    for name, (stage, tied) in CASES.items():
        base = directory / f"base_{tied}"
        if dist.get_rank() == 0 and not base.exists():
            torch.manual_seed(0)
            sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
            config = Qwen2Config(vocab_size=31, hidden_size=8, intermediate_size=12, tie_word_embeddings=tied, **sizes)
            Qwen2ForCausalLM(config).save_pretrained(base)
        dist.barrier()
        gradients[name], counts[name] = by_engine(stage, base, fetches)
        if dist.get_rank() == 0:
            gradients[name]["alone"] = by_autograd(base)
        dist.barrier()
    (directory / f"gathers_{dist.get_rank()}.json").write_text(json.dumps(counts))
    if dist.get_rank() == 0:
        torch.save(gradients, directory / "gradients.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
