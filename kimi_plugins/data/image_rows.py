"""Rows of any data set as prompts with images: OpenRLHF's format, checked row by row (k1.5 §2.3.5).

A prompt is {"input": [messages], "label", "images": [paths]}, with one `<image>` in the messages' text for every one.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kimi_plugins.data.files import replacing
from kimi_plugins.data.images import BadImage, Limits, prepare, read_bytes, shown
from kimi_plugins.data.readers import READERS

PLACEHOLDER = "<image>"
_SURROGATE = re.compile("[\ud800-\udfff]")


class BadRow(ValueError):
    """A row that cannot be used; the message says why."""


class Columns(NamedTuple):
    input: str = "input"
    label: str = "label"
    images: str = "images"
    difficulty: str = "difficulty"


class Store:
    """A directory of image files named by their contents, so that an image used twice is stored once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()

    def add(self, data: bytes, suffix: str) -> str:
        """Its absolute path."""
        name = hashlib.sha256(data).hexdigest()[:32]
        path = self.directory / name[:2] / (name + suffix)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                partial.write_bytes(data)
        return str(path)


def read_rows(source: str, columns: Columns, split: str = "train") -> Iterator[tuple[int, object, str | None]]:
    """(row number, row, problem) of a file, a directory saved by `datasets`, or a data set on the hub.

    Raises:
        OSError, ValueError: the whole cannot be read.
    """
    suffix = os.path.splitext(source)[1]
    if suffix in READERS:
        yield from READERS[suffix](source, list(columns))
        return
    if Path(source).is_file():
        raise ValueError(f"{source}: has an unknown format; convert it to one of {', '.join(READERS)}")
    for number, row in enumerate(_hugging_face(source, split), 1):
        yield number, row, None


def _hugging_face(source: str, split: str) -> Iterator[dict]:
    """Rows with images as they are stored, wherever in a row they are: a broken image is a rejected row."""
    from datasets import load_dataset, load_from_disk

    saved = Path(source).is_dir() and any(
        (Path(source) / name).exists() for name in ("dataset_info.json", "dataset_dict.json")
    )
    data = load_from_disk(source) if saved else load_dataset(source, split=split)
    data = data[split] if isinstance(data, dict) else data
    for table in data.with_format("arrow").iter(batch_size=100):
        yield from table.to_pylist()


def adapt(row: object, columns: Columns, folder: Path, store: Store, limits: Limits, *, allow_urls: bool) -> dict:
    """The row as a prompt, its images checked and stored.

    The images are those of the images' column (one, or a list), or those within the messages' content, where their
    place is. A prompt without any placeholder gets them in front.

    Args:
        folder: what relative paths are relative to.

    Returns:
        {"input": messages, "label": str, "images": paths, "difficulty": as it stands, or None}

    Raises:
        BadRow: something is missing, an image cannot be used, or images and placeholders do not match.
    """
    if not isinstance(row, dict):
        raise BadRow(f"is a {type(row).__name__}, not an object")
    for name in (columns.input, columns.label):
        if row.get(name) in (None, "", []):
            raise BadRow(f"has no {name!r}; columns are {', '.join(sorted(map(str, row)))}")
    if isinstance(row[columns.label], dict | list):
        raise BadRow(f"its {columns.label!r} is a {type(row[columns.label]).__name__}, neither text nor a number")
    messages, inline = _messages(row[columns.input])
    for text in (str(row[columns.label]), *(message["content"] for message in messages)):
        if not text.isascii() and _SURROGATE.search(text):
            raise BadRow("holds half a character (a lone surrogate), which is no text")
    references = row.get(columns.images)
    references = [] if references is None else references if isinstance(references, list) else [references]
    if inline and references:
        raise BadRow(f"has images both in its messages and in {columns.images!r}")
    references = references or inline
    found = sum(message["content"].count(PLACEHOLDER) for message in messages)
    if references and not found:
        first = next((message for message in messages if message["role"] == "user"), None)
        if first is None:
            raise BadRow("has images and no message of the user to put them into")
        first["content"] = PLACEHOLDER * len(references) + first["content"]
    elif found != len(references):
        raise BadRow(f"has {found} × {PLACEHOLDER} and {len(references)} images")
    paths = []
    for number, reference in enumerate(references, 1):
        try:
            paths.append(store.add(*prepare(read_bytes(reference, folder, allow_urls=allow_urls), limits)))
        except BadImage as error:
            name = shown(reference)
            raise BadRow(f"image {number}{f' ({name})' if name else ''}: {error}") from error
    return {
        "input": messages,
        "label": str(row[columns.label]),
        "images": paths,
        "difficulty": row.get(columns.difficulty),
    }


def _messages(prompt: object) -> tuple[list[dict[str, str]], list]:
    """Messages whose content is text, and the images that stood within them."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}], []
    if not isinstance(prompt, list):
        raise BadRow(f"its prompt is a {type(prompt).__name__}, neither text nor messages")
    messages, images = [], []
    for message in prompt:
        if not isinstance(message, dict) or not {"role", "content"} <= set(message):
            raise BadRow("a message has no 'role' or no 'content'")
        content = message["content"]
        if isinstance(content, list):
            content = "".join(_part(part, images) for part in content)
        if not isinstance(content, str):
            raise BadRow(f"the content of a message is a {type(content).__name__}")
        messages.append({"role": message["role"], "content": content})
    return messages, images


def _part(part: object, images: list) -> str:
    """The text of one part of a message's content; an image goes to `images` and leaves a placeholder."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    if kind in ("image", "image_url"):
        reference = next((part[name] for name in ("image", "path", "url", "image_url") if part.get(name)), None)
        if isinstance(reference, dict) and "url" in reference:
            reference = reference["url"]
        if reference is not None:
            images.append(reference)
        return PLACEHOLDER
    raise BadRow(f"a message has a part of type {kind!r}; only text and image are known")
