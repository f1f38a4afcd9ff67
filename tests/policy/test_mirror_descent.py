"""The mirror-descent loss against the report's formulas (k1.5 §2.3.2), and its behaviour at the extremes."""

import math

import pytest
import torch
from toy_policy import LOSSES, Bigram, make_rollouts, naive_surrogate, relative_error

from kimi_plugins.policy.mirror_descent import MirrorDescentLoss

TAU = 0.3
FORMS = [("sequence", True), ("token", True), ("token", False)]
ARGS = ("old_log_probs", "advantages", "action_mask")


def loss_fn(log_ratio="sequence", token_level_loss=True, tau=TAU, max_log_ratio=1e6, **options):
    return MirrorDescentLoss(
        tau=tau, max_log_ratio=max_log_ratio, log_ratio=log_ratio, token_level_loss=token_level_loss, **options
    )


def call(module, log_probs, rollouts, **kwargs):
    return module(log_probs, *(rollouts[name] for name in ARGS), **kwargs)


def one_sequence(delta, advantage, **kwargs):
    """Loss and dL/dΔ of one sequence whose log ratio is `delta`."""
    log_probs = torch.tensor([[float(delta)]], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    loss = loss_fn(**kwargs)(log_probs, zero, zero + advantage)[0]
    loss.backward()
    return loss.item(), log_probs.grad.item()


# -- the loss against the formula --


@pytest.mark.parametrize("baseline", ["mean", "log_z", "leave_one_out", "log_z_leave_one_out"])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_equal_the_formula(name, baseline):
    rollouts, options = make_rollouts(baseline=baseline, tau=TAU), LOSSES[name]
    policy, other = Bigram(1, torch.float64), Bigram(1, torch.float64)
    loss = call(loss_fn(**options), policy(rollouts["tokens"]), rollouts)[0]
    want = naive_surrogate(other(rollouts["tokens"]), rollouts, baseline=baseline, tau=TAU, **options)
    loss.backward()
    want.backward()
    torch.testing.assert_close(loss.detach(), want.detach())
    assert relative_error(policy.logits.grad, other.logits.grad) < 1e-12


@pytest.mark.parametrize("baseline", ["mean", "log_z"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_equals_finite_differences(name, baseline):
    rollouts = make_rollouts(prompts=2, actions=6, baseline=baseline, tau=TAU)
    policy = Bigram(1, torch.float64)
    # Limits small enough that some units are inside and some beyond.
    module = loss_fn(**LOSSES[name], max_log_ratio=0.5)
    log_probs = policy(rollouts["tokens"]).detach().requires_grad_()
    assert 0 < call(module, log_probs, rollouts)[1].item() < 1
    assert torch.autograd.gradcheck(lambda x: call(module, x, rollouts)[0], (log_probs,), eps=1e-6, atol=1e-8)


def test_minus_the_gradient_is_two_tau_times_the_reports_equation_3():
    rollouts = make_rollouts(empty=())
    policy = Bigram(1, torch.float64)
    call(loss_fn(), policy(rollouts["tokens"]), rollouts)[0].backward()

    other = Bigram(1, torch.float64)
    mask, rewards = rollouts["action_mask"], rollouts["rewards"]
    log_pi = (other(rollouts["tokens"]) * mask).sum(-1).view_as(rewards)  # [P, k]
    ratio = log_pi - (rollouts["old_log_probs"] * mask).sum(-1).view_as(rewards)
    per_problem = (log_pi * (rewards - rewards.mean(-1, keepdim=True)) - TAU / 2 * ratio**2).mean(-1)
    per_problem.mean().backward()
    assert relative_error(-policy.logits.grad, 2 * TAU * other.logits.grad) < 1e-12


@pytest.mark.parametrize("name", LOSSES)
def test_at_the_reference_policy_it_is_the_policy_gradient_and_negatives_keep_theirs(name):
    rollouts = make_rollouts(empty=())
    log_probs = rollouts["old_log_probs"].clone().requires_grad_()
    call(loss_fn(**LOSSES[name]), log_probs, rollouts)[0].backward()
    mask = rollouts["action_mask"]
    lengths = mask.sum(-1, keepdim=True)
    factor = {
        "k1.5": 2 * TAU / len(mask),
        "k1.5, tokens": 2 * TAU / mask.sum(),
        "k1.5, tokens, then responses": 2 * TAU / lengths / len(mask),
        "OpenKimi": 1 / lengths / len(mask),
        "k2.5": 1 / mask.sum(),
    }
    want = torch.where(mask, -factor[name] * rollouts["advantages"], 0.0)
    torch.testing.assert_close(log_probs.grad, want)
    assert (want < 0).any() and (want > 0).any()


def test_of_k25_a_token_outside_the_bounds_has_the_pull_alone_whatever_the_sign_of_its_advantage():
    log_ratios = torch.tensor([[-3.0, -1.0, 0.5, 3.0]] * 2, dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).expand(2, 4)
    module = loss_fn(log_ratio="token", form="k2.5", log_ratio_low=-1.0, log_ratio_high=0.5)
    _, clip_ratio, *_ = loss, *_ = module(log_ratios, torch.zeros_like(log_ratios), advantages)
    loss.backward()
    pull = 2 * TAU * log_ratios.detach()
    push = torch.where(torch.tensor([0, 1, 1, 0]).bool(), -advantages * log_ratios.detach().exp(), 0.0)
    torch.testing.assert_close(log_ratios.grad * 8, pull + push)  # the bounds themselves are inside
    assert clip_ratio.item() == 0.5 and module.metrics["kimi/log_ratio_clip_share"].tolist() == [0.5, 0.5]


def test_the_square_over_the_length_has_the_gradient_of_the_detached_residual():
    """prime-rl's pmd_mean: (A/τ − Δ), detached, times the score function."""
    rollouts = make_rollouts(empty=())
    policy, other = Bigram(1, torch.float64), Bigram(1, torch.float64)
    call(loss_fn(length_normalization=True), policy(rollouts["tokens"]), rollouts)[0].backward()
    mask = rollouts["action_mask"]
    log_pi = (other(rollouts["tokens"]) * mask).sum(-1)
    ratio = log_pi - (rollouts["old_log_probs"] * mask).sum(-1)
    advantages = rollouts["advantages"].nan_to_num(0.0).sum(-1) / mask.sum(-1)
    residual = (advantages / TAU - ratio).detach()
    (-TAU * residual * log_pi / mask.sum(-1)).mean().backward()
    assert relative_error(policy.logits.grad, other.logits.grad) < 1e-12


def test_sequences_without_actions_count_for_nothing():
    rollouts = make_rollouts(empty=(5, 9))
    log_probs = Bigram(1, torch.float64)(rollouts["tokens"]).detach()
    keep = rollouts["action_mask"].any(-1)
    kept = {name: rollouts[name][keep] for name in ARGS}
    for options in LOSSES.values():
        module = loss_fn(**options)
        whole, *stats = call(module, log_probs, rollouts)
        assert all(value[5] == 0 and value[9] == 0 for value in module.metrics.values())
        without, *stats_without = call(module, log_probs[keep], kept)
        torch.testing.assert_close(whole, without)
        torch.testing.assert_close(stats[:2], stats_without[:2])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("counts", [{}, {"global_batch_size": torch.zeros(()), "batch_num_tokens": torch.zeros(())}])
def test_a_step_without_any_action_token_has_zero_loss_and_gradient(name, counts):
    rollouts = make_rollouts(empty=range(16))
    log_probs = rollouts["old_log_probs"].clone().requires_grad_()
    loss, clip_ratio, ppo_kl, vllm_kl, _ = call(
        loss_fn(**LOSSES[name]), log_probs, rollouts, rollout_log_probs=log_probs.detach(), **counts
    )
    loss.backward()
    assert [loss.item(), clip_ratio.item(), ppo_kl.item(), vllm_kl.item()] == [0, 0, 0, 0]
    assert log_probs.grad.eq(0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_counts_below_one_and_the_number_of_ranks_scale_the_loss(name):
    """OpenRLHF divides the counts by the gradient accumulation steps: one sequence in four passes is 0.25."""
    rollouts = make_rollouts()
    log_probs = Bigram(1, torch.float64)(rollouts["tokens"]).detach()
    module = loss_fn(**LOSSES[name])
    counts = {"global_batch_size": torch.tensor(0.25), "batch_num_tokens": torch.tensor(0.25)}
    mask = rollouts["action_mask"]
    of_tokens = module.log_ratio == "token" and module.token_level_loss
    units = mask.sum() if of_tokens else mask.any(-1).sum()
    want = call(module, log_probs, rollouts)[0] * units / 0.25 * 2
    torch.testing.assert_close(call(module, log_probs, rollouts, dp_size=2, **counts)[0], want)


# -- numerical safety --


def test_beyond_the_limit_the_square_goes_on_as_its_tangent():
    tau, limit, advantage = 0.5, 10.0, 1.0  # the optimum is Δ = 2, so the limits are −10 and 12
    args = {"tau": tau, "max_log_ratio": limit}
    for delta in (-9.99, 0.0, 2.0, 11.99):
        loss, slope = one_sequence(delta, advantage, **args)
        assert loss == pytest.approx((advantage - tau * delta) ** 2, abs=1e-12)
        assert slope == pytest.approx(-2 * tau * (advantage - tau * delta), abs=1e-12)
    for edge, delta in ((-10.0, -800.0), (12.0, 800.0)):
        slope = -2 * tau * (advantage - tau * edge)
        loss = (advantage - tau * edge) ** 2 + slope * (delta - edge)
        assert one_sequence(delta, advantage, **args) == pytest.approx((loss, slope))


@pytest.mark.parametrize("tau", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("advantage", [-1.5, 0.0, 1.5])
def test_the_optimum_stays_and_beyond_it_there_is_always_a_bounded_pull_back(tau, advantage):
    limit = 20.0
    optimum = advantage / tau
    args = {"tau": tau, "max_log_ratio": limit}
    assert one_sequence(optimum, advantage, **args)[1] == pytest.approx(0, abs=1e-12)
    bound = 2 * tau * (abs(advantage) + tau * limit) * (1 + 1e-9)
    for distance in (1.0, 100.0, 5000.0):
        assert 0 < one_sequence(optimum + distance, advantage, **args)[1] <= bound
        assert 0 > one_sequence(optimum - distance, advantage, **args)[1] >= -bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["k1.5", "k1.5, tokens", "OpenKimi", "k2.5"])
def test_finite_at_32k_tokens_and_log_ratios_of_800(name, dtype):
    length, limit = 32_768, 50.0
    generator = torch.Generator().manual_seed(0)
    old = (-3 * torch.rand(6, length, generator=generator)).to(dtype)
    log_probs = old.clone()
    # One token each, so that both forms see it: far above, far below, far above with A < 0, far below with A < 0.
    log_probs[:4, 77] = old[:4, 77] + torch.tensor([800.0, -800.0, 800.0, -800.0], dtype=dtype)
    advantages = torch.tensor([0.5, 0.5, -0.5, -0.5, 0.5, 0.5]).unsqueeze(-1).repeat(1, length)
    mask = torch.ones(6, length)
    mask[:, -1000:] = 0
    mask[5] = 0
    rollout = old.clone()
    for tensor in (log_probs, old, advantages, rollout):
        garbage = torch.tensor([-math.inf, math.inf, math.nan, 3e38], dtype=tensor.dtype).repeat(250)
        tensor[:, -1000:] = garbage
        tensor[5, :1000] = garbage
    log_probs.requires_grad_()

    module = loss_fn(**LOSSES[name], tau=0.05, max_log_ratio=limit)
    loss, clip_ratio, ppo_kl, vllm_kl, is_filter_ratio = module(log_probs, old, advantages, mask, rollout)
    loss.backward()

    values = [loss, clip_ratio, ppo_kl, vllm_kl, is_filter_ratio, *module.metrics.values()]
    assert all(value.isfinite().all() for value in values)
    assert log_probs.grad.isfinite().all() and loss.dtype == torch.float32
    assert log_probs.grad[mask == 0].eq(0).all() and log_probs.grad[4].abs().max() > 0
    assert (log_probs.grad[:4, 77].sign() == torch.tensor([1, -1, 1, -1])).all()
    if module.log_ratio == "sequence":
        assert clip_ratio.item() == pytest.approx(4 / 5)
        assert module.metrics["kimi/log_ratio_clip_share"].tolist() == [1, 1, 1, 1, 0, 0]
    else:
        assert clip_ratio.item() == pytest.approx(4 / mask.sum().item())


def test_many_small_log_ratios_add_up_over_32k_tokens():
    length, per_token = 32_768, 800 / 32_768
    old = torch.full((2, length), -1.0)
    log_probs = (old + torch.tensor([[per_token], [-per_token]])).requires_grad_()
    module = loss_fn(tau=0.1, max_log_ratio=100.0)
    loss = module(log_probs, old, torch.zeros(2, length))[0]
    loss.backward()
    torch.testing.assert_close(module.metrics["kimi/log_ratio_mean"], torch.tensor([800.0, -800.0]))
    assert module.metrics["kimi/log_ratio_clip_share"].tolist() == [1, 1]
    # dL/dΔ = ±2τ²·100 for each of the 2 sequences
    torch.testing.assert_close(log_probs.grad[:, 0], torch.tensor([1.0, -1.0]))


def test_bf16_log_probs_are_summed_in_float32():
    generator = torch.Generator().manual_seed(0)
    old = (-2 * torch.rand(4, 2048, generator=generator)).bfloat16()
    log_probs = (old.float() + 0.05 * torch.randn(4, 2048, generator=generator)).bfloat16()
    advantages = torch.tensor([[0.5], [-0.5], [0.25], [-0.25]]).expand(4, 2048)

    wide = log_probs.double().requires_grad_()
    ((advantages[:, 0].double() - TAU * (wide - old.double()).sum(-1)) ** 2).mean().backward()
    narrow = log_probs.clone().requires_grad_()
    loss_fn()(narrow, old, advantages)[0].backward()
    assert relative_error(narrow.grad, wide.grad) < 4e-3  # the gradient itself is rounded to bf16


# -- importance weights --


@pytest.mark.parametrize("name", LOSSES)
def test_truncated_importance_weights_against_a_loop(name):
    """Of what two other policies wrote, half each: every unit counts min(cap, π_i / μ) times."""
    rollouts, options, cap = make_rollouts(), LOSSES[name], 1.5
    writers = [Bigram(seed, torch.float64)(rollouts["tokens"]).detach() for seed in (3, 4)]
    half = writers[0].shape[1] // 2
    writer = torch.cat([writers[0][:, :half], writers[1][:, half:]], dim=-1)
    log_probs = Bigram(1, torch.float64)(rollouts["tokens"]).detach().requires_grad_()
    module = loss_fn(**options, importance_cap=cap)
    loss = call(module, log_probs, rollouts, rollout_log_probs=writer)[0]

    seen = []

    def weight(i, places):
        seen.append(math.exp(sum((rollouts["old_log_probs"][i, t] - writer[i, t]).item() for t in places)))
        return min(cap, seen[-1])

    expected = naive_surrogate(log_probs, rollouts, **options, tau=TAU, weights=weight)
    assert min(seen) < cap < max(seen)
    assert loss.item() == pytest.approx(expected.item())
    [got], [want] = (torch.autograd.grad(value, log_probs, retain_graph=True) for value in (loss, expected))
    torch.testing.assert_close(got, want)
    assert (module.metrics["kimi/importance_weight_mean"] <= cap).all()


@pytest.mark.parametrize("name", LOSSES)
def test_stale_responses_without_weights_are_trained_on_as_if_they_were_fresh(name):
    rollouts = make_rollouts()
    log_probs = Bigram(1, torch.float64)(rollouts["tokens"]).detach()
    writer = Bigram(3, torch.float64)(rollouts["tokens"]).detach()
    fresh, stale = (
        call(loss_fn(**LOSSES[name]), log_probs, rollouts, rollout_log_probs=of)[0]
        for of in (rollouts["old_log_probs"], writer)
    )
    assert torch.equal(fresh, stale)


def test_of_its_own_samples_importance_weights_change_nothing():
    rollouts = make_rollouts()
    log_probs = Bigram(1, torch.float64)(rollouts["tokens"])
    weighted = call(loss_fn(importance_cap=2), log_probs, rollouts, rollout_log_probs=rollouts["old_log_probs"])[0]
    assert weighted.item() == pytest.approx(call(loss_fn(), log_probs, rollouts)[0].item())


def test_importance_weights_need_the_writers_log_probs():
    with pytest.raises(ValueError, match=r"kimi\.policy\.importance_cap needs .*is_correction_level"):
        call(loss_fn(importance_cap=2), make_rollouts()["old_log_probs"], make_rollouts())


# -- statistics --


def test_statistics_are_what_their_names_say():
    old = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -1.0, 9.0]])
    log_probs = torch.tensor([[-1.5, -1.0, -3.0], [-0.5, -1.0, 9.0]], requires_grad=True)
    rollout = torch.tensor([[-1.1, -2.0, -2.8], [-1.0, -1.4, 9.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    module = loss_fn(max_log_ratio=0.4, tau=1.0)
    _, clip_ratio, ppo_kl, vllm_kl, is_filter_ratio = module(log_probs, old, torch.zeros(2, 3), mask, rollout)

    delta = [[-0.5, 1.0, 0.0], [0.5, 0.0]]
    want = {
        "kimi/log_ratio_mean": [0.5, 0.5],
        "kimi/log_ratio_sq_mean": [0.25, 0.25],
        "kimi/kl_mean": [sum(math.exp(d) - 1 - d for d in row) for row in delta],
        "kimi/log_ratio_clip_share": [1, 1],
        "kimi/logprob_gap_abs": [0.1, 0.2],
    }
    assert module.metrics.keys() == want.keys()
    for name, value in want.items():
        assert not module.metrics[name].requires_grad
        assert module.metrics[name].tolist() == pytest.approx(value, abs=1e-6), name
    assert clip_ratio.item() == 1
    assert ppo_kl.item() == pytest.approx(-1.0 / 5)
    assert vllm_kl.item() == pytest.approx((-0.1 + 0.2 - 0.4) / 5)
    assert is_filter_ratio.item() == 0

    *_, vllm_kl, is_filter_ratio = module(log_probs, old, torch.zeros(2, 3), mask)
    assert vllm_kl is None and is_filter_ratio is None and "kimi/logprob_gap_abs" not in module.metrics


def test_kl_estimate_agrees_with_the_exact_kl():
    """k3 averaged over samples of π_i is KL(π_i ‖ π_θ), summed over the tokens."""
    policy, reference = Bigram(1, torch.float64), Bigram(0, torch.float64)
    with torch.no_grad():
        reference.logits.copy_(policy.logits + 0.3 * reference.logits)
        log_p, log_q = reference.logits.log_softmax(-1), policy.logits.log_softmax(-1)
        exact = (log_p.exp() * (log_p - log_q)).sum(-1)[3].item()
        generator = torch.Generator().manual_seed(0)
        actions = torch.multinomial(log_p[3].exp(), 200_000, replacement=True, generator=generator)
        tokens = torch.stack([torch.full_like(actions, 3), actions], dim=-1)
        module = loss_fn()
        module(policy(tokens), reference(tokens), torch.zeros(len(tokens), 1, dtype=torch.float64))
    assert module.metrics["kimi/kl_mean"].mean().item() == pytest.approx(exact, rel=0.02)


# -- bad input --


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": 0.0}, r"kimi\.policy\.tau is 0\.0: it must be a finite number > 0"),
        ({"tau": math.nan}, r"kimi\.policy\.tau"),
        ({"tau": math.inf}, r"kimi\.policy\.tau"),
        ({"max_log_ratio": 0.0}, r"kimi\.policy\.max_log_ratio is 0\.0"),
        ({"importance_cap": 0.5}, r"kimi\.policy\.importance_cap is 0\.5: it must be 0 \(off\) or at least 1"),
        ({"log_ratio": "word"}, r"kimi\.policy\.log_ratio is word: choose one of sequence, token"),
        ({"form": "k2"}, r"kimi\.policy\.form is k2: choose one of k1.5, k2.5"),
        (
            {"form": "k2.5"},
            r"form is k2.5 with kimi.policy.log_ratio sequence: .*; set kimi.policy.log_ratio to token",
        ),
        (
            {"form": "k2.5", "log_ratio": "token", "token_level_loss": False},
            r"without actor.loss_agg_mode token-mean: .*; set actor.loss_agg_mode to token-mean",
        ),
        ({"log_ratio_low": 0.5}, r"kimi\.policy\.log_ratio_low is 0\.5: it must be < 0"),
        ({"log_ratio_high": math.nan}, r"kimi\.policy\.log_ratio_high is nan: it must be > 0"),
        (
            {"length_normalization": True, "log_ratio": "token"},
            r"length_normalization is true with kimi.policy.log_ratio token: .*; set one to false",
        ),
    ],
)
def test_bad_loss_options_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        loss_fn(**change)
