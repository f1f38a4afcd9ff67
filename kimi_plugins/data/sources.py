"""The inputs: files and Hugging Face data sets, row by row, and their columns under the names the stages know.

A prompt is a dict with question and answer (text), file and row (where it was read), source, and where there is one
domain, discipline, difficulty (a number; given_difficulty is a label without one), image (paths) and choices. Rows
are numbered as in data/readers.py.
"""

import hashlib
import math
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kimi_plugins.data.readers import READERS, Rows
from kimi_plugins.grading.extraction import NoAnswer, final_answers

# Names that are understood without --map: the columns' own, and those of prompts.jsonl.
COLUMNS = {
    "question": ("question", "input"),
    "answer": ("answer", "label"),
    "source": ("source", "datasource"),
    "domain": ("domain",),
    "discipline": ("discipline",),
    "difficulty": ("difficulty",),
    "image": ("image", "images"),
    "choices": ("choices", "options"),
}
LOOKED_AT = 1000  # rows of an input whose columns are looked at before anything is done
IMAGE = "<image>"  # where OpenRLHF puts an image into a prompt


class UnknownColumn(ValueError):
    """A column that no input has; the message names those there are."""


@dataclass(frozen=True)
class Mapping:
    """Which columns of the input make which of COLUMNS: alternatives, each of one or more columns to be joined."""

    columns: dict[str, tuple[tuple[str, ...], ...]]

    @classmethod
    def parse(cls, texts: list[str]) -> "Mapping":
        """From `question=problem`, `question=Body+Question`; several for one column are tried in turn.

        Raises:
            ValueError: it is not of this form, or names no column of COLUMNS.
        """
        columns: dict[str, list[tuple[str, ...]]] = {name: [] for name in COLUMNS}
        for text in texts:
            name, separator, value = text.partition("=")
            if not separator or not all(value.split("+")):
                raise ValueError(f"--map {text}: write COLUMN=THEIRS, as question=problem or question=Body+Question")
            if name not in COLUMNS:
                raise ValueError(f"--map {text}: there is no column {name!r}; known are {', '.join(COLUMNS)}")
            columns[name].append(tuple(value.split("+")))
        return cls({name: (*given, *((own,) for own in COLUMNS[name])) for name, given in columns.items()})

    def names(self) -> list[str]:
        """All columns that may be read."""
        return list(dict.fromkeys(name for ways in self.columns.values() for way in ways for name in way))

    def way(self, column: str, row: dict) -> tuple[str, ...] | None:
        """The first alternative whose columns the row has."""
        return next((way for way in self.columns[column] if all(name in row for name in way)), None)


# Reading


@dataclass(frozen=True)
class Source:
    """name: as it was given; for a data set of the hub NAME or NAME:CONFIG. split: of a Hugging Face data set."""

    name: str
    split: str

    def kind(self) -> str:
        """file, saved (by save_to_disk) or hub.

        Raises:
            ValueError: a file or directory that cannot be read.
        """
        suffix = os.path.splitext(self.name)[1]
        if os.path.isdir(self.name):
            if any((Path(self.name) / name).exists() for name in ("state.json", "dataset_dict.json")):
                return "saved"
            raise ValueError(f"{self.name}: a directory without a saved data set; give its files")
        if os.path.exists(self.name):
            if suffix in READERS:
                return "file"
            raise ValueError(f"{self.name}: unknown format; convert it to one of {', '.join(READERS)}")
        if suffix in READERS or self.name.startswith(("/", ".", "~")) or self.name.count("/") > 1:
            raise ValueError(f"{self.name}: no such file; correct the path")
        return "hub"

    def identity(self) -> list:
        """Changes when the file does; JSON."""
        if self.kind() != "file":
            return [self.name, self.split]
        found = os.stat(self.name)
        return [os.path.abspath(self.name), found.st_size, found.st_mtime_ns]

    def rows(self, names: list[str] | None) -> Rows:
        """(row number, row, problem), see data/readers.py. names: of the columns that are needed; None: all.

        Raises:
            OSError, ValueError: it cannot be read as a whole.
        """
        if self.kind() == "file":
            read = READERS[os.path.splitext(self.name)[1]]
            return read(self.name, _table_columns(self.name) if names is None else names)
        return self._dataset_rows(names)

    def _dataset_rows(self, names: list[str] | None) -> Rows:
        import datasets

        if self.kind() == "saved":
            data = datasets.load_from_disk(self.name)
            if isinstance(data, datasets.DatasetDict):
                if self.split not in data:
                    raise ValueError(f"{self.name}: no split {self.split!r}; set --split to one of {', '.join(data)}")
                data = data[self.split]
        else:
            name, _, config = self.name.partition(":")
            data = datasets.load_dataset(name, config or None, split=self.split, streaming=True)
        for column, feature in (data.features or {}).items():
            if isinstance(feature, datasets.Image):
                data = data.cast_column(column, datasets.Image(decode=False))
        if names is not None and data.column_names is not None:
            data = data.select_columns([name for name in names if name in data.column_names])
        for number, row in enumerate(data, 1):
            yield number, row, None


