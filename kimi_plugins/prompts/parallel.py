"""Chunks of rows through several processes, in order, with a bounded number in flight."""

import json
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, islice

CHUNK = 1000  # rows


def mapped(function: Callable, chunks: Iterable, processes: int) -> Iterator:
    """function(chunk) of every chunk, in order. One chunk alone, or one process, is done here.

    function: picklable, called in processes that import it anew.
    """
    chunks = iter(chunks)
    first = list(islice(chunks, 2))
    if processes == 1 or len(first) < 2:
        yield from map(function, chain(first, chunks))
        return
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(function,))
    pending: deque = deque()
    try:
        for chunk in chain(first, chunks):
            pending.append(pool.submit(_call, chunk))
            if len(pending) > 2 * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_function: Callable  # of this worker process


def _start(function: Callable) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's


def _call(chunk):
    return _function(chunk)


def decoded(lines: Iterable[bytes]) -> list[dict]:
    return [json.loads(line) for line in lines]


def encoded(row: dict) -> bytes:
    # Lone surrogates, which JSON can spell, are not UTF-8.
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def chunked(lines: Iterable, size: int = CHUNK) -> Iterator[list]:
    """Lists of at most `size`."""
    lines = iter(lines)
    while chunk := list(islice(lines, size)):
        yield chunk
