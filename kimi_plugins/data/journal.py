"""JSON lines that are added as results come; a process that is killed while it writes leaves one unfinished."""

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO


def records(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """lines() of a file that this process goes on with: what a killed one left unfinished is cut off."""
    start = file.tell()
    mend(file)
    file.seek(start)
    yield from lines(file)


def lines(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """(position, record) from where the file stands, to the end or to a line that is not written to its end yet.

    Raises:
        ValueError: a whole line is not JSON; names the file and the position.
    """
    while (line := file.readline()).endswith(b"\n"):
        position = file.tell() - len(line)
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(
                f"{file.name}, byte {position}: not a JSON line ({error}); correct or remove the line"
            ) from error
        yield position, record


def mend(file: BinaryIO) -> None:
    """Cut off a line that a killed process left unfinished at the end of the file."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if file.read() not in (b"", b"\n"):
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def append(file: BinaryIO, record: Any) -> None:
    """Add a record at the end; ASCII, since model output may hold lone surrogates, which only escapes survive."""
    file.write(json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n")
    file.flush()


def digest(value: Any) -> str:
    """A hash of bytes, or of a JSON value whatever the order of its keys."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode("ascii")
    return hashlib.blake2b(data, digest_size=12).hexdigest()