def check_columns(inputs: list[Source], evals: list[Source], mapping: Mapping) -> None:
    """Look at the first rows of every input and evaluation set; the latter need no answer.

    Raises:
        UnknownColumn: one has no question or no answer, or none has a column that was mapped.
        OSError, ValueError: one cannot be read.
    """
    mapped = {
        name for column, ways in mapping.columns.items() for way in ways[: -len(COLUMNS[column])] for name in way
    }
    known: dict[str, None] = {}
    for source in (*inputs, *evals):
        first = islice(source.rows(None), LOOKED_AT)
        rows = [row for _, row, problem in first if problem is None and isinstance(row, dict)]
        if not rows:
            continue  # each is rejected with its own reason
        columns = dict.fromkeys(name for row in rows for name in row)
        known |= columns
        for column in ("question", "answer") if source in inputs else ("question",):
            if not any(mapping.way(column, row) for row in rows):
                raise UnknownColumn(
                    f"{source.name}: no column for {column}; its columns are {', '.join(map(str, columns))}; "
                    f"name one with --map {column}=…"
                )
    if known and (missing := sorted(mapped - set(known))):
        raise UnknownColumn(f"--map: no input has the column {', '.join(missing)}; there are {', '.join(known)}")


def _table_columns(path: str) -> list[str]:
    """Names of the columns of a Parquet or Arrow file; for the other formats nothing, as they are read whole."""
    suffix = os.path.splitext(path)[1]
    if suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_schema(path).names
    if suffix == ".arrow":
        import pyarrow

        with pyarrow.memory_map(path) as file:
            try:
                return pyarrow.ipc.open_stream(file).schema.names
            except pyarrow.ArrowInvalid:
                return pyarrow.ipc.open_file(file).schema.names
    return []


# Normalising


class Unusable(ValueError):
    """A row that is no prompt; the message says why."""


