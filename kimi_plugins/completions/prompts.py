"""Prompt sets as a run takes them: a prompt, its answer, and images if there are any."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kimi_plugins.completions.types import Request
from kimi_plugins.data.images import file_named
from kimi_plugins.data.known import Columns, Say, opened, print_nothing
from kimi_plugins.data.store import folder_of
from kimi_plugins.data.values import BadRow


class Prompt(NamedTuple):
    """request: its key is the number of the row, after the file if it is one of several. answer: the right one.

    row: as it was read.
    """

    request: Request
    answer: str
    row: dict


def read_prompts(
    path: str | Path,
    *,
    input_key: str | None = None,
    label_key: str | None = None,
    image_key: str | None = None,
    split: str = "train",
    format: str = "auto",
    say: Say = print_nothing,
) -> Iterator[Prompt]:
    """The rows of a data set, one at a time.

    Args:
        path, split: as data.containers.rows takes them.
        input_key, label_key, image_key: columns, where they are not to be recognised.
        format: a name of data.known.FORMATS.
        say: gets a line that names the shape and its columns.

    Raises:
        ValueError: a malformed row, with its number and what to do, or a data set that cannot be read or has no rows.
    """
    shape, rows = opened(
        str(path), split=split, format=format, columns=Columns(input_key, label_key, image_key), say=say
    )
    empty = True
    for row in rows:
        where = f"{row.file} row {row.number}"
        if row.problem is not None:
            raise ValueError(f"{where}: {row.problem}")
        try:
            prompt = shape.prompt(row.value)
        except BadRow as error:
            raise ValueError(
                f"{where}: {error}; name the columns with --input-key and --label-key, or remove the row"
            ) from error
        key = str(row.number) if row.file == str(path) else f"{row.file}:{row.number}"
        images = tuple(_reference(image, folder_of(row)) for image in prompt.images)
        yield Prompt(Request(key, prompt.given(), images), prompt.answer, row.value)
        empty = False
    if empty:
        raise ValueError(f"{path}: has no rows; give a file with data")


def _reference(image: Any, folder: Path) -> str:
    """An image as the engines take it: a path, a URL, or a data: URI."""
    if isinstance(image, dict):
        image = image["bytes"] if image.get("bytes") is not None else image.get("path")
    if isinstance(image, bytes):
        return f"data:image;base64,{base64.b64encode(image).decode()}"
    path = file_named(str(image), folder)
    return str(image) if path is None else str(path)
