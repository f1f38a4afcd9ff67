"""OpenRLHF's flags for RL: values out of range, and flags that have no effect beside others."""

import math
from types import SimpleNamespace

import pytest
from openrlhf.cli.train_ppo_ray import get_parser
from openrlhf.utils.config import hierarchize

from kimi_plugins.preflight import batches, values

BASE = {
    "actor.num_gpus_per_node": 1,
    "algo.kl.init_coef": 0.0,
    "algo.advantage.estimator": "dr_grpo",
    "reward.remote_url": ["reward.py"],
    "rollout.max_new_tokens": 16,
    "rollout.batch_size": 16,
    "rollout.n_samples_per_prompt": 4,
    "train.batch_size": 32,
    "train.colocate_all": True,
    "vllm.num_engines": 1,
}
# Flags whose numbers have no bounds of their own, or are checked elsewhere.
UNBOUNDED = {
    "local_rank",
    "critic.freezing_steps",
    "ds.logits_chunk_size",
    "reward.overlong_buffer_len",
}


def arguments(changed: dict):
    return hierarchize(SimpleNamespace(**values.defaults() | BASE | changed))


def out_of_range(changed: dict) -> list[str]:
    return list(values.check_ranges(arguments(changed)))


def without_effect(changed: dict) -> list[str]:
    return list(values.check_effects(arguments(changed)))


def test_a_valid_configuration_has_neither():
    assert out_of_range({}) == without_effect({}) == list(values.notes(arguments({}))) == []


def test_every_number_has_a_range():
    numbers = {action.dest for action in get_parser()._actions if action.type in (int, float)}
    sizes = {
        f"{name}.{size}"
        for name in ("actor", "critic", "ref", "reward")
        for size in ("num_nodes", "num_gpus_per_node")
    }
    optimizer = {key.replace("actor.", "critic.") for key in values.RANGES}
    assert numbers <= values.RANGES.keys() | optimizer | set(batches.RL_SIZES) | sizes | UNBOUNDED


