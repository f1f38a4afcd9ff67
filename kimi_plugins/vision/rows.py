"""The rows of a mixture: made, read, rendered, checked, and put in an order that keeps the weights.

A row: {"input": messages, "label", "images": paths, "datasource": name of the source, "difficulty": number or None,
"pair": id shared by a rendered prompt and its text, or None, "facts": chain of thought of a scene}.
"""

import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from glob import glob
from itertools import count
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from kimi_plugins.data.images import Limits
from kimi_plugins.data.known import opened
from kimi_plugins.data.store import Store, folder_of, stored
from kimi_plugins.data.values import PLACEHOLDER, BadRow
from kimi_plugins.errors import Failed
from kimi_plugins.sampling.curriculum import as_number
from kimi_plugins.vision.mixture import Mixture, Source
from kimi_plugins.vision.processor import check_prompt
from kimi_plugins.vision.synthetic import generate
from kimi_plugins.vision.work import Item, Work

LEAST_ROWS = 100  # denominator of shares over fewer rows
READ_IT = "Answer the question in the picture."

Reject = Callable[[dict], object]


class TooManyRejects(Failed):
    """So many rows cannot be used that something else must be wrong."""


class Rejects:
    """Counts rows and rejects, hands each reject on, and stops above the limit, a share of the rows."""

    def __init__(self, limit: float, write: Reject = lambda reject: None) -> None:
        self.limit, self.write = limit, write
        self.rows = 0
        self.reasons: Counter[str] = Counter()

    def add(self, source: str, file: str, row: int, reason: str) -> None:
        self.write({"source": source, "file": file, "row": row, "reason": reason})
        self.reasons[reason.rpartition(": ")[2]] += 1
        if self.reasons.total() > self.limit * max(self.rows, LEAST_ROWS):
            raise TooManyRejects(
                f"{self.reasons.total()} of {self.rows} rows are rejected, above the limit of {self.limit:g} of them: "
                f"{self.common()}; the last was row {row} of {file}"
            )

    def common(self) -> str:
        """The most common reasons with their numbers; empty if there are none."""
        return "; ".join(f"{number} × {reason}" for reason, number in self.reasons.most_common(3))


def mixed(mixture: Mixture, rejects: Rejects, work: Work) -> Iterator[dict]:
    """All rows of the mixture; at every point the sources have about their weights, and linked rows follow each other.

    Raises:
        TooManyRejects.
        ValueError: a source has fewer rows than its share, or none.
        OSError: a file cannot be read.
    """
    sources = {source.name: source for source in mixture.sources}
    groups = {name: source_rows(source, mixture, rejects, work) for name, source in sources.items()}
    done = dict.fromkeys(sources, 0)
    while groups:
        name = min(groups, key=lambda name: (done[name] + 1) / sources[name].weight)
        group = next(groups[name], None)
        if group is None:
            if done[name] == 0:
                why = rejects.common() or "it holds no rows"
                raise ValueError(f"source {name!r} has no row that can be used: {why}")
            if mixture.rows is not None:
                share = mixture.rows * sources[name].weight / sum(source.weight for source in sources.values())
                raise ValueError(
                    f"source {name!r} has {done[name]} usable rows, and its share of {mixture.rows} is {share:.0f}; "
                    "lower rows or its weight"
                )
            del groups[name]
            continue
        done[name] += len(group)
        yield from group
        if mixture.rows is not None and sum(done.values()) >= mixture.rows:
            return


def source_rows(source: Source, mixture: Mixture, rejects: Rejects, work: Work) -> Iterator[list[dict]]:
    """Rows of one source, linked ones together."""
    for item, result in work.results(partial(made, source, mixture), _items(source, mixture)):
        rejects.rows += not source.synthetic
        if isinstance(result, str):
            rejects.add(source.name, item.file, item.number, result)
        else:
            yield result


def _items(source: Source, mixture: Mixture) -> Iterator[Item]:
    """What the rows of a source are made of, in order."""
    if source.synthetic:
        for index in count():
            yield Item(f"{source.name}/{index}", "", index, None, None, Path())
        return
    for place, file in enumerate(source.files):
        local = (mixture.folder / file).exists() or bool(glob(str(mixture.folder / file), recursive=True))
        path = str(mixture.folder / file) if local else file
        shape, rows = opened(
            path, split=source.split, format=source.format, columns=source.columns, say=partial(print, file=sys.stderr)
        )
        for row in rows:
            prompt, problem = None, row.problem
            if problem is None:
                try:
                    prompt = shape.prompt(row.value)
                except BadRow as error:
                    problem = str(error)
            yield Item(f"{source.name}/{place}/{row.number}", row.file, row.number, prompt, problem, folder_of(row))


