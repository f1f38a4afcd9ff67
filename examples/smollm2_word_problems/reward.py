"""The verifiable reward of the word problems, for `--reward.remote_url …/reward.py`."""

import re
from fractions import Fraction

EOS = "<|im_end|>"
# A minus is a sign unless it stands between two terms, as in "9-4". Commas only group three digits.
NUMBER = re.compile(r"(?:(?<![0-9A-Za-z)])-)?[0-9]+(?:,[0-9]{3}(?![0-9]))*(?:\.[0-9]+)?")
MAX_LENGTH = 30  # of a number, in characters: longer ones are no answer, and slow to compare


def last_number(response: str) -> Fraction | None:
    """The last number, in digits, of a response that ended by itself; None if it was cut off or has no number."""
    if not response.endswith(EOS):
        return None
    numbers = NUMBER.findall(response)
    if not numbers or len(numbers[-1]) > MAX_LENGTH:
        return None
    return Fraction(numbers[-1].replace(",", ""))


def grade(response: str, answer: str) -> float:
    """1.0 if the response's last number equals the answer exactly, as rational numbers (16.0 is 16), else 0.0.

    Raises:
        ValueError: the answer is not a number.
    """
    return float(last_number(response) == Fraction(answer))


def reward_func(queries: list[str], prompts: list[str], labels: list[str]) -> dict:
    """The reward r(x, y, y*) of one response (k1.5 §2.3.2); OpenRLHF calls it with lists of one.

    queries: prompt and response with special tokens, as decoded from the rollout.

    Raises:
        ValueError: the query does not begin with its prompt, so that the response cannot be told from it.
    """
    [query], [prompt], [label] = queries, prompts, labels
    if not query.startswith(prompt):
        raise ValueError(f"the query {query!r} does not begin with its prompt {prompt!r}")
    response = query[len(prompt) :]
    reward = grade(response, label)
    return {"rewards": reward, "scores": reward, "extra_logs": {"answered": float(last_number(response) is not None)}}
