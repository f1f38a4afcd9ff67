"""Responses that go round in a loop (k1.5 §2.6.2: detected, ended early, perhaps penalised)."""

import numpy as np

LOOPED = "kimi/repetition_share"  # in a rollout's info: 1 if it was ended as a loop, else 0


def loop_period(tokens, *, max_period: int, min_tokens: int, min_count: int) -> int | None:
    """The shortest period p ≤ max_period with which `tokens` end: their last max(min_tokens, min_count · p) tokens
    repeat every p. None if there is none.

    vLLM's own detection asks only for a number of repeats, so that eight equal digits are as much of a loop as eight
    equal paragraphs; here the repeated stretch must also be min_tokens long.
    """
    tokens = np.asarray(tokens)
    for period in range(1, max_period + 1):
        span = max(min_tokens, min_count * period)
        if span > len(tokens):
            continue  # a longer period may need no longer span
        tail = tokens[-span:]
        if np.array_equal(tail[period:], tail[:-period]):
            return period
    return None


def penalise(experiences: list, penalty: float) -> None:
    """Take `penalty` from the rewards [B] of the responses that ended as a loop."""
    for experience in experiences:
        if penalty and LOOPED in experience.info:
            experience.rewards -= penalty * experience.info[LOOPED]