def made(source: Source, mixture: Mixture, store: Store, allow_urls: bool, item: Item) -> list[dict]:
    """The rows of an item: one, or a text and its image.

    Raises:
        BadRow: it cannot be used; the message says why.
    """
    if source.synthetic:
        return [_scene(source, mixture.seed, item.number, store)]
    if item.prompt is None:
        raise BadRow(item.problem or "")
    prompt = {
        "input": item.prompt.messages,
        "label": item.prompt.answer,
        "images": stored(item.prompt.images, item.folder, store, mixture.limits, allow_urls=allow_urls),
        "difficulty": item.prompt.difficulty,
    }
    if source.render:
        group = _rendered(prompt, source, mixture.limits, mixture.seed, item.key, store)
    else:
        group = [_row(prompt, source.name, source.suffix)]
    if mixture.model is not None:
        for row in group:
            check_prompt(row["input"], sizes_of(row["images"]), mixture.model, mixture.prompt_tokens)
    if source.harder == "lower":
        group = [{**row, "difficulty": -as_number(row["difficulty"])} for row in group]
    return group


def sizes_of(paths: list[str]) -> list[tuple[int, int]]:
    """(width, height) of stored images."""
    sizes = []
    for path in paths:
        with Image.open(path) as image:
            sizes.append(image.size)
    return sizes


def _row(prompt: dict, datasource: str, suffix: str, *, pair: str | None = None, facts: tuple[str, ...] = ()) -> dict:
    """suffix: goes behind the last message."""
    *before, last = prompt["input"]
    messages = [*before, {**last, "content": last["content"] + suffix}]
    return {**prompt, "input": messages, "datasource": datasource, "pair": pair, "facts": list(facts)}


def _scene(source: Source, seed: int, index: int, store: Store) -> dict:
    rng = Random(f"{source.name}/{seed}/{index}")
    task, difficulty = rng.choice(source.synthetic), rng.uniform(*source.difficulty)
    scene = generate(task, seed=seed, index=index, difficulty=difficulty, size=source.size)
    prompt = {
        "input": [{"role": "user", "content": PLACEHOLDER + scene.question}],
        "label": scene.answer,
        "images": [store.add(_png(scene.image), ".png")],
        "difficulty": round(difficulty, 4),
    }
    return _row(prompt, source.name, source.suffix, facts=scene.facts)


def _rendered(prompt: dict, source: Source, limits: Limits, seed: int, identity: str, store: Store) -> list[dict]:
    from kimi_plugins.vision.text_render import Unrenderable, render, sample_style

    *before, last = prompt["input"]
    if prompt["images"] or last["role"] != "user" or any(message["role"] == "user" for message in before):
        raise BadRow("only one message of the user, without images, can be rendered")
    rng = Random(f"{identity}/{seed}")
    style = sample_style(rng, width=source.width, font=source.font)
    try:
        image = render(last["content"], style, most_pixels=limits.most, seed=rng.getrandbits(32)).image
    except Unrenderable as error:
        raise BadRow(f"cannot be rendered: {error}") from error
    seen = {
        **prompt,
        "input": [*before, {"role": "user", "content": PLACEHOLDER + READ_IT}],
        "images": [store.add(_png(image), ".png")],
    }
    if not source.twins:
        return [_row(seen, source.name, source.suffix)]
    return [
        _row(prompt, f"{source.name}-text", source.suffix, pair=identity),
        _row(seen, f"{source.name}-image", source.suffix, pair=identity),
    ]


def _png(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def ranks(values: list[float]) -> list[float]:
    """Each value's rank from easy, 0, to hard, 1, among those of its source; equal ones share the middle.

    Difficulties of different sources have nothing in common; ranks have: a curriculum over them takes every source
    from easy to hard at the same pace. If some have none (NaN), there is no order, and all are in the middle.
    """
    array = np.asarray(values, dtype=float)
    if np.isnan(array).any():
        return [0.5] * len(values)
    ordered = np.sort(array)
    low, high = np.searchsorted(ordered, array, "left"), np.searchsorted(ordered, array, "right")
    return ((low + high) / (2 * len(array))).round(6).tolist()


def one_source(path: Path, format: str = "auto", split: str = "train") -> Source:
    """A file, directory or hub name given by itself."""
    name = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in path.stem) or "data"
    return Source(name, files=(str(path.absolute()) if path.exists() else str(path),), format=format, split=split)
