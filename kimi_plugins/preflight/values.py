"""Values of OpenRLHF's flags for RL that are out of range, and flags that are set and have no effect."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from typing import Any

from kimi_plugins.preflight import batches

Test = Callable[[Any], bool]
Rule = tuple[Test, str]


def _from(low: float) -> Rule:
    return (lambda value: low <= value < math.inf), f"a finite number ≥ {low:g}"


def _above(low: float) -> Rule:
    return (lambda value: low < value < math.inf), f"a finite number above {low:g}"


def _one_of(*names: str) -> Rule:
    return (lambda value: value in names), "one of " + ", ".join(names)


_SHARE: Rule = (lambda value: 0 <= value <= 1), "in [0, 1]"
_BELOW_1: Rule = (lambda value: 0 <= value < 1), "in [0, 1)"
_PART: Rule = (lambda value: 0 < value <= 1), "in (0, 1]"
_RATE: Rule = (lambda value: 0 <= value < 1), "in [0, 1), e.g. 1e-6"
_EVERY: Rule = (lambda value: value == -1 or value >= 1), "a number of steps ≥ 1, or -1 for never"
_RISING: Rule = (lambda value: value[0] < value[1]), "two numbers, the smaller one first"
# Those of transformers that need no further arguments.
_SCHEDULERS = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"),
    *("inverse_sqrt", "cosine_with_min_lr", "cosine_warmup_with_min_lr"),
)
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")

_OPTIMIZER: dict[str, Rule] = {
    "adam.lr": _RATE,
    "adam.betas": ((lambda value: all(0 <= beta < 1 for beta in value)), "two numbers in [0, 1)"),
    "adam.eps": _from(0),
    "adam.weight_decay": _from(0),
    "muon.lr": _RATE,
    "muon.momentum": _BELOW_1,
    "muon.ns_steps": _from(1),
    "lr_scheduler": _one_of(*_SCHEDULERS),
    "lr_warmup_ratio": _SHARE,
    "min_lr_ratio": _SHARE,
    "max_norm": _from(0),
}
RANGES: dict[str, Rule] = {
    **{f"actor.{key}": rule for key, rule in _OPTIMIZER.items()},
    "actor.eps_clip": _from(0),
    "actor.eps_clip_low_high": ((lambda value: all(0 <= bound < math.inf for bound in value)), "two numbers ≥ 0"),
    "actor.dual_clip": _above(1),
    "actor.aux_loss_coef": _from(0),
    "actor.entropy_coef": ((lambda value: math.isfinite(value)), "a finite number"),
    "algo.advantage.gamma": _SHARE,
    "algo.advantage.is_correction_threshold": (
        (lambda value: 0 <= [0, *value][-2] < value[-1] < math.inf),
        "an upper bound above 0, or two numbers ≥ 0, the smaller one first",
    ),
    "algo.advantage.lambd": _SHARE,
    "algo.dynamic_filtering_range": _RISING,
    "algo.kl.init_coef": _from(0),
    "algo.kl.target": _above(0),
    "algo.kl.horizon": _from(1),
    "ckpt.max_num": _from(1),
    "ckpt.max_mem": ((lambda value: value > 0), "a number of GB above 0"),
    "ckpt.save_steps": _EVERY,
    "critic.value_clip": _above(0),
    "data.dataloader_num_workers": _from(0),
    "data.max_images_per_prompt": _from(0),
    "data.max_len": _from(2),
    "data.max_samples": _from(1),
    "ds.attn_implementation": (
        (lambda value: value in _ATTENTION or "/" in value or "|" in value),
        "one of " + ", ".join(_ATTENTION) + ", or a kernel of the hub, as kernels-community/flash-attn",
    ),
    "ds.grad_accum_dtype": _one_of("fp32", "bf16", "fp16"),
    "ds.lora.alpha": _above(0),
    "ds.lora.rank": _from(0),
    "ds.lora.dropout": _BELOW_1,
    "ds.ring_attn_head_stride": _from(1),
    "ds.zero_stage": ((lambda value: value in (0, 1, 2, 3)), "0, 1, 2 or 3"),
    "ds.zpg": _from(1),
    "eval.n_samples_per_prompt": _from(1),
    "eval.steps": _EVERY,
    "eval.temperature": _from(0),
    "logger.logging_steps": _from(1),
    "reward.clip_range": _RISING,
    "reward.overlong_penalty_factor": _above(0),
    "reward.stop_properly_penalty_coef": (
        (lambda value: -math.inf < value <= 1),
        "in [0, 1], the share of its reward that a cut off response keeps, or below 0, the reward it gets instead",
    ),
    "reward.timeout": _above(0),
    "rollout.max_new_tokens": _from(1),
    "rollout.max_tokens_per_gpu": _from(1),
    "rollout.min_new_tokens": _from(0),
    "rollout.temperature": (
        (lambda value: 0 < value < math.inf),
        "a finite number above 0; the log-probs that are trained on are those at this temperature",
    ),
    "rollout.top_p": _PART,
    "rollout.vllm_generate_batch_size": _from(1),
    "train.async_queue_size": _from(1),
    "train.ema_beta": _BELOW_1,
    "train.max_epochs": _from(1),
    "train.max_tokens_per_gpu": _from(1),
    "train.num_episodes": _from(1),
    "train.seed": ((lambda value: 0 <= value < 2**31), "in [0, 2³¹), as NumPy and vLLM take seeds"),
    "vllm.gpu_memory_utilization": _PART,
    "vllm.max_restarts": _from(0),
    "vllm.sync_backend": _one_of("nccl", "gloo"),
}


def check_ranges(args) -> Iterator[str]:
    """One line for each value that is out of range; flags that are not set (None) are not looked at."""
    critic = {f"critic.{key}": rule for key, rule in _OPTIMIZER.items()} if "critic" in batches.groups(args) else {}
    for key, (test, rule) in (RANGES | critic).items():
        value = attrgetter(key)(args)
        if value is not None and not test(value):
            yield f"{key}: {_text(value)}; it must be {rule}"
    shortest, longest = args.rollout.min_new_tokens, args.rollout.max_new_tokens
    if longest is not None and shortest > longest:
        yield (
            f"rollout.min_new_tokens: {shortest} is above rollout.max_new_tokens {longest}; lower it, or raise "
            "rollout.max_new_tokens"
        )
    correction = args.algo.advantage.is_correction_level
    if args.rollout.top_p < 1 and correction != "off" and not plugin(args, "policy"):  # which has weights of its own
        yield (
            f"rollout.top_p: {args.rollout.top_p} with algo.advantage.is_correction_level {correction}, whose weights "
            "would compare the policy with its truncated self; set it to 1, or the level to off"
        )
    buffer = args.reward.overlong_buffer_len
    if buffer is not None and not 0 < buffer <= (longest or args.data.max_len):
        yield (
            f"reward.overlong_buffer_len: {_text(buffer)}; it must be above 0, and at most the longest response "
            f"({longest or args.data.max_len} tokens)"
        )


@cache
def defaults() -> dict[str, Any]:
    """{key: default} of OpenRLHF's own flags of RL."""
    from openrlhf.cli.train_ppo_ray import get_parser

    return {action.dest: action.default for action in get_parser()._actions if action.dest != "help"}


