"""Online policy mirror descent (k1.5 §2.3.2).

π_i sampled the rollouts and is the reference policy; π_θ is optimised. With A = r − baseline and the log ratio
Δ = log π_θ(y, z | x) − log π_i(y, z | x) of the whole sequence, the surrogate is the mean of (A − τ Δ)². It is valid
off-policy, so nothing is importance-weighted. B: sequences, A: action tokens, P: prompts, k: responses a prompt.
"""

import math

import torch
from torch import Tensor, nn

# exp(20) is 5e8: even 32k such tokens keep the KL estimate finite in float32.
_K3_MAX_LOG_RATIO = 20.0


def _check_tau(tau: float) -> None:
    if not 0 < tau < math.inf:
        raise ValueError(f"kimi.policy.tau is {tau}; it must be a finite number > 0")


def group_advantages(rewards: Tensor, *, baseline: str, tau: float) -> Tensor:
    """Rewards less their group's baseline (k1.5 §2.3.2).

    Args:
        rewards: [P, k], any dtype; computed in float32 or wider.
        baseline: "mean" for r̄, or "log_z" for τ log((1/k) Σ exp(r/τ)), whose limit for τ → ∞ is r̄. "none" is for
            comparison: with rewards of 0 and 1 wrong responses then push nothing away, as in ReST (§3.5).
        tau: τ > 0, in units of reward per nat.

    Returns:
        [P, k]; exactly 0 in a group whose rewards are all equal, unless the baseline is "none".

    Raises:
        ValueError: rewards not [P, k], unknown baseline, or τ out of range.
    """
    _check_tau(tau)
    if rewards.dim() != 2:
        raise ValueError(f"rewards have the shape {tuple(rewards.shape)}; expected [prompts, responses per prompt]")
    rewards = rewards.to(torch.promote_types(rewards.dtype, torch.float32))
    if baseline == "none":
        return rewards
    # Neither baseline minds a shift; r ≤ 0 and expm1/log1p keep log Z exact for tiny and for huge τ.
    rewards = rewards - rewards.amax(dim=-1, keepdim=True)  # [P, k]
    if baseline == "mean":
        return rewards - rewards.mean(dim=-1, keepdim=True)
    if baseline == "log_z":
        return rewards - tau * (rewards / tau).expm1().mean(dim=-1, keepdim=True).log1p()
    raise ValueError(f"kimi.policy.baseline is {baseline!r}; choose mean, log_z or none")


def family_advantages(rewards: Tensor, families: list[list[int]], *, baseline: str, tau: float) -> Tensor:
    """group_advantages with one baseline for all m · k responses to the m prompts of a family (ours, for §2.3.5).

    Args:
        rewards: [P, k].
        families: numbers of prompts, each of the P in exactly one list.

    Returns:
        [P, k], as group_advantages.
    """
    advantages = torch.empty_like(rewards, dtype=torch.promote_types(rewards.dtype, torch.float32))
    for prompts in families:
        joined = group_advantages(rewards[prompts].reshape(1, -1), baseline=baseline, tau=tau)  # [1, m · k]
        advantages[prompts] = joined.reshape(len(prompts), -1)
    return advantages


def zero_advantage_share(rewards: Tensor, families: list[list[int]]) -> float:
    """Share of the families of prompts whose rewards, of [P, k], are all equal: no signal beyond the pull to π_i."""
    equal = [(rewards[prompts] == rewards[prompts[0], 0]).all().item() for prompts in families]
    return sum(equal) / len(equal)


