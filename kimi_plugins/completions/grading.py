"""Verdicts on completions, by the math grader of the rewards."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import NamedTuple, TypeVar

from kimi_plugins.completions.types import Completion
from kimi_plugins.grading.verdict import Verdict

T = TypeVar("T")


class Graded(NamedTuple):
    """A completion and what the grader says of it; right: it ended by itself and its answer is right."""

    completion: Completion
    verdict: Verdict

    @property
    def right(self) -> bool:
        return self.completion.finish == "stop" and self.verdict.correct is True


def graded(answered: Iterable[tuple[T, str, list[Completion]]], pool) -> Iterator[tuple[T, list[Graded]]]:
    """The completions of each item with their verdicts, in order, reading only as far ahead as the graders need.

    Args:
        answered: (item, reference answer, its completions).
        pool: grading.workers.Pool.
    """
    waiting: deque[tuple[T, list[Completion]]] = deque()  # pairs() runs ahead of the verdicts
    verdicts: deque[Verdict] = deque()

    def pairs() -> Iterator[tuple[str, str]]:
        for item, reference, completions in answered:
            waiting.append((item, completions))
            yield from ((completion.text, reference) for completion in completions)

    def whole() -> Iterator[tuple[T, list[Graded]]]:
        while waiting and len(verdicts) >= len(waiting[0][1]):
            item, completions = waiting.popleft()
            yield item, [Graded(completion, verdicts.popleft()) for completion in completions]

    for verdict in pool.grade_all(pairs()):
        verdicts.append(verdict)
        yield from whole()
    yield from whole()


def tally(answers: list[Graded], rows: int) -> dict[str, int]:
    """One prompt's part of a summary, for Counter.update: kept if it gave rows; failed are grades."""
    return {
        "prompts": 1,
        "responses": len(answers),
        "right": sum(answer.right for answer in answers),
        "kept": int(rows > 0),
        "rows": rows,
        "failed": sum(answer.verdict.correct is None for answer in answers),
    }


def math_pool(answer_pattern: str | None):
    """Grader processes with the default settings."""
    from kimi_plugins.grading.workers import Pool
    from kimi_plugins.options import MathGrader

    settings = asdict(MathGrader(answer_pattern=answer_pattern))
    return Pool(pattern=settings.pop("answer_pattern"), **settings)
