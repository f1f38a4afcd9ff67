"""Exact and near-duplicate removal (k1.5 §2.1 asks for diverse coverage; method and numbers are ours).

Problems are compared in their canonical form (canonical.py), so that wrapping, LaTeX spelling and case do not count.
Exact: 64 bits of a hash of its core and its answer; among 10 M rows any two different problems share one with
probability 3·10⁻⁶. Near: MinHash over trigrams of the tokens, banded (locality-sensitive hashing), candidates verified
by the whole signature. Two problems whose numbers, answers or images differ are different and no candidates, however
alike their words are: numbers and answer are part of every band's hash. Equal problems with different answers
contradict each other.

What the rows leave is on disk, a file a band; in memory are one band of all rows at a time and the list of duplicates,
some 30 bytes a row (docs/prompts.md).
"""

import os
import shutil
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kimi_plugins.prompts.canonical import answer_key, hashes_of, problem, shingles

PERMUTATIONS, BANDS, ROWS = 126, 21, 6  # a pair with Jaccard similarity 0.8 meets in a band with probability 0.998
PAIRS = 100_000  # verified at a time


class Keys(NamedTuple):
    """What n rows are compared by.

    text, exact, answer: uint64 [n]; bands: uint32 [BANDS, n]; signature: uint8 [n, PERMUTATIONS].
    text: of all of the problem; exact: of its core with the answer.
    """

    text: np.ndarray
    exact: np.ndarray
    answer: np.ndarray
    bands: np.ndarray
    signature: np.ndarray


def keys(rows: list[dict]) -> Keys:
    """rows: prompts, see sources.py."""
    from rensa import RMinHash

    problems = [problem(row["question"]) for row in rows]
    images = ["\n".join(row.get("image", ())) for row in rows]
    answers = [answer_key(row["answer"]) for row in rows]
    texts, exacts, kinds = [], [], []
    for each, answer, image in zip(problems, answers, images, strict=True):
        texts.append(" ".join(each.tokens) + "\n" + image)
        exacts.append(" ".join(each.core) + "\n" + image + "\n" + answer)
        kinds.append("\n".join((*each.numbers, answer, image)))
    digests = RMinHash.digests_from_token_sets([shingles(each.tokens) for each in problems], PERMUTATIONS, 1)
    digests = np.array(digests, dtype=np.uint32).reshape(len(rows), PERMUTATIONS)
    return Keys(
        text=hashes_of(texts),
        exact=hashes_of(exacts),
        answer=hashes_of(answers),
        bands=_bands(digests, hashes_of(kinds)),
        signature=digests.astype(np.uint8),  # the lowest byte: by chance equal in 1 of 256
    )


def _bands(digests: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """digests: uint32 [n, PERMUTATIONS], kind: uint64 [n] → uint32 [BANDS, n]."""
    parts = digests.reshape(len(digests), BANDS, ROWS).astype(np.uint64)  # [n, BANDS, ROWS]
    mixed = np.repeat(kind[:, None], BANDS, axis=1)  # [n, BANDS]
    for place in range(ROWS):  # FNV-1a's step on 64 bits
        mixed = (mixed ^ parts[:, :, place]) * np.uint64(0x100000001B3)
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(32)).astype(np.uint32).T


class Twin(NamedTuple):
    """row: the earlier row that is kept. similarity: estimate of Jaccard's. same: the same problem, not a near one."""

    row: int
    similarity: float
    same: bool


