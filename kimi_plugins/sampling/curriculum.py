"""From easy to hard: which part of the prompts, ordered by difficulty, may be drawn at a step (k1.5 §2.3.4, §3.5)."""

import math
import re
from collections.abc import Iterable

import numpy as np

SCHEDULES = ("none", "stages", "continuous", "hard_after")


def difficulties(values: Iterable, column: str, *, harder: str) -> np.ndarray:
    """A column of the data set as float64 [n] in which more is harder.

    Args:
        values: numbers, or text with exactly one, as in "Level 5"; row by row.
        column: its name, for the messages.
        harder: "higher" for grade labels, "lower" for a measured pass rate.

    Raises:
        ValueError: a value that is not a finite number (with its row, from 1), or one value for all rows.
    """
    parsed = []
    for row, value in enumerate(values, start=1):
        number = as_number(value)
        if not math.isfinite(number):
            raise ValueError(
                f"column {column!r}, row {row}: {value!r} is not a difficulty; give every prompt a finite number, or "
                "set kimi.sampling.curriculum to none"
            )
        parsed.append(number)
    result = np.array(parsed)
    if len(result) == 0 or result.min() == result.max():
        raise ValueError(
            f"column {column!r}: all {len(result)} prompts are equally difficult, so there is no order from easy to "
            "hard; measure their pass rates, or set kimi.sampling.curriculum to none"
        )
    return -result if harder == "lower" else result


def as_number(value) -> float:
    """The number that a value is, or that a text holds; NaN if there is none, or more than one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        found = re.findall(r"\d+(?:\.\d+)?", value) if isinstance(value, str) else []
        return float(found[0]) if len(found) == 1 else math.nan


def easy_to_hard(difficulty: np.ndarray, seed: int) -> np.ndarray:
    """Row numbers from easy to hard, int32 [n]; equally difficult ones in an order drawn from the seed."""
    shuffled = np.random.default_rng(seed).permutation(len(difficulty))
    return shuffled[np.argsort(difficulty[shuffled], kind="stable")].astype(np.int32)


def window(
    step: int, n: int, *, schedule: str, curriculum_steps: int, stages: int, hard_from: int, hard_share: float
) -> tuple[int, int]:
    """The part [low, high) of n ≥ 1 prompts, ordered from easy to hard, that may be drawn at a step (from 1).

    "stages": the easiest 1/stages, then 2/stages, …, all of them from curriculum_steps on. Easy prompts stay in, so
    that they are not forgotten; priorities thin them out as they are solved. "continuous": the same without steps,
    from 1/stages on. "hard_after": all, and from step hard_from on only the hardest hard_share (§3.5).

    Raises:
        ValueError: an unknown schedule.
    """
    if schedule == "none":
        return 0, n
    if schedule == "hard_after":
        return (n - max(1, round(hard_share * n)), n) if step >= hard_from else (0, n)
    progress = min(1.0, (step - 1) / max(1, curriculum_steps))
    if schedule == "stages":
        share = min(stages, math.floor(progress * stages) + 1) / stages
    elif schedule == "continuous":
        share = 1 / stages + (1 - 1 / stages) * progress
    else:
        raise ValueError(f"kimi.sampling.curriculum is {schedule!r}; choose one of {', '.join(SCHEDULES)}")
    return 0, max(1, round(share * n))
