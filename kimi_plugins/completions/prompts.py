"""Prompt sets as a run takes them: a prompt, its answer, and images if there are any."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kimi_plugins.completions.types import Request
from kimi_plugins.data.readers import READERS


class Prompt(NamedTuple):
    """request: its key is the number of the row. answer: the right one. row: as it was read."""

    request: Request
    answer: str
    row: dict


def read_prompts(
    path: Path, *, input_key: str = "input", label_key: str = "label", image_key: str = "images"
) -> Iterator[Prompt]:
    """The rows of a JSONL, Parquet, CSV or Arrow file, one at a time.

    Raises:
        ValueError: a row that is none, with its number and what to do; or a file of another kind.
    """
    read = READERS.get(path.suffix)
    if read is None:
        raise ValueError(f"{path}: is none of {', '.join(READERS)}")
    number = None
    for number, row, problem in read(str(path), [input_key, label_key, image_key]):
        where = f"{path} row {number}"
        if problem:
            raise ValueError(f"{where}: {problem}")
        yield _prompt(row, number, where, input_key, label_key, image_key)
    if number is None:
        raise ValueError(f"{path}: has no rows")


def _prompt(row, number: int, where: str, input_key: str, label_key: str, image_key: str) -> Prompt:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: {type(row).__name__} instead of an object")
    for name, flag in ((input_key, "--input-key"), (label_key, "--label-key")):
        if row.get(name) in (None, "", []):
            raise ValueError(f"{where}: no {name}; name the column with {flag}, or remove the row")
    prompt, answer, images = row[input_key], row[label_key], row.get(image_key) or ()
    if not isinstance(prompt, str | list):
        raise ValueError(f"{where}: {input_key} is {json.dumps(prompt)[:40]}, neither text nor chat messages")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise ValueError(f"{where}: {label_key} is {json.dumps(answer)[:40]}, neither text nor a number")
    images = (images,) if isinstance(images, str) else tuple(images)
    return Prompt(Request(str(number), prompt, images), str(answer), row)
