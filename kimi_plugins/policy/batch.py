"""The advantages of a rollout batch: what the hooks of kimi-policy delegate to (k1.5 §2.3.2)."""

from torch import Tensor

from kimi_plugins import groups
from kimi_plugins.policy.advantages import linked_advantages, success_scale, zero_advantage_share
from kimi_plugins.policy.optimizer_reset import resets_at


def baseline_scale(policy) -> float:
    """kimi.policy.baseline_scale; where it is not set, what learned best in small (docs/settings.md)."""
    if policy.baseline_scale is not None:
        return policy.baseline_scale
    return 0.5 if (policy.baseline, policy.baseline_rises) == ("mean", "none") else 1.0


def advantages(rewards: Tensor, experiences: list, args) -> Tensor:
    """Advantages [P, k] of rewards [P, k]; 0 for a missing or ungraded response, which counts in no baseline."""
    policy, k = args.kimi.policy, args.rollout.n_samples_per_prompt
    linked = groups.sharing_baseline(experiences, args)
    graded = groups.acted_by_prompt(experiences, k) & ~groups.failed_by_prompt(experiences, k)  # [P, k]
    scale = rewards.new_full((len(rewards), 1), baseline_scale(policy))  # [P, 1]
    if policy.baseline_rises != "none":
        verdicts = groups.correctness_by_prompt(experiences, k)
        scale = scale * success_scale(verdicts, graded, linked, over=policy.baseline_rises)
    return linked_advantages(rewards, linked, baseline=policy.baseline, tau=policy.tau, graded=graded, scale=scale)


def metrics(experiences: list, step: int, args) -> dict[str, float]:
    rewards = groups.by_prompt(experiences, args.rollout.n_samples_per_prompt, lambda experience: experience.rewards)
    found = advantages(rewards, experiences, args)
    return {
        "kimi/zero_advantage_share": zero_advantage_share(found, groups.sharing_baseline(experiences, args)),
        "kimi/optimizer_reset": float(resets_at(step, args.kimi.policy)),
    }
