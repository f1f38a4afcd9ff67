"""Rewards less a baseline, the A of every loss of kimi-policy (k1.5 §2.3.2). P: prompts, k: responses a prompt."""

import torch
from torch import Tensor

from kimi_plugins.options import Policy, invalid_values


def group_advantages(
    rewards: Tensor, *, baseline: str, tau: float, graded: Tensor | None = None, scale: float | Tensor = 1.0
) -> Tensor:
    """Rewards less their group's baseline; 0 for a response whose grade failed, which counts in none.

    Args:
        rewards: [P, k], any dtype; computed in float32 or wider. What stands where `graded` is false has no effect.
        baseline: "mean" for r̄, or "log_z" for τ log((1/k) Σ exp(r/τ)), whose limit for τ → ∞ is r̄ (§2.3.2);
            "leave_one_out" and "log_z_leave_one_out" for the same over the others of the group (RLOO; OpenKimi,
            arXiv 2602.05933); a response without others gets the advantage 0. "none": with rewards of 0 and 1 wrong
            responses push nothing away, as in ReST (§3.5).
        tau: τ > 0, in units of reward per nat; of log Z only.
        graded: [P, k], bool; None: all.
        scale: how far the baseline lies on the way from the lowest reward of the group (0) to the one above (1, the
            report's); a number or [P, 1]. Below 1, right responses push more than wrong ones (ours, after arXiv
            2506.20520 and 2503.14286).

    Returns:
        [P, k]; exactly 0 in a group whose rewards are all equal, unless the baseline is "none".

    Raises:
        ValueError: rewards not [P, k], unknown baseline, or τ out of range.
    """
    for problem in invalid_values(Policy(baseline=baseline, tau=tau), "policy"):
        raise ValueError(problem)
    if rewards.dim() != 2:
        raise ValueError(f"rewards have the shape {tuple(rewards.shape)}; expected [prompts, responses per prompt]")
    rewards = rewards.to(torch.promote_types(rewards.dtype, torch.float32))
    graded = torch.ones_like(rewards, dtype=torch.bool) if graded is None else graded
    if baseline == "none":
        return rewards.where(graded, 0.0)

    # No baseline minds a shift, and with r ≤ 0 one of equal rewards is exactly theirs.
    top = rewards.masked_fill(~graded, -torch.inf).amax(dim=-1, keepdim=True)  # [P, 1]
    top = top.where(graded.any(dim=-1, keepdim=True), 0.0)
    shifted = (rewards - top).where(graded, 0.0)  # [P, k]
    counted = graded.unsqueeze(1)  # [P, 1, k]: whose rewards the baseline of each response is of
    if baseline.endswith("leave_one_out"):
        counted = counted & ~torch.eye(rewards.shape[1], dtype=torch.bool, device=rewards.device)  # [P, k, k]
    values = shifted.unsqueeze(1).expand(counted.shape)
    if baseline.startswith("log_z"):
        level = _log_mean_exp(values, counted, tau)  # [P, 1 or k]
    else:
        level = _mean(values, counted)
    lowest = values.masked_fill(~counted, torch.inf).amin(dim=-1)  # [P, 1 or k]
    lowest = lowest.where(counted.any(dim=-1), 0.0)
    advantages = shifted - level + (1.0 - scale) * (level - lowest)
    return advantages.where(graded & counted.any(dim=-1), 0.0)


def linked_advantages(
    rewards: Tensor,
    linked: list[list[int]],
    *,
    baseline: str,
    tau: float,
    graded: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """group_advantages with one baseline for all m · k responses to m linked prompts (ours, for §2.3.5).

    Args:
        rewards, graded: [P, k].
        linked: indices of the prompts that share a baseline, each of the P in exactly one list.
        scale: [P, 1], equal for linked prompts; None: 1.

    Returns:
        [P, k], as group_advantages.
    """
    advantages = torch.empty_like(rewards, dtype=torch.promote_types(rewards.dtype, torch.float32))
    for prompts in linked:
        joined = group_advantages(  # [1, m · k]
            rewards[prompts].reshape(1, -1),
            baseline=baseline,
            tau=tau,
            graded=None if graded is None else graded[prompts].reshape(1, -1),
            scale=1.0 if scale is None else scale[prompts[:1]],
        )
        advantages[prompts] = joined.reshape(len(prompts), -1)
    return advantages


def success_scale(verdicts: Tensor, graded: Tensor, linked: list[list[int]], *, over: str) -> Tensor:
    """A scale of the baseline that rises with the success rate, from 0 to 1 (ours).

    Args:
        verdicts: [P, k], 0 for a wrong response to 1 for a right one.
        graded: [P, k], bool; the others do not count.
        linked: as of linked_advantages.
        over: "group" for the success rate of linked prompts, "batch" for that of all of them.

    Returns:
        [P, 1]; 0 where nothing was graded.
    """
    rates = torch.empty(len(verdicts), 1)
    for prompts in [list(range(len(verdicts)))] if over == "batch" else linked:
        rates[prompts] = _mean(verdicts[prompts].flatten(), graded[prompts].flatten()).clamp(0.0, 1.0)
    return rates


def zero_advantage_share(advantages: Tensor, linked: list[list[int]]) -> float:
    """Share of the sets of linked prompts whose advantages, of [P, k], are all 0: no signal beyond the pull to π_i."""
    zero = [(advantages[prompts] == 0).all().item() for prompts in linked]
    return sum(zero) / len(zero)


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Over the last dimension of those counted; 0 where none is."""
    return values.where(counted, 0.0).sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)


def _log_mean_exp(values: Tensor, counted: Tensor, tau: float) -> Tensor:
    """τ log mean exp(values / τ) of those counted; 0 where none is. expm1 and log1p keep it exact for any τ."""
    top = values.masked_fill(~counted, -torch.inf).amax(dim=-1, keepdim=True)
    top = top.where(counted.any(dim=-1, keepdim=True), 0.0)
    below = ((values - top) / tau).where(counted, 0.0)  # ≤ 0
    return top.squeeze(-1) + tau * _mean(below.expm1(), counted).log1p()
