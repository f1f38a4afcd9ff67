"""The verifiable reward of the quickstart's arithmetic, for `--reward.remote_url …/quickstart/reward.py`."""

import torch

from kimi_plugins.quickstart.arithmetic import ANSWER_CLOSE, ANSWER_OPEN, CHECK_WRONG, EOS


def final_answer(response: str) -> str | None:
    r"""What stands in the last ``\boxed{`` of a response that ended by itself; None if it is not closed or absent."""
    if not response.endswith(EOS):
        return None
    _, opened, rest = response.rpartition(ANSWER_OPEN)
    answer, closed, _ = rest.partition(ANSWER_CLOSE)
    return answer if opened and closed else None


def reward_func(queries: list[str], prompts: list[str], labels: list[str]) -> dict:
    """1 where the final answer equals the label character by character, else 0 (k1.5's r(x, y, y*)); all [B].

    queries: prompt and response with special tokens, as decoded from the rollout.

    Raises:
        ValueError: a query does not begin with its prompt, so that the response cannot be told from it.
    """
    responses = []
    for query, prompt in zip(queries, prompts, strict=True):
        if not query.startswith(prompt):
            raise ValueError(f"the query {query!r} does not begin with its prompt {prompt!r}")
        responses.append(query[len(prompt) :])
    answers = [final_answer(response) for response in responses]
    rewards = torch.tensor([float(answer == label) for answer, label in zip(answers, labels, strict=True)])  # [B]
    return {
        "rewards": rewards,
        "scores": rewards,
        "extra_logs": {
            "answered": torch.tensor([float(answer is not None) for answer in answers]),
            "corrections": torch.tensor([float(response.count(CHECK_WRONG)) for response in responses]),
        },
    }
