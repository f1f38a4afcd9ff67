"""Decontamination: prompts that state a problem of an evaluation set (k1.5 does not say how; the rule is ours).

Problems are compared in their canonical form (canonical.py). A prompt is contaminated if it is the same problem, if it
holds most trigrams of an evaluation problem and the same numbers, or if it holds the whole problem word by word. That
phrases are shared, as competitions have them, is not contamination.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kimi_plugins.prompts.canonical import Problem, answer_key, hashes_of, problem, shingles

WHOLE = 8  # tokens of an evaluation problem from which on it is looked for within longer prompts
OPERATORS = frozenset("+-*/^=<>")


@dataclass(frozen=True)
class Evaluation:
    """The evaluation problems and where their shingles are, in arrays that every process can have.

    problems: [Q], with their answers ("" where there is none) and (file, row). hashes: uint64 of shingles, sorted;
    owners: int32, which problem each is of. sizes: int32 [Q], shingles of each problem.
    """

    containment: float
    problems: list[Problem]
    answers: list[str]
    origins: list[tuple[str, int]]
    hashes: np.ndarray
    owners: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, questions: Iterable[dict], containment: float) -> "Evaluation":
        """questions: prompts, see sources.py; those without words are passed over.

        Raises:
            ValueError: containment is not in (0, 1].
        """
        if not 0 < containment <= 1:
            raise ValueError(f"--containment {containment}: it must be in (0, 1]")
        problems, answers, origins, hashes, sizes = [], [], [], [], []
        for row in questions:
            stated = problem(row["question"])
            if stated.tokens:
                problems.append(stated)
                answers.append(answer_key(row["answer"]) if row.get("answer") else "")
                origins.append((row["file"], row["row"]))
                hashes.append(np.unique(hashes_of(shingles(stated.tokens))))
                sizes.append(len(hashes[-1]))
        owners = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        every = np.concatenate(hashes) if hashes else np.empty(0, dtype=np.uint64)
        order = np.argsort(every, kind="stable")
        return cls(containment, problems, answers, origins, every[order], owners[order], np.array(sizes))

    def match(self, question: str, answer: str = "") -> tuple[str, str, int] | None:
        """How much of which evaluation problem the question holds, and that one's file and row; None if of none."""
        stated = problem(question)
        own = np.unique(hashes_of(shingles(stated.tokens)))
        if not stated.tokens or len(self.hashes) == 0:
            return None
        starts = np.searchsorted(self.hashes, own)
        known = self.hashes[np.minimum(starts, len(self.hashes) - 1)] == own
        if not known.any():
            return None
        ends = np.searchsorted(self.hashes, own[known], "right").tolist()
        runs = [self.owners[start:end] for start, end in zip(starts[known].tolist(), ends, strict=True)]
        numbers, counts = np.unique(np.concatenate(runs), return_counts=True)
        shares = counts / self.sizes[numbers]
        enough = shares >= self.containment
        for share, number in sorted(zip(shares[enough].tolist(), numbers[enough].tolist(), strict=True), reverse=True):
            if self._same(stated, answer_key(answer) if answer else "", number, share):
                file, row = self.origins[number]
                return f"{share:.0%} of it", file, row
        return None

    def _same(self, stated: Problem, answer: str, number: int, share: float) -> bool:
        other = self.problems[number]
        if stated.tokens == other.tokens:
            return True
        different = bool(answer) and bool(self.answers[number]) and answer != self.answers[number]
        if stated.numbers == other.numbers:
            # The same numbers in a question about something else have another answer.
            return not different or share == 1
        return not different and _holds(stated.tokens, other.tokens)


def _holds(tokens: list[str], others: list[str]) -> bool:
    """Whether all of `others` stand in `tokens` in a row, and end there as they did."""
    if len(others) < WHOLE:
        return False
    for start in _starts(tokens, others):
        end = start + len(others)
        around = [*tokens[max(0, start - 1) : start], *tokens[end : end + 1]]
        if tokens[start:end] == others and not OPERATORS.intersection(around):
            return True
    return False


def _starts(tokens: list[str], others: list[str]) -> Iterator[int]:
    return (start for start in range(len(tokens) - len(others) + 1) if tokens[start] == others[0])


@dataclass(frozen=True)
class Decontaminator:
    evaluation: Evaluation

    def __call__(self, row: dict) -> tuple[dict, str | None]:
        found = self.evaluation.match(row["question"], row["answer"])
        if found is None:
            return row, None
        share, file, number = found
        return row, f"as in {Path(file).name}: row {number}, {share}"
