"""The inputs of `curate`: data sets row by row, under the names the stages know.

A prompt is a dict with question and answer (text), file and row (where it was read), source, and where there is one
domain, discipline, difficulty (a number; given_difficulty is a label without one), image (paths) and choices. Rows
are numbered as in data/containers.py.
"""

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from kimi_plugins.data import containers
from kimi_plugins.data.containers import Row, has_column
from kimi_plugins.data.known import COLUMNS, LOOKED_AT, UnknownShape, named, shape_of
from kimi_plugins.data.shapes import Shape
from kimi_plugins.data.shards import COMPRESSED, kind_of, shards, source_kind
from kimi_plugins.data.store import LIMITS, Store, folder_of, stored
from kimi_plugins.data.values import BadRow

LOOKED_AT_FOR_NAMES = 1000  # rows of an input that are looked at for the mapped columns
ROLES = {
    "question": "question",
    "answer": "answer",
    "source": "source",
    "domain": "domain",
    "discipline": "discipline",
    "difficulty": "difficulty",
    "image": "images",
    "choices": "choices",
}


@dataclass(frozen=True)
class Mapping:
    """Which columns of the inputs are which of ROLES: alternatives, each of one or more columns to be joined."""

    columns: dict[str, tuple[tuple[str, ...], ...]]

    @classmethod
    def parse(cls, texts: list[str]) -> "Mapping":
        """From `question=problem`, `question=Body+Question`; several for one column are tried in turn.

        Raises:
            ValueError: it is not of this form, or names no column of ROLES.
        """
        columns: dict[str, list[tuple[str, ...]]] = {name: [] for name in ROLES}
        for text in texts:
            name, separator, value = text.partition("=")
            if not separator or not all(value.split("+")):
                raise ValueError(f"--map {text}: write COLUMN=THEIRS, as question=problem or question=Body+Question")
            if name not in ROLES:
                raise ValueError(f"--map {text}: there is no column {name!r}; known are {', '.join(ROLES)}")
            if name != "question" and "+" in value:
                raise ValueError(f"--map {text}: only the columns of a question can be joined")
            columns[name].append(tuple(value.split("+")) if name == "question" else (value,))
        return cls({name: tuple(given) for name, given in columns.items()})

    def names(self) -> list[str]:
        """All columns that are mapped."""
        return list(dict.fromkeys(name for ways in self.columns.values() for way in ways for name in way))

    def applied(self, shape: Shape, rows: list[Any] = []) -> Shape:  # noqa: B006 – not changed
        """The shape with the mapped columns first.

        rows: of the data set; where they have the columns mapped to the question, nothing else is put before it.
        """
        changed: dict[str, Any] = {}
        for role, field in ROLES.items():
            if given := self.columns[role]:
                ways = given if role == "question" else tuple(way[0] for way in given)
                changed[field] = (*ways, *getattr(shape, field))
        if any(all(has_column(row, name) for name in way) for row in rows for way in self.columns["question"]):
            changed["context"] = ()
        if self.columns["choices"]:
            changed["wrong"] = ()
        return replace(shape, **changed)


@dataclass(frozen=True)
class Source:
    """name: of a file, directory, glob, saved data set, or NAME[:CONFIG] on the hub. format: of data/known.py."""

    name: str
    split: str
    format: str = "auto"

    def kind(self) -> str:
        """files, saved or hub.

        Raises:
            ValueError: a file or directory that cannot be read.
        """
        kind = source_kind(self.name)
        if kind == "files":
            self.files()
        return kind

    def files(self) -> list[str]:
        """Its files; none of a saved data set or of one on the hub."""
        if source_kind(self.name) != "files":
            return []
        return shards(self.name, self.split)

    def identity(self) -> list:
        """Changes when the files do; JSON."""
        found = []
        for path in self.files():
            status = os.stat(path)
            found.append([os.path.abspath(path), status.st_size, status.st_mtime_ns])
        return [os.path.abspath(self.name) if found else self.name, self.split, self.format, found]

    def label(self) -> str:
        """What its prompts' source is called if no column says it."""
        stem = Path(self.name).name if self.kind() != "hub" else self.name
        while kind_of(stem) is not None or stem.endswith(COMPRESSED):
            stem = os.path.splitext(stem)[0]
        return stem

    def rows(self) -> Iterator[Row]:
        """All rows.

        Raises:
            OSError, ValueError: it cannot be read as a whole.
        """
        return containers.rows(self.name, self.split)

    def shaped(self, mapping: Mapping, *, answers: bool = True) -> tuple[Shape, Iterator[Row]]:
        """The shape with the mapped columns, and all rows.

        Args:
            answers: whether answers are needed.

        Raises:
            UnknownShape: no column for question or answer, with the columns there are.
            OSError, ValueError: it cannot be read as a whole.
        """
        if self.format == "auto":
            try:
                shape, rows = shape_of(self.rows(), self.name)
            except UnknownShape:
                if answers and not (mapping.columns["question"] or mapping.columns["answer"]):
                    raise
                shape, rows = COLUMNS, self.rows()
        else:
            shape, rows = named(self.format), self.rows()
        first = list(islice(rows, LOOKED_AT))
        objects = [row.value for row in first if isinstance(row.value, dict)]
        shape = mapping.applied(shape if answers else replace(shape, answer=()), objects)
        return shape_of(chain(first, rows), self.name, shape)


