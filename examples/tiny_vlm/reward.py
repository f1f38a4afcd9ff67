"""1 if the response ends by itself and its number is that of the squares, else 0."""

import torch

from kimi_plugins.quickstart.arithmetic import EOS


def number(response: str) -> str | None:
    """What stands after the last "=", or all of it; None if the response was cut off."""
    return response.removesuffix(EOS).rpartition("=")[2] if response.endswith(EOS) else None


def reward_func(queries: list[str], prompts: list[str], labels: list[str]) -> dict:
    """All [B]. A query is its prompt and the response; an image is one placeholder in both."""
    responses = []
    for query, prompt in zip(queries, prompts, strict=True):
        if not query.startswith(prompt):
            raise ValueError(f"the query {query!r} does not begin with its prompt {prompt!r}")
        responses.append(query[len(prompt) :])
    rewards = torch.tensor([float(number(one) == label) for one, label in zip(responses, labels, strict=True)])
    return {
        "rewards": rewards,
        "scores": rewards,
        "extra_logs": {"worked": torch.tensor([float("=" in response) for response in responses])},
    }