def test_every_default_is_in_its_range():
    for key, (test, _) in values.RANGES.items():
        default = values.defaults()[key]
        assert default is None or test(default), key


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_may_be_nan_and_few_infinite(value):
    known = {action.dest: action for action in get_parser()._actions}
    for key, (test, _) in values.RANGES.items():
        if known[key].type is float and known[key].nargs is None and not (key == "ckpt.max_mem" and value > 0):
            assert not test(value), key


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("actor.adam.lr", -1e-3, "actor.adam.lr: -0.001; it must be in [0, 1), e.g. 1e-6"),
        ("actor.adam.lr", 1e6, "actor.adam.lr: 1000000.0; it must be in [0, 1), e.g. 1e-6"),
        ("actor.eps_clip_low_high", [0.2, -0.2], "actor.eps_clip_low_high: 0.2 -0.2; it must be two numbers ≥ 0"),
        ("algo.advantage.is_correction_threshold", [5, 0.5], "algo.advantage.is_correction_threshold: 5 0.5; it must"),
        ("algo.advantage.is_correction_threshold", [0.0], "algo.advantage.is_correction_threshold: 0.0; it must be"),
        ("critic.value_clip", 0, "critic.value_clip: 0; it must be a finite number above 0"),
        ("data.max_samples", 0, "data.max_samples: 0; it must be a finite number ≥ 1"),
        ("ds.lora.alpha", 0, "ds.lora.alpha: 0; it must be a finite number above 0"),
        ("ds.ring_attn_head_stride", 0, "ds.ring_attn_head_stride: 0; it must be a finite number ≥ 1"),
        ("reward.overlong_penalty_factor", -1.0, "reward.overlong_penalty_factor: -1.0; it must be a finite number"),
        ("reward.stop_properly_penalty_coef", 2.0, "reward.stop_properly_penalty_coef: 2.0; it must be in [0, 1]"),
        ("train.seed", 2**31, "train.seed: 2147483648; it must be in [0, 2³¹)"),
        ("actor.adam.betas", [0.9, 1.5], "actor.adam.betas: 0.9 1.5; it must be two numbers in [0, 1)"),
        ("actor.lr_scheduler", "cosinee", "actor.lr_scheduler: cosinee; it must be one of linear, cosine"),
        ("ckpt.save_steps", 0, "ckpt.save_steps: 0; it must be a number of steps ≥ 1, or -1 for never"),
        ("ds.attn_implementation", "spda", "ds.attn_implementation: spda; it must be one of eager, sdpa"),
        ("ds.zero_stage", 4, "ds.zero_stage: 4; it must be 0, 1, 2 or 3"),
        ("reward.clip_range", [1, -1], "reward.clip_range: 1 -1; it must be two numbers, the smaller one first"),
        ("reward.overlong_buffer_len", 17, "reward.overlong_buffer_len: 17; it must be above 0, and at most"),
        ("reward.timeout", 0, "reward.timeout: 0; it must be a finite number above 0"),
        ("rollout.max_new_tokens", 0, "rollout.max_new_tokens: 0; it must be a finite number ≥ 1"),
        ("rollout.min_new_tokens", 20, "rollout.min_new_tokens: 20 is above rollout.max_new_tokens 16; lower it"),
        ("rollout.temperature", 0, "rollout.temperature: 0; it must be a finite number above 0"),
        ("rollout.top_p", 1.5, "rollout.top_p: 1.5; it must be in (0, 1]"),
        ("train.num_episodes", 0, "train.num_episodes: 0; it must be a finite number ≥ 1"),
        ("vllm.sync_backend", "glooo", "vllm.sync_backend: glooo; it must be one of nccl, gloo"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_rule(key, value, said):
    assert [line[: len(said)] for line in out_of_range({key: value})][:1] == [said]


def test_a_critic_is_checked_where_there_is_one():
    assert out_of_range({"critic.adam.lr": -1.0}) == []
    [line] = out_of_range({"critic.adam.lr": -1.0, "algo.advantage.estimator": "gae"})
    assert line.startswith("critic.adam.lr: -1.0; it must be")


# What is set, what would give it an effect, and how the line goes on.
CASES = [
    ({"algo.kl.use_loss": True}, {"algo.kl.init_coef": 0.1}, "algo.kl.init_coef is 0"),
    ({"algo.kl.target": 6.0}, {"algo.kl.init_coef": 0.1}, "algo.kl.init_coef is 0"),
    ({"algo.kl.horizon": 5}, {"algo.kl.target": 6.0, "algo.kl.init_coef": 0.1}, "algo.kl.target is not set"),
    (
        {"algo.kl.unbiased_gradient": True, "algo.kl.init_coef": 0.1},
        {"algo.kl.use_loss": True},
        "algo.kl.use_loss is false",
    ),
    ({"algo.advantage.lambd": 0.9}, {"algo.advantage.estimator": "gae"}, "only the estimator gae has a λ"),
    (
        {"algo.advantage.gamma": 0.9},
        {"algo.advantage.estimator": "reinforce"},
        "only the estimators gae and reinforce",
    ),
    ({"algo.advantage.no_std_norm": True}, {"algo.advantage.estimator": "reinforce_baseline"}, "this algo.advantage"),
    (
        {"algo.advantage.is_correction_mode": "clip"},
        {"algo.advantage.is_correction_level": "token"},
        "nothing is corrected",
    ),
    ({"algo.dynamic_filtering_range": (0.1, 0.9)}, {"algo.dynamic_filtering_enable": True}, "nothing is filtered"),
    (
        {"actor.lr_warmup_ratio": 0.1, "actor.lr_scheduler": "constant"},
        {"actor.lr_scheduler": "linear"},
        "actor.lr_sc",
    ),
    (
        {"actor.min_lr_ratio": 0.2, "actor.lr_scheduler": "linear"},
        {"actor.lr_scheduler": "cosine_with_min_lr"},
        "this a",
    ),
    (
        {"critic.min_lr_ratio": 0.2, "critic.lr_scheduler": "linear", "algo.advantage.estimator": "gae"},
        {"algo.advantage.estimator": "dr_grpo"},
        "this critic.lr_scheduler has no least rate",
    ),
    (
        {"critic.lr_warmup_ratio": 0.2, "critic.lr_scheduler": "constant", "algo.advantage.estimator": "gae"},
        {"critic.lr_warmup_ratio": 0.0},
        "critic.lr_scheduler constant does not warm up",
    ),
    (
        {"actor.gradient_checkpointing_reentrant": True},
        {"actor.gradient_checkpointing_enable": True},
        "nothing is recomputed",
    ),
    ({"data.image_key": "pictures"}, {"data.max_images_per_prompt": 1}, "prompts have no images"),
    (
        {"data.input_template": "Q: {}", "data.apply_chat_template": True},
        {"data.apply_chat_template": False},
        "data.apply_chat_template makes the prompts",
    ),
    ({"ds.ring_attn_head_stride": 2}, {"ds.ring_attn_size": 2}, "there is no ring"),
    ({"ds.use_universal_ckpt": True}, {"ckpt.load_enable": True}, "it says how a checkpoint is loaded"),
    ({"actor.muon.lr": 0.5}, {"actor.optim": "muon"}, "actor.optim is adam"),
    ({"ckpt.save_hf": True}, {"ckpt.save_steps": 2}, "no checkpoint is saved"),
    ({"ckpt.save_steps": 2, "ckpt.disable_ds": True}, {"ckpt.save_hf": True}, "ckpt.disable_ds leaves nothing"),
    (
        {"ckpt.best_metric_key": "eval_x_pass1"},
        {"eval.dataset": "test.jsonl", "eval.steps": 2},
        "nothing is evaluated",
    ),
    ({"eval.steps": 2}, {"eval.dataset": "test.jsonl"}, "there is nothing to evaluate on"),
    ({"eval.before_training": True}, {"eval.dataset": "test.jsonl"}, "there is nothing to evaluate on"),
    ({"eval.dataset": "test.jsonl"}, {"eval.before_training": True}, "nothing is evaluated on it"),
    ({"ds.zpg": 2}, {"ds.zero_stage": 3}, "it belongs to ds.zero_stage 3"),
    ({"ds.adam_offload": True, "ds.zero_stage": 0}, {"ds.zero_stage": 2}, "it belongs to ZeRO"),
    ({"ds.lora.alpha": 32}, {"ds.lora.rank": 4}, "there are no adapters"),
    ({"ds.logits_chunk_size": 7, "ds.full_logits": True}, {"ds.full_logits": False}, "ds.full_logits has no chunks"),
    ({"reward.model_name_or_path": "model"}, {"reward.remote_url": None}, "the rewards are those of"),
    ({"reward.normalize_enable": True}, {"reward.remote_url": None}, "the rewards are those of"),
    ({"reward.overlong_penalty_factor": 0.5}, {"reward.overlong_buffer_len": 4}, "no length is overlong"),
    ({"train.async_queue_size": 3}, {"train.async_enable": True}, "there is no queue"),
    ({"train.ema_beta": 0.5}, {"train.enable_ema": True}, "nothing is averaged"),
    ({"train.max_tokens_per_gpu": 100}, {"train.dynamic_batch_enable": True}, "micro-batches are counted in samples"),
    ({"vllm.max_restarts": 2}, {"kimi.rollout.segment_tokens": 8}, "only partial rollouts can go on"),
]


@pytest.mark.parametrize(("changed", "remedy", "why"), CASES, ids=[next(iter(case[0])) for case in CASES])
def test_a_flag_without_effect_is_named_with_what_it_lacks(changed, remedy, why):
    key = next(iter(changed))
    [line] = [line for line in without_effect(changed) if line.startswith(f"{key}: ")]
    assert f" has no effect: {why}" in line and line.endswith(", or leave it out")
    assert not any(line.startswith(f"{key}: ") for line in without_effect(changed | remedy))


def test_what_belongs_to_models_that_a_run_lacks_is_said_and_not_refused():
    changed = {"critic.adam.lr": 1e-5, "ref.num_gpus_per_node": 1, "reward.num_nodes": 2, "logger.wandb.project": "x"}
    changed |= {"ds.value_head_prefix": "v", "logger.logging_steps": 5}
    lines = list(values.notes(arguments(changed)))
    assert [line.partition(":")[0] for line in lines] == [
        "critic.adam.lr",
        "ref.num_gpus_per_node",
        "reward.num_nodes",
        "ds.value_head_prefix",
        "logger.wandb.project",
        "logger.logging_steps",
    ]
    assert without_effect(changed) == []
    trained = {
        "algo.advantage.estimator": "gae",
        "algo.kl.init_coef": 0.1,
        "reward.remote_url": None,
        "logger.wandb.key": "y",
    }
    assert list(values.notes(arguments(changed | trained))) == []


def test_odd_sizes_of_steps_are_said():
    assert list(values.notes(arguments({"actor.adam.lr": 0.0}))) == ["actor.adam.lr: 0: the policy stays as it is"]
    [line] = values.notes(arguments({"train.batch_size": 65}))
    assert line.startswith("train.batch_size: 65 is more than the 64 rollouts of an iteration")
    assert list(values.notes(arguments({"train.batch_size": 64}))) == []
    [line] = values.notes(arguments({"actor.optim": "muon"}))
    assert line.startswith("actor.max_norm: 1.0 with actor.optim muon")
    assert list(values.notes(arguments({"actor.optim": "muon", "actor.max_norm": 0.0}))) == []
