"""Every baseline of kimi-policy against a loop over the responses, with and without failed grades (k1.5 §2.3.2)."""

import math

import pytest
import torch

from kimi_plugins.options import BASELINES, Policy
from kimi_plugins.policy.advantages import (
    group_advantages,
    linked_advantages,
    success_scale,
    zero_advantage_share,
)
from kimi_plugins.policy.batch import baseline_scale

TAU = 0.3


def by_hand(rewards, graded, baseline, tau, scale):
    """Lists of floats of one group; the advantage of a response is 0 if nothing may be compared with it."""
    found = []
    for i, reward in enumerate(rewards):
        left_out = baseline.endswith("leave_one_out")
        others = [r for j, r in enumerate(rewards) if graded[j] and not (left_out and i == j)]
        if not graded[i] or not (others or baseline == "none"):
            found.append(0.0)
        elif baseline == "none":
            found.append(reward)
        elif baseline.startswith("log_z"):
            above = tau * math.log(sum(math.exp(r / tau) for r in others) / len(others)) - min(others)
            found.append(reward - min(others) - scale * above)
        else:
            found.append(reward - min(others) - scale * (sum(others) / len(others) - min(others)))
    return found


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("baseline", BASELINES)
def test_every_baseline_against_a_loop_over_the_responses(baseline, scale):
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(300, 5, generator=generator, dtype=torch.float64) - 0.2
    graded = torch.rand(300, 5, generator=generator) < 0.5  # groups of 0 to 5 graded responses
    assert set(graded.sum(-1).tolist()) == {0, 1, 2, 3, 4, 5}
    got = group_advantages(
        rewards.masked_fill(~graded, math.nan), baseline=baseline, tau=TAU, graded=graded, scale=scale
    )
    want = [by_hand(r, g, baseline, TAU, scale) for r, g in zip(rewards.tolist(), graded.tolist(), strict=True)]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=0, atol=1e-12)
    assert got[~graded].eq(0).all()
    if baseline.endswith("leave_one_out"):
        assert got[graded.sum(-1) == 1].eq(0).all()


@pytest.mark.parametrize("baseline", BASELINES)
def test_what_failed_does_not_change_the_others(baseline):
    rewards = torch.tensor([[1.0, 0.0, 7.0, 0.5], [0.0, 1.0, 0.0, -5.0]])
    graded = torch.tensor([[True, True, False, True], [True, True, True, False]])
    got = group_advantages(rewards, baseline=baseline, tau=TAU, graded=graded)
    for row, kept in enumerate(graded):
        alone = group_advantages(rewards[row][kept][None], baseline=baseline, tau=TAU)[0]
        torch.testing.assert_close(got[row][kept], alone, rtol=0, atol=1e-7)


