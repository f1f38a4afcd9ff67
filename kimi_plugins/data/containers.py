"""Rows of any data set, as every command and the trainer read them.

A data set is a file (JSON lines, JSON, CSV, TSV, Parquet, Arrow, a webdataset tar; plain or compressed by gzip or
Zstandard), a directory or a glob of such shards, a directory saved by `datasets`, or a name on the hub. All are read
row by row; the memory taken does not grow with the data set, except for JSON files that hold one object of rows.

Values are those of the file: whole numbers of any size are exact, and a number with a fraction keeps its text, see
`Number`. No type is inferred from other rows.
"""

import bz2
import codecs
import csv
import glob
import gzip
import io
import json
import lzma
import os
import re
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

NOT_UTF8 = "not UTF-8; convert the file (iconv -f latin1 -t utf-8, for example)"
CHUNK = 1 << 15  # bytes; small, as a JSONDecodeError counts all lines before it
FEW, MANY = 8, 1024  # rows of a batch of a table with binary columns (images), and of one without
LITERAL = 5  # characters of the longest literal, false
_SPACE = re.compile(r"[ \t\r\n]*")
_UNDECODED = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of bytes that are not UTF-8
_BROKEN = (OSError, EOFError, UnicodeDecodeError, zlib.error, lzma.LZMAError)  # what reading a damaged file raises


class Row(NamedTuple):
    """A row of a data set.

    file: the file or shard, or the data set's name. number: the line on which the row starts, from 1; in JSON arrays,
    Parquet, Arrow, tar and saved data sets its position in the file, from 1. problem: why there is no value, or None.
    """

    file: str
    number: int
    value: Any
    problem: str | None


class Unreadable(ValueError):
    """A data set that cannot be read as a whole; the message names file, reason and fix."""


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


# Which files a name stands for

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".tar": "tar",
}
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
KNOWN = "JSONL, NDJSON, JSON, CSV, TSV, Parquet, Arrow or webdataset tar, each also as .gz or .zst"
_DESCRIPTIONS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
_SHARD = re.compile(r"(.*?)-(\d{2,6})-of-(\d{2,6})(\..*)$")
_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


def kind_of(name: str) -> str | None:
    """The kind of container a file's name stands for, one of the values of SUFFIXES, or None."""
    stem, suffix = os.path.splitext(name.lower())
    if suffix == ".tgz":
        return "tar"
    if suffix in COMPRESSED:
        suffix = os.path.splitext(stem)[1]
    return SUFFIXES.get(suffix)


def is_saved(name: str) -> bool:
    """Whether it is a directory written by `save_to_disk` of `datasets`."""
    return any(os.path.exists(os.path.join(name, file)) for file in ("state.json", "dataset_dict.json"))


def source_kind(name: str) -> str:
    """What a data set's name stands for: files, saved or hub.

    Raises:
        Unreadable: a path that does not exist or holds no data.
    """
    if os.path.isdir(name) and is_saved(name):
        return "saved"
    if os.path.exists(name) or glob.has_magic(name) or kind_of(name) is not None:
        return "files"
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise Unreadable(f"{name}: no such file; correct the path")
    return "hub"


def shards(name: str, split: str = "train") -> list[str]:
    """The files of a file's, directory's or glob's name, in order; of a directory those of the split.

    Raises:
        Unreadable: there are none, they are of several kinds, one of the numbered shards is missing.
    """
    if os.path.isdir(name):
        found = _files_below(name, split)
    elif os.path.exists(name):
        found = [name]
    elif glob.has_magic(name):
        found = [path for path in sorted(glob.glob(name, recursive=True)) if os.path.isfile(path)]
        if not found:
            raise Unreadable(f"{name}: no such file; correct the pattern")
    else:
        raise Unreadable(f"{name}: no such file; correct the path")
    kinds = dict.fromkeys(kind_of(path) for path in found)
    if len(kinds) > 1:
        endings = ", ".join(dict.fromkeys("".join(Path(path).suffixes[-2:]) or path for path in found))
        raise Unreadable(f"{name}: holds files of several kinds ({endings}); name those of one, as '{name}/*.parquet'")
    _check_numbered(found)
    return found


