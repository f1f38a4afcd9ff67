"""Samples of a rollout batch, put back into the groups of their prompts."""

import torch
from torch import Tensor


def rewards_by_prompt(experiences: list, samples_per_prompt: int) -> Tensor:
    """The rewards as [P, k], whatever micro-batches the samples were spread over.

    experiences: OpenRLHF Experiences whose `index` gives each sample's place in the order of the rollout, in which
    the k = samples_per_prompt responses of a prompt are neighbours.
    """
    order = torch.tensor([place for experience in experiences for place in experience.index])  # [P * k]
    rewards = torch.cat([experience.rewards for experience in experiences])  # [P * k]
    return torch.empty_like(rewards).index_copy_(0, order, rewards).reshape(-1, samples_per_prompt)
