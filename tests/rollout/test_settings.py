"""What of a configuration partial rollouts refuse, and what they ask of the engines."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from kimi_plugins import options
from kimi_plugins.plugin import Rollout


def settings(*, segment_tokens=64, chosen=None, **changed):
    flat = {
        "rollout.min_new_tokens": 0,
        "rollout.max_new_tokens": 256,
        "rollout.batch_size": 32,
        "rollout.vllm_generate_batch_size": None,
        "rollout.temperature": 1.0,
        "rollout.top_p": 1.0,
        "data.max_len": 512,
        "train.agent_func_path": None,
        "train.async_enable": False,
        "train.full_determinism_enable": False,
        "vllm.enable_sleep": False,
        "algo.advantage": SimpleNamespace(old_log_probs="actor"),
    } | {key.replace("__", "."): value for key, value in changed.items()}
    args = SimpleNamespace()
    for key, value in flat.items():
        section, name = key.split(".")
        vars(args).setdefault(section, SimpleNamespace())
        setattr(getattr(args, section), name, value)
    rollout = replace(options.Rollout(), segment_tokens=segment_tokens, **(chosen or {}))
    args.kimi = SimpleNamespace(rollout=rollout)
    return args


def problems(args):
    return Rollout().openrlhf_validate_config(args, "train")


def test_the_defaults_are_accepted():
    assert problems(settings()) == []
    assert problems(settings(rollout__vllm_generate_batch_size=32)) == []
    assert problems(settings(train__full_determinism_enable=True)) == []
    assert problems(settings(chosen={"overlap": True})) == []


@pytest.mark.parametrize(
    "args, told",
    [
        (settings(segment_tokens=0), "kimi.rollout.segment_tokens is 0: it must be at least 1"),
        (settings(segment_tokens=513), "more than the context (data.max_len 512)"),
        (
            settings(algo__advantage=SimpleNamespace(old_log_probs="rollout")),
            "algo.advantage.old_log_probs rollout with kimi.rollout.segment_tokens",
        ),
        (settings(segment_tokens=256), "responses have at most 256 tokens"),
        (settings(segment_tokens=8), "ends responses after 64 tokens, of rollout.max_new_tokens 256"),
        (
            settings(segment_tokens=5, rollout__max_new_tokens=40, rollout__min_new_tokens=6),
            "less than the shortest response allowed",
        ),
        (settings(chosen={"in_flight": 0.5}), "kimi.rollout.in_flight is 0.5"),
        (settings(chosen={"in_flight": 3.0, "held_limit": 2.0}), "kimi.rollout.held_limit is 2.0"),
        (settings(chosen={"max_age": 0}), "kimi.rollout.max_age is 0"),
        (settings(chosen={"repetition_tokens": -1}), "kimi.rollout.repetition_tokens is -1"),
        (settings(chosen={"repetition_tokens": 8, "repetition_count": 1}), "kimi.rollout.repetition_count is 1"),
        (settings(chosen={"repetition_tokens": 8, "repetition_period": 0}), "kimi.rollout.repetition_period is 0"),
        (
            settings(chosen={"repetition_tokens": 0, "repetition_penalty": 0.5}),
            "without kimi.rollout.repetition_tokens; set that",
        ),
        (settings(train__agent_func_path="agent.py"), "a multi-turn agent's turns cannot be taken up again"),
        (settings(chosen={"overlap": True, "train_on": "newest"}), "next to nothing would be trained on"),
        (settings(chosen={"overlap": True}, vllm__enable_sleep=True), "kimi.rollout.overlap with vllm.enable_sleep"),
        (settings(train__async_enable=True), "belong to the synchronous loop"),
        (settings(rollout__vllm_generate_batch_size=64), "rollout.vllm_generate_batch_size is 64"),
        (settings(train__full_determinism_enable=True, rollout__temperature=0.7), "for which both must be 1"),
        (settings(train__full_determinism_enable=True, rollout__top_p=0.9), "for which both must be 1"),
    ],
)
def test_a_setting_that_would_not_work_is_one_problem(args, told):
    [problem] = problems(args)
    assert told in problem


def test_whole_rollouts_ask_for_nothing():
    args = settings(segment_tokens=None, train__full_determinism_enable=True, chosen={"max_age": 4})
    [problem] = problems(args)
    assert problem.startswith("kimi.rollout.max_age is 4: it has no effect without kimi.rollout.segment_tokens")
    args = settings(segment_tokens=None, train__full_determinism_enable=True)
    assert problems(args) == []
    assert Rollout().openrlhf_engine_args(args) is None
    assert Rollout().openrlhf_samples_generator({}, args) is None


def test_seeded_runs_bring_their_noise_to_the_engines():
    assert Rollout().openrlhf_engine_args(settings()) is None
    asked = Rollout().openrlhf_engine_args(settings(train__full_determinism_enable=True))
    assert asked["logits_processors"] == ["kimi_plugins.rollout.noise:PlacedNoise"]
    assert asked["logprobs_mode"] == "raw_logprobs"
