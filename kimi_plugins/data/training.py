"""Data sets of prompts as a run takes them: the same rows for the checks before it and for the trainer.

Labels are text, as they are written in the file. The trainer gets the columns that its options name (data.input_key,
data.label_key, data.image_key), datasource, and all others whose values are single, as text.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from kimi_plugins.data import containers
from kimi_plugins.data.containers import Row, has_column, value_at
from kimi_plugins.data.images import file_named, is_url
from kimi_plugins.data.known import CHOICES, COLUMNS, LOOKED_AT, UnknownShape, named, object_or_none, shape_of
from kimi_plugins.data.shapes import Prompt, Shape
from kimi_plugins.data.store import LIMITS, Store, folder_of, stored
from kimi_plugins.data.values import BadRow

DEFAULT_KEYS = ("input", "label")  # of the recipes; if a data set lacks these columns, its shape is recognised


@dataclass(frozen=True)
class Options:
    """What a run's options say of its data: data.input_key, data.label_key, data.image_key, data.apply_chat_template,
    kimi.data.format, and the columns that plugins ask for."""

    input: str
    label: str | None
    image: str
    chat: bool
    format: str = "auto"
    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, args: Any) -> "Options":
        """From the trainer's nested namespace."""
        data, kimi = args.data, getattr(args, "kimi", None)
        sampling = getattr(kimi, "sampling", None)
        asked = [getattr(sampling, key, None) for key in ("difficulty_key", "linked_key")]
        rewards = getattr(kimi, "rewards", None)
        asked += [getattr(rewards, key, None) for key in ("kind_key", "source_key")]
        return cls(
            input=data.input_key,
            label=data.label_key or None,
            image=getattr(data, "image_key", "images"),
            chat=data.apply_chat_template,
            format=getattr(getattr(kimi, "data", None), "format", "auto"),
            columns=tuple(dict.fromkeys(filter(None, asked))),
        )


class Missing(UnknownShape):
    """A column that an option names and no row has."""


@dataclass(frozen=True)
class PromptRows:
    """A data set of prompts: its shape, and its rows one at a time."""

    shape: Shape
    options: Options
    rows: Iterator[Row]

    def prompts(self) -> Iterator[tuple[Row, Prompt | None, str | None]]:
        """Every row with its prompt, or what is wrong with it."""
        for row in self.rows:
            prompt, problem = None, row.problem
            if problem is None:
                try:
                    prompt = self.shape.prompt(row.value)
                except BadRow as error:
                    problem = f"{error}; correct it or remove the row"
                else:
                    if prompt.chat and not self.options.chat:
                        problem = "holds messages, not text; set data.apply_chat_template"
            yield row, prompt, problem


def opened(name: str, split: str, options: Options) -> PromptRows:
    """The rows of a data set for a run.

    Raises:
        UnknownShape: the columns that the options name are missing; the message lists those there are.
        Unreadable: it cannot be read as a whole.
    """
    rows: Iterator[Row] = containers.rows(name, split)
    shape: Shape | None = None
    if options.format != "auto":
        shape = named(options.format)
    else:
        first = list(islice(rows, LOOKED_AT))
        rows = chain(first, rows)
        objects = [row for row in (object_or_none(row.value) for row in first) if row]
        given = [key for key in (options.input, options.label) if key is not None]
        default = options.input == DEFAULT_KEYS[0] and options.label in (None, DEFAULT_KEYS[1])
        named_so = all(any(has_column(row, key) for row in objects) for key in given)
        if not default or named_so or not objects:
            for option, key in (("data.input_key", options.input), ("data.label_key", options.label)):
                if key is not None and objects and not any(has_column(row, key) for row in objects):
                    columns = ", ".join(dict.fromkeys(str(column) for row in objects for column in row))
                    raise Missing(f"{name}: no column {key!r}; set {option} to one of its columns: {columns}")
            shape = replace(
                COLUMNS,
                name="openrlhf",
                question=((options.input,),),
                answer=tuple(given[1:]),
                context=(),
                images=(options.image,),
                choices=CHOICES,
                verbatim=True,
            )
    if shape is None:
        shape, rows = shape_of(rows, name)
    if options.label is None:
        shape = replace(shape, unlabelled=True)
    return PromptRows(shape, options, rows)


class RowCheck(Protocol):
    """What a plugin asks of every row of a run's prompts; kimi-preflight asks for all plugins as it reads them."""

    def row(self, option: str, row: Row, prompt: Prompt | None, problem: str | None) -> Iterable[str]:
        """What is wrong with a row.

        option: that names its data set, data.prompt_dataset or eval.dataset. prompt, problem: as PromptRows.prompts()
        gives them; kimi-preflight says itself what it is that makes a row no prompt, and asks for prompts only.
        """

    def end(self) -> Iterable[str]:
        """What is wrong with all rows together, once they were read."""


