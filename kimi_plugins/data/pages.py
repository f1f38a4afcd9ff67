"""Large values of a Parquet file, one at a time.

Arrow decodes pages whole, and pyarrow writes pages of 1,024 values: 220 MB of images in the dictionary and as much in
every page. The pages of such columns are decompressed here as they are read, as far as pyarrow writes them by itself:
Parquet format 2.11, pages of version 1, PLAIN and dictionary encoding, Snappy or no compression.
"""

import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

LARGE = 16 << 20  # bytes of a page from which on it is read here
WINDOW = 1 << 16  # bytes: how far back Snappy's encoders look
DAMAGED = (LookupError, TypeError, ValueError, EOFError, OverflowError, RecursionError)  # of a damaged page

Entry = tuple[int, int, bytes | None]  # repetition level, definition level, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _thrift(kind: int, data: bytes, at: int) -> tuple[Any, int]:
    """A value of Thrift's compact protocol and where it ends; a struct is {field: value}."""
    if kind in (1, 2):
        return kind == 1, at
    if kind in (4, 5, 6):
        value, at = _varint(data, at)
        return (value >> 1) ^ -(value & 1), at
    if kind == 8:
        size, at = _varint(data, at)
        data[at + size]  # IndexError: the header goes on
        return data[at : at + size], at + size
    if kind != 12:
        raise ValueError(f"a page header has a field of type {kind}")
    fields: dict[int, Any] = {}
    field = 0
    while mark := data[at]:
        field, at = (field + (mark >> 4), at + 1) if mark >> 4 else _thrift(4, data, at + 1)
        fields[field], at = _thrift(mark & 15, data, at)
    return fields, at + 1


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """The page header at a place of the file, and where the page's contents start."""
    file.seek(at)
    data = file.read(1 << 12)
    while True:
        try:
            header, length = _thrift(12, data, 0)
            if min(header[2], header[3]) < 0:
                raise ValueError("a page has a size below 0")
            return header, at + length
        except IndexError:
            if not (more := file.read(len(data))):
                raise
            data += more


