"""Answers compared as text. They run where a user's functions do: a pattern may take for ever (functions.py)."""

import re

from kimi_plugins.grading.extraction import (
    NoAnswer,
    after_thinking,
    compiled,
    final_answers,
    without_special_tokens,
)


def exact(response: str, label: str, pattern: str | None = None) -> bool:
    """Whether the final answer is the label, character by character but for white space at its ends."""
    answer = _answer(response, pattern)
    return answer is not None and answer == str(label).strip()


def regex(response: str, label: str, pattern: str | None = None) -> bool:
    """Whether the whole final answer matches the label, a regular expression. Raises ValueError if it is not one."""
    expected = compiled(str(label))
    answer = _answer(response, pattern)
    return answer is not None and expected.fullmatch(answer) is not None


def _answer(response: str, pattern: str | None) -> str | None:
    """The last match of the pattern, or without one all after the thinking; None without a single answer."""
    if pattern is None:
        return without_special_tokens(after_thinking(response)).strip() or None
    try:
        answers = set(final_answers(response, pattern))
    except NoAnswer:
        return None
    return answers.pop() if len(answers) == 1 else None


def has_format(response: str, label: object, pattern: str) -> bool:
    """Whether the whole response matches a pattern in which . is any character."""
    return re.compile(pattern, re.DOTALL).fullmatch(without_special_tokens(response).strip()) is not None
