"""The stage that removes duplicates: rows in, rows and reasons out."""

import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from kimi_plugins.prompts.duplicates import Index, Keys, Twin, keys
from kimi_plugins.prompts.parallel import chunked, decoded, mapped
from kimi_plugins.prompts.pipeline import rows_of


def removed(previous: Path, directory: Path, similarity: float, processes: int) -> Iterator[tuple[dict, str | None]]:
    """Rows of a file in their order, with the reason of each that repeats an earlier one.

    directory: for the index, which is deleted in the end. similarity: see duplicates.Index.twins.
    """
    starts = array("q")  # of the lines, bytes
    with Index(directory) as index:
        with previous.open("rb") as lines:
            index.fill(mapped(_keys, chunked(_noted(lines, starts)), processes))
        with previous.open("rb") as file:
            for row, twin in zip(rows_of(previous), index.twins(similarity), strict=True):
                yield row, None if twin is None else _reason(twin, _row(file.fileno(), starts, twin.row))


def _keys(lines: list[bytes]) -> Keys:
    return keys(decoded(lines))


def _noted(lines: Iterable[bytes], starts: array) -> Iterator[bytes]:
    place = 0
    for line in lines:
        starts.append(place)
        place += len(line)
        yield line


def _row(file: int, starts: array, row: int) -> dict:
    end = starts[row + 1] if row + 1 < len(starts) else os.fstat(file).st_size
    return decoded([os.pread(file, end - starts[row], starts[row])])[0]


def _reason(twin: Twin, other: dict) -> str:
    where = f"{Path(other['file']).name} row {other['row']}"
    if not twin.same_text:
        return f"near-duplicate: of {where}, similarity {twin.similarity:.2f}"
    return f"same text: as {where}" if twin.same_answer else f"same text, another answer: as {where}"