def _snappy(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """What a Snappy block decompresses to, in pieces; read(n) gives n bytes of the block."""
    while read(1)[0] > 127:  # the length, which the page header has as well
        pass
    out = bytearray()
    while tag := read(1):
        kind, high = tag[0] & 3, tag[0] >> 2
        if kind == 0:
            out += read(high + 1 if high < 60 else int.from_bytes(read(high - 59), "little") + 1)
        else:
            size = (high & 7) + 4 if kind == 1 else high + 1
            back = high >> 3 << 8 | read(1)[0] if kind == 1 else int.from_bytes(read(2 if kind == 2 else 4), "little")
            if not 0 < back <= len(out):
                raise ValueError("a Snappy block refers to what is not there")
            start = len(out) - back
            out += (out[start : start + size] * (size // min(back, size) + 1))[:size]
        if len(out) > 4 * WINDOW:
            yield bytes(out[:-WINDOW])
            del out[:-WINDOW]
    yield bytes(out)


class _Page:
    """The decompressed contents of a page: read(n) gives the next n bytes."""

    def __init__(self, file: BinaryIO, start: int, size: int, codec: str) -> None:
        self._file, self._left = file, size
        file.seek(start)
        self._pieces = _snappy(self._raw) if codec == "SNAPPY" else iter(lambda: self._raw(WINDOW), b"")
        self._held = bytearray()

    def _raw(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data

    def read(self, size: int) -> bytes:
        while len(self._held) < size:
            if not (piece := next(self._pieces, b"")):
                raise EOFError("a page ends too early")
            self._held += piece
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    def value(self) -> bytes:
        return self.read(int.from_bytes(self.read(4), "little"))

    def numbers(self, width: int, count: int, size: int) -> list[int]:
        """`count` numbers of `width` bits from `size` bytes: runs, and bit-packed groups of eight."""
        data, at = self.read(size), 0
        if width == 0:
            return [0] * count
        found: list[int] = []
        while len(found) < count:
            mark, at = _varint(data, at)
            size = (mark >> 1) * width if mark & 1 else (width + 7) // 8
            if mark & 1:
                bits = np.unpackbits(np.frombuffer(data[at : at + size], dtype=np.uint8), bitorder="little")
                found += (bits.reshape(-1, width) @ (1 << np.arange(width))).tolist()
            else:
                found += [int.from_bytes(data[at : at + size], "little")] * min(mark >> 1, count)
            at += size
        return found[:count]


def _entries(file: BinaryIO, chunk: Any, leaf: Any) -> Iterator[Entry]:
    """All entries of a column chunk. chunk: its metadata; leaf: its schema, both of pyarrow. The file is its own."""
    left, most = chunk.num_values, leaf.max_definition_level
    at = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    places: list[tuple[int, int]] = []
    with tempfile.SpooledTemporaryFile(LARGE) as dictionary:
        while left > 0:
            header, start = _header(file, at)
            page, at = _Page(file, start, header[3], chunk.compression), start + header[3]
            if header[1] == 2:
                for _ in range(header[7][1]):
                    value = page.value()
                    places.append((dictionary.tell(), len(value)))
                    dictionary.write(value)
                continue
            count, encoding = header[5][1], header[5][2]
            if not 0 <= count <= left or encoding not in (0, 2, 8):
                raise ValueError(f"a page of {count} values in the encoding {encoding}")
            levels, length = [], header[2]
            for highest in (leaf.max_repetition_level, most):
                size = int.from_bytes(page.read(4), "little") if highest else 0
                length -= size + 4 if highest else 0
                levels.append(page.numbers(highest.bit_length(), count, size) if highest else [0] * count)
            picks: Iterator[int] | None = None
            if encoding != 0:
                picks = iter(page.numbers(page.read(1)[0], levels[1].count(most), length - 1) if length > 1 else ())
            for repetition, definition in zip(*levels, strict=True):
                found: bytes | None = None
                if definition == most and picks is None:
                    found = page.value()
                elif definition == most and picks is not None:
                    place, size = places[next(picks)]
                    dictionary.seek(place)
                    found = dictionary.read(size)
                yield repetition, definition, found
            left -= count


def _nested(field: pa.Field, names: list[str], entries: list[Entry], level: int = 0) -> Any:
    """The value of a row's field of which only one leaf is known: its path is `names`."""
    if field.nullable:
        if entries[0][1] == level:
            return None
        level += 1
    if pa.types.is_list(field.type):
        if entries[0][1] == level:
            return []
        return [_nested(field.type.value_field, names[2:], [entry], level + 1) for entry in entries]
    if pa.types.is_struct(field.type):
        return {names[0]: _nested(field.type.field(names[0]), names[1:], entries, level)}
    return entries[0][2]


def merged(value: Any, other: Any) -> Any:
    """A value of which leaves were read apart, put together."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {
            key: merged(value[key], other[key]) if key in value and key in other else value.get(key, other.get(key))
            for key in (*other, *(key for key in value if key not in other))
        }
    if isinstance(value, list) and isinstance(other, list):
        return [merged(*pair) for pair in zip(value, other, strict=True)]
    return value


def large_leaves(file: BinaryIO, parquet: Any, group: int, names: list[str]) -> list[int]:
    """The leaves of a row group's columns `names` with large pages that can be read here."""
    found = []
    for at in range(parquet.metadata.num_columns):
        chunk, leaf = parquet.metadata.row_group(group).column(at), parquet.schema.column(at)
        outer = leaf.path.partition(".")[0]
        if (
            outer not in names
            or leaf.max_repetition_level > 1
            or leaf.physical_type != "BYTE_ARRAY"
            or leaf.logical_type.type != "NONE"
            or chunk.compression not in ("SNAPPY", "UNCOMPRESSED")
            or set(chunk.encodings) - {"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY"}
            or chunk.total_uncompressed_size < LARGE
            or chunk.total_uncompressed_size > 2 * chunk.total_compressed_size  # Snappy's copies are slow in Python
        ):
            continue
        header, start = _header(
            file, chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        )
        following, _ = _header(file, start + header[3]) if header[1] == 2 else (header, 0)
        if following[1] == 0 and max(header[2], following[2]) >= LARGE:
            found.append(at)
    return found


def leaf_rows(file: BinaryIO, parquet: Any, group: int, at: int) -> Iterator[Any]:
    """The column of a leaf, row by row, with nothing but this leaf in it."""
    chunk, leaf = parquet.metadata.row_group(group).column(at), parquet.schema.column(at)
    outer, *names = leaf.path.split(".")
    field = parquet.schema_arrow.field(outer)
    row: list[Entry] = []
    for entry in _entries(file, chunk, leaf):
        if entry[0] == 0 and row:
            yield _nested(field, names, row)
            row = []
        row.append(entry)
    if row:
        yield _nested(field, names, row)
