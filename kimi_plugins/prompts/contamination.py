"""Decontamination: prompts that share a run of words with an evaluation set (k1.5 does not say how; ours)."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Words and numbers, without case and punctuation."""
    return _WORD.findall(text.casefold())


def ngrams(some: list[str], n: int) -> Iterator[str]:
    """Runs of n words; all words where there are fewer."""
    for start in range(max(1, len(some) - n + 1)):
        yield " ".join(some[start : start + n])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


@dataclass(frozen=True)
class Grams:
    """n-grams of the evaluation questions, 12 bytes each, so that every process can have them.

    hashes: uint64, sorted; questions: int32, which question each comes from; origins: (file, row) of the questions.
    """

    n: int
    hashes: np.ndarray
    questions: np.ndarray
    origins: list[tuple[str, int]]

    @classmethod
    def of(cls, questions: Iterable[dict], n: int) -> "Grams":
        """questions: prompts, see sources.py; those without words are passed over.

        Raises:
            ValueError: n is below 1.
        """
        if n < 1:
            raise ValueError(f"--ngram {n}: it must be at least 1")
        found: dict[int, int] = {}
        origins = []
        for row in questions:
            some = words(row["question"])
            if some:
                for gram in ngrams(some, n):
                    found.setdefault(_hash(gram), len(origins))
                origins.append((row["file"], row["row"]))
        hashes = np.fromiter(found, dtype=np.uint64, count=len(found))
        order = np.argsort(hashes)
        numbers = np.fromiter(found.values(), dtype=np.int32, count=len(found))
        return cls(n, hashes[order], numbers[order], origins)

    def match(self, question: str) -> tuple[str, str, int] | None:
        """The first n-gram shared with an evaluation question, and that one's file and row; None if there is none."""
        some = words(question)
        if not some or len(self.hashes) == 0:
            return None
        grams = list(ngrams(some, self.n))
        hashes = np.array([_hash(gram) for gram in grams], dtype=np.uint64)
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        shared = np.flatnonzero(self.hashes[places] == hashes)
        if len(shared) == 0:
            return None
        file, row = self.origins[self.questions[places[shared[0]]]]
        return grams[shared[0]], file, row


@dataclass(frozen=True)
class Decontaminator:
    grams: Grams

    def __call__(self, row: dict) -> tuple[dict, str | None]:
        found = self.grams.match(row["question"])
        if found is None:
            return row, None
        gram, file, number = found
        return row, f"as in {Path(file).name}: row {number}, “{gram}”"
