"""Verdicts that a judge gave, by content."""

import hashlib
import json
import sqlite3
import threading
from pathlib import Path

from kimi_plugins.grading.judge.prompt import VERSION, Case

_BUSY_SECONDS = 30  # other processes write to the same file


class Cache:
    """Verdicts by what they depend on; failures are never in it. Can be used from any thread.

    path: of an SQLite file, None for memory. most: rows kept.

    Raises:
        ValueError: the file is no cache.
    """

    def __init__(self, path: str | None, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
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
        with self._lock:
            row = self._rows.execute("SELECT correct, reason FROM verdicts WHERE key = ?", (key,)).fetchone()
        return None if row is None else (bool(row[0]), row[1])

    def put(self, key: str, correct: bool, reason: str) -> None:
        with self._lock:
            self._rows.execute(
                "INSERT OR REPLACE INTO verdicts (key, correct, reason) VALUES (?, ?, ?)", (key, correct, reason)
            )
            self._rows.execute(
                "DELETE FROM verdicts WHERE place <= (SELECT max(place) FROM verdicts) - ?", (self._most,)
            )

    def close(self) -> None:
        with self._lock:
            self._rows.close()


def key(case: Case, kind: str, model: str) -> str:
    """Of a case and the judge that is asked: not its address, which changes from run to run."""
    return hashlib.sha256(json.dumps([VERSION, kind, model, *case]).encode("utf-8", "surrogatepass")).hexdigest()
