"""What the commands that read rows of any file share."""

from collections.abc import Iterator
from pathlib import Path


def objects(path: Path) -> Iterator[tuple[str, dict]]:
    """(where it stands, row) of every row of a data set, each of them an object.

    Raises:
        ValueError: a row is malformed or not an object, or there is none; names the file, the row and what is wrong.
        OSError: the file cannot be read.
    """
    from kimi_plugins.data import containers

    empty = True
    for row in containers.rows(str(path)):
        where = f"{row.file} row {row.number}"
        if row.problem is not None:
            raise ValueError(f"{where}: {row.problem}")
        if not isinstance(row.value, dict):
            raise ValueError(f"{where}: {type(row.value).__name__} instead of an object")
        empty = False
        yield where, row.value
    if empty:
        raise ValueError(f"{path}: no rows; give a file with data")


def without_particulars(reason: str) -> str:
    """A reason without what differs from row to row, so that equal ones can be counted."""
    if reason.startswith("case "):
        reason = reason.partition(": ")[2] or "case"
    return reason.partition(" (")[0].partition(": ")[0]