def _files_below(directory: str, split: str) -> list[str]:
    found = [
        str(path)
        for path in sorted(Path(directory).rglob("*"))
        if path.is_file()
        and kind_of(path.name) is not None
        and path.name not in _DESCRIPTIONS
        and not any(part.startswith((".", "_")) for part in path.relative_to(directory).parts)
    ]
    if not found:
        raise Unreadable(f"{directory}: a directory without data files; give one with {KNOWN}")
    by_split: dict[str | None, list[str]] = {}
    for path in found:
        words = re.split(r"[^a-z]+", os.path.relpath(path, directory).lower())
        by_split.setdefault(next((_SPLITS[word] for word in words if word in _SPLITS), None), []).append(path)
    named = [one for one in by_split if one is not None]
    if not named:
        return found
    wanted = _SPLITS.get(split, split)
    if wanted not in by_split:
        raise Unreadable(f"{directory}: no files of split {split!r}; it has {', '.join(named)}")
    return by_split[wanted]


def _check_numbered(paths: list[str]) -> None:
    """Raise Unreadable if shards named x-00000-of-00003 are not all there."""
    groups: dict[tuple[str, str, str], set[int]] = {}
    for path in paths:
        if match := _SHARD.fullmatch(path):
            groups.setdefault((match[1], match[3], match[4]), set()).add(int(match[2]))
    for (stem, total, suffix), numbers in groups.items():
        if len(paths) > 1 and (missing := sorted(set(range(int(total))) - numbers)):
            width = len(total)
            first = f"{stem}-{missing[0]:0{width}}-of-{total}{suffix}"
            raise Unreadable(f"{first}: {len(missing)} of {int(total)} shards missing; download them")


# Opening files

_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"), (b"\xfd7zXZ\x00", "xz"))


def _checked_kind(path: str) -> str:
    """The kind of a file by its name and its first bytes.

    Raises:
        Unreadable: it is empty of data, of an unknown kind, or not what its name says.
    """
    if not os.path.isfile(path):
        raise Unreadable(f"{path}: not a file; give {KNOWN}")
    with opened(path) as file:
        start = file.read(512)
    kind = kind_of(path)
    text = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        raise Unreadable(f"{path}: a Git LFS pointer, not the data; download it (git lfs pull)")
    if kind in ("json", "jsonl", "csv", "tsv", "parquet", None) and text.startswith(
        (b"<!doctype", b"<html", b"<?xml")
    ):
        raise Unreadable(f"{path}: a web page, not data; download the file itself")
    found = "parquet" if start.startswith(b"PAR1") else "arrow" if start.startswith(b"ARROW1") else None
    if start[257:262] == b"ustar":
        found = "tar"
    if kind is None and found is None:
        found = "jsonl" if text.startswith(b"{") else "json" if text.startswith(b"[") else None
        if found is None:
            raise Unreadable(f"{path}: unknown format; convert it to {KNOWN}")
    if found is not None and kind not in (None, found):
        raise Unreadable(f"{path}: the content is {found}, not {kind}; rename it")
    if kind == "parquet" and found is None:
        raise Unreadable(f"{path}: not a Parquet file; download it again")
    return kind or found or ""


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The content of a file, decompressed as its first bytes ask for, whatever its name."""
    with open(path, "rb") as raw:
        start = raw.read(8)
        raw.seek(0)
        method = next((name for magic, name in _MAGIC if start.startswith(magic)), None)
        if method is None:
            yield raw
        elif method == "zstd":
            import pyarrow

            with pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd") as stream:
                yield io.BufferedReader(stream, CHUNK)
        else:
            openers: dict[str, Callable[[BinaryIO], Any]] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
            with openers[method](raw) as stream:
                yield stream


@contextmanager
def _seekable(path: str) -> Iterator[Any]:
    """The path itself, or that of a temporary decompressed copy."""
    with opened(path) as stream:
        if isinstance(stream, io.BufferedReader) and getattr(stream, "name", None) == path:
            yield path
            return
        with tempfile.NamedTemporaryFile(suffix=os.path.splitext(os.path.splitext(path)[0])[1]) as copy:
            while data := stream.read(1 << 20):
                copy.write(data)
            copy.flush()
            yield copy.name


# JSON

Found = tuple[int, Any, str | None]  # number of the row, value, problem


class _Decoder:
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


def _complete_values(text: str, decode: _Decoder) -> Iterator[tuple[int, int, Any, str | None]]:
    """(start, stop, value, problem) of the rows of `text`, up to one that its end cuts off."""
    at, end = 0, len(text.rstrip())
    while (start := _end_of_space(text, at)) < end:
        problem: str | None
        try:
            value, at, problem = decode(text, start)
        except (ValueError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError) and (error.pos >= end or _is_cut(error, text, start, end)):
                return
            value, problem = None, f"not valid JSON ({_reason(error)}); correct it"
            at = text.find("\n", start)
            at = end if at < 0 else at
        if _UNDECODED.search(text, start, at):
            value, problem = None, NOT_UTF8
        yield start, at, value, problem


def _is_cut(error: json.JSONDecodeError, text: str, start: int, end: int) -> bool:
    """Whether the file ends within a string or literal of its last row: all other rows have a newline behind them."""
    return "\n" not in text[start:] and (error.msg.startswith("Unterminated") or error.pos >= end - LITERAL)


def _end_of_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _reason(error: Exception) -> str:
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
    decode = _Decoder()
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
        number += text.count("\n", 0, _end_of_space(text, 0))
        if not ends_with_newline:
            raise Unreadable(f"{path}: ends in the middle of row {number}; download it again")
        yield number, None, NOT_UTF8 if _UNDECODED.search(text) else "not valid JSON (it ends too early); correct it"


def _json_array(path: str, file: BinaryIO) -> Iterator[Found]:
    """Elements of a JSON array, one at a time.

    Raises:
        Unreadable: it is not valid JSON; behind an error there is no telling where the next element starts.
    """
    decode, incremental = _Decoder(), codecs.getincrementaldecoder("utf-8")("surrogateescape")
    text, more, size = "", True, CHUNK
    while "[" not in text:
        text += incremental.decode(file.read(CHUNK))
    at, position, expected = text.index("[") + 1, 0, "element"
    while True:
        at = _end_of_space(text, at)
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
                        f"{path}: not valid JSON after row {position} ({_reason(error)}); correct it"
                    ) from error
            else:
                if end < len(text) or not more:  # else a number may go on in the next chunk
                    position += 1
                    if _UNDECODED.search(text, at, end):
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


def _json(path: str, file: BinaryIO, lines: bool) -> Iterator[Found]:
    """Rows of JSON lines, of an array, or of one object of rows; lines: whether the file's name says JSON lines."""
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
    if not lines and first is not None and second is None and (within := _rows_within(first[1])) is not None:
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


