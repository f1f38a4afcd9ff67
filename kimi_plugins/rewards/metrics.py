"""What a batch's grades are: failures, format, length of the reasoning, and all of it by data source."""

import torch
from torch import Tensor

from kimi_plugins import groups
from kimi_plugins.rewards import labels
from kimi_plugins.rewards.mixed_reward import HAS_FORMAT, REASONING_SHARE


def metrics(experiences: list) -> dict[str, float]:
    failed = torch.cat([groups.grader_failed(experience) for experience in experiences])  # [N]
    found = {"kimi/grader_failure_share": failed.float().mean().item()}
    lengths = torch.cat([experience.response_length for experience in experiences]).float()
    thinking = _logged(experiences, REASONING_SHARE)
    if thinking is not None:
        found["kimi/reasoning_tokens_mean"] = (thinking * lengths).mean().item()
    form = _logged(experiences, HAS_FORMAT)
    if form is not None:
        found["kimi/format_share"] = form.mean().item()
    return found | by_source(experiences, failed, lengths)


def by_source(experiences: list, failed: Tensor, lengths: Tensor) -> dict[str, float]:
    """Accuracy of the graded responses, share of failed grades, mean length and number of responses of each source.

    failed, lengths: [N], in the order of the samples. A row without a data source counts for its kind.
    """
    scores = torch.cat([groups.verdict(experience) for experience in experiences])
    tagged = [labels.read(label) for experience in experiences for label in experience.labels]
    names = [None if tag is None else tag.source or tag.kind for tag in tagged]
    found = {}
    for name in sorted({name for name in names if name is not None}):
        chosen = torch.tensor([other == name for other in names])
        graded = chosen & ~failed
        prefix = f"kimi/rewards/{name}"
        found[f"{prefix}/responses"] = float(chosen.sum())
        found[f"{prefix}/failure_share"] = failed[chosen].float().mean().item()
        found[f"{prefix}/length_mean"] = lengths[chosen].mean().item()
        if graded.any():
            found[f"{prefix}/accuracy"] = scores[graded].mean().item()
    return found


def add_format_rewards(experiences: list, reward: float) -> None:
    """Add the reward to those of the responses that have the format."""
    if reward == 0:
        return
    for experience in experiences:
        has_format = experience.info.get(HAS_FORMAT)
        if has_format is not None:
            experience.rewards = experience.rewards + reward * has_format.nan_to_num(0.0)


def _logged(experiences: list, name: str) -> Tensor | None:
    """[N]; None if the reward function does not log it."""
    if any(name not in experience.info for experience in experiences):
        return None
    return torch.cat([experience.info[name] for experience in experiences]).float().nan_to_num(0.0)