def test_leave_one_out_is_the_mean_baseline_times_k_over_k_minus_1():
    rewards = torch.rand(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = group_advantages(rewards, baseline="mean", tau=TAU)
    torch.testing.assert_close(group_advantages(rewards, baseline="leave_one_out", tau=TAU), mean * 4 / 3)


def test_a_scale_of_one_changes_no_bit_and_a_scale_may_differ_from_group_to_group():
    rewards = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    plain = group_advantages(rewards, baseline="mean", tau=TAU)
    assert torch.equal(group_advantages(rewards, baseline="mean", tau=TAU, scale=torch.ones(3, 1)), plain)
    scale = torch.tensor([[1.0], [0.5], [0.0]])
    scaled = group_advantages(rewards, baseline="mean", tau=TAU, scale=scale)
    lowest, mean = rewards.amin(-1, keepdim=True), rewards.mean(-1, keepdim=True)
    torch.testing.assert_close(scaled, rewards - lowest - scale * (mean - lowest))
    joined = linked_advantages(rewards, [[0], [2], [1]], baseline="mean", tau=TAU, scale=scale)
    assert torch.equal(joined, scaled)


@pytest.mark.parametrize("baseline", BASELINES[:-1])
def test_a_shift_of_all_rewards_changes_no_scaled_advantage(baseline):
    rewards = torch.rand(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, other = (group_advantages(r, baseline=baseline, tau=TAU, scale=0.5) for r in (rewards, rewards - 3))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("chosen", "want"),
    [
        ({}, 0.5),
        ({"baseline": "leave_one_out"}, 1.0),
        ({"baseline": "log_z"}, 1.0),
        ({"baseline_rises": "batch"}, 1.0),
        ({"baseline_scale": 1.0}, 1.0),
        ({"baseline_scale": 0.0}, 0.0),
        ({"baseline": "log_z", "baseline_scale": 0.5}, 0.5),
    ],
)
def test_the_scale_where_it_is_not_set_is_half_for_the_mean_and_one_for_the_others(chosen, want):
    assert baseline_scale(Policy(**chosen)) == want


def test_the_scale_follows_the_success_rate_of_the_batch_or_of_linked_prompts():
    verdicts = torch.tensor([[1.0, 0.0], [1.0, math.nan], [0.0, 0.0], [math.nan, math.nan]])
    graded = ~verdicts.isnan()
    linked = [[0, 2], [1], [3]]
    for over, want in (("batch", [2 / 5] * 4), ("group", [0.25, 1.0, 0.25, 0.0])):
        scale = success_scale(verdicts, graded, linked, over=over)
        assert scale.shape == (4, 1) and scale.flatten().tolist() == pytest.approx(want)


def test_advantages_are_rewards_less_the_mean_or_tau_log_z():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(
        group_advantages(rewards, baseline="mean", tau=TAU), rewards - rewards.mean(-1, keepdim=True)
    )
    log_z = TAU * torch.log(torch.exp(rewards / TAU).mean(-1, keepdim=True))
    torch.testing.assert_close(group_advantages(rewards, baseline="log_z", tau=TAU), rewards - log_z)
    assert torch.equal(group_advantages(rewards, baseline="none", tau=TAU), rewards)


@pytest.mark.parametrize(("log_z", "mean"), [("log_z", "mean"), ("log_z_leave_one_out", "leave_one_out")])
def test_log_z_becomes_the_mean_for_large_tau_and_the_maximum_for_tiny_tau(log_z, mean):
    rewards = torch.tensor([[1.0, 0.0, 0.25, -0.5]])
    large = group_advantages(rewards, baseline=log_z, tau=1e6)
    torch.testing.assert_close(large, group_advantages(rewards, baseline=mean, tau=1e6), rtol=0, atol=1e-6)
    tiny = group_advantages(rewards, baseline=log_z, tau=1e-30)
    best = torch.tensor([[0.25 if log_z != "log_z" else 1.0, 1.0, 1.0, 1.0]])
    torch.testing.assert_close(tiny, rewards - best, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("baseline", BASELINES[:-1])
def test_a_group_of_equal_rewards_has_advantages_of_exactly_zero(baseline, scale):
    rewards = torch.tensor([[0.1, 0.1, 0.1], [0.1, 0.7, 0.1]])
    advantages = group_advantages(rewards, baseline=baseline, tau=TAU, scale=scale)
    assert advantages[0].tolist() == [0.0, 0.0, 0.0]
    assert advantages[1, 1] > 0 >= advantages[1, 0]
    assert zero_advantage_share(advantages, [[0], [1]]) == 0.5


def test_integer_and_bf16_rewards_are_computed_in_float32():
    for dtype in (torch.int64, torch.bfloat16):
        advantages = group_advantages(torch.tensor([[1, 0, 0]], dtype=dtype), baseline="mean", tau=TAU)
        torch.testing.assert_close(advantages, torch.tensor([[2 / 3, -1 / 3, -1 / 3]]))


@pytest.mark.parametrize(
    ("rewards", "change", "message"),
    [
        ([[1.0, 0.0]], {"tau": -1.0}, r"kimi\.policy\.tau is -1\.0"),
        ([[1.0, 0.0]], {"baseline": "median"}, r"kimi\.policy\.baseline is median: choose one of mean, log_z, .*none"),
        ([1.0, 0.0], {}, r"shape \(2,\); expected \[prompts, responses per prompt\]"),
    ],
)
def test_bad_advantage_options_are_named(rewards, change, message):
    with pytest.raises(ValueError, match=message):
        group_advantages(torch.tensor(rewards), **({"baseline": "mean", "tau": TAU} | change))