def _set(args, keys: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The flags of these names, or of this beginning (`critic.`), that have not their default value."""
    known = defaults()
    for key in known:
        if key in keys or any(name.endswith(".") and key.startswith(name) for name in keys):
            value = attrgetter(key)(args)
            if _plain(value) != _plain(known[key]):
                yield key, value


def plugin(args, section: str):
    """A plugin's options, None where it is not loaded."""
    return getattr(getattr(args, "kimi", None), section, None)


def _evaluates(args) -> bool:
    return bool(args.eval.dataset) and (args.eval.steps > 0 or args.eval.before_training)


def _has_floor(args, name: str) -> bool:
    return getattr(args, name).lr_scheduler in ("cosine_with_min_lr", "cosine_warmup_with_min_lr")


def _warms_up(args, name: str) -> bool:
    return getattr(args, name).lr_scheduler != "constant" or getattr(args, name).lr_warmup_ratio == 0


def _saves(args) -> bool:
    best = args.eval.steps > 0 and bool(args.eval.dataset) and args.ckpt.best_metric_key != "none"
    return args.ckpt.save_steps > 0 or args.ckpt.save_on_sigterm or best


# (flags, whether they have an effect, why they have none and what would give them one)
_EFFECTS: tuple[tuple[tuple[str, ...], Test, str], ...] = (
    (
        ("algo.kl.use_loss", "algo.kl.estimator", "algo.kl.unbiased_gradient", "algo.kl.target"),
        lambda args: args.algo.kl.init_coef > 0,
        "algo.kl.init_coef is 0, so there is no KL; set that above 0",
    ),
    (("algo.kl.horizon",), lambda args: args.algo.kl.target, "algo.kl.target is not set; set that"),
    (
        ("algo.kl.unbiased_gradient",),
        lambda args: args.algo.kl.use_loss or not args.algo.kl.init_coef,
        "algo.kl.use_loss is false, and a KL in the reward has no gradient; set that",
    ),
    (
        ("algo.advantage.lambd",),
        lambda args: args.algo.advantage.estimator == "gae",
        "only the estimator gae has a λ; set algo.advantage.estimator to gae",
    ),
    (
        ("algo.advantage.gamma",),
        lambda args: args.algo.advantage.estimator in ("gae", "reinforce"),
        "only the estimators gae and reinforce discount; set algo.advantage.estimator to one of them",
    ),
    (
        ("algo.advantage.no_std_norm",),
        lambda args: args.algo.advantage.estimator in ("gae", "reinforce", "reinforce_baseline"),
        "this algo.advantage.estimator does not whiten; choose gae, reinforce or reinforce_baseline",
    ),
    (
        ("algo.dynamic_filtering_range",),
        lambda args: args.algo.dynamic_filtering_enable,
        "nothing is filtered; set algo.dynamic_filtering_enable",
    ),
    (
        (
            "algo.advantage.is_correction_mode",
            "algo.advantage.is_correction_gating",
            "algo.advantage.is_correction_threshold",
        ),
        lambda args: args.algo.advantage.is_correction_level != "off" or plugin(args, "policy"),  # says it itself
        "nothing is corrected; set algo.advantage.is_correction_level",
    ),
    (
        ("actor.muon.",),
        lambda args: args.actor.optim == "muon",
        "actor.optim is adam; set that to muon",
    ),
    (
        ("actor.lr_warmup_ratio",),
        lambda args: _warms_up(args, "actor"),
        "actor.lr_scheduler constant does not warm up; set that to constant_with_warmup",
    ),
    (
        ("critic.lr_warmup_ratio",),
        lambda args: "critic" not in batches.groups(args) or _warms_up(args, "critic"),
        "critic.lr_scheduler constant does not warm up; set that to constant_with_warmup",
    ),
    (
        ("actor.min_lr_ratio",),
        lambda args: _has_floor(args, "actor"),
        "this actor.lr_scheduler has no least rate; set that to cosine_with_min_lr",
    ),
    (
        ("critic.min_lr_ratio",),
        lambda args: "critic" not in batches.groups(args) or _has_floor(args, "critic"),
        "this critic.lr_scheduler has no least rate; set that to cosine_with_min_lr",
    ),
    (
        ("actor.gradient_checkpointing_reentrant",),
        lambda args: args.actor.gradient_checkpointing_enable,
        "nothing is recomputed; set actor.gradient_checkpointing_enable",
    ),
    (
        ("data.image_key",),
        lambda args: args.data.max_images_per_prompt > 0,
        "prompts have no images with data.max_images_per_prompt 0; set that",
    ),
    (
        ("data.input_template",),
        lambda args: not args.data.apply_chat_template,
        "data.apply_chat_template makes the prompts; drop that",
    ),
    (
        ("ds.ring_attn_head_stride",),
        lambda args: args.ds.ring_attn_size > 1,
        "there is no ring; set ds.ring_attn_size to 2 or more",
    ),
    (
        ("ds.use_universal_ckpt",),
        lambda args: args.ckpt.load_enable,
        "it says how a checkpoint is loaded, and none is; set ckpt.load_enable",
    ),
    (
        ("ckpt.save_hf", "ckpt.max_num", "ckpt.max_mem"),
        _saves,
        "no checkpoint is saved; set ckpt.save_steps",
    ),
    (
        ("ckpt.save_steps",),
        lambda args: args.ckpt.save_hf or not args.ckpt.disable_ds,
        "ckpt.disable_ds leaves nothing to save; drop that, or set ckpt.save_hf for the models alone",
    ),
    (
        ("ckpt.best_metric_key",),
        lambda args: args.ckpt.best_metric_key == "none" or _evaluates(args),
        "nothing is evaluated; set eval.dataset and eval.steps",
    ),
    (
        ("eval.steps", "eval.before_training", "eval.temperature", "eval.n_samples_per_prompt", "eval.split"),
        lambda args: args.eval.dataset,
        "there is nothing to evaluate on; set eval.dataset",
    ),
    (
        ("eval.dataset",),
        lambda args: args.eval.steps != -1 or args.eval.before_training,
        "nothing is evaluated on it; set eval.steps or eval.before_training",
    ),
    (("ds.zpg",), lambda args: args.ds.zero_stage == 3, "it belongs to ds.zero_stage 3; set that"),
    (
        ("ds.adam_offload", "ds.overlap_comm"),
        lambda args: args.ds.zero_stage > 0,
        "it belongs to ZeRO; set ds.zero_stage to 1 or more",
    ),
    (
        ("ds.lora.alpha", "ds.lora.dropout", "ds.lora.target_modules"),
        lambda args: args.ds.lora.rank,
        "there are no adapters; set ds.lora.rank",
    ),
    (("ds.logits_chunk_size",), lambda args: not args.ds.full_logits, "ds.full_logits has no chunks; drop that"),
    (
        ("reward.model_name_or_path", "reward.normalize_enable", "reward.offload"),
        lambda args: not args.reward.remote_url,
        "the rewards are those of reward.remote_url, an agent or a plugin, and no reward model is loaded; drop one",
    ),
    (
        ("reward.overlong_penalty_factor",),
        lambda args: args.reward.overlong_buffer_len is not None,
        "no length is overlong; set reward.overlong_buffer_len",
    ),
    (("train.async_queue_size",), lambda args: args.train.async_enable, "there is no queue; set train.async_enable"),
    (("train.ema_beta",), lambda args: args.train.enable_ema, "nothing is averaged; set train.enable_ema"),
    (
        ("train.max_tokens_per_gpu", "rollout.max_tokens_per_gpu"),
        lambda args: args.train.dynamic_batch_enable,
        "micro-batches are counted in samples; set train.dynamic_batch_enable",
    ),
    (
        ("vllm.max_restarts",),
        lambda args: bool(args.train.async_enable or getattr(plugin(args, "rollout"), "segment_tokens", None)),
        "only partial rollouts can go on with an engine that was started again; set kimi.rollout.segment_tokens",
    ),
)
# Launch scripts size and place all models and name a W&B project, whether or not a run has them: said, not refused.
_ABSENT: tuple[tuple[tuple[str, ...], Test, str], ...] = (
    (
        ("critic.",),
        lambda args: "critic" in batches.groups(args),
        "this algo.advantage.estimator has no critic",
    ),
    (
        ("ref.", "train.colocate_actor_ref"),
        lambda args: "ref" in batches.groups(args),
        "without a KL (algo.kl.init_coef 0) no reference model is loaded",
    ),
    (
        ("reward.num_nodes", "reward.num_gpus_per_node"),
        lambda args: "reward" in batches.groups(args),
        "no reward model is loaded",
    ),
    (
        ("train.colocate_critic_reward",),
        lambda args: {"critic", "reward"} <= set(batches.groups(args)),
        "there is not both a critic and a reward model",
    ),
    (
        ("ds.value_head_prefix",),
        lambda args: bool({"critic", "reward"} & set(batches.groups(args))),
        "no model has a value head: there is neither a critic nor a reward model",
    ),
    (
        ("logger.wandb.org", "logger.wandb.group", "logger.wandb.project", "logger.wandb.run_name"),
        lambda args: args.logger.wandb.key,
        "nothing goes to W&B without logger.wandb.key",
    ),
    (
        ("logger.logging_steps",),
        lambda args: args.logger.wandb.key or args.logger.tensorboard_dir,
        "nothing goes to W&B or TensorBoard without logger.wandb.key or logger.tensorboard_dir",
    ),
)


def check_effects(args) -> Iterator[str]:
    """One line for each flag that is set, and that others leave without any effect."""
    for keys, has_effect, why in _EFFECTS:
        if not has_effect(args):
            for key, value in _set(args, keys):
                yield f"{key}: {_text(value)} has no effect: {why}, or leave it out"


def notes(args) -> Iterator[str]:
    """One line for each model or service that flags are set for and the run lacks, and for odd sizes of steps."""
    if args.actor.adam.lr == 0 and args.actor.optim == "adam":
        yield "actor.adam.lr: 0: the policy stays as it is"
    rollouts = args.rollout.batch_size * args.rollout.n_samples_per_prompt
    if args.train.batch_size > rollouts and not args.train.agent_func_path:  # an agent may make several of one
        yield (
            f"train.batch_size: {args.train.batch_size} is more than the {rollouts} rollouts of an iteration "
            "(rollout.batch_size × rollout.n_samples_per_prompt), which are one optimizer step"
        )
    if args.actor.optim == "muon" and args.actor.max_norm > 0:
        yield (
            f"actor.max_norm: {args.actor.max_norm} with actor.optim muon: DeepSpeed clips Muon's updates, whose norm "
            "is in the hundreds, to it; set it to 0, for no clipping"
        )
    for keys, has_effect, why in _ABSENT:
        if not has_effect(args) and (found := [key for key, _ in _set(args, keys)]):
            yield f"{', '.join(found)}: no effect: {why}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
