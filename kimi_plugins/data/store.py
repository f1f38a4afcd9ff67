"""Images of prompts as files: checked, made alike, and stored once each."""

import hashlib
import os
from pathlib import Path
from typing import Any

from kimi_plugins.data.containers import Row
from kimi_plugins.data.files import replacing
from kimi_plugins.data.images import BadImage, Limits, prepare, read_bytes, shown
from kimi_plugins.data.shapes import Prompt, Shape
from kimi_plugins.data.values import BadRow

LIMITS = Limits(least=56 * 56, most=1280 * 28 * 28, source=64_000_000, grid=28)


class Store:
    """A directory of image files named by their contents, so that an image used twice is stored once; several
    processes may share it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()

    def add(self, data: bytes, suffix: str) -> str:
        """The absolute path of the file with these contents."""
        name = hashlib.sha256(data).hexdigest()[:32]
        path = self.directory / name[:2] / (name + suffix)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, f".{os.getpid()}.partial") as partial:
                partial.write_bytes(data)
        return str(path)


def folder_of(row: Row) -> Path:
    """What relative paths of images in a row are relative to: the directory of its file."""
    path = Path(row.file)
    return path if path.is_dir() else path.parent


def stored(references: list[Any], folder: Path, store: Store, limits: Limits, *, allow_urls: bool) -> list[str]:
    """Paths of the images, checked and stored.

    Raises:
        BadRow: one cannot be used; the message says which, and why.
    """
    paths = []
    for number, reference in enumerate(references, 1):
        try:
            paths.append(store.add(*prepare(read_bytes(reference, folder, allow_urls=allow_urls), limits)))
        except BadImage as error:
            name = shown(reference)
            raise BadRow(f"image {number}{f' ({name})' if name else ''}: {error}") from error
    return paths


def adapted(row: Any, shape: Shape, folder: Path, store: Store, limits: Limits, *, allow_urls: bool) -> dict:
    """The row as a prompt of OpenRLHF's format, its images checked and stored.

    Args:
        folder: what relative paths are relative to.

    Returns:
        {"input": messages, "label": str, "images": paths, "difficulty": as in the data, or None}

    Raises:
        BadRow: something is missing, an image cannot be used, or images and placeholders do not match.
    """
    prompt: Prompt = shape.prompt(row)
    return {
        "input": prompt.messages,
        "label": prompt.answer,
        "images": stored(prompt.images, folder, store, limits, allow_urls=allow_urls),
        "difficulty": prompt.difficulty,
    }