class Index:
    """Keys of all rows in files below `directory`, which is deleted at the end of `with`."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.rows = 0

    def __enter__(self) -> "Index":
        shutil.rmtree(self.directory, ignore_errors=True)  # of a run that was killed
        self.directory.mkdir(parents=True)
        return self

    def __exit__(self, *_) -> None:
        shutil.rmtree(self.directory)

    def fill(self, chunks: Iterable[Keys]) -> None:
        names = ["text", "exact", "answer", "signature", *map(str, range(BANDS))]
        files = {name: (self.directory / name).open("wb") for name in names}
        try:
            for chunk in chunks:
                if self.rows + len(chunk.exact) >= 1 << 31:
                    raise ValueError("more than 2³¹ rows; remove duplicates in parts")
                for name in names[:4]:
                    files[name].write(getattr(chunk, name).tobytes())
                for band in range(BANDS):
                    files[str(band)].write(np.ascontiguousarray(chunk.bands[band]).tobytes())
                self.rows += len(chunk.exact)
        finally:
            for file in files.values():
                file.close()

    def contradicting(self) -> list[list[int]]:
        """Groups of rows with the same problem and different answers, by the spelling of the answers."""
        texts = self._read("text")
        order = np.argsort(texts, kind="stable").astype(np.int32)
        starts = _starts(texts[order])
        del texts
        repeated = ~starts
        repeated[:-1] |= ~starts[1:]  # the first row of a group too
        rows, starts = order[repeated], starts[repeated]
        del order
        answers = np.memmap(self.directory / "answer", dtype=np.uint64)[rows] if len(rows) else np.empty(0, np.uint64)
        groups = np.cumsum(starts) - 1
        firsts = np.flatnonzero(starts)
        differs = answers != answers[firsts[groups]] if len(rows) else np.empty(0, bool)
        ends = np.append(firsts, len(rows))
        return [rows[ends[group] : ends[group + 1]].tolist() for group in np.unique(groups[differs])]

    def twins(self, similarity: float, without: Container[int] = frozenset()) -> Iterator[Twin | None]:
        """For each row in order the earlier one it repeats, None if it repeats none.

        similarity: least Jaccard similarity of near-duplicates, above 0; 1 leaves only equal sets of trigrams.
        without: rows that are rejected already, so that no row counts as a duplicate of them.
        """
        twin = np.full(self.rows, -1, dtype=np.int32)
        self._exact(twin)
        exact = twin >= 0
        with (self.directory / "signature").open("rb") as file:
            for band in range(BANDS):
                self._near(band, twin, exact, similarity, file.fileno())
            yield from self._resolved(twin, exact, similarity, file.fileno(), without)

    def _read(self, name: str) -> np.ndarray:
        return np.fromfile(self.directory / name, dtype=np.uint64)

    def _exact(self, twin: np.ndarray) -> None:
        values = self._read("exact")
        order = np.argsort(values, kind="stable").astype(np.int32)
        leader = order[_firsts(_starts(values[order]))]
        twin[order] = np.where(leader == order, -1, leader)

    def _near(self, band: int, twin: np.ndarray, exact: np.ndarray, similarity: float, file: int) -> None:
        hashes = np.fromfile(self.directory / str(band), dtype=np.uint32)
        rows = np.flatnonzero(~exact)
        # Hash and row in one number: sorted in place, rows of a bucket in their order.
        order = (hashes[rows].astype(np.uint64) << np.uint64(32)) | rows.astype(np.uint64)
        del hashes, rows
        order.sort()
        buckets = order >> np.uint64(32)
        starts = _starts(buckets)
        del buckets
        members = (order & np.uint64(0xFFFFFFFF)).astype(np.int32)
        del order
        later = np.flatnonzero(~starts).astype(np.int32)
        if len(later) == 0:
            return
        first = _firsts(starts)
        # Each is compared with the first of its bucket and with the one before it: linear in large buckets.
        for earlier in (first[later], later - 1):
            open_ = twin[members[later]] < 0
            self._verify(members[earlier[open_]], members[later[open_]], twin, similarity, file)

    def _verify(self, earlier: np.ndarray, later: np.ndarray, twin: np.ndarray, similarity: float, file: int) -> None:
        for start in range(0, len(later), PAIRS):
            one, other = earlier[start : start + PAIRS], later[start : start + PAIRS]
            alike = _similarity(_signatures(file, one), _signatures(file, other)) >= similarity
            twin[other[alike]] = one[alike]

    def _resolved(self, twin, exact, similarity: float, file: int, without: Container[int]) -> Iterator[Twin | None]:
        """Replace each row's duplicate by that one's own, as it is dropped; none where the two are not alike."""
        for row in range(self.rows):
            other = int(twin[row])
            if other < 0:
                yield None
                continue
            same = bool(exact[row])
            if twin[other] >= 0:  # resolved before, as it is earlier
                same &= bool(exact[other])
                other = int(twin[other])
            pair = _signatures(file, np.array([other, row]))
            alike = float(_similarity(pair[:1], pair[1:])[0])
            if other in without or (alike < similarity and not same):
                twin[row] = -1
                yield None
                continue
            twin[row] = other
            yield Twin(other, alike, same)


def _starts(values: np.ndarray) -> np.ndarray:
    """bool [n]: whether a sorted value differs from the one before it."""
    starts = np.ones(len(values), dtype=bool)
    starts[1:] = values[1:] != values[:-1]
    return starts


def _firsts(starts: np.ndarray) -> np.ndarray:
    """int32 [n]: place of the start of each one's run."""
    places = np.arange(len(starts), dtype=np.int32)
    places[~starts] = 0
    return np.maximum.accumulate(places, out=places)


def _signatures(file: int, rows: np.ndarray) -> np.ndarray:
    """uint8 [len(rows), PERMUTATIONS]; read, not mapped, so that they do not count as the process' memory."""
    data = b"".join(os.pread(file, PERMUTATIONS, PERMUTATIONS * row) for row in rows.tolist())
    return np.frombuffer(data, dtype=np.uint8).reshape(len(rows), PERMUTATIONS)


def _similarity(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Estimates of Jaccard's similarity [n], chance matches of single bytes taken out."""
    matches = (one == other).mean(axis=1)
    return np.maximum(0.0, (matches - 1 / 256) / (1 - 1 / 256))
