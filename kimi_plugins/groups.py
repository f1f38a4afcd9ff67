"""Samples of a rollout batch, put back into the groups of their prompts, and group values handed back to the samples.

A sample's `index` is its position in the order of the rollout, in which the k responses of a prompt are neighbours,
whatever micro-batches the samples were spread over.
"""

import torch
from torch import Tensor

from kimi_plugins.grading.failures import GRADER_FAILED
from kimi_plugins.policy.settings import baseline_key


def by_prompt(experiences: list, samples_per_prompt: int, value) -> Tensor:
    """value(experience), a tensor [B] of every OpenRLHF Experience, as [P, k] with k = samples_per_prompt."""
    order = torch.tensor(_order(experiences))  # [P * k]
    values = torch.cat([value(experience) for experience in experiences])  # [P * k]
    return torch.empty_like(values).index_copy_(0, order, values).reshape(-1, samples_per_prompt)


def sharing_baseline(experiences: list, args) -> list[list[int]]:
    """The prompts 0 … P − 1 of a batch, in lists of those that share a baseline.

    These have the same value in the column of baseline_key. A prompt without a value, or without others of its value
    in the batch, is alone; so is every prompt if there is no such column.
    """
    k, key = args.rollout.n_samples_per_prompt, baseline_key(args)
    indices = _order(experiences)
    if key is None:
        return [[prompt] for prompt in range(len(indices) // k)]
    rows = dict(zip(indices, (row for experience in experiences for row in experience.rows), strict=True))
    found: dict = {}
    for prompt in range(len(indices) // k):
        value = rows[prompt * k][key]
        found.setdefault(("alone", prompt) if value is None else ("value", value), []).append(prompt)
    return list(found.values())


def acted_by_prompt(experiences: list, samples_per_prompt: int) -> Tensor:
    """Whether every sample has a response, bool, as [P, k]: one whose prompt fills the context has none.

    A response of which nothing is trained on, as earlier policies wrote it, has been seen all the same.
    """
    return by_prompt(experiences, samples_per_prompt, lambda experience: experience.response_length > 0)


def correctness_by_prompt(experiences: list, samples_per_prompt: int) -> Tensor:
    """Every sample's verdict, 0 to 1, as [P, k]."""
    return by_prompt(experiences, samples_per_prompt, verdict)


def failed_by_prompt(experiences: list, samples_per_prompt: int) -> Tensor:
    """Whether every sample's grade failed, bool, as [P, k]."""
    return by_prompt(experiences, samples_per_prompt, grader_failed)


def success_rates(experiences: list, samples_per_prompt: int) -> Tensor:
    """[P]: the mean verdict on the graded responses of every prompt, from 0 to 1; NaN if none could be graded."""
    correct = correctness_by_prompt(experiences, samples_per_prompt)
    return _mean_of_graded(correct, failed_by_prompt(experiences, samples_per_prompt))


def success_rate(experiences: list) -> float | None:
    """The mean verdict on the responses of one prompt, from 0 to 1; None if none could be graded."""
    failed = torch.cat([grader_failed(experience) for experience in experiences])  # [k]
    verdicts = torch.cat([verdict(experience) for experience in experiences])  # [k]
    return None if failed.all() else _mean_of_graded(verdicts, failed).item()


def _mean_of_graded(verdicts: Tensor, failed: Tensor) -> Tensor:
    """Mean of verdicts [..., k] over the responses, as [...]; NaN where every grade failed."""
    graded = ~failed
    return verdicts.where(graded, 0.0).sum(dim=-1) / graded.sum(dim=-1)


def grader_failed(experience) -> Tensor:
    """[B], bool: where the score says nothing, as the grader failed or gave a number that is not finite."""
    strange = ~verdict(experience).isfinite()
    if experience.rewards is not None:
        strange = strange | ~experience.rewards.isfinite()
    failed = experience.info.get(GRADER_FAILED)
    return strange if failed is None else strange | (failed.nan_to_num(0.0) != 0)


def solved_shares(rates: Tensor) -> dict[str, float]:
    """Share of the prompts, by their success rates [P], that are wholly right, and wholly wrong."""
    return {
        "kimi/solved_group_share": (rates == 1).float().mean().item(),
        "kimi/unsolved_group_share": (rates == 0).float().mean().item(),
    }


def add_to_rewards(experiences: list, values: Tensor) -> None:
    """Add group values [P, k] to the rewards of their samples, in place."""
    flat = values.reshape(-1)
    for experience in experiences:
        experience.rewards = experience.rewards + flat[torch.tensor(experience.index)]


def set_rewards(experiences: list, values: Tensor) -> None:
    """Replace the rewards of the samples by group values [P, k], in place."""
    flat = values.reshape(-1)
    for experience in experiences:
        experience.rewards = flat[torch.tensor(experience.index)]


def verdict(experience) -> Tensor:
    """[B]: the reward function's scores, or the rewards before they were shaped."""
    return (experience.info["reward"] if experience.scores is None else experience.scores).float()


def _order(experiences: list) -> list[int]:
    return [index for experience in experiences for index in experience.index]
