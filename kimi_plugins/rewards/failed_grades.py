"""Failed grades in a rollout batch: what the hooks of kimi-rewards delegate to (k1.5 §2.3.5).

A failed grade says nothing of the response, so its sample may neither be pushed nor count in its group's baseline.
kimi-policy leaves it out of both. For OpenRLHF's own estimators its reward becomes the mean of the others in the
group: its advantage is 0 and, but for rloo's and group_norm's factor, theirs are as without it.
"""

import torch
from torch import Tensor

from kimi_plugins import groups
from kimi_plugins.grading import failures


def check(experiences: list, limit: float) -> None:
    """Raise TooManyFailures if more than the share `limit` of the batch's grades failed."""
    failed = _failed(experiences)
    failures.check(int(failed.sum()), len(failed), limit, "the engines' logs have the reasons ('grader failed')")


def neutralise(experiences: list, args) -> None:
    """Give every sample whose grade failed the mean reward of its prompt's graded ones; 0 if there are none."""
    k = args.rollout.n_samples_per_prompt
    failed = groups.failed_by_prompt(experiences, k)  # [P, k]
    if failed.any():
        rewards = groups.by_prompt(experiences, k, lambda experience: experience.rewards)  # [P, k]
        graded = (~failed).sum(dim=-1, keepdim=True)  # [P, 1]
        mean = rewards.where(~failed, 0.0).sum(dim=-1, keepdim=True) / graded.clamp(min=1)
        groups.set_rewards(experiences, rewards.where(~failed, mean))


def _failed(experiences: list) -> Tensor:
    """[N], bool, of all samples of the batch."""
    return torch.cat([groups.grader_failed(experience) for experience in experiences])
