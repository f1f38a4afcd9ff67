"""The run's own log: one JSON object a line, `metrics.jsonl` in the directory of the checkpoints."""

import json
import time
from pathlib import Path

FILE_NAME = "metrics.jsonl"


def append(directory: str | Path, split: str, step: int, logs: dict) -> None:
    """Append one record {"split", "step", "time" (Unix seconds), **logs}; None is left out, tensors become numbers."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    numbers = {key: value.item() if hasattr(value, "item") else value for key, value in logs.items()}
    record = {"split": split, "step": step, "time": time.time()}
    record |= {key: value for key, value in numbers.items() if value is not None}
    with (directory / FILE_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read(directory: str | Path, split: str) -> list[dict]:
    """The records of one split ("train" or "eval"), in the order they were written."""
    with (Path(directory) / FILE_NAME).open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [record for record in records if record["split"] == split]
