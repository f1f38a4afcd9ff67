"""Completions kept in a file as they come, so that what was interrupted goes on where it stood."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from kimi_plugins.completions.types import Completion, Request

Answered = Iterator[tuple[Request, list[Completion]]]


def resumed(
    path: Path,
    requests: Iterable[Request],
    settings: dict,
    complete: Callable[[Iterable[Request]], Iterator[list[Completion]]],
) -> Answered:
    """Every request with its completions: those in `path` first, then those of complete(), which go to `path` too.

    Args:
        path: JSON lines, the settings first; made if it is not there.
        settings: what the completions depend on, as JSON has it; kept in the file.
        complete: the completions of each request, in their order.

    Raises:
        ValueError: `path` was made with other settings or from other prompts.
    """
    requests = iter(requests)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        _check_settings(path, file, settings)
        for record in _records(file):
            request = next(requests, None)
            if request is None or request.key != record["key"]:
                found = "has ended" if request is None else f"has {request.key!r}"
                raise ValueError(
                    f"{path}: goes on with prompt {record['key']!r}, where the input {found}; remove the file to "
                    "start anew, or name another"
                )
            yield request, [Completion(*completion) for completion in record["completions"]]
        asked, requests = itertools.tee(requests)
        for request, completions in zip(requests, complete(asked), strict=True):
            _write(file, {"key": request.key, "completions": completions})
            yield request, completions


def _check_settings(path: Path, file: BinaryIO, settings: dict) -> None:
    settings = json.loads(json.dumps(settings))
    file.seek(0)
    first = next(_records(file), None)
    if first is None:
        _write(file, {"settings": settings})
        return
    kept = first.get("settings", {})
    changed = [name for name in kept.keys() | settings.keys() if kept.get(name) != settings.get(name)]
    if changed:
        values = ", ".join(f"{name} {kept.get(name)!r} (now {settings.get(name)!r})" for name in sorted(changed))
        raise ValueError(f"{path}: was made with {values}; remove the file to start anew, or name another")


def _records(file: BinaryIO) -> Iterator[dict]:
    """From where the file stands; a line that a killed process left unfinished is cut off."""
    while line := file.readline():
        if not line.endswith(b"\n"):
            file.truncate(file.tell() - len(line))
            return
        yield json.loads(line)


def _write(file: BinaryIO, record: dict) -> None:
    # Model output may hold lone surrogates, which only ASCII escapes survive.
    file.write(json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n")
    file.flush()
