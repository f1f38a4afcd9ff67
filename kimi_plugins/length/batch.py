"""The length reward of a rollout batch, and its metrics: what the hooks of kimi-length delegate to (k1.5 §2.3.3)."""

from torch import Tensor

from kimi_plugins import groups
from kimi_plugins.length.reward import length_metrics, length_rewards, weight_at


def add_length_rewards(experiences: list, step: int, args) -> None:
    """Add the weighted length rewards of every prompt's group to the rewards of its samples."""
    lengths, correct = _lengths_and_correctness(experiences, args)
    rewards = length_rewards(lengths, correct, wrong=args.kimi.length.wrong)
    groups.add_to_rewards(experiences, _weight(step, args) * rewards)


def metrics(experiences: list, step: int, args) -> dict[str, float]:
    lengths, correct = _lengths_and_correctness(experiences, args)
    weight = _weight(step, args)
    added = weight * length_rewards(lengths, correct, wrong=args.kimi.length.wrong)
    graded = ~groups.failed_by_prompt(experiences, args.rollout.n_samples_per_prompt)
    return length_metrics(lengths, correct, graded, added) | {"kimi/length_reward_weight": weight}


def _lengths_and_correctness(experiences: list, args) -> tuple[Tensor, Tensor]:
    k = args.rollout.n_samples_per_prompt
    lengths = groups.by_prompt(experiences, k, lambda experience: experience.response_length)
    return lengths, groups.correctness_by_prompt(experiences, k)


def _weight(step: int, args) -> float:
    length = args.kimi.length
    return weight_at(step, weight=length.weight, warm_up_steps=length.warm_up_steps, ramp_steps=length.ramp_steps)
