"""Completions kept in a file as they come, so that an interrupted command goes on where it stood.

Every record carries a hash of its prompt: completions are only given to the prompt they answer, wherever it stands in
the data now. What was sampled with other settings or from another model is refused.
"""

import itertools
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from kimi_plugins.completions.identity import request_digest
from kimi_plugins.completions.types import Completion, Request
from kimi_plugins.data.journal import append, records

Answered = Iterator[tuple[Request, list[Completion]]]
Complete = Callable[[Iterable[Request]], Iterator[list[Completion]]]
NAMED = 5  # prompts in the message about those that are sampled anew


def resumed(
    path: Path,
    requests: Iterable[Request],
    settings: dict,
    complete: Complete,
    say: Callable[[str], object] = lambda text: print(text, file=sys.stderr),
) -> Answered:
    """Every request with its completions, in order: those kept in `path`, and those of complete(), which go there too.

    Completions in `path` that answer none of the requests stay there unused, and say() is told which prompts were
    sampled anew.

    Args:
        path: JSON lines, the settings first; made if it is not there.
        settings: what the completions depend on beside the prompts, as JSON; kept in the file.
        complete: the completions of each request, in their order.

    Raises:
        ValueError: `path` was made with other settings, or is not such a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        _check_settings(path, file, settings)
        kept = _places(file)
        entries = (_entry(request, kept) for request in requests)
        reused, first = 0, None
        for entry in entries:
            if entry.offset is None:
                first = entry
                break
            reused += 1
            yield entry.request, _completions(file, entry.offset)
        if first is not None:
            waiting: deque[_Entry] = deque()  # what the engines have read ahead, in order
            asked: list[str] = []

            def missing() -> Iterator[Request]:
                for entry in itertools.chain([first], entries):
                    waiting.append(entry)
                    if entry.offset is None:
                        asked.append(entry.request.key)
                        yield entry.request

            for completions in complete(missing()):
                while (entry := waiting.popleft()).offset is not None:
                    reused += 1
                    yield entry.request, _completions(file, entry.offset)
                record = {"prompt": entry.digest, "key": entry.request.key, "completions": completions}
                append(file, record)
                yield entry.request, completions
            for entry in waiting:
                if entry.offset is None:
                    raise RuntimeError(f"the engines did not answer prompt {entry.request.key}")
                reused += 1
                yield entry.request, _completions(file, entry.offset)
            left = sum(map(len, kept.values()))
            if left:
                named = ", ".join(asked[:NAMED]) + (", …" if len(asked) > NAMED else "")
                say(
                    f"{path}: the prompts have changed. {reused} had responses, {len(asked)} were sampled anew "
                    f"(rows {named}); the responses to {left} prompts that the data no longer has are not used"
                )


class _Entry(NamedTuple):
    """offset: where the completions begin in the file; None if they are not there."""

    request: Request
    digest: str
    offset: int | None


def _entry(request: Request, kept: dict[str, deque[int]]) -> _Entry:
    digest = request_digest(request)
    return _Entry(request, digest, kept[digest].popleft() if kept.get(digest) else None)


def _places(file: BinaryIO) -> dict[str, deque[int]]:
    """Where the completions of each prompt stand, by the prompt's hash; several where the data repeats it."""
    offsets: dict[str, deque[int]] = {}
    for offset, record in records(file):
        offsets.setdefault(record["prompt"], deque()).append(offset)
    return offsets


def _completions(file: BinaryIO, offset: int) -> list[Completion]:
    file.seek(offset)
    return [Completion(*completion) for completion in json.loads(file.readline())["completions"]]


def _check_settings(path: Path, file: BinaryIO, settings: dict) -> None:
    settings = json.loads(json.dumps(settings))
    file.seek(0)
    try:
        _, first = next(records(file), (0, None))
    except ValueError as error:
        raise ValueError(f"{path}: is not a file of responses ({error}); name another") from error
    if first is None:
        append(file, {"settings": settings})
        return
    kept = first.get("settings", {}) if isinstance(first, dict) else {}
    if changed := _differences(kept, settings):
        raise ValueError(
            f"{path}: its responses were made with {', '.join(changed)}; remove the file to sample anew, or name "
            "another"
        )


def _differences(kept: dict, now: dict, within: str = "") -> list[str]:
    """What differs, as "name value (now value)"; of nested settings each entry."""
    found = []
    for name in sorted(kept.keys() | now.keys()):
        one, other = kept.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differences(one, other, f"{within}{name} ")
        elif one != other:
            found.append(f"{within}{name} {one!r} (now {other!r})")
    return found
