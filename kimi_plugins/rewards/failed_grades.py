"""Failed grades in a rollout batch: what the hooks of kimi-rewards delegate to (k1.5 §2.3.5).

A failed grade says nothing of the response, so its sample may neither be pushed nor count in its group's baseline.
Its reward becomes the baseline of the others in the group: the advantage is 0 and theirs are as without it. The KL
term of the loss, which needs no reward, still holds it at the reference.
"""

import torch
from torch import Tensor

from kimi_plugins import groups
from kimi_plugins.grading import failures
from kimi_plugins.policy.mirror_descent import group_advantages


def check(experiences: list, limit: float) -> None:
    """Raise TooManyFailures if more than the share `limit` of the batch's grades failed."""
    failed = _failed(experiences)
    failures.check(int(failed.sum()), len(failed), limit, "the engines' logs have the reasons ('grader failed')")


def neutralise(experiences: list, args) -> None:
    """Give every sample whose grade failed the reward with which its advantage is 0."""
    k = args.rollout.n_samples_per_prompt
    failed = groups.failed_by_prompt(experiences, k)  # [P, k]
    rewards = groups.by_prompt(experiences, k, lambda experience: experience.rewards)  # [P, k]
    for prompts in groups.sharing_baseline(experiences, args):
        lost = failed[prompts]  # [m, k]
        if lost.any():
            graded = rewards[prompts][~lost]
            neutral = _baseline(graded, args) if len(graded) else 0.0
            rewards[prompts] = rewards[prompts].masked_fill(lost, neutral)
    groups.set_rewards(experiences, rewards)


def _failed(experiences: list) -> Tensor:
    """[N], bool, of all samples of the batch."""
    return torch.cat([groups.grader_failed(experience) for experience in experiences])


def _baseline(rewards: Tensor, args) -> float:
    """The baseline of one group's rewards [n]; the mean if kimi-policy is not loaded."""
    policy = getattr(args.kimi, "policy", None)
    if policy is None:
        return rewards.mean().item()
    advantages = group_advantages(rewards[None], baseline=policy.baseline, tau=policy.tau)
    return (rewards - advantages[0])[0].item()