class UnknownColumn(ValueError):
    """A column that no input has; the message names those there are."""


def check_columns(inputs: list[Source], evals: list[Source], mapping: Mapping) -> list[str]:
    """Look at the first rows of every input and evaluation set; the latter need no answer.

    Returns:
        A line on each, naming its shape and columns.

    Raises:
        UnknownColumn: one has no question or no answer, or none has a column that was mapped.
        OSError, ValueError: one cannot be read.
    """
    lines: list[str] = []
    missing, known = set(mapping.names()), dict[str, None]()
    for source in (*inputs, *evals):
        try:
            shape, rows = source.shaped(mapping, answers=source in inputs)
        except UnknownShape as error:
            raise UnknownColumn(f"{error}; name one with --map question=… or answer=…, or --format") from error
        described = None
        for row in islice(rows, LOOKED_AT_FOR_NAMES):
            if row.problem is None and isinstance(row.value, list | dict):
                described = described or shape.described(row.value)
            if isinstance(row.value, dict):
                known |= dict.fromkeys(row.value)
                missing -= {name for name in missing if has_column(row.value, name)}
        lines.append(f"{source.name}: {described or 'no rows'}")
    if known and missing:
        raise UnknownColumn(
            f"--map: no input has the column {', '.join(sorted(missing))}; there are {', '.join(known)}"
        )
    return lines


# Normalising


@dataclass(frozen=True)
class Normaliser:
    """Makes prompts of rows.

    mapping: of columns. answer_pattern: as rewards.extraction's; what it finds in a reference answer is the answer,
    where it finds nothing the whole is. images: directory in which images are put.
    """

    mapping: Mapping
    answer_pattern: str | None
    images: Path

    def __call__(self, row: Row, shape: Shape, source: str, *, answers: bool = True) -> tuple[dict, str | None]:
        """The prompt and None, or what is known of the row and why it is rejected.

        Args:
            shape: of the data set. source: what its prompts' source is called if no column says it.
            answers: whether more than the question is needed.
        """
        prompt: dict[str, Any] = {"file": row.file, "row": row.number}
        if row.problem is not None:
            return prompt, f"unreadable: {row.problem}"
        if not isinstance(row.value, dict | list):
            return prompt, f"unreadable: {type(row.value).__name__} instead of an object"
        try:
            prompt["source"] = source
            prompt["question"] = _text(shape.question_text(row.value))
            if answers:
                self._fill(prompt, shape, row)
        except BadRow as error:
            reason = str(error)
            return prompt, reason if reason.startswith("no ") else f"unusable: {reason}"
        return prompt, None

    def _fill(self, prompt: dict[str, Any], shape: Shape, row: Row) -> None:
        found = shape.prompt(row.value)
        prompt["source"] = found.source or prompt["source"]
        prompt["question"] = _text(found.question())
        prompt["answer"] = _text(found.answer)
        if not prompt["answer"]:
            raise BadRow("no answer: it is empty")
        for column, label in (("domain", found.domain), ("discipline", found.discipline)):
            if label:
                prompt[column] = label
        if found.difficulty is not None and not isinstance(found.difficulty, list | dict):
            label = str(found.difficulty).strip()
            if (number := _one_number(label)) is None:
                prompt["given_difficulty"] = label
            else:
                prompt["difficulty"] = number
        if found.choices:
            prompt["choices"] = found.choices
        if found.images:
            try:
                prompt["image"] = stored(found.images, folder_of(row), Store(self.images), LIMITS, allow_urls=False)
            except BadRow as error:
                raise BadRow(f"no image: {error}") from error


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


def normalised(
    sources: list[Source], normalise: Normaliser, *, answers: bool = True
) -> Iterator[tuple[dict, str | None]]:
    """All rows of all sources in their order, as Normaliser gives them.

    Raises:
        OSError, ValueError: one cannot be read as a whole.
    """
    for source in sources:
        shape, rows = source.shaped(normalise.mapping, answers=answers)
        shape, name = replace(shape, pattern=normalise.answer_pattern), source.label()
        for row in rows:
            yield normalise(row, shape, name, answers=answers)
