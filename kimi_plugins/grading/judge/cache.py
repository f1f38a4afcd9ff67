"""Verdicts that a judge gave, by content."""

import hashlib
import json
import logging
import sqlite3
import threading
from pathlib import Path

from kimi_plugins import options
from kimi_plugins.grading.judge.prompt import VERSION, Case

logger = logging.getLogger(__name__)

_BUSY_SECONDS = 30  # other processes write to the same file


class Cache:
    """Verdicts by what they depend on; failures are never in it. Can be used from any thread.

    path: of an SQLite file, None for memory. most: rows kept.

    Raises:
        ValueError: the file is not a cache.
    """

    def __init__(self, path: str | None, most: int) -> None:
        self._most, self._lock, self._warned = most, threading.Lock(), False
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._rows = sqlite3.connect(
                path or ":memory:", timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
            )
            self._rows.execute(
                "CREATE TABLE IF NOT EXISTS verdicts "
                "(place INTEGER PRIMARY KEY, key TEXT UNIQUE, correct INTEGER, reason TEXT)"
            )
        except sqlite3.Error as error:
            raise ValueError(f"cache {path}: {error}; name another file, or delete this one") from error

    def get(self, key: str) -> tuple[bool, str] | None:
        try:
            with self._lock:
                row = self._rows.execute("SELECT correct, reason FROM verdicts WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._failed("read", error)
            return None
        return None if row is None else (bool(row[0]), row[1])

    def put(self, key: str, correct: bool, reason: str) -> None:
        """Keep a verdict, if the disk can."""
        try:
            with self._lock:
                self._rows.execute(
                    "INSERT OR REPLACE INTO verdicts (key, correct, reason) VALUES (?, ?, ?)", (key, correct, reason)
                )
                self._rows.execute(
                    "DELETE FROM verdicts WHERE place <= (SELECT max(place) FROM verdicts) - ?", (self._most,)
                )
        except sqlite3.Error as error:
            self._failed("written", error)

    def _failed(self, what: str, error: sqlite3.Error) -> None:
        """A full disk or a damaged file loses no verdict: it is asked for again."""
        if not self._warned:
            logger.warning("the judge's cache cannot be %s (%s); verdicts are asked for again", what, error)
            self._warned = True

    def close(self) -> None:
        with self._lock:
            self._rows.close()


def key(case: Case, settings: options.Judge, judge: str) -> str:
    """The key of a case and its judge. judge: what the server says it is; its address changes from run to run."""
    parts = [VERSION, settings.kind, settings.model, settings.eos_token, judge, *case]
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogatepass")).hexdigest()
