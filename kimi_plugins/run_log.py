"""The run's own log, in the directory of its checkpoints, one JSON object a line.

metrics.jsonl has a record for every training step and evaluation, rollouts.jsonl one for every rollout batch. A
resumed run appends to them; what it did again counts, what it replaced is not read.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from kimi_plugins.data import journal

FILE_NAME = "metrics.jsonl"
ROLLOUTS = "rollouts.jsonl"


def append(directory: str | Path, split: str, step: int, logs: dict) -> None:
    """Append one record {"split", "step", "time" (Unix seconds), **logs}; tensors become numbers.

    None is left out, and so is the trainer's one sample rollout, which may be long: rollouts.jsonl has more of them.
    """
    numbers = {key: value.item() if hasattr(value, "item") else value for key, value in logs.items()}
    record = {"split": split, "step": step, "time": time.time()}
    record |= {key: value for key, value in numbers.items() if value is not None and key != "generated_samples"}
    _append(Path(directory) / FILE_NAME, record)


def read(directory: str | Path, split: str) -> list[dict]:
    """The records of one split ("train" or "eval") in the order of their steps; empty if there is no log."""
    records: dict[str, list[dict]] = {"train": [], "eval": []}
    for record in _records(Path(directory) / FILE_NAME):
        # A training step done again also replaces the evaluations from it on; those come after their step.
        for replaced in ("train", "eval") if record["split"] == "train" else ("eval",):
            while records[replaced] and records[replaced][-1]["step"] >= record["step"]:
                records[replaced].pop()
        records[record["split"]].append(record)
    return records[split]


def append_rollouts(directory: str | Path, record: dict) -> None:
    """Append what kimi_plugins.rollouts.record() made of a rollout batch."""
    _append(Path(directory) / ROLLOUTS, record)


def read_rollouts(directory: str | Path) -> Iterator[dict]:
    """The records of the rollout batches, in the order of their steps; none if there is no log.

    Only one record is held in memory at a time: the file of a long run is large.
    """
    path = Path(directory) / ROLLOUTS
    surviving: list[tuple[int, int]] = []  # (step, line)
    for line, record in enumerate(_records(path)):
        while surviving and surviving[-1][0] >= record["step"]:
            surviving.pop()
        surviving.append((record["step"], line))
    lines = {line for _, line in surviving}
    for line, record in enumerate(_records(path)):
        if line in lines:
            yield record


def _append(path: Path, record: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        journal.mend(file)
        journal.append(file, record)


def _records(path: Path) -> Iterator[dict]:
    if path.exists():
        with path.open("rb") as file:
            for _, record in journal.lines(file):
                yield record