class MirrorDescentLoss(nn.Module):
    """The surrogate of k1.5 §2.3.2 with the call and the results of OpenRLHF's PolicyLoss.

    log_ratio "sequence": L = Σ_i (A_i − τ Δ_i)² / N over the N non-empty sequences of the optimizer step (all
    micro-batches and data-parallel ranks), as in the report. "token": (A − τ δ_t)² for every token by itself,
    averaged over all tokens (token_level_loss) or first over the tokens of each sequence.

    The square is kept while Δ is at most max_log_ratio nats away from the segment between 0 (the reference) and A/τ
    (the optimum); beyond, it goes on as its tangent (like Huber's): the pull back stays, bounded by 2τ(|A| + τ max).

    importance_cap: if not 0, each unit (sequence or token) counts min(cap, π_i / μ) times, μ the policy that wrote it:
    truncated importance sampling, for responses of which earlier policies wrote a part.

    forward fills `metrics`: detached [B] tensors, 0 for a sequence without action tokens.
    """

    def __init__(
        self, *, tau: float, max_log_ratio: float, log_ratio: str, token_level_loss: bool, importance_cap: float = 0.0
    ) -> None:
        super().__init__()
        _check_tau(tau)
        if not max_log_ratio > 0:
            raise ValueError(f"kimi.policy.max_log_ratio is {max_log_ratio}; it must be > 0 (nats)")
        if log_ratio not in ("sequence", "token"):
            raise ValueError(f"kimi.policy.log_ratio is {log_ratio!r}; choose sequence or token")
        if not (importance_cap == 0 or importance_cap >= 1):
            raise ValueError(f"kimi.policy.importance_cap is {importance_cap}; it must be 0 (off) or at least 1")
        self.tau = tau
        self.max_log_ratio = max_log_ratio
        self.importance_cap = importance_cap
        self.log_ratio = log_ratio
        self.token_level_loss = token_level_loss
        self.metrics: dict[str, Tensor] = {}

    def forward(
        self,
        log_probs: Tensor,
        old_log_probs: Tensor,
        advantages: Tensor,
        action_mask: Tensor | None = None,
        rollout_log_probs: Tensor | None = None,
        dp_size: int = 1,
        batch_num_tokens: float | Tensor | None = None,
        global_batch_size: float | Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """All tensors are [B, A]; whatever stands at masked positions reaches neither loss nor gradient.

        Args:
            log_probs: log π_θ of the action tokens, with gradient.
            old_log_probs: log π_i, recomputed by the trainer before the update.
            advantages: A_i, the same at every action token of a sequence.
            action_mask: true (or non-zero) at the action tokens to train on; None means all.
            rollout_log_probs: log μ, what the inference engine reported when it wrote the tokens; only measured,
                unless importance_cap is set.
            dp_size, batch_num_tokens, global_batch_size: as in OpenRLHF's aggregate_loss.

        Returns:
            loss, share of clipped units (sequences or tokens), mean −δ a token, and, if rollout_log_probs is given,
            mean rollout − old a token and 0 (nothing is filtered); otherwise None and None.

        Raises:
            ValueError: importance_cap without rollout_log_probs.
        """
        mask = torch.ones_like(log_probs, dtype=torch.bool) if action_mask is None else action_mask.bool()  # [B, A]
        dtype = torch.promote_types(log_probs.dtype, torch.float32)
        delta = torch.where(mask, log_probs.to(dtype) - old_log_probs.to(dtype), 0.0)  # [B, A]
        tokens = mask.sum(dim=-1)  # [B]
        total = delta.sum(dim=-1)  # [B] Δ_i
        gap = None  # [B, A] log μ − log π_i
        if rollout_log_probs is not None:
            gap = torch.where(mask, rollout_log_probs.to(dtype) - old_log_probs.to(dtype), 0.0).detach()

        if self.log_ratio == "sequence":
            # The first action token holds the return of the whole sequence.
            first = mask.long().argmax(dim=-1, keepdim=True)  # [B, 1]
            valid = tokens > 0  # [B]
            advantage = torch.where(valid, advantages.to(dtype).gather(-1, first).squeeze(-1), 0.0)  # [B]
            penalty, clipped = self._penalty(advantage, total)  # [B], [B]
            weight = self._importance(None if gap is None else gap.sum(dim=-1))  # [B] or 1
            penalty = weight * penalty
            loss = _mean(penalty, valid, global_batch_size, dp_size)
            clip_share = clipped.to(dtype)  # [B]
        else:
            valid = mask  # [B, A]
            penalty, clipped = self._penalty(torch.where(mask, advantages.to(dtype), 0.0), delta)  # [B, A], [B, A]
            weight = self._importance(gap)  # [B, A] or 1
            penalty = weight * penalty
            if self.token_level_loss:
                loss = _mean(penalty, mask, batch_num_tokens, dp_size)
            else:
                loss = _mean(_row_mean(penalty, mask), tokens > 0, global_batch_size, dp_size)
            clip_share = _row_mean(clipped, mask)  # [B]

        detached = delta.detach()
        k3 = detached.clamp(max=_K3_MAX_LOG_RATIO).expm1() - detached  # [B, A], 0 at masked positions
        self.metrics = {
            "kimi/log_ratio_mean": total.detach(),
            "kimi/log_ratio_sq_mean": total.detach() ** 2,
            "kimi/kl_mean": k3.sum(dim=-1),
            "kimi/log_ratio_clip_share": clip_share,
        }
        vllm_kl = is_filter_ratio = None
        if self.importance_cap:
            self.metrics["kimi/importance_weight_mean"] = weight if weight.dim() == 1 else _row_mean(weight, mask)
        if gap is not None:
            self.metrics["kimi/logprob_gap_abs"] = _row_mean(gap.abs(), mask)
            vllm_kl = _mean(gap, mask)
            is_filter_ratio = torch.zeros_like(vllm_kl)
        return loss, _mean(clipped, valid), _mean(-detached, mask), vllm_kl, is_filter_ratio

    def _importance(self, gap: Tensor | None) -> Tensor | float:
        """min(cap, π_i / μ) from log μ − log π_i; 1 if it is off."""
        if not self.importance_cap:
            return 1.0
        if gap is None:
            raise ValueError(
                "kimi.policy.importance_cap needs the log-probs of the policy that wrote the tokens: set "
                "algo.advantage.is_correction_level to token"
            )
        return (-gap).clamp(max=math.log(self.importance_cap)).exp()

    def _penalty(self, advantage: Tensor, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        """(A − τ Δ)², continued by its tangent beyond the limits, and where that happened."""
        optimum = advantage / self.tau
        lower = optimum.clamp(max=0) - self.max_log_ratio
        upper = optimum.clamp(min=0) + self.max_log_ratio
        inside = torch.clamp(log_ratio, lower, upper)
        residual = advantage - self.tau * inside
        excess = log_ratio - inside
        return residual**2 - 2 * self.tau * residual * excess, excess != 0


def _row_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each row's unmasked entries, [B, A] → [B]; 0 where there are none."""
    return torch.where(mask, values, 0.0).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)


def _mean(values: Tensor, mask: Tensor, count: float | Tensor | None = None, dp_size: int = 1) -> Tensor:
    """Sum of the unmasked entries over `count`, the optimizer step's share of one backward pass; by default this
    batch's own number of entries. dp_size undoes the averaging of gradients over data-parallel ranks."""
    total = torch.where(mask, values, 0.0).sum()
    if count is None:
        return total / mask.sum().clamp(min=1)
    # A step without any action token has the count 0; its sum is 0 too.
    return total * dp_size / torch.as_tensor(count, device=values.device).clamp(min=1e-8)
