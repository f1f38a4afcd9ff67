"""Making rows on several cores, in order, and going on after an interruption."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from kimi_plugins.data import journal
from kimi_plugins.data.shapes import Prompt
from kimi_plugins.data.store import Store
from kimi_plugins.data.values import BadRow

CHUNK = 4  # items a worker takes at once
AHEAD = 4  # chunks a worker that are begun before they are asked for


class Item(NamedTuple):
    """What rows are made of: the prompt of a row of a file, or why it has none; or the number of a scene.

    key: names it in its mixture. folder: what the paths of its images are relative to.
    """

    key: str
    file: str
    number: int
    prompt: Prompt | None
    problem: str | None
    folder: Path


Result = list[dict] | str  # rows, or why there are none
Make = Callable[[Store, bool, Item], list[dict]]
Batch = Callable[[list[Item]], list[Result]]


class Journal:
    """The results so far, in a file that a second run of the same command reads.

    fingerprint: of all that the results depend on; a file with another one is begun anew.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._file = path.open("a+b")
        self._file.seek(0)
        entries = (entry for _, entry in journal.records(self._file))
        if next(entries, None) == fingerprint:
            self.known: dict[str, Result] = dict(entries)
        else:
            self.known = {}
            self._file.truncate(0)
            journal.append(self._file, fingerprint)

    def result(self, key: str) -> Result | None:
        """What is known of an item, with all its images still there."""
        found = self.known.get(key)
        if isinstance(found, list) and not all(os.path.exists(path) for row in found for path in row["images"]):
            return None
        return found

    def add(self, key: str, result: Result) -> None:
        if key not in self.known:
            journal.append(self._file, [key, result])

    def close(self) -> None:
        self._file.close()


def fingerprint(mixture: Any, allow_urls: bool) -> str:
    """Hash of a mixture and of the files it reads, by name, size and time of change."""
    files = [mixture.folder / file for source in mixture.sources for file in source.files]
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    return hashlib.sha256(repr((mixture, allow_urls, states)).encode()).hexdigest()


# Broken bytes can crash a decoder, a fault that no `except` in its process sees.
ENDED = "ended the process that worked on it: a decoder crashed, or memory ran out"


class Work:
    """Makes rows with `workers` processes, or in this one if it is 0.

    An item that ends its process is rejected, and the others of its worker are made again.
    journal: where results are kept, or None.
    """

    def __init__(self, store: Store, *, allow_urls: bool, workers: int = 0, journal: Journal | None = None) -> None:
        self._store, self._allow_urls, self._journal, self._workers = store, allow_urls, journal, workers
        self._pool = _pool(workers) if workers else None
        self._alone: ProcessPoolExecutor | None = None  # one process, for items one of which ended another

    def __enter__(self) -> "Work":
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._pool, self._alone):
            if pool is not None:
                pool.shutdown(cancel_futures=True)

    def results(self, make: Make, items: Iterator[Item]) -> Iterator[tuple[Item, Result]]:
        """Every item with its result, in order."""
        begun: deque[tuple[list[Item], list[Result | None], Callable[[], list[Result]]]] = deque()
        ahead = AHEAD * self._workers or 1
        while True:
            while len(begun) < ahead and (chunk := list(islice(items, CHUNK if self._pool else 1))):
                known = [self._journal.result(item.key) if self._journal else None for item in chunk]
                missing = [item for item, result in zip(chunk, known, strict=True) if result is None]
                begun.append((chunk, known, self._begin(partial(_made, make, self._store, self._allow_urls), missing)))
            if not begun:
                return
            chunk, known, finish = begun.popleft()
            fresh = iter(finish())
            for item, found in zip(chunk, known, strict=True):
                result = next(fresh) if found is None else found
                if self._journal and found is None:
                    self._journal.add(item.key, result)
                yield item, result

    def _begin(self, make: Batch, items: list[Item]) -> Callable[[], list[Result]]:
        """A call that gives the results of the items, on which a process works until then if there is one."""
        if self._pool is None:
            return partial(make, items)
        try:
            future = self._pool.submit(make, items)
        except BrokenProcessPool:  # by an item of an earlier chunk, which will say so
            self._pool = _pool(self._workers)
            future = self._pool.submit(make, items)
        return partial(self._finish, future, make, items)

    def _finish(self, future: Future[list[Result]], make: Batch, items: list[Item]) -> list[Result]:
        try:
            return future.result()
        except BrokenProcessPool:  # by one of these items or of those that were worked on at the same time
            return [result for item in items for result in self._made_alone(make, item)]

    def _made_alone(self, make: Batch, item: Item) -> list[Result]:
        self._alone = self._alone or _pool(1)
        try:
            return self._alone.submit(make, [item]).result()
        except BrokenProcessPool:
            self._alone = None
            return [ENDED]


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        workers, get_context("forkserver")
    )  # not forked from this process, which may have threads


def _made(make: Make, store: Store, allow_urls: bool, items: list[Item]) -> list[Result]:
    results: list[Result] = []
    for item in items:
        try:
            results.append(make(store, allow_urls, item))
        except BadRow as error:
            results.append(str(error))
    return results