def _rows_within(value: Any) -> list | None:
    """The rows of an object that is the whole of a file: {"data": [rows]} or {"id": row, …}; None: it is a row."""
    if not isinstance(value, dict):
        return None
    lists = [item for item in value.values() if isinstance(item, list) and item and all(map(_is_object, item))]
    if len(lists) == 1 and not any(map(_is_object, value.values())) and {"data", "rows", "train"} & set(value):
        return lists[0]
    if len(value) > 1 and all(map(_is_object, value.values())):
        return list(value.values())
    return None


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


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


# CSV


def _csv(path: str, file: BinaryIO, delimiter: str) -> Iterator[Found]:
    csv.field_size_limit(sys.maxsize)
    lines = (
        line.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape") for number, line in enumerate(file)
    )
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise Unreadable(f"{path}: ends in the middle of a row; download it again") from error
            yield reader.line_num, None, f"not valid CSV ({error}); correct it"
            continue
        if not fields:
            continue
        if header is None:
            header = fields
            if repeated := [name for name in header if header.count(name) > 1]:
                raise Unreadable(f"{path}: two columns are called {repeated[0]!r}; rename one")
        elif any(_UNDECODED.search(field) for field in fields):
            yield reader.line_num, None, NOT_UTF8
        elif len(fields) != len(header):
            more = "more" if len(fields) > len(header) else "fewer"
            yield reader.line_num, None, f"{more} fields than the header; quote commas"
        else:
            yield reader.line_num, dict(zip(header, fields, strict=True)), None


# Tables


def _has_binary(kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind) or pyarrow.types.is_binary_view(kind):
        return True
    return any(_has_binary(kind.field(at).type) for at in range(kind.num_fields))


def _batch_rows(schema: Any) -> int:
    return FEW if any(_has_binary(field.type) for field in schema) else MANY


def chosen(names: list[str], columns: Iterable[str] | None) -> list[str]:
    """Of a table's columns those that `columns`, of which some may be dotted, need; all if it is None."""
    if columns is None:
        return names
    wanted = set(columns) | {column.partition(".")[0] for column in columns}
    return [name for name in names if name in wanted]


