"""Prompts of every source on one HTML page, for a person to look at."""

import base64
import json
import math
from collections.abc import Iterator
from importlib.resources import files
from itertools import islice
from pathlib import Path

THUMBNAIL = 640  # pixels a side of a square; larger images are shrunk to its area for the page


def first_rows(inputs: list[str], per_source: int, folder: Path, *, allow_urls: bool) -> tuple[list[dict], list[dict]]:
    """The first rows of every source, with images in the folder, and what was rejected before them."""
    if len(inputs) == 1 and Path(inputs[0]).name == "prompts.jsonl":
        return list(_prepared(Path(inputs[0]), per_source)), []
    from kimi_plugins.data.store import Store
    from kimi_plugins.vision.prepare import mixture_of
    from kimi_plugins.vision.rows import Rejects, source_rows
    from kimi_plugins.vision.work import Work

    mixture = mixture_of(inputs)
    rejected: list[dict] = []
    rows: list[dict] = []
    with Work(Store(folder), allow_urls=allow_urls, workers=1) as work:
        for source in mixture.sources:
            groups = source_rows(source, mixture, Rejects(1.0, rejected.append), work)
            rows += [row for group in islice(groups, per_source) for row in group]
    return rows, rejected


def _prepared(path: Path, per_source: int) -> Iterator[dict]:
    """The first rows of every source, in the order of the file."""
    taken: dict[str, int] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                name = row["datasource"]
                missing = {"input", "label", "images", "pair", "facts", "difficulty"} - set(row)
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{path} row {number}: is not a prompt of vision-prepare: {error!r}") from error
            if missing:
                raise ValueError(
                    f"{path} row {number}: is not a prompt of vision-prepare: no {', '.join(sorted(missing))}"
                )
            taken[name] = taken.get(name, 0) + 1
            if taken[name] <= per_source:
                yield row


def write_page(out: Path, title: str, rows: list[dict], rejects: list[dict]) -> None:
    """rows: of rows.mixed; rejects: {"source", "file", "row", "reason"}."""
    from kimi_plugins import html

    template, css, script = (
        (files(__package__) / f"preview.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    cards = [_card(row) for row in rows]
    names = list(dict.fromkeys(card["source"] for card in cards))
    counts = {name: sum(card["source"] == name for card in cards) for name in names}
    html.write(out, html.rendered(template, css, [script], title=title, cards=cards, counts=counts, rejects=rejects))


def _card(row: dict) -> dict:
    return {
        "source": row["datasource"],
        "messages": row["input"],
        "label": row["label"],
        "facts": row["facts"],
        "difficulty": row["difficulty"],
        "pair": row["pair"],
        "images": [_image(path) for path in row["images"]],
    }


def _image(path: str) -> dict:
    """Its data: URI, and the size it really has."""
    from kimi_plugins.data.images import Limits, opened, prepare

    file = Path(path).read_bytes()
    width, height = opened(file).size
    data, suffix = prepare(file, Limits(least=1, most=THUMBNAIL**2, source=width * height, aspect=math.inf))
    kind = "jpeg" if suffix == ".jpg" else "png"
    return {"uri": f"data:image/{kind};base64,{base64.b64encode(data).decode()}", "size": f"{width} × {height}"}
