"""Columns with large pages, read value by value, against pyarrow's reading of the same file."""

import random
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kimi_plugins.data import pages
from kimi_plugins.data.containers import file_rows
from kimi_plugins.data.shards import Unreadable


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(pages, "LARGE", 1 << 12)


def table(rows: int, repeated: bool) -> pa.Table:
    """Images in the layouts that data sets have, some of them missing; of 40 different contents if repeated."""
    draw = random.Random(rows)
    few = [draw.randbytes(draw.randrange(900)) for _ in range(40)]

    def image() -> bytes:
        if repeated:
            return draw.choice(few)
        return draw.randbytes(draw.randrange(900)) if draw.random() < 0.8 else b"ab" * draw.randrange(200)

    def sometimes(value):
        return None if draw.random() < 0.1 else value

    return pa.table(
        {
            "bytes": [sometimes(image()) for _ in range(rows)],
            "image": [sometimes({"bytes": sometimes(image()), "path": sometimes(f"{n}.png")}) for n in range(rows)],
            "alone": [{"bytes": image()} for _ in range(rows)],
            "images": [
                sometimes([sometimes({"bytes": sometimes(image()), "path": "x"}) for _ in range(draw.randrange(4))])
                for _ in range(rows)
            ],
            "list": [[image() for _ in range(draw.randrange(3))] for _ in range(rows)],
            "question": [f"question {n}" for n in range(rows)],
        }
    )


def large(path: str, group: int = 0) -> list[str]:
    file = pq.ParquetFile(path)
    with open(path, "rb") as own:
        found = pages.large_leaves(own, file, group, file.schema_arrow.names)
    return [file.schema.column(at).path for at in found]


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("compression", ["snappy", "none"])
@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("group", [None, 500])
def test_the_rows_are_pyarrows(tmp_path, repeated, compression, dictionary, group):
    path, written = str(tmp_path / "x.parquet"), table(2500, repeated)
    pq.write_table(written, path, compression=compression, use_dictionary=dictionary, row_group_size=group)
    assert set(large(path)) == {
        "bytes",
        "image.bytes",
        "alone.bytes",
        "images.list.element.bytes",
        "list.list.element",
    }
    assert [row.value for row in file_rows(path)] == written.to_pylist()
    assert [row.number for row in file_rows(path, ["images"])] == list(range(1, 2501))
    assert [row.value for row in file_rows(path, ["images"])] == written.select(["images"]).to_pylist()


def test_columns_that_cannot_be_null(tmp_path):
    content = pa.field("bytes", pa.binary(), nullable=False)
    schema = pa.schema(
        [
            pa.field("image", pa.struct([content, pa.field("path", pa.string())]), nullable=False),
            pa.field("list", pa.list_(pa.field("element", pa.binary(), nullable=False)), nullable=False),
        ]
    )
    draw = random.Random(0)
    rows = [
        {"image": {"bytes": draw.randbytes(n * 100), "path": None}, "list": [draw.randbytes(n)] * (n % 3)}
        for n in range(90)
    ]
    path = str(tmp_path / "x.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    assert "image.bytes" in large(path) and [row.value for row in file_rows(path)] == rows


@pytest.mark.parametrize(
    "options", [{"compression": "zstd"}, {"data_page_version": "2.0"}, {"column_encoding": "DELTA_BYTE_ARRAY"}]
)
def test_what_is_written_otherwise_is_left_to_arrow(tmp_path, options):
    path, written = str(tmp_path / "x.parquet"), table(50, False)
    pq.write_table(written.select(["bytes"]), path, use_dictionary=False, **options)
    assert large(path) == [] and [row.value for row in file_rows(path)] == written.select(["bytes"]).to_pylist()


def test_texts_and_lists_of_lists_are_left_to_arrow(tmp_path):
    one = random.Random(0).randbytes(4000)
    rows = [{"text": one.hex() + str(n), "deep": [[one, b""], [], [one]], "image": one + bytes([n])} for n in range(9)]
    path = str(tmp_path / "x.parquet")
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert large(path) == ["image"] and [row.value for row in file_rows(path)] == rows


def test_no_page_is_held_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "LARGE", 1 << 20)
    draw, path = random.Random(0), str(tmp_path / "x.parquet")
    images = [draw.randbytes(1 << 17) for _ in range(400)]
    pq.write_table(pa.table({"image": [{"bytes": image} for image in images]}), path)
    total, before, arrow = sum(map(len, images)), pa.total_allocated_bytes(), 0
    tracemalloc.start()
    try:
        for image, row in zip(images, file_rows(path), strict=True):
            assert row.value == {"image": {"bytes": image}}
            arrow = max(arrow, pa.total_allocated_bytes() - before)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak + arrow < total / 8


def test_damage_is_an_error_or_another_value_and_nothing_else(tmp_path):
    draw, path = random.Random(3), tmp_path / "x.parquet"
    pq.write_table(table(300, True), path)
    content, chunk = path.read_bytes(), pq.ParquetFile(path).metadata.row_group(0).column(0)
    refused = 0
    for _ in range(120):
        damaged = bytearray(content)
        damaged[chunk.dictionary_page_offset + draw.randrange(100)] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            assert len(list(file_rows(str(path)))) == 300
        except Unreadable as error:
            assert "x.parquet: cannot be read after row" in str(error) or "not a whole Parquet" in str(error)
            refused += 1
    assert refused > 20
