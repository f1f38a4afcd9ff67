r"""Whether a right answer is recognised when a solver writes it (k1.5 §2.1: accurate evaluability).

The label is cleaned first (grading/math/labels.py). Then it must be right as an answer in a box, also with its
fractions written otherwise, and all its parts must be readable. A label of which only its own words would be right,
and that is longer than a name, is one that no solver writes.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from kimi_plugins.grading.math.labels import clean, no_answer
from kimi_plugins.grading.math.notation import matching, number, split, tidy
from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.prompts.parallel import chunked

MOST_WORDS = 3  # of an answer in words; a longer one is never written word for word (ours)
LONG = 8  # words that are prose whatever they say
# The grader accepts equal spellings unread, and compares lists up to the first difference: every part is read when it
# is compared with a number.
PROBE = r"\boxed{-8191.0625}"

GradeAll = Callable[[Iterable[tuple[str, str]]], Iterator[Verdict]]

_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")  # most labels, which need no cleaning
_SEPARATOR = re.compile(r"\s*(?:[,;=<>]|\\(?:le|ge|ne|in|cup)(?![A-Za-z])|(?<![A-Za-z])(?:and|or)(?![A-Za-z]))\s*")


def cleaned(rows: Iterable[tuple[dict, str | None]]) -> Iterator[tuple[dict, str | None]]:
    """Prompts with the answers that a solver would write; those whose label is not an answer with that reason."""
    for row, reason in rows:
        label = row.get("answer")
        if reason is not None or label is None or _NUMBER.fullmatch(label):
            yield row, reason
        elif no_answer(label) or no_answer(answer := clean(label)):
            yield row, f"no answer: the label is “{label[:60]}”"
        else:
            yield row | {"answer": answer}, None


def gradable(rows: Iterable[dict], grade_all: GradeAll) -> Iterator[tuple[dict, str | None]]:
    """Rows in their order, with the reason of those that are not gradable.

    grade_all: of grading.workers.Pool. A grade that fails is tried once more, alone.
    """
    for some in chunked(rows):
        asked = [_pairs(row["answer"]) for row in some]
        pairs = [pair for each in asked for pair in each]
        verdicts = list(grade_all(pairs))
        for at, verdict in enumerate(verdicts):
            if verdict.kind is Kind.FAILED:
                verdicts[at] = next(iter(grade_all([pairs[at]])))
        found = iter(verdicts)
        for row, each in zip(some, asked, strict=True):
            yield row, _reason(row["answer"], each, [next(found) for _ in each])


def _pairs(answer: str) -> list[tuple[str, str]]:
    """What the grader is asked: none for a number, which is read exactly, and for a long text."""
    if number(tidy(answer)) is not None or len(_WORD.findall(answer)) > LONG:
        return []
    spellings = dict.fromkeys((answer, answer.replace(r"\frac", r"\dfrac")))
    own = [(rf"\boxed{{{spelling}}}", answer) for spelling in spellings]
    return own + [(PROBE, part) for part in dict.fromkeys((answer, *parts(answer)))]


def parts(answer: str) -> list[str]:
    """What stands between commas and relations, outer brackets taken off."""
    text = tidy(answer)
    if text[:1] in ("(", "[") and matching(text, 0) == len(text) - 1:
        text = text[1:-1]
    return split(text.removeprefix(r"\{").removesuffix(r"\}"), _SEPARATOR)


def _reason(answer: str, pairs: list[tuple[str, str]], verdicts: list[Verdict]) -> str | None:
    words = len(_WORD.findall(answer))
    if words > LONG:
        return f"prose: the answer has more than {MOST_WORDS} words"
    for (response, _), verdict in zip(pairs, verdicts, strict=True):
        if verdict.correct is None:
            return f"not gradable: {verdict.reason}"
        if response != PROBE and not verdict.correct:
            return f"not equal to itself as {response}: {verdict.reason}"
    # The whole label against the probe: in words, or not understood?
    probed = [verdict.kind for pair, verdict in zip(pairs, verdicts, strict=True) if pair == (PROBE, answer)]
    kind = probed[0] if probed else None
    if kind is Kind.OTHER_FORM and words > MOST_WORDS:
        return f"prose: the answer has more than {MOST_WORDS} words"
    if kind is Kind.TEXT_DIFFERS and words > 1:
        return "prose: only the label's own words would be right"
    return None
