"""What benchmarks/length_reward.py measures and reports."""

import pytest


@pytest.fixture
def length_reward(benchmark):
    return benchmark("length_reward")


def result(seed, scores, tokens):
    points = [
        {"pass_at_1": score, "tokens": count, "right_tokens": count + 1, "wrong_tokens": count - 1}
        for score, count in zip(scores, tokens, strict=True)
    ]
    return {"variant": "made up", "seed": seed, "points": points}


def test_a_variant_is_compared_with_the_same_seed_without_the_length_reward(length_reward):
    off = [result(1, [0.5, 0.6, 0.8], [30, 20, 20]), result(2, [0.5, 0.9, 0.9], [30, 40, 60])]
    shorter = [result(1, [0.5, 0.6, 0.6], [30, 10, 20]), result(2, [0.5, 0.9, 0.92], [30, 40, 35])]
    found = length_reward.summary(shorter, off)
    assert found["points_gained"]["all"] == pytest.approx([-10, 1])
    assert found["share_of_tokens"]["all"] == pytest.approx([0.75, 0.75])
    assert found["right_tokens"]["all"] == pytest.approx([16, 38.5])


def test_the_lengths_of_all_responses_are_those_of_the_right_and_of_the_wrong_ones(length_reward):
    model, problems = length_reward.Decoder(), [(12, 34), (56, 78)]
    found = length_reward.measured(model, problems)
    assert found["pass_at_1"] == 0 and found["right_tokens"] is None  # an untrained model
    assert found["tokens"] == found["wrong_tokens"] > 0
