"""Progress bars: tqdm's on a terminal, a line every ten seconds where the output goes to a file."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # commands that show no bar need not import it
    from tqdm import tqdm

SECONDS = 10.0  # from one line to the next


class _Lines:
    """What tqdm writes to: each of its states becomes a line of stderr."""

    def write(self, text: str) -> None:
        if state := text.strip("\r\n "):
            sys.stderr.write(f"{state}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress(iterable: Iterable | None = None, **settings) -> "tqdm":
    """A tqdm bar of the iterable, or one to update by hand; settings as tqdm's."""
    from tqdm import tqdm

    if not sys.stderr.isatty():
        settings |= {"file": _Lines(), "mininterval": SECONDS, "maxinterval": SECONDS}
    return tqdm(iterable, **settings)