def _table_rows(path: str, batches: Iterable, columns: list[str]) -> Iterator[Found]:
    import pyarrow

    number = 0
    try:
        for batch in batches:
            part = batch.select(columns)
            for start in range(0, part.num_rows, step := _batch_rows(part.schema)):
                for value, problem in _values(part.slice(start, step)):
                    number += 1
                    yield number, value, problem
    except (pyarrow.ArrowException, *_BROKEN) as error:
        raise Unreadable(
            f"{path}: cannot be read after row {number} ({_one_line(error)}); download it again"
        ) from error


def _values(batch: Any) -> list[tuple[Any, str | None]]:
    """The batch's rows; those whose text is not UTF-8 with that problem."""
    try:
        return [(value, None) for value in batch.to_pylist()]
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [(None, "not UTF-8; write the table again from text")]
        return [found for at in range(batch.num_rows) for found in _values(batch.slice(at, 1))]


def _parquet(path: str, columns: Iterable[str] | None) -> Iterator[Found]:
    import pyarrow.parquet

    with _seekable(path) as name, open(name, "rb") as raw:
        try:
            # Read page by page: a row group of images may be larger than the memory.
            file = pyarrow.parquet.ParquetFile(raw, pre_buffer=False, buffer_size=1 << 18)
        except (pyarrow.ArrowException, OSError) as error:
            raise Unreadable(f"{path}: not a whole Parquet file ({_one_line(error)}); download it again") from error
        schema = file.schema_arrow
        names = chosen(schema.names, columns)
        size = _batch_rows([schema.field(name) for name in names])
        batches = file.iter_batches(batch_size=size, columns=names, use_threads=False)
        yield from _table_rows(path, batches, names)


def _arrow(path: str, columns: Iterable[str] | None) -> Iterator[Found]:
    import pyarrow

    with _seekable(path) as name, pyarrow.memory_map(name) as source:
        try:
            try:
                reader = pyarrow.ipc.open_stream(source)
                batches: Iterable = iter(reader)
            except pyarrow.ArrowInvalid:
                source.seek(0)
                reader = pyarrow.ipc.open_file(source)
                batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        except (pyarrow.ArrowException, OSError) as error:
            raise Unreadable(f"{path}: not a whole Arrow file ({_one_line(error)}); download it again") from error
        yield from _table_rows(path, map(_validated, batches), chosen(reader.schema.names, columns))


def _validated(batch: Any) -> Any:
    """The batch, whose offsets lie within its buffers: nothing else says so of a damaged Arrow file.

    Raises:
        pyarrow.ArrowInvalid: they do not. Text that is not UTF-8 is its row's problem.
    """
    import pyarrow

    try:
        batch.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
    return batch


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else f"{text[:157]}…"


# webdataset

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def _tar(path: str, file: BinaryIO) -> Iterator[Found]:
    """Samples of a webdataset: neighbouring files whose names differ in the extension only are one row.

    The keys of a .json file are columns, a .txt file is the column txt; images are the column images.
    """
    number, key, members = 0, None, {}
    try:
        with tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                if not member.isfile() or os.path.basename(member.name).startswith("."):
                    continue
                directory, base = os.path.split(member.name)
                stem, _, extension = base.partition(".")
                if key not in (None, (directory, stem)):
                    number += 1
                    yield number, *_sample(members)
                    members = {}
                key = (directory, stem)
                content = archive.extractfile(member)
                members[extension.lower()] = b"" if content is None else content.read()
    except (tarfile.TarError, *_BROKEN) as error:
        raise Unreadable(
            f"{path}: cannot be read after row {number} ({_one_line(error)}); download it again"
        ) from error
    if key is not None:
        yield number + 1, *_sample(members)


def _sample(members: dict[str, bytes]) -> tuple[dict[str, Any] | None, str | None]:
    row: dict[str, Any] = {}
    images = []
    for extension, content in members.items():
        suffix = "." + extension.rpartition(".")[2]
        if suffix in IMAGES:
            images.append({"bytes": content, "path": extension})
            continue
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return None, f"the member .{extension} is not UTF-8; convert it"
        if suffix == ".json":
            try:
                value, end, problem = _Decoder()(text, _end_of_space(text, 0))
            except (ValueError, RecursionError) as error:
                return None, f"the member .{extension} is not valid JSON ({_reason(error)}); correct it"
            if problem is not None:
                return None, problem
            row |= value if isinstance(value, dict) else {extension: value}
        else:
            row[extension] = text.strip()
    if images:
        if any(row.get(name) for name in ("image", "images")) and not _names_files(row):
            return None, "the sample has images as members and in its JSON; keep one"
        row.pop("image", None)
        row["images"] = images
    return row, None


