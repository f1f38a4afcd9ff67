"""Files that are whole or not there."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path, suffix: str = ".partial") -> Iterator[Path]:
    """A path beside `path` to write to; it takes its place when the block ends, and is removed if the block raises.

    suffix: of the path to write to; processes that may write the same file at a time need one each.
    """
    partial = path.with_name(path.name + suffix)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def json_lines(path: Path) -> Iterator[Callable[[Any], None]]:
    """A function that writes a row; the rows become `path` when the block ends."""
    # A lone surrogate, as model output may hold, is written as the escape that JSON has for it.
    with replacing(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield lambda row: print(json.dumps(row, ensure_ascii=False), file=file)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """An empty directory beside `path` to fill; it becomes `path` when the block ends, and is removed if it raises.

    Raises:
        FileExistsError: `path` is there already; nothing was done.
    """
    if path.exists():
        raise FileExistsError(f"{path}: is there already; remove it or name another")
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in partial.iterdir():
            _sync(file)
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
