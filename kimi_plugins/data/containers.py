"""Rows of any data set, as every command and the trainer read them.

A data set is a file (JSON lines, JSON, CSV, TSV, Parquet, Arrow, a webdataset tar; plain or compressed by gzip or
Zstandard), a directory or a glob of such shards, a directory saved by `datasets`, or a name on the hub. All are read
row by row; the memory taken does not grow with the data set, except for JSON files that hold one object of rows.

Values are those of the file: whole numbers of any size are exact, and a number with a fraction keeps its text, see
`Number`. No type is inferred from other rows.
"""

import ast
import csv
import json
import lzma
import os
import re
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

from kimi_plugins.data.json_rows import NOT_UTF8, UNDECODED, Decoder, Found, Number, end_of_space, json_rows, reason_of
from kimi_plugins.data.shards import Unreadable, checked_kind, kind_of, one_line, opened, seekable, shards, source_kind

FEW, MANY = 8, 1024  # rows of a batch of a table with binary columns (images), and of one without
NAMED_ROWS = 3  # how many bad rows a problem names; the others are counted
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
            if len(header) == 1 and header[0].count(";"):
                raise Unreadable(f"{path}: fields are separated by ';'; write it with commas")
            if repeated := [name for name in header if header.count(name) > 1]:
                raise Unreadable(f"{path}: two columns are called {repeated[0]!r}; rename one")
        elif any(UNDECODED.search(field) for field in fields):
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
    """The table's columns that `columns`, some of which may be dotted, need; all if it is None."""
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
            f"{path}: cannot be read after row {number} ({one_line(error)}); download it again"
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

    from kimi_plugins.data import pages

    with seekable(path) as name, pyarrow.OSFile(name) as raw:
        try:
            # Read page by page: a row group of images may be larger than the memory. Not by a file of Python, whose
            # pages would be copied once more.
            file = pyarrow.parquet.ParquetFile(raw, pre_buffer=False, buffer_size=1 << 20)
        except (pyarrow.ArrowException, OSError) as error:
            raise Unreadable(f"{path}: not a whole Parquet file ({one_line(error)}); download it again") from error
        schema = file.schema_arrow
        names = chosen(schema.names, columns)
        size = _batch_rows([schema.field(name) for name in names])
        number = 0
        with open(name, "rb") as own:
            for group in range(file.num_row_groups):
                try:
                    large = pages.large_leaves(own, file, group, names)
                except pages.DAMAGED:
                    large = []  # Arrow says what is wrong
                if large:
                    found = _with_large(path, name, file, group, names, large)
                else:
                    batches = file.iter_batches(batch_size=size, row_groups=[group], columns=names, use_threads=False)
                    found = _table_rows(path, batches, names)
                before = number
                for at, value, problem in found:
                    number = before + at
                    yield number, value, problem


def _with_large(path: str, name: str, file: Any, group: int, names: list[str], large: list[int]) -> Iterator[Found]:
    """The rows of a row group whose leaves `large` are read one by one, and the others by Arrow."""
    import pyarrow

    from kimi_plugins.data import pages

    leaves = [file.schema.column(at).path for at in range(file.metadata.num_columns)]
    others = [leaf for at, leaf in enumerate(leaves) if at not in large and leaf.partition(".")[0] in names]
    batches = file.iter_batches(batch_size=FEW, row_groups=[group], columns=others, use_threads=False)
    rest: Iterator = chain.from_iterable(map(_values, batches))
    if not others:
        rest = (({}, None) for _ in range(file.metadata.row_group(group).num_rows))
    number = 0
    with ExitStack() as stack:
        files = [stack.enter_context(open(name, "rb")) for _ in large]
        columns = [
            (leaves[at].partition(".")[0], pages.leaf_rows(own, file, group, at))
            for own, at in zip(files, large, strict=True)
        ]
        try:
            for value, problem in rest:
                number += 1
                found = dict(value or {})
                for column, values in columns:
                    one = next(values)
                    found[column] = pages.merged(one, found[column]) if column in found else one
                yield number, {key: found[key] for key in names} if problem is None else None, problem
        except (pyarrow.ArrowException, StopIteration, *pages.DAMAGED, *_BROKEN) as error:
            raise Unreadable(
                f"{path}: cannot be read after row {number} ({one_line(error)}); download it again"
            ) from error


