"""How far the engines' log-probs are from the actor's: a broken weight sync and mere staleness, told apart.

A token of the current policy has the same log-prob in both, but for rounding. One that an earlier policy wrote in an
earlier iteration has another one by right, and would hide an engine whose weights are stale.
"""

import torch

CURRENT_SHARE = "kimi/current_share"  # in a rollout's info: share of its response that the current policy wrote


def gap_metrics(experiences: list) -> dict[str, float]:
    """Log-prob gaps of a batch's trained tokens, by the policy that wrote them; {} if the run has no engine log-probs.

    experiences: OpenRLHF's, with action_log_probs and rollout_log_probs [B, A], and CURRENT_SHARE in info. The first
    two metrics replace those that the loss measures on all tokens; a mean over no token is 0.
    """
    gaps, current = [], []
    for experience in experiences:
        if experience.rollout_log_probs is None:
            return {}
        mask = experience.action_mask.bool()  # [B, A]
        position = torch.arange(mask.shape[1])
        end = torch.where(mask, position + 1, 0).amax(dim=-1)  # [B]
        written = (experience.info[CURRENT_SHARE] * experience.response_length).round()  # [B], at the response's end
        gap = experience.rollout_log_probs.float() - experience.action_log_probs.float()
        gaps.append(gap[mask])
        current.append((position >= (end - written).unsqueeze(-1))[mask])
    gap, of_current = torch.cat(gaps), torch.cat(current)
    return {
        "kimi/logprob_gap_abs": _mean(gap[of_current].abs()),
        "vllm_kl": _mean(gap[of_current]),
        "kimi/stale_gap_abs": _mean(gap[~of_current].abs()),
        "kimi/stale_token_share": _mean((~of_current).float()),
    }


def _mean(values: torch.Tensor) -> float:
    return values.mean().item() if len(values) else 0.0
