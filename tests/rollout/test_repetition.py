"""Loops are found, and what only looks like one is not; compared with looking at every stretch."""

import random
from types import SimpleNamespace

import pytest
import torch

from kimi_plugins.rollout.repetition import LOOPED, loop_period, penalise

RULE = {"max_period": 8, "min_tokens": 12, "min_count": 3}


def by_brute_force(tokens, *, max_period, min_tokens, min_count):
    for period in range(1, max_period + 1):
        span = max(min_tokens, min_count * period)
        if len(tokens) >= span and all(tokens[-i] == tokens[-i - period] for i in range(1, span - period + 1)):
            return period
    return None


def test_against_brute_force():
    rng = random.Random(0)
    found = []
    for _ in range(3000):
        pattern = rng.choices(range(3), k=rng.randint(1, 10))
        tokens = rng.choices(range(3), k=rng.randint(0, 30)) + pattern * rng.randint(0, 12)
        assert loop_period(tokens, **RULE) == by_brute_force(tokens, **RULE)
        found.append(loop_period(tokens, **RULE))
    assert {None, 1, 2, 5, 8} <= set(found)


@pytest.mark.parametrize(
    "tokens, period",
    [
        ([7] * 12, 1),
        ([7] * 11, None),  # too short a stretch
        ([0, 1, 2, 3, 4] * 3, 5),
        ([0, 1, 2, 3, 4] * 2 + [0, 1, 2, 3, 5], None),
        ([9, 9, 9] + [0, 1] * 6, 2),
        ([0, 1] * 20 + [2], None),  # it got out of the loop
        (list(range(9)) * 10, None),  # a longer period than is looked for
        ([], None),
    ],
)
def test_what_is_a_loop(tokens, period):
    assert loop_period(tokens, **RULE) == period


def test_a_penalty_is_taken_from_looping_responses_only():
    experience = SimpleNamespace(rewards=torch.tensor([1.0, 0.0, 1.0]), info={LOOPED: torch.tensor([0.0, 1.0, 1.0])})
    whole_rollouts = SimpleNamespace(rewards=torch.tensor([1.0]), info={})
    penalise([experience, whole_rollouts], 0.5)
    assert experience.rewards.tolist() == [1.0, -0.5, 0.5] and whole_rollouts.rewards.tolist() == [1.0]