def _arrow(path: str, columns: Iterable[str] | None) -> Iterator[Found]:
    import pyarrow

    with seekable(path) as name, pyarrow.memory_map(name) as source:
        try:
            try:
                reader = pyarrow.ipc.open_stream(source)
                batches: Iterable = iter(reader)
            except pyarrow.ArrowInvalid:
                source.seek(0)
                reader = pyarrow.ipc.open_file(source)
                batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        except (pyarrow.ArrowException, OSError) as error:
            raise Unreadable(f"{path}: not a whole Arrow file ({one_line(error)}); download it again") from error
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
            f"{path}: cannot be read after row {number} ({one_line(error)}); download it again"
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
                value, end, problem = Decoder()(text, end_of_space(text, 0))
            except (ValueError, RecursionError) as error:
                return None, f"the member .{extension} is not valid JSON ({reason_of(error)}); correct it"
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


def file_rows(path: str, columns: Iterable[str] | None = None, split: str = "train") -> Iterator[Row]:
    """The rows of one file.

    Args:
        columns: those needed, of which tables read no others; dotted names stand for the whole outer column.
        split: of a JSON file that holds several.

    Raises:
        Unreadable: the file cannot be read as a whole, perhaps only when its rows have been read in part.
    """
    try:
        kind = checked_kind(path)
        if kind in ("parquet", "arrow"):
            found = (_parquet if kind == "parquet" else _arrow)(path, columns)
            yield from (Row(path, *one) for one in found)
            return
        with opened(path) as file:
            readers: dict[str, Callable[[], Iterator[Found]]] = {
                "jsonl": lambda: json_rows(path, file, lines=True),
                "json": lambda: json_rows(path, file, lines=False, split=split),
                "csv": lambda: _csv(path, file, ","),
                "tsv": lambda: _csv(path, file, "\t"),
                "tar": lambda: _tar(path, file),
            }
            yield from (Row(path, *one) for one in readers[kind]())
    except _BROKEN as error:
        raise Unreadable(f"{path}: cannot be read ({one_line(error)}); check the file or download it again") from error


def rows(name: str, split: str = "train", columns: Iterable[str] | None = None) -> Iterator[Row]:
    """The rows of a data set: of a file, a directory, a glob, a saved data set, or NAME or NAME:CONFIG on the hub.

    Args:
        split: of saved data sets, of the hub's, of directories whose files' names say it, and of JSON files that hold
            several.
        columns: as file_rows takes them.

    Raises:
        Unreadable: it cannot be read as a whole.
    """
    kind = source_kind(name)
    files = shards(name, split) if kind == "files" else _hub_json(name, split) if kind == "hub" else []
    for path in files:
        yield from file_rows(path, columns, split)
    if kind != "files" and not files:
        yield from _dataset_rows(name, split, columns)


_HUB_FILE = re.compile(r"hf://datasets/(?P<name>[^/@]+/[^/@]+)@(?P<revision>[^/]+)/(?P<path>.+)")


def _hub_json(name: str, split: str) -> list[str]:
    """The files of a hub's data set, downloaded, if all of the split are JSON; else none.

    `datasets` would infer types: dates of labels that look like dates, floats of whole numbers beyond 64 bits.
    """
    import datasets
    import huggingface_hub

    hub, _, config = name.partition(":")
    try:
        builder = datasets.load_dataset_builder(hub, config or None)
        given = [str(path) for path in (builder.config.data_files or {}).get(split, ())]
        places = [_HUB_FILE.fullmatch(path) for path in given]
        if not all(place and kind_of(place["path"]) in ("json", "jsonl") for place in places):
            return []
        return [
            huggingface_hub.hf_hub_download(
                place["name"], place["path"], revision=place["revision"], repo_type="dataset"
            )
            for place in places
            if place
        ]
    except (OSError, ValueError) as error:
        raise Unreadable(f"{name}: cannot be loaded ({one_line(error)}); correct the name") from error


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
        raise Unreadable(f"{name}: cannot be loaded ({one_line(error)}); correct the name") from error
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
    """The object or list that a text holds as JSON or as Python writes it; any other value as it is."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value, parse_float=Number)
        except (ValueError, RecursionError):
            pass
        try:  # SYNTHETIC-1 writes Python's form
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
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


def row_problems(option: str, name: str, bad: Mapping[str, Sequence[object]]) -> Iterator[str]:
    """A line for each problem with the rows that have it: the first NAMED_ROWS are named, the others counted.

    option: that names the data. name: of the data. bad: {problem: its rows}.
    """
    for problem, rows in bad.items():
        named = ", ".join(map(str, rows[:NAMED_ROWS]))
        more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
        yield f"{option}: {name} row{'s' if len(rows) > 1 else ''} {named}{more}: {problem}"
