"""A tiny transformer with LoRA adapters on a real DeepSpeed engine: trained, synced, saved, resumed."""

from pathlib import Path
from unittest.mock import MagicMock, patch

import torch
import torch.distributed as dist
from openrlhf.cli.train_ppo_ray import get_parser
from openrlhf.models import Actor
from openrlhf.trainer.ray import ppo_actor
from openrlhf.utils import get_strategy
from openrlhf.utils.config import hierarchize
from peft import PeftModel
from transformers import Qwen2Config, Qwen2ForCausalLM

TOKENS = torch.tensor([[1, 4, 2, 7, 3, 9], [5, 5, 8, 1, 6, 2]])


def save_base(directory: Path) -> None:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    Qwen2ForCausalLM(Qwen2Config(vocab_size=11, hidden_size=8, intermediate_size=12, **sizes)).save_pretrained(
        directory
    )


def make_trainer(stage: int, base: Path) -> ppo_actor.ActorPPOTrainer:
    words = f"--ds.zero_stage {stage} --ds.param_dtype fp32 --vllm.sync_backend gloo --actor.eps_clip_low_high 0.2 0.2"
    words += " --ds.attn_implementation sdpa --train.micro_batch_size 2 --train.batch_size 4 --ds.lora.rank 2"
    args = hierarchize(get_parser().parse_args(words.split()))
    strategy = get_strategy(args)
    strategy.setup_distributed()
    actor = Actor(
        str(base),
        attn_implementation="sdpa",
        param_dtype="fp32",
        lora_rank=2,
        target_modules="all-linear",
        ds_config=strategy.get_ds_train_config(),
    )
    adam = {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0}
    settings = {"optim": "adam", "muon": {}, "adam": adam, "lr_scheduler": "constant", "lr_warmup_ratio": 0}
    prepared = strategy.prepare((actor, settings | {"max_norm": 0.0, "scheduler_steps": 10}))
    return ppo_actor.ActorPPOTrainer(strategy, prepared[0], None, *prepared[1:], micro_train_batch_size=2)


def train(trainer: ppo_actor.ActorPPOTrainer, steps: int = 3) -> None:
    mask = torch.ones_like(TOKENS)
    for _ in range(steps):
        log_probs = trainer.actor(TOKENS, mask[:, 1:], attention_mask=mask)
        trainer.strategy.backward(-log_probs.mean(), trainer.actor, trainer.actor_optim)
        trainer.strategy.optimizer_step(trainer.actor_optim, trainer.actor, trainer.actor_scheduler)


def synced(trainer: ppo_actor.ActorPPOTrainer) -> dict[str, torch.Tensor]:
    """What broadcast_to_vllm sends, on rank 0; {} on others."""
    engine, tensors = MagicMock(), []
    trainer.vllm_engines, trainer.sync_in_one_call, trainer._model_update_group = [engine], True, None
    with (
        patch.object(ppo_actor, "broadcast_from_trainer", lambda tensor, *_: tensors.append(tensor.clone())),
        patch.object(ppo_actor.ray, "get", lambda refs: None),
    ):
        trainer.broadcast_to_vllm()
    if dist.get_rank() != 0:
        return {}
    names = [name for name, _, _ in engine.receive_weights.remote.call_args.args[0]]
    return dict(zip(names, tensors, strict=True))


def difference(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> float:
    assert set(got) == set(want), set(got) ^ set(want)
    return max(((got[name] - weight).abs().max().item() for name, weight in want.items()), default=0.0)


def adapter_case(stage: int, directory: str) -> dict[str, float]:
    """Largest differences of the synced weights: from the base, from the saved adapters merged by PEFT, between two
    syncs, and from those of a run that was resumed."""
    work = Path(directory, f"lora_{dist.get_world_size()}_{stage}")
    base = work / "base"
    if dist.get_rank() == 0:
        save_base(base)
    dist.barrier()
    trainer = make_trainer(stage, base)
    before = synced(trainer)
    train(trainer)
    first, second = synced(trainer), synced(trainer)
    trainer.strategy.save_model(trainer.actor, MagicMock(), str(work / "model"))
    trainer.strategy.save_ckpt(trainer.actor.model, str(work / "ckpt"), "global_step3")
    resumed = make_trainer(stage, base)
    resumed.strategy.load_ckpt(resumed.actor.model, str(work / "ckpt"), "global_step3")
    again = synced(resumed)
    if dist.get_rank() != 0:
        return {}
    plain = Qwen2ForCausalLM.from_pretrained(base)
    untrained = {name: weight.detach().clone() for name, weight in plain.named_parameters()}
    merged = PeftModel.from_pretrained(plain, work / "model").merge_and_unload()
    return {
        "untrained": difference(before, untrained),
        "moved": difference(first, untrained),
        "merged": difference(first, {name: weight.detach() for name, weight in merged.named_parameters()}),
        "again": difference(second, first),
        "resumed": difference(again, first),
    }
