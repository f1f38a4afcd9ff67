"""The stage that removes duplicates: rows in, rows and reasons out."""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kimi_plugins.grading.verdict import Verdict
from kimi_plugins.prompts.duplicates import Index, Keys, Twin, keys
from kimi_plugins.prompts.parallel import chunked, decoded, mapped
from kimi_plugins.prompts.pipeline import rows_of


def removed(
    previous: Path,
    directory: Path,
    similarity: float,
    workers: int,
    grade_all: Callable[[Iterable[tuple[str, str]]], Iterator[Verdict]],
) -> Iterator[tuple[dict, str | None]]:
    """Rows of a file in their order, with the reason of each that repeats an earlier one or contradicts another.

    directory: for the index, which is deleted in the end. similarity: see duplicates.Index.twins. grade_all: of
    grading.workers.Pool; it says whether two spellings are one answer.
    """
    starts = array("q")  # of the lines, bytes
    with Index(directory) as index:
        with previous.open("rb") as lines:
            index.fill(mapped(_keys, chunked(_noted(lines, starts)), workers))
        with previous.open("rb") as file:

            def row_at(number: int) -> dict:
                return _row(file.fileno(), starts, number)

            contradicting, spelled = _compared(index, row_at, grade_all)
            twins = index.twins(similarity, contradicting)
            for number, (row, twin) in enumerate(zip(rows_of(previous), twins, strict=True)):
                if number in contradicting:
                    yield row, _contradiction(row_at(contradicting[number]))
                elif number in spelled:
                    yield row, f"same problem: as {_where(row_at(spelled[number]))}, its answer written differently"
                else:
                    yield row, None if twin is None else _reason(twin, row_at(twin.row))


def _compared(index: Index, row_at: Callable[[int], dict], grade_all) -> tuple[dict[int, int], dict[int, int]]:
    """The rows with the same problem but another answer, and those that only spell the answer differently.

    Each with a row it is compared with, which the second kind repeats.
    """
    groups = index.contradicting()
    answers = [[row_at(row)["answer"] for row in group] for group in groups]
    verdicts = iter(grade_all((rf"\boxed{{{other}}}", some[0]) for some in answers for other in some[1:]))
    contradicting: dict[int, int] = {}
    spelled: dict[int, int] = {}
    for group in groups:
        # A grade that failed proves nothing: the answers are written differently, and the label cannot be trusted.
        others = [row for row in group[1:] if next(verdicts).correct is not True]
        if others:
            contradicting |= dict.fromkeys(group, others[0]) | {others[0]: group[0]}
        else:
            spelled |= dict.fromkeys(group[1:], group[0])
    return contradicting, spelled


def _keys(lines: list[bytes]) -> Keys:
    return keys(decoded(lines))


def _noted(lines: Iterable[bytes], starts: array) -> Iterator[bytes]:
    offset = 0
    for line in lines:
        starts.append(offset)
        offset += len(line)
        yield line


def _row(file: int, starts: array, row: int) -> dict:
    end = starts[row + 1] if row + 1 < len(starts) else os.fstat(file).st_size
    return decoded([os.pread(file, end - starts[row], starts[row])])[0]


def _where(row: dict) -> str:
    return f"{Path(row['file']).name} row {row['row']}"


def _contradiction(other: dict) -> str:
    return f"contradicting answers: {_where(other)} is the same problem with the answer {other['answer'][:60]}"


def _reason(twin: Twin, other: dict) -> str:
    if twin.same:
        return f"same problem: as {_where(other)}"
    return f"near-duplicate: of {_where(other)}, similarity {twin.similarity:.2f}"
