"""Progress bars: tqdm's on a terminal, a line every ten seconds where the output goes to a file."""

import math
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # commands that show no bar need not import it
    from tqdm import tqdm

SECONDS = 10.0  # from one line to the next


class _Lines:
    """What tqdm writes to: its states become lines of stderr, at most one in SECONDS, and the last."""

    def __init__(self) -> None:
        self._due = -math.inf
        self._unwritten = ""

    def write(self, text: str) -> None:
        self._unwritten = text.strip("\r\n ") or self._unwritten
        ended = text == "\n"  # what tqdm writes when a bar is closed
        if self._unwritten and (ended or time.monotonic() >= self._due):
            sys.stderr.write(f"{self._unwritten}\n")
            self._due, self._unwritten = time.monotonic() + SECONDS, ""

    def flush(self) -> None:
        sys.stderr.flush()


def progress(iterable: Iterable | None = None, **settings) -> "tqdm":
    """A tqdm bar of the iterable, or one to update by hand; settings as tqdm's."""
    from tqdm import tqdm

    if not sys.stderr.isatty():
        settings |= {"file": _Lines(), "mininterval": SECONDS, "maxinterval": SECONDS}
    return tqdm(iterable, **settings)
