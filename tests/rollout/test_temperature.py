"""A sampling temperature that falls: its values, what is refused, and what the hooks say of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from test_settings import problems, settings

from kimi_plugins.plugin import Rollout
from kimi_plugins.rollout.temperature import temperature_at

FALLING = {"temperature_end": 0.6, "temperature_iterations": 5}


def falling(**changed):
    chosen = FALLING | changed.pop("chosen", {})
    return settings(**{"segment_tokens": None, "rollout__temperature": 1.2, "chosen": chosen} | changed)


def temperatures(args, steps):
    return [Rollout().openrlhf_rollout_temperature(step, args) for step in steps]


@pytest.mark.parametrize("iterations", [2, 5, 200])
def test_it_is_linear_and_then_stays(iterations):
    steps = range(1, iterations + 4)
    got = [temperature_at(step, start=1.2, end=0.6, iterations=iterations) for step in steps]
    expected = np.interp(steps, [1, iterations], [1.2, 0.6])
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert got[0] == 1.2 and got[iterations - 1 :] == [0.6] * 4


def test_the_hook_and_the_metric_say_the_same():
    args = falling()
    assert problems(args) == []
    assert problems(falling(rollout__vllm_generate_batch_size=32)) == []
    assert temperatures(args, [1, 3, 5, 9]) == pytest.approx([1.2, 0.9, 0.6, 0.6])
    for step in (1, 4, 9):
        [temperature] = temperatures(args, [step])
        assert Rollout().openrlhf_metrics([], step, args) == {"kimi/temperature": temperature}


def test_by_default_it_is_left_to_openrlhf():
    args = settings(segment_tokens=None)
    assert temperatures(args, [1, 9]) == [None, None]
    assert Rollout().openrlhf_metrics([], 1, args) == {}


@pytest.mark.parametrize(
    "chosen, told",
    [
        ({"temperature_end": 0.0}, "kimi.rollout.temperature_end is 0.0: it must be a finite number above 0"),
        ({"temperature_end": -0.5}, "kimi.rollout.temperature_end is -0.5: it must be a finite number above 0"),
        ({"temperature_end": math.nan}, "kimi.rollout.temperature_end is nan: it must be a finite number above 0"),
        ({"temperature_end": 1.3}, "kimi.rollout.temperature_end is 1.3: it must be below rollout.temperature 1.2"),
        ({"temperature_end": 1.2}, "kimi.rollout.temperature_end is 1.2: it must be below rollout.temperature 1.2"),
        ({"temperature_iterations": 1}, "kimi.rollout.temperature_iterations is 1: it must be at least 2"),
        ({"temperature_iterations": -3}, "kimi.rollout.temperature_iterations is -3: it must be at least 2"),
        ({"temperature_iterations": None}, "without kimi.rollout.temperature_iterations; set that to the number"),
        ({"temperature_end": None}, "kimi.rollout.temperature_iterations is 5: it has no effect without"),
    ],
)
def test_a_value_that_cannot_be_used_is_one_problem(chosen, told):
    [problem] = problems(falling(chosen=chosen))
    assert told in problem


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"segment_tokens": 64}, "kimi.rollout.segment_tokens is 64 with kimi.rollout.temperature_end"),
        ({"train__async_enable": True}, "train.async_enable is True with kimi.rollout.temperature_end"),
        ({"rollout__vllm_generate_batch_size": 64}, "rollout.vllm_generate_batch_size is 64 with kimi.rollout.temp"),
    ],
)
def test_responses_of_several_iterations_are_refused(changed, told):
    [problem] = problems(falling(**changed))
    assert problem.startswith(told) and "leave one of the two out" in problem


def test_overlap_is_refused_as_the_partial_rollouts_that_it_needs():
    args = falling(segment_tokens=64)
    args.kimi.rollout = replace(args.kimi.rollout, overlap=True)
    assert any("kimi.rollout.segment_tokens is 64 with" in problem for problem in problems(args))