def _names_files(row: dict[str, Any]) -> bool:
    """Whether the JSON of a sample only names the images that are its members."""
    value = row.get("image") or row.get("images")
    return all(isinstance(one, str) for one in (value if isinstance(value, list) else [value]))


# Reading


def file_rows(path: str, columns: Iterable[str] | None = None) -> Iterator[Row]:
    """The rows of one file.

    Args:
        columns: those needed, of which tables read no others; dotted names stand for the whole outer column.

    Raises:
        Unreadable: the file cannot be read as a whole, perhaps only when its rows have been read in part.
    """
    try:
        kind = _checked_kind(path)
        if kind in ("parquet", "arrow"):
            found = (_parquet if kind == "parquet" else _arrow)(path, columns)
            yield from (Row(path, *one) for one in found)
            return
        with opened(path) as file:
            readers: dict[str, Callable[[], Iterator[Found]]] = {
                "jsonl": lambda: _json(path, file, lines=True),
                "json": lambda: _json(path, file, lines=False),
                "csv": lambda: _csv(path, file, ","),
                "tsv": lambda: _csv(path, file, "\t"),
                "tar": lambda: _tar(path, file),
            }
            yield from (Row(path, *one) for one in readers[kind]())
    except _BROKEN as error:
        raise Unreadable(
            f"{path}: cannot be read ({_one_line(error)}); check the file or download it again"
        ) from error


def rows(name: str, split: str = "train", columns: Iterable[str] | None = None) -> Iterator[Row]:
    """The rows of a data set: of a file, a directory, a glob, a saved data set, or NAME or NAME:CONFIG on the hub.

    Args:
        split: of saved data sets, of the hub's, and of directories whose files' names say it.
        columns: as file_rows takes them.

    Raises:
        Unreadable: it cannot be read as a whole.
    """
    if source_kind(name) == "files":
        for path in shards(name, split):
            yield from file_rows(path, columns)
    else:
        yield from _dataset_rows(name, split, columns)


def _dataset_rows(name: str, split: str, columns: Iterable[str] | None) -> Iterator[Row]:
    """Rows of a saved data set or of the hub; images stay encoded, so that a broken one is that row's problem."""
    import datasets
    import pyarrow

    try:
        if source_kind(name) == "saved":
            data = datasets.load_from_disk(name)
            if isinstance(data, datasets.DatasetDict):
                if split not in data:
                    raise Unreadable(f"{name}: no split {split!r}; set the split to one of {', '.join(data)}")
                data = data[split]
        else:
            hub, _, config = name.partition(":")
            streaming = not datasets.config.HF_HUB_OFFLINE  # what is in the cache cannot be streamed
            data = datasets.load_dataset(hub, config or None, split=split, streaming=streaming)
        if data.column_names is not None:
            data = data.select_columns(chosen(data.column_names, columns))
        tables = data.with_format("arrow").iter(batch_size=FEW)
        first = next(tables, None)
    except Unreadable:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise Unreadable(f"{name}: cannot be loaded ({_one_line(error)}); correct the name") from error
    if first is None:
        return
    for number, value, problem in _table_rows(name, chain([first], tables), first.column_names):
        yield Row(name, number, value, problem)


def value_at(row: dict, column: str) -> Any:
    """The value of a column, which may be nested: of `reward_model.ground_truth` or `choices.0`; None if missing.

    What is nested may be JSON in a text.
    """
    if column in row:
        return row[column]
    if "." not in column:
        return None
    value: Any = row
    for part in column.split("."):
        value = _unpacked(value)
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _unpacked(value: Any) -> Any:
    """The object or list that a JSON text holds; any other value as it is."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value, parse_float=Number)
        except (ValueError, RecursionError):
            return value
    return value


def has_column(row: dict, column: str) -> bool:
    """Whether the row has the column, or the objects a dotted name leads through."""
    if column in row:
        return True
    outer, dot, _ = column.rpartition(".")
    if not dot:
        return False
    inside = _unpacked(value_at(row, outer))
    return value_at(row, column) is not None or (isinstance(inside, dict) and column.rpartition(".")[2] in inside)