def checked(args: Any, check: RowCheck) -> Iterator[str]:
    """What a check finds in the local data sets of a run; what else is wrong with them is kimi-preflight's to say."""
    for option, spec, split in (
        ("data.prompt_dataset", args.data.prompt_dataset, args.data.prompt_split),
        ("eval.dataset", args.eval.dataset, args.eval.split),
    ):
        for path in map(str.strip, (spec or "").split(",")):
            bad: dict[str, list[int]] = {}
            try:
                rows = opened(path, split, Options.of(args)).prompts() if os.path.exists(path) else iter(())
                for row, prompt, problem in islice(rows, args.data.max_samples):
                    for line in check.row(option, row, prompt, problem):
                        bad.setdefault(line, []).append(row.number)
            except (OSError, ValueError):
                continue
            yield from containers.row_problems(option, path, bad)
    yield from check.end()


def load(name: str, split: str, most: int, options: Options, images: Path, say: Callable[[str], None]) -> Any:
    """The data set as a datasets.Dataset.

    Args:
        most: rows taken at most.
        images: directory in which images that are not files of their own are put.
        say: prints a line.

    Raises:
        ValueError: a row cannot be used, or the data set cannot be read; the message names file, row and fix.
    """
    import datasets

    found = opened(name, split, options)
    store, taken, shape = Store(images), [], None
    for row, prompt, problem in found.prompts():
        where = f"{row.file} row {row.number}"
        if prompt is None or problem is not None:
            raise ValueError(f"{where}: {problem}")
        try:
            paths = [_as_path(image, row, store) for image in prompt.images]
        except BadRow as error:
            raise ValueError(f"{where}: {error}; correct it or remove the row") from error
        shape = shape or found.shape.described(row.value)
        taken.append((prompt, paths, delivered(prompt, row.value, options)))
        if len(taken) >= most:
            break
    if not taken:
        raise ValueError(f"{name}: holds no rows; give a file with data")
    say(f"{name}: {len(taken)} prompts, {shape}")
    chat = options.chat and any(prompt.chat for prompt, *_ in taken)
    text = datasets.Value("string")
    columns: dict[str, list] = {
        options.input: [prompt.messages if chat else prompt.messages[0]["content"] for prompt, *_ in taken],
        options.image: [paths for _, paths, _ in taken],
    }
    features = dict.fromkeys((column for *_, delivered in taken for column in delivered), text) | {
        options.input: datasets.List({"role": text, "content": text}) if chat else text,
        options.image: datasets.List(text),
        "datasource": text,
    }
    for column in features.keys() - columns.keys():
        columns[column] = [delivered.get(column) for *_, delivered in taken]
    columns["datasource"] = [delivered.get("datasource") or "default" for *_, delivered in taken]
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def delivered(prompt: Prompt, row: Any, options: Options) -> dict[str, str | None]:
    """The columns that the trainer gets of a prompt and its row, beside prompt and images: all text."""
    found: dict[str, str | None] = {} if options.label is None else {options.label: prompt.answer}
    if prompt.source is not None:
        found["datasource"] = prompt.source
    if prompt.difficulty is not None:
        found["difficulty"] = _as_text(prompt.difficulty)
    return _others(row, options) | found


def load_for(name: str, split: str, most: int, args: Any) -> Any:
    """The data set of prompts of a run, None if OpenRLHF is to load it: for other trainers, scripts, URLs, ModelScope.

    Images that are not files of their own are put into a directory of ckpt.path.
    """
    name, _, folder = (part.strip() for part in name.partition("@"))
    if folder and os.path.isdir(name):
        name, folder = os.path.join(name, folder), ""
    script = name.endswith(".py") or os.path.isfile(os.path.join(name, f"{os.path.basename(name)}.py"))
    if not hasattr(args, "rollout") or "://" in name or script or args.use_ms or folder:
        return None
    return load(name, split, most, Options.of(args), Path(args.ckpt.path) / "images", print)


def _as_path(image: Any, row: Row, store: Store) -> str:
    if isinstance(image, dict) and image.get("bytes") is None:
        image = image.get("path")
    if isinstance(image, str):
        if is_url(image):
            raise BadRow("an image is a URL; make the set by openrlhf kimi vision-prepare --allow-urls")
        if path := file_named(image, folder_of(row)):
            return str(path.absolute())
    return stored([image], folder_of(row), store, LIMITS, allow_urls=False)[0]


def _others(row: Any, options: Options) -> dict[str, str | None]:
    """The row's other columns with single values, and those that plugins ask for."""
    if not isinstance(row, dict):
        return {}
    taken = {options.input, options.label, options.image, "datasource"}
    found = {
        str(name): _as_text(value)
        for name, value in row.items()
        if name not in taken and (value is None or isinstance(value, str | int | float))
    }
    return found | {name: _as_text(value_at(row, name)) for name in options.columns if has_column(row, name)}


def _as_text(value: Any) -> str | None:
    return None if value is None else str(value)