@dataclass(frozen=True)
class Normaliser:
    """Makes prompts of rows.

    mapping: of columns. answer_pattern: as rewards.extraction's; what it finds in a reference answer is the answer,
    where it finds nothing the whole is. images: directory in which images that are part of the data are put.
    """

    mapping: Mapping
    answer_pattern: str | None
    images: Path

    def __call__(self, source: Source, number: int, row: object, problem: str | None) -> tuple[dict, str | None]:
        """The prompt and None, or what is known of the row and why it is none."""
        prompt = {"file": source.name, "row": number}
        if problem is not None:
            return prompt, f"unreadable: {problem}"
        if not isinstance(row, dict):
            return prompt, f"unreadable: {type(row).__name__} instead of an object"
        try:
            self._fill(prompt, source, row)
        except Unusable as error:
            return prompt, str(error)
        return prompt, None

    def _fill(self, prompt: dict, source: Source, row: dict) -> None:
        default = Path(source.name).stem if source.kind() == "file" else source.name
        prompt["source"] = self._label(row, "source") or default
        prompt["question"] = self._question(row)
        prompt["answer"] = self._answer(row)
        for column in ("domain", "discipline"):
            if label := self._label(row, column):
                prompt[column] = label
        if label := self._label(row, "difficulty"):
            if (number := _one_number(label)) is None:
                prompt["given_difficulty"] = label
            else:
                prompt["difficulty"] = number
        if choices := self._value(row, "choices"):
            prompt["choices"] = choices if isinstance(choices, list) else [str(choices)]
        if paths := self._images(source, self._value(row, "image")):
            prompt["image"] = paths
            if prompt["question"].count(IMAGE) != len(paths):
                prompt["question"] = IMAGE * len(paths) + "\n" + prompt["question"].replace(IMAGE, "").strip()

    def _value(self, row: dict, column: str):
        way = self.mapping.way(column, row)
        return None if way is None else row[way[0]]

    def _label(self, row: dict, column: str) -> str:
        value = self._value(row, column)
        return "" if value is None or isinstance(value, list | dict) else str(value).strip()

    def _question(self, row: dict) -> str:
        way = self.mapping.way("question", row)
        if way is None:
            raise Unusable("no question: the row lacks the column")
        parts = []
        for name in way:
            value = row[name]
            if value is None or (isinstance(value, str) and not value.strip()):
                raise Unusable(f"no question: {name} is {'null' if value is None else 'empty'}")
            if not isinstance(value, str):
                raise Unusable(f"no question: {name} is {_kind(value)}, not text")
            parts.append(_text(value))
        return " ".join(parts)

    def _answer(self, row: dict) -> str:
        way = self.mapping.way("answer", row)
        if way is None:
            raise Unusable("no answer: the row lacks the column")
        if len(way) > 1:
            return " ".join(self._one_answer(name, row[name]) for name in way)
        return self._one_answer(way[0], row[way[0]])

    def _one_answer(self, name: str, value) -> str:
        if value is None:
            raise Unusable(f"no answer: {name} is null")
        if isinstance(value, list | dict):
            raise Unusable(f"no answer: {name} is {_kind(value)}, not one answer")
        if isinstance(value, float):
            if not math.isfinite(value):
                raise Unusable(f"no answer: {name} is {value}")
            value = int(value) if value.is_integer() and abs(value) < 2**53 else value
        text = _text(str(value))
        if self.answer_pattern is not None:
            try:
                text = final_answers(text, self.answer_pattern)[-1]
            except NoAnswer:
                pass  # another source's answers stand alone
        if not text:
            raise Unusable(f"no answer: {name} is empty")
        return text

    def _images(self, source: Source, value) -> list[str]:
        if value is None or value in ("", []):
            return []
        return [self._image(source, one) for one in (value if isinstance(value, list) else [value])]

    def _image(self, source: Source, value) -> str:
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            # By content: equal images are one file, and a rerun writes the same.
            path = self.images / (hashlib.sha256(value["bytes"]).hexdigest()[:32] + _suffix(value["bytes"]))
            if not path.exists():
                self.images.mkdir(parents=True, exist_ok=True)
                path.write_bytes(value["bytes"])
            return str(path.resolve())
        name = value.get("path") if isinstance(value, dict) else value
        if not isinstance(name, str) or not name:
            raise Unusable(f"no image: {_kind(value)} instead of a path")
        path = Path(name) if os.path.isabs(name) else Path(source.name).parent / name
        if not path.is_file():
            raise Unusable(f"no image: {path} does not exist")
        return str(path.resolve())


_MAGIC = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp"}


def _suffix(data: bytes) -> str:
    return next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), "")


def _kind(value) -> str:
    return {list: "a list", dict: "an object", bool: "true or false", bytes: "bytes"}.get(type(value), "a number")


def _one_number(label: str) -> float | None:
    """5 for "5" and for "Level 5", as kimi.sampling.difficulty_key reads it."""
    found = re.findall(r"-?\d+(?:\.\d+)?", label)
    return float(found[0]) if len(found) == 1 else None


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\ufeff]")
_LINE_END = re.compile(r"[ \t\u00a0]*\r?\n|\r")


def _text(value: str) -> str:
    """One form of Unicode (NFC: NFKC would make x² of x2), of line ends, without control characters."""
    value = unicodedata.normalize("NFC", value.encode("utf-8", "replace").decode())
    return _CONTROL.sub("", _LINE_END.sub("\n", value)).strip()


def normalised(sources: list[Source], normalise: Normaliser) -> Iterator[tuple[dict, str | None]]:
    """All rows of all sources in their order, as Normaliser gives them."""
    names = normalise.mapping.names()
    for source in sources:
        for number, row, problem in source.rows(names):
            yield normalise(source, number, row, problem)
