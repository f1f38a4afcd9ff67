"""JSON lines that are added as results come, so that a command that was stopped goes on where it stood."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, BinaryIO


def records(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """(position, record) from where the file stands; a line that a killed process left unfinished is cut off.

    Raises:
        ValueError: a whole line is not JSON; names the file and the position.
    """
    while line := file.readline():
        position = file.tell() - len(line)
        if not line.endswith(b"\n"):
            file.truncate(position)
            return
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{file.name}, byte {position}: not a JSON line ({error}); remove the file") from error
        yield position, record


def append(file: BinaryIO, record: Any) -> None:
    """Add a record at the end; ASCII, since model output may hold lone surrogates, which only escapes survive."""
    file.write(json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n")
    file.flush()


def digest(value: Any) -> str:
    """A hash of bytes, or of a JSON value whatever the order of its keys."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode("ascii")
    return hashlib.blake2b(data, digest_size=12).hexdigest()
