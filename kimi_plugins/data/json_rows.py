"""Rows of JSON files with exact numbers and the number of every bad row."""

import codecs
import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

from kimi_plugins.data.one_object import rows_within
from kimi_plugins.data.shards import Unreadable

NOT_UTF8 = "not UTF-8; convert the file (iconv -f latin1 -t utf-8, for example)"
CHUNK = 1 << 15  # bytes; small, as a JSONDecodeError counts all lines before it
LITERAL = 5  # characters of the longest literal, false
_SPACE = re.compile(r"[ \t\r\n]*")
UNDECODED = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of bytes that are not UTF-8


class Number(float):
    """A JSON number with a fraction or an exponent; str() returns it as it is written in the file."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "Number":
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple:
        return Number, (self.text,)


Found = tuple[int, Any, str | None]  # number of the row, value, problem


class Decoder:
    """Decodes JSON values with exact numbers, and refuses objects with a repeated key."""

    def __init__(self) -> None:
        self._repeated: str | None = None
        self._decode = json.JSONDecoder(parse_float=Number, object_pairs_hook=self._object).raw_decode

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            keys = [key for key, _ in pairs]
            self._repeated = next(key for key in value if keys.count(key) > 1)
        return value

    def __call__(self, text: str, start: int) -> tuple[Any, int, str | None]:
        """(value, where it ends, problem).

        Raises:
            json.JSONDecodeError: not JSON, perhaps because the text ends too early.
            ValueError, RecursionError: a number of too many digits; too many brackets within one another.
        """
        self._repeated = None
        value, end = self._decode(text, start)
        if self._repeated is not None:
            return None, end, f"not valid JSON (the key {self._repeated!r} appears twice); correct it"
        return value, end, None


def _complete_values(text: str, decode: Decoder) -> Iterator[tuple[int, int, Any, str | None]]:
    """(start, stop, value, problem) of the rows of `text`, up to one that its end cuts off."""
    at, end = 0, len(text.rstrip())
    while (start := end_of_space(text, at)) < end:
        problem: str | None
        try:
            value, at, problem = decode(text, start)
        except (ValueError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError) and (error.pos >= end or _is_cut(error, text, start, end)):
                return
            value, problem = None, f"not valid JSON ({reason_of(error)}); correct it"
            at = text.find("\n", start)
            at = end if at < 0 else at
        if UNDECODED.search(text, start, at):
            value, problem = None, NOT_UTF8
        yield start, at, value, problem


def _is_cut(error: json.JSONDecodeError, text: str, start: int, end: int) -> bool:
    """Whether the file ends within a string or literal of its last row: all other rows have a newline behind them."""
    return "\n" not in text[start:] and (error.msg.startswith("Unterminated") or error.pos >= end - LITERAL)


def end_of_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def reason_of(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "too many brackets within one another"
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "a number of too many digits"


def _json_lines(path: str, file: BinaryIO) -> Iterator[Found]:
    """Rows of JSON lines; rows that span lines or share one are taken too.

    Raises:
        Unreadable: the file ends in the middle of a row.
    """
    decode = Decoder()
    chunk = (file.read(CHUNK) + file.readline()).removeprefix(codecs.BOM_UTF8)
    text, number, size = "", 1, CHUNK  # text: what is not consumed yet; number: the line it starts on
    ends_with_newline = True
    while chunk:
        ends_with_newline = chunk.endswith(b"\n")
        text += chunk.decode(errors="surrogateescape")
        at = done = 0
        for start, stop, value, problem in _complete_values(text, decode):
            number += text.count("\n", at, start)
            yield number, value, problem
            at, done = start, stop
        number += text.count("\n", at, done)
        text = text[done:]
        # A row longer than a chunk is read again with ever more of the file: double the step to stay linear.
        size = 2 * size if text.strip() else CHUNK
        chunk = file.read(size) + file.readline()
    if text.strip():
        number += text.count("\n", 0, end_of_space(text, 0))
        if not ends_with_newline:
            raise Unreadable(f"{path}: ends in the middle of row {number}; download it again")
        yield number, None, NOT_UTF8 if UNDECODED.search(text) else "not valid JSON (it ends too early); correct it"


def _json_array(path: str, file: BinaryIO) -> Iterator[Found]:
    """Elements of a JSON array, one at a time.

    Raises:
        Unreadable: it is not valid JSON; behind an error there is no telling where the next element starts.
    """
    decode, incremental = Decoder(), codecs.getincrementaldecoder("utf-8")("surrogateescape")
    text, more, size = "", True, CHUNK
    while "[" not in text:
        text += incremental.decode(file.read(CHUNK))
    at, position, expected = text.index("[") + 1, 0, "element"
    while True:
        at = end_of_space(text, at)
        mark = text[at : at + 1]
        if mark == "]" and not (expected == "element" and position):
            if text[at + 1 :].strip() or file.read(CHUNK).strip():
                raise Unreadable(f"{path}: goes on after the end of its array; correct it")
            return
        if mark and expected == "comma":
            if mark != ",":
                raise Unreadable(f"{path}: not valid JSON after row {position} (no comma); correct it")
            at, expected = at + 1, "element"
            continue
        if mark:
            try:
                value, end, problem = decode(text, at)
            except (ValueError, RecursionError) as error:
                if not (more and isinstance(error, json.JSONDecodeError)) or _hopeless(error, text):
                    if isinstance(error, json.JSONDecodeError) and error.pos >= len(text.rstrip()):
                        break
                    raise Unreadable(
                        f"{path}: not valid JSON after row {position} ({reason_of(error)}); correct it"
                    ) from error
            else:
                if end < len(text) or not more:  # else a number may go on in the next chunk
                    position += 1
                    if UNDECODED.search(text, at, end):
                        value, problem = None, NOT_UTF8
                    yield position, value, problem
                    at, expected, size = end, "comma", CHUNK
                    continue
        if not more:
            break
        data = file.read(size)
        size, more = 2 * size, bool(data)
        text, at = text[at:] + incremental.decode(data, final=not data), 0
    raise Unreadable(f"{path}: ends in the middle, after row {position}; download it again")


def _hopeless(error: json.JSONDecodeError, text: str) -> bool:
    """Whether more text cannot make it valid: the error lies well before the end, and no string is open there."""
    return error.pos < len(text) - 16 and not error.msg.startswith(("Unterminated", "Invalid"))


def json_rows(path: str, file: BinaryIO, lines: bool, split: str = "train") -> Iterator[Found]:
    """Rows of JSON lines, of an array, or of one object of rows.

    lines: whether the file's name says JSON lines. split: of an object that holds several.
    """
    start = file.read(CHUNK)
    while not start.removeprefix(codecs.BOM_UTF8).strip() and (data := file.read(CHUNK)):
        start += data
    array = start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    if array and lines:
        start += file.readline() if not start.endswith(b"\n") else b""
        array = not _is_array_rows(start)
    whole = _Rejoined(start, file)
    if array:
        yield from _json_array(path, whole)  # type: ignore[arg-type]
        return
    rows = _json_lines(path, whole)  # type: ignore[arg-type]
    first, second = next(rows, None), next(rows, None)
    if (
        not lines
        and first is not None
        and second is None
        and (within := rows_within(path, first[1], split)) is not None
    ):
        yield from ((number, value, None) for number, value in enumerate(within, 1))
        return
    yield from chain((row for row in (first, second) if row is not None), rows)


def _is_array_rows(start: bytes) -> bool:
    """Whether the first two lines are arrays each: rows, not parts of one array."""
    first, *rest = start.decode(errors="surrogateescape").removeprefix("\ufeff").strip().split("\n", 1)
    try:
        return isinstance(json.loads(first), list) and bool(rest) and rest[0].lstrip().startswith("[")
    except (ValueError, RecursionError):
        return False


class _Rejoined:
    """A file of which the start has been read already."""

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self._start, self._file = start, file

    def read(self, size: int) -> bytes:
        if not self._start:
            return self._file.read(size)
        data, self._start = self._start[:size], self._start[size:]
        return data

    def readline(self) -> bytes:
        if not self._start:
            return self._file.readline()
        line, newline, self._start = self._start.partition(b"\n")
        return line + newline if newline else line + self._file.readline()
