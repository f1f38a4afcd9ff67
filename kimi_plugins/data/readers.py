"""Rows of data files, read as `datasets` would take them but with the number of every bad row.

A reader yields (row number, row, problem), the problem None for a good row. Rows are numbered by the line they start
on, from 1; in JSON arrays, Parquet and Arrow files by position. It raises OSError or ValueError when the file as a
whole cannot be read.
"""

import codecs
import csv
import json
import re
import sys
from collections.abc import Iterator

Rows = Iterator[tuple[int, object, str | None]]

NOT_UTF8 = "not UTF-8; convert the file (iconv -f latin1 -t utf-8, for example)"
CHUNK = 1 << 15  # bytes; small, as a JSONDecodeError counts all lines before it
_SPACE = re.compile(r"[ \t\r\n]*")


def _array(data: bytes) -> Rows:
    try:
        values = json.loads(data.decode())
    except UnicodeDecodeError as error:
        yield data.count(b"\n", 0, error.start) + 1, None, NOT_UTF8
    except json.JSONDecodeError as error:
        yield error.lineno, None, f"not valid JSON ({error.msg}); correct it"
    else:
        for number, value in enumerate(values, 1):
            yield number, value, None


def _complete_rows(text: str) -> Iterator[tuple[int, int, object, str | None]]:
    """(start, stop, row, problem) of the rows of `text`, up to one that its end cuts off."""
    decode, at, end = json.JSONDecoder().raw_decode, 0, len(text.rstrip())
    while (start := _SPACE.match(text, at).end()) < end:
        problem = None
        try:
            row, at = decode(text, start)
        except json.JSONDecodeError as error:
            if error.pos >= end:
                return
            row, problem = None, f"not valid JSON ({error.msg}); correct it"
            at = text.find("\n", start)
            at = end if at < 0 else at
        yield start, at, row, problem


def json_rows(path: str, columns: list[str]) -> Rows:
    """JSON lines, or an array; like pyarrow's reader it also takes rows that span lines or share one."""
    with open(path, "rb") as file:
        chunk = (file.read(CHUNK) + file.readline()).removeprefix(codecs.BOM_UTF8)
        if chunk.lstrip().startswith(b"["):
            yield from _array(chunk + file.read())
            return
        text, number, size = "", 1, CHUNK  # text: what is not consumed yet; number: the line it starts on
        while chunk:
            try:
                text += chunk.decode()
            except UnicodeDecodeError as error:
                yield number + text.count("\n") + chunk.count(b"\n", 0, error.start), None, NOT_UTF8
                text += chunk.decode(errors="replace")
            at = done = 0
            for start, stop, row, problem in _complete_rows(text):
                number += text.count("\n", at, start)
                yield number, row, problem
                at, done = start, stop
            number += text.count("\n", at, done)
            text = text[done:]
            # A row longer than a chunk is read again with ever more of the file: double the step to stay linear.
            size = 2 * size if text.strip() else CHUNK
            chunk = file.read(size) + file.readline()
        if text.strip():
            number += text.count("\n", 0, _SPACE.match(text).end())
            yield number, None, "not valid JSON (it ends too early); correct it"


def csv_rows(path: str, columns: list[str]) -> Rows:
    csv.field_size_limit(sys.maxsize)
    with open(path, "rb") as file:
        reader = csv.DictReader(line.decode("utf-8-sig" if not at else "utf-8") for at, line in enumerate(file))
        try:
            for row in reader:
                yield reader.line_num, row, "more fields than the header; quote commas" if None in row else None
        except UnicodeDecodeError:
            yield reader.line_num + 1, None, NOT_UTF8
        except csv.Error as error:
            yield reader.line_num, None, f"not valid CSV ({error}); correct it"


def _table_rows(batches, schema, columns: list[str]) -> Rows:
    number = 0
    names = [name for name in columns if name in schema.names]
    for batch in batches:
        for row in batch.select(names).to_pylist():
            number += 1
            yield number, row, None


def parquet_rows(path: str, columns: list[str]) -> Rows:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    names = [name for name in columns if name in file.schema_arrow.names]
    yield from _table_rows(file.iter_batches(columns=names), file.schema_arrow, columns)


def arrow_rows(path: str, columns: list[str]) -> Rows:
    import pyarrow

    with pyarrow.memory_map(path) as source:
        try:
            reader = pyarrow.ipc.open_stream(source)
            batches = iter(reader)
        except pyarrow.ArrowInvalid:
            reader = pyarrow.ipc.open_file(source)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        yield from _table_rows(batches, reader.schema, columns)


READERS = {".json": json_rows, ".jsonl": json_rows, ".csv": csv_rows, ".parquet": parquet_rows, ".arrow": arrow_rows}
