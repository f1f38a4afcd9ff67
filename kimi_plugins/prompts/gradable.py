"""Whether a reference answer can be graded: it is equal to itself, and all its parts are readable (k1.5 §2.1)."""

import re
from collections.abc import Iterable, Iterator

from kimi_plugins.grading.math.notation import matching, number, split, tidy
from kimi_plugins.grading.verdict import Kind
from kimi_plugins.prompts.parallel import chunked

MOST_WORDS = 8  # of an answer; more is prose, which is only ever equal word by word (ours)
# The grader accepts equal spellings unread, and compares lists up to the first difference: every part is read when it
# is compared with a number.
PROBE = r"\boxed{-8191.0625}"

_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_SEPARATOR = re.compile(r"\s*(?:[,;=<>]|\\(?:le|ge|ne|in|cup)(?![A-Za-z])|(?<![A-Za-z])(?:and|or)(?![A-Za-z]))\s*")


def gradable(rows: Iterable[dict], grade_all) -> Iterator[tuple[dict, str | None]]:
    """Rows in their order, with the reason of those that are not.

    grade_all: of grading.workers.Pool.
    """
    for some in chunked(rows):
        pairs = [_pairs(row["answer"]) for row in some]
        verdicts = iter(grade_all(pair for each in pairs for pair in each))
        for row, each in zip(some, pairs, strict=True):
            yield row, _reason(row["answer"], [next(verdicts) for _ in each])


def _pairs(answer: str) -> list[tuple[str, str]]:
    """What the grader is asked: none for a number, which is read exactly, and for prose."""
    if _is_prose(answer) or number(tidy(answer)) is not None:
        return []
    return [(rf"\boxed{{{answer}}}", answer), *((PROBE, part) for part in dict.fromkeys((answer, *parts(answer))))]


def parts(answer: str) -> list[str]:
    """What stands between commas and relations, outer brackets taken off."""
    text = tidy(answer)
    if text[:1] in ("(", "[") and matching(text, 0) == len(text) - 1:
        text = text[1:-1]
    return split(text.removeprefix(r"\{").removesuffix(r"\}"), _SEPARATOR)


def _is_prose(answer: str) -> bool:
    return len(_WORD.findall(answer)) > MOST_WORDS


def _reason(answer: str, verdicts: list) -> str | None:
    if _is_prose(answer):
        return f"prose: the answer has more than {MOST_WORDS} words"
    if not verdicts:
        return None
    own, *probes = verdicts
    if own.correct is False:
        return f"not equal to itself: {own.reason}"
    if any(probe.kind is Kind.TEXT_DIFFERS for probe in probes):
        return "not understood: only the answer's own text would be right"
    failed = next((verdict for verdict in (own, *probes) if verdict.correct is None), None)
    return None if failed is None else f"not gradable: {failed.reason}"
