"""Whether a reference answer can be graded: it is readable, equal to itself and not to another (k1.5 §2.1)."""

import re
from collections.abc import Iterable, Iterator

from kimi_plugins.prompts.parallel import chunked
from kimi_plugins.rewards.notation import number, tidy
from kimi_plugins.rewards.verdict import Verdict

MOST_WORDS = 8  # of an answer; more is prose, which is only ever equal word by word (ours)
# Equal spellings are accepted without being read: whether the reference can be is seen with a wrong answer.
WRONG = r"\boxed{-8191.0625}"

_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")


def gradable(rows: Iterable[dict], grade_all) -> Iterator[tuple[dict, str | None]]:
    """Rows in their order, with the reason of those that are not.

    grade_all: of rewards.workers.Pool.
    """
    for some in chunked(rows):
        settled = [_settled(row["answer"]) for row in some]
        open_ = [row["answer"] for row, known in zip(some, settled, strict=True) if known is None]
        verdicts = iter(
            grade_all(pair for answer in open_ for pair in ((rf"\boxed{{{answer}}}", answer), (WRONG, answer)))
        )
        for row, known in zip(some, settled, strict=True):
            reason = _reason(next(verdicts), next(verdicts)) if known is None else known
            yield row, reason or None


def _settled(answer: str) -> str | None:
    """The reason where no grader is needed, "" for none; None where one is."""
    if len(_WORD.findall(answer)) > MOST_WORDS:
        return f"prose: the answer has more than {MOST_WORDS} words"
    return "" if number(tidy(answer)) is not None else None


def _reason(own: Verdict, wrong: Verdict) -> str | None:
    if own.correct is None or wrong.correct is None:
        return f"not gradable: {own.reason if own.correct is None else wrong.reason}"
    if not own.correct:
        return f"not equal to itself: {own.reason}"
    if wrong.correct:
        return "equal to anything: a wrong answer was accepted"
    return None
