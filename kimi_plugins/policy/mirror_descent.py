"""Online policy mirror descent (k1.5 §2.3.2) and the form that it has in the K2.5 report.

π_i sampled the rollouts and is the reference policy; π_θ is optimised. With A = r − baseline and the log ratio
Δ = log π_θ(y, z | x) − log π_i(y, z | x) of the whole sequence, the surrogate is the mean of (A − τ Δ)². It is valid
off-policy, so nothing is importance-weighted. B: sequences, A: action tokens.
"""

import math

import torch
from torch import Tensor, nn

from kimi_plugins.options import Policy
from kimi_plugins.policy.settings import loss_problems

# exp(20) is 5e8: even 32k such tokens keep the KL estimate finite in float32.
_K3_MAX_LOG_RATIO = 20.0


class MirrorDescentLoss(nn.Module):
    """The losses of the k1.5 and K2.5 reports with the call and the results of OpenRLHF's PolicyLoss.

    form "k1.5" (§2.3.2, also K2's), log_ratio "sequence": L = Σ_i (A_i − τ Δ_i)² / N over the N non-empty sequences of
    the optimizer step (all micro-batches and data-parallel ranks), as in the report. "token": (A − τ δ_t)² for every
    token by itself, averaged over all tokens (token_level_loss) or first over the tokens of each sequence.
    length_normalization: (A − τ Δ)² / (2 τ L) = ½ τ (A/τ − Δ)² / L, L the tokens of the sequence (OpenKimi, arXiv
    2602.05933); at π_i its gradient is that of the mean policy gradient a token, whatever τ.

    form "k2.5" (K2.5 report, eq. 1), log_ratio "token": clipped_policy_gradient of every token, averaged over all.

    The square is kept while Δ is at most max_log_ratio nats away from the segment between 0 (the reference) and A/τ
    (the optimum); beyond, it goes on as its tangent (like Huber's): the pull back stays, bounded by 2τ(|A| + τ max).

    importance_cap: if not 0, each unit (sequence or token) counts min(cap, π_i / μ) times, μ the policy that wrote it:
    truncated importance sampling, for responses of which earlier policies wrote a part.

    forward fills `metrics`: detached [B] tensors, 0 for a sequence without action tokens.

    Raises:
        ValueError: an option out of range, or options that do not go together.
    """

    def __init__(
        self,
        *,
        tau: float,
        max_log_ratio: float,
        log_ratio: str,
        token_level_loss: bool,
        importance_cap: float = 0.0,
        form: str = "k1.5",
        length_normalization: bool = False,
        log_ratio_low: float = -2.0,
        log_ratio_high: float = 2.0,
    ) -> None:
        super().__init__()
        chosen = Policy(
            tau=tau,
            max_log_ratio=max_log_ratio,
            importance_cap=importance_cap,
            log_ratio=log_ratio,
            form=form,
            length_normalization=length_normalization,
            log_ratio_low=log_ratio_low,
            log_ratio_high=log_ratio_high,
        )
        for problem in loss_problems(chosen, token_level_loss=token_level_loss):
            raise ValueError(problem)
        self.tau = tau
        self.max_log_ratio = max_log_ratio
        self.importance_cap = importance_cap
        self.log_ratio = log_ratio
        self.token_level_loss = token_level_loss
        self.form = form
        self.length_normalization = length_normalization
        self.log_ratio_low, self.log_ratio_high = log_ratio_low, log_ratio_high
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

        # What is summed up: sequences, whose first action token holds the return of all, or tokens.
        if self.log_ratio == "sequence":
            valid = tokens > 0  # [B]
            first = mask.long().argmax(dim=-1, keepdim=True)  # [B, 1]
            advantage = torch.where(valid, advantages.to(dtype).gather(-1, first).squeeze(-1), 0.0)  # [B]
            terms, clipped = self._terms(advantage, total)  # [B], [B]
            if self.length_normalization:
                terms = terms / tokens.clamp(min=1) / (2 * self.tau)
        else:
            valid = mask  # [B, A]
            terms, clipped = self._terms(torch.where(mask, advantages.to(dtype), 0.0), delta)  # [B, A], [B, A]
        weight = self._importance(gap)  # as the terms
        if weight is not None:
            terms = weight * terms
        if self.log_ratio == "token" and self.token_level_loss:
            loss = _mean(terms, mask, batch_num_tokens, dp_size)
        else:
            loss = _mean(_by_row(terms, mask), tokens > 0, global_batch_size, dp_size)

        detached = delta.detach()
        k3 = detached.clamp(max=_K3_MAX_LOG_RATIO).expm1() - detached  # [B, A], 0 at masked positions
        self.metrics = {
            "kimi/log_ratio_mean": total.detach(),
            "kimi/log_ratio_sq_mean": total.detach() ** 2,
            "kimi/kl_mean": k3.sum(dim=-1),
            "kimi/log_ratio_clip_share": _by_row(clipped.to(dtype), mask),
        }
        vllm_kl = is_filter_ratio = None
        if weight is not None:
            self.metrics["kimi/importance_weight_mean"] = _by_row(weight, mask)
        if gap is not None:
            self.metrics["kimi/logprob_gap_abs"] = _by_row(gap.abs(), mask)
            vllm_kl = _mean(gap, mask)
            is_filter_ratio = torch.zeros_like(vllm_kl)
        return loss, _mean(clipped, valid), _mean(-detached, mask), vllm_kl, is_filter_ratio

    def _terms(self, advantage: Tensor, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each unit, and where it is clipped; all of the same shape."""
        if self.form == "k2.5":
            return clipped_policy_gradient(
                advantage,
                log_ratio,
                tau=self.tau,
                low=self.log_ratio_low,
                high=self.log_ratio_high,
                max_log_ratio=self.max_log_ratio,
            )
        return squared_residual(advantage, log_ratio, tau=self.tau, max_log_ratio=self.max_log_ratio)

    def _importance(self, gap: Tensor | None) -> Tensor | None:
        """min(cap, π_i / μ) of each unit from log μ − log π_i [B, A]; None if it is off."""
        if not self.importance_cap:
            return None
        if gap is None:
            raise ValueError(
                "kimi.policy.importance_cap needs the log-probs of the policy that wrote the tokens: set "
                "algo.advantage.is_correction_level to token"
            )
        of_units = gap.sum(dim=-1) if self.log_ratio == "sequence" else gap
        return (-of_units).clamp(max=math.log(self.importance_cap)).exp()


def squared_residual(
    advantage: Tensor, log_ratio: Tensor, *, tau: float, max_log_ratio: float = math.inf
) -> tuple[Tensor, Tensor]:
    """(A − τ Δ)² (k1.5 §2.3.2), continued by its tangent where Δ is more than max_log_ratio beyond both 0 and A/τ.

    All of one shape, such as [B] of whole sequences. Returns the loss of each, and whether it is beyond.
    """
    optimum = advantage / tau
    inside = torch.clamp(log_ratio, optimum.clamp(max=0) - max_log_ratio, optimum.clamp(min=0) + max_log_ratio)
    residual = advantage - tau * inside
    excess = log_ratio - inside
    return residual**2 - 2 * tau * residual * excess, excess != 0


def clipped_policy_gradient(
    advantage: Tensor, log_ratio: Tensor, *, tau: float, low: float, high: float, max_log_ratio: float = math.inf
) -> tuple[Tensor, Tensor]:
    """−A · ratio + τ (log ratio)² of each token (K2.5 report, eq. 1).

    Where the log ratio leaves [low, high] the ratio is clipped, whatever the sign of A: the token has no policy
    gradient. The square pulls every token back, and goes on as its tangent beyond ±max_log_ratio nats.

    All of one shape, such as [B, A]. Returns the loss of each, and whether its ratio is clipped.
    """
    inside = torch.clamp(log_ratio, low, high)
    pull, _ = squared_residual(torch.zeros_like(advantage), log_ratio, tau=tau, max_log_ratio=max_log_ratio)
    return -advantage * inside.exp() + pull / tau, log_ratio != inside


def _by_row(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over each row's unmasked entries of [B, A], 0 where there are none; [B] as it is."""
    if values.dim() == 1:
        return values
    return torch.where(mask, values, 0.0).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)


def _mean(values: Tensor, mask: Tensor, count: float | Tensor | None = None, dp_size: int = 1) -> Tensor:
    """Sum of the unmasked entries over `count`, the optimizer step's share of one backward pass; by default this
    batch's own number of entries. dp_size undoes the averaging of gradients over data-parallel ranks."""
    total = torch.where(mask, values, 0.0).sum()
    if count is None:
        return total / mask.sum().clamp(min=1)
    # A step without any action token has the count 0; its sum is 0 too.
    return total * dp_size / torch.as_tensor(count, device=values.device).clamp(min=1e-8)
