"""Stages that sample from a model: difficulty, and prompts whose answer can be guessed (k1.5 §2.1).

`complete` yields, for requests in their order, the list of completions of each (kimi_plugins.completions).
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from kimi_plugins.completions.samples import as_asked
from kimi_plugins.completions.types import Request
from kimi_plugins.grading.extraction import BOX, after_thinking
from kimi_plugins.grading.math.notation import number, tidy
from kimi_plugins.prompts.pipeline import rows_of

QUESTION = "{question}"  # in the templates; str.format would trip over LaTeX's braces
SOLVE = "{question}\n\nPlease reason step by step, and put your final answer within \\boxed{}."
GUESS = (
    "{question}\n\nGuess the final answer at once. Write nothing but the answer itself: no reasoning, no explanation, "
    "no sentence."
)
GRADED_AT_ONCE = 64  # prompts; the engines go on meanwhile
Z = 1.959964  # of a 95 % interval

Complete = Callable[[Iterable], Iterator[list]]
Outcomes = Iterator[tuple[dict, str | None]]


def requests(rows: Iterable[dict], template: str, chat: bool) -> Iterator[Request]:
    """A request a row. chat: the template is a user's message, else the prompt as it stands."""
    for row in rows:
        text = template.replace(QUESTION, row["question"])
        yield as_asked(Request(f"{row['file']}:{row['row']}", text, tuple(row.get("image", ()))), chat)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a rate after n ≥ 1 tries (Wilson's score interval)."""
    rate, spread = successes / n, Z * Z / n
    centre = (rate + spread / 2) / (1 + spread)
    half = Z * math.sqrt(rate * (1 - rate) / n + spread / (4 * n)) / (1 + spread)
    # The bounds of 0 and of n successes are 0 and 1 exactly, but for rounding.
    return (max(0.0, centre - half) if successes else 0.0), (min(1.0, centre + half) if successes < n else 1.0)


def difficulty(
    previous: Path, complete: Complete, grade_all, *, template: str, chat: bool, trivial: float
) -> Outcomes:
    """Adds pass_rate, its interval, tries, and difficulty = 1 − pass_rate; what a row had becomes given_difficulty.

    previous: file of prompts. grade_all: of grading.workers.Pool. trivial: pass rate from which on one is dropped.
    """
    for graded in _graded(previous, complete, grade_all, template, chat, lambda text, _: [text]):
        for row, verdicts in graded:
            known = [verdict.correct for (verdict,) in verdicts if verdict.correct is not None]
            if not verdicts:
                yield row, "too long: the prompt does not fit the model's context"
            elif not known:
                yield row, f"not graded: {verdicts[0][0].reason}"
            else:
                passed = sum(known)
                low, high = wilson(passed, len(known))
                rate = passed / len(known)
                if "difficulty" in row:
                    row.setdefault("given_difficulty", f"{row['difficulty']:g}")
                row |= {"difficulty": round(1 - rate, 6), "pass_rate": rate, "tries": len(known)}
                row |= {"pass_rate_low": round(low, 4), "pass_rate_high": round(high, 4)}
                yield row, f"trivial: {passed} of {len(known)} right" if rate >= trivial else None


def guessed(previous: Path, complete: Complete, grade_all, *, template: str, chat: bool) -> Outcomes:
    """Drops what the model guesses without reasoning in any of its tries."""
    for graded in _graded(previous, complete, grade_all, template, chat, guesses):
        for row, verdicts in graded:
            hits = sum(any(verdict.correct for verdict in one) for one in verdicts)
            if not verdicts:
                yield row, "too long: the prompt does not fit the model's context"
            elif all(verdict.correct is None for one in verdicts for verdict in one):
                yield row, f"not graded: {next(verdict.reason for one in verdicts for verdict in one)}"
            else:
                yield row, f"guessed: {hits} of {len(verdicts)} guesses right" if hits else None


_LEAD = re.compile(
    r"^(?:so |thus |therefore,? )?(?:the |my )?(?:final )?(?:answer|guess|result)(?: is)?\s*[:=]?\s*", re.I
)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


def guesses(text: str, reference: str) -> list[str]:
    """Responses to grade for one guess: its first line, and the last number in it where the reference is a number.

    Liberal, as a hit must not be missed: "The answer is 18 ducks." is a hit for 18.
    """
    text = after_thinking(text)
    if BOX.search(text):
        return [text]
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = _LEAD.sub("", line)
    found = [line]
    if number(tidy(reference)) is not None:
        found += _NUMBER.findall(line)[-1:]
    return [rf"\boxed{{{one}}}" for one in dict.fromkeys(found)]


def _graded(previous: Path, complete: Complete, grade_all, template: str, chat: bool, responses) -> Iterator[list]:
    """Lists of (row, verdicts), the verdicts a list for each completion.

    responses: (text, reference) → what of a completion is graded, at least one text.
    """
    answers = complete(requests(rows_of(previous), template, chat))
    both = zip(rows_of(previous), answers, strict=True)
    while some := list(islice(both, GRADED_AT_ONCE)):
        texts = [[responses(one.text, row["answer"]) for one in completions] for row, completions in some]
        pairs = [
            (text, row["answer"])
            for (row, _), each in zip(some, texts, strict=True)
            for tries in each
            for text in tries
        ]
        verdicts = iter(grade_all(pairs))
        yield [
            (row, [[next(verdicts) for _ in tries] for tries in each])
            for (row, _), each in zip(some, texts, strict=True)
        ]
