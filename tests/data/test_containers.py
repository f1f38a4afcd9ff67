"""Rows of every container, exact and numbered, and what is said of those that cannot be read."""

import gzip
import io
import json
import lzma
import pickle
import random
import tarfile
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet
import pytest
from made_images import encoded, picture

from kimi_plugins.data import json_rows
from kimi_plugins.data.containers import Row, file_rows, has_column, rows, value_at
from kimi_plugins.data.json_rows import NOT_UTF8, Number
from kimi_plugins.data.shards import Unreadable, shards

ROWS = [
    {"question": "1 + 1?", "answer": "2"},
    {"question": "½ + ½?", "answer": "1"},
    {"question": "a\nb", "answer": "3"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


@pytest.fixture
def read(tmp_path):
    """read(name, content): (number, value, problem) of the rows of a file with this content."""

    def read(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return [row[1:] for row in file_rows(str(path))]

    return read


def table_bytes(kind, table):
    sink = io.BytesIO()
    if kind == "parquet":
        pa.parquet.write_table(table, sink)
    else:
        with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def tar_bytes(members):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()


TABLE = pa.Table.from_pylist(ROWS)
CSV = 'question,answer\n1 + 1?,2\n½ + ½?,1\n"a\nb",3\n'.encode()
CONTENTS = {
    ".jsonl": LINES,
    ".ndjson": LINES,
    ".json": json.dumps(ROWS).encode(),
    ".csv": CSV,
    ".tsv": CSV.replace(b",", b"\t"),
    ".parquet": table_bytes("parquet", TABLE),
    ".arrow": table_bytes("stream", TABLE),
    ".feather": table_bytes("file", TABLE),
    ".tar": tar_bytes((f"{n:03}.json", json.dumps(row).encode()) for n, row in enumerate(ROWS)),
}
COMPRESSED = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("suffix", CONTENTS)
def test_every_container_gives_the_same_rows(read, suffix, compression):
    found = read(f"x{suffix}{compression}", COMPRESSED[compression](CONTENTS[suffix]))
    assert [value for _, value, problem in found if problem is None] == ROWS


def test_shards_of_directories_and_globs(tmp_path):
    for number, row in enumerate(ROWS):
        (tmp_path / f"train-{number:05}-of-00003.jsonl.gz").write_bytes(
            gzip.compress(json.dumps(row).encode() + b"\n")
        )
    (tmp_path / "test-00000-of-00001.jsonl.gz").write_bytes(gzip.compress(b"{}\n"))
    (tmp_path / "dataset_info.json").write_text("{}")
    found = list(rows(str(tmp_path)))
    assert [row.value for row in found] == ROWS
    assert [row.file[-24:] for row in found] == [f"train-{n:05}-of-00003.jsonl.gz"[-24:] for n in range(3)]
    assert [row.value for row in rows(str(tmp_path / "train-*.gz"))] == ROWS
    assert [row.value for row in rows(str(tmp_path), "test")] == [{}]
    with pytest.raises(Unreadable, match="no files of split 'validation'; it has test, train"):
        shards(str(tmp_path), "validation")
    (tmp_path / "train-00001-of-00003.jsonl.gz").unlink()
    with pytest.raises(Unreadable, match="train-00001-of-00003.jsonl.gz: 1 of 3 shards missing"):
        shards(str(tmp_path))
    (tmp_path / "train.csv").write_text("a\n1\n")
    with pytest.raises(Unreadable, match="files of several kinds"):
        shards(str(tmp_path))


def test_numbers_are_exact(read):
    text = '{"a": 1180591620717411303424, "b": 2.50, "c": 1e400, "d": 0.1234567890123456789, "e": "2024-01-02"}'
    [(_, value, _)] = read("x.jsonl", text.encode() + b"\n")
    assert value["a"] == 2**70 and [str(value[name]) for name in "bcde"] == [
        "2.50",
        "1e400",
        "0.1234567890123456789",
        "2024-01-02",
    ]
    assert str(pickle.loads(pickle.dumps(value["b"]))) == "2.50" and json.dumps(value["b"]) == "2.5"
    assert value["b"] == 2.5 and Number("1e3") == 1000


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"a": 1, "b": {"a": 1, "a": 2}}', "not valid JSON (the key 'a' appears twice)"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of too many digits"),
        (b"[" * 100_000, "too many brackets"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": "\xe9"}', NOT_UTF8),
        (b'{"\xe9', NOT_UTF8),
    ],
)
def test_a_bad_line_is_rejected_once_and_the_others_are_kept(read, line, problem):
    found = read("x.jsonl", b'{"a": 1}\n' + line + b'\n{"a": "\xc3\xa9"}\n')
    assert [(number, value) for number, value, reason in found if reason is None] == [(1, {"a": 1}), (3, {"a": "é"})]
    [(number, value, reason)] = [row for row in found if row[2] is not None]
    assert (number, value) == (2, None) and problem in reason


def test_a_row_in_several_lines_of_which_one_is_not_utf8(read):
    assert read("x.jsonl", b'{"a":\n "b",\n "c": "\xe9"\n}\n{"a": 1}\n') == [(1, None, NOT_UTF8), (5, {"a": 1}, None)]


def test_json_rows_are_numbered_by_line(read):
    found = read("rows.jsonl", b'\xef\xbb\xbf\n{"a": 1}\r\n\n{"a":\n 2} {"a": 3}\n{"a": 4\n')
    assert [row[:2] for row in found[:3]] == [(2, {"a": 1}), (4, {"a": 2}), (5, {"a": 3})]
    assert found[3][0] == 6 and "ends too early" in found[3][2]


def test_reading_goes_on_after_a_malformed_row(read):
    found = read("rows.jsonl", b'{"a": 1\n{"a": 2}\n{a: 3}\nnull x\n{"a": 5}')
    assert [number for number, _, problem in found if problem] == [1, 3, 4]
    assert [row for _, row, problem in found if not problem] == [{"a": 2}, None, {"a": 5}]


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_do_not_matter(read, monkeypatch, chunk):
    random.seed(0)
    values = [{"a": "é" * random.randrange(40), "b": [n] * random.randrange(9)} for n in range(60)]
    lines = [json.dumps(value, indent=random.choice([None, 2]), ensure_ascii=False) + "\n" for value in values]
    body = "".join([*lines[:30], "{bad}\n", *lines[30:]]).encode()
    monkeypatch.setattr(json_rows, "CHUNK", chunk)
    found = read("rows.jsonl", body)
    assert [row for _, row, problem in found if problem is None] == values
    starts = [1 + sum(line.count("\n") for line in lines[:30])]
    assert [number for number, _, problem in found if problem] == starts
    array = (" [" + ",".join(lines) + "]\n").encode()
    assert read("rows.json", array) == [(number, value, None) for number, value in enumerate(values, 1)]


def test_json_of_one_object(read):
    assert read("x.json", json.dumps({"data": ROWS, "version": 1}).encode()) == [
        (n, r, None) for n, r in enumerate(ROWS, 1)
    ]
    assert read("x.jsonl", json.dumps({"a": {"b": 1}, "c": {"b": 2}}).encode())[0][1] == {"a": {"b": 1}, "c": {"b": 2}}
    named = {str(number): row for number, row in enumerate(ROWS)}
    assert [value for _, value, _ in read("x.json", json.dumps(named, indent=1).encode())] == ROWS
    assert read("x.json", json.dumps({"a": {"b": 1}}).encode()) == [(1, {"a": {"b": 1}}, None)]


TWO = [{"q": "1+1=", "a": 2}, {"q": "1+2=", "a": 3}]


@pytest.mark.parametrize(
    "value",
    [
        {"train": TWO},
        {"train": TWO, "test": TWO[:1], "info": {"license": "MIT"}},
        {"type": "text2text", "instances": TWO},
        {"features": {"q": "string"}, "rows": [{"row_idx": at, "row": row} for at, row in enumerate(TWO)]},
        {"q": ["1+1=", "1+2="], "a": [2, 3]},
        {"q": {"0": "1+1=", "1": "1+2="}, "a": {"0": 2, "1": 3}},
        {"columns": ["q", "a"], "index": [0, 1], "data": [["1+1=", 2], ["1+2=", 3]]},
    ],
)
def test_json_of_wrapped_rows_and_of_columns(read, value):
    assert [row for _, row, _ in read("x.json", json.dumps(value).encode())] == TWO


def test_splits_of_one_json_file(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"train": TWO, "test": TWO[1:]}))
    assert [row.value for row in rows(str(path), "test")] == TWO[1:]
    with pytest.raises(Unreadable, match="x.json: no split 'dev'; set the split to one of train, test"):
        list(rows(str(path), "dev"))


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [{"role": "user", "content": "1+1="}], "images": ["a.png"]},
        {"messages": [{"role": "user", "content": "1+1="}], "answer": "2"},
        {"question": "1+1=", "tests": [{"input": "", "output": "2"}]},
        {"q": ["a", "b"], "a": ["c"]},
    ],
)
def test_one_row_that_holds_lists_is_a_row(read, value):
    assert read("x.json", json.dumps(value).encode()) == [(1, value, None)]


def test_half_a_character_is_read_as_it_is(read):
    """Responses of models hold some, and are graded; as a prompt or a label they are refused."""
    found = read("x.jsonl", b'{"a": "\\ud83d!"}\n{"a": "\\ud83d\\ude00"}\n')
    assert found == [(1, {"a": "\ud83d!"}, None), (2, {"a": "\N{GRINNING FACE}"}, None)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", b'[{"a": 1},\n {"a": 2}', "ends in the middle, after row 2"),
        ("x.json", b'[{"a": 1}, {"a":', "ends in the middle, after row 1"),
        ("x.json", b'[{"a": 1} {"a": 2}]', "not valid JSON after row 1 .no comma."),
        ("x.json", b'[{"a": 1},]', "not valid JSON after row 1"),
        ("x.json", b"[{}] x", "goes on after the end"),
        ("x.jsonl", b'{"a": 1}\n{"a"', "ends in the middle of row 2"),
        ("x.jsonl", b'{"a": 1}\n{"a": "b c d e f g', "ends in the middle of row 2"),
        ("x.jsonl", b'{"a": 1}\n{"a": "b", "c": fals', "ends in the middle of row 2"),
        ("x.jsonl", b'{"a": 1}\n{"a": "b", "c": "\\u12', "ends in the middle of row 2"),
        ("x.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], "x.jsonl.gz: cannot be read"),
        ("x.jsonl.zst", pa.compress(LINES, "zstd", asbytes=True)[:-9], "x.jsonl.zst: cannot be read"),
        ("x.jsonl.gz", b"\x1f\x8bnot gzip", "x.jsonl.gz: cannot be read"),
        ("x.parquet", table_bytes("parquet", TABLE)[:-9], "not a whole Parquet file"),
        ("x.parquet", b"text", "not a Parquet file; download it again"),
        ("x.arrow", table_bytes("file", TABLE)[:-9], "x.arrow: "),
        ("x.arrow", b"text", "not a whole Arrow file"),
        ("x.tar", CONTENTS[".tar"][:700], "cannot be read after row"),
        ("x.csv", b'a,b\n1,"2\n', "ends in the middle of a row"),
        ("x.csv", b"a,a\n1,2\n", "two columns are called 'a'"),
        ("x.jsonl", b"<!DOCTYPE html>", "a web page, not data"),
        ("x.parquet", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("x.jsonl", table_bytes("parquet", TABLE), "the content is parquet, not jsonl; rename it"),
        ("x.pdf", b"%PDF-1.4", "unknown format; convert it to JSONL"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole(read, name, content, message):
    with pytest.raises(Unreadable, match=message) as error:
        read(name, content)
    assert name in str(error.value) and "; " in str(error.value) and "\n" not in str(error.value)


def test_csv(read):
    body = '\ufeffinput,label\n"a,\nb",1\nc,2,3\nd\n,4\n'.encode() + "é,1\n".encode("latin-1")
    assert read("rows.csv", body) == [
        (3, {"input": "a,\nb", "label": "1"}, None),
        (4, None, "more fields than the header; quote commas"),
        (5, None, "fewer fields than the header; quote commas"),
        (6, {"input": "", "label": "4"}, None),
        (7, None, NOT_UTF8),
    ]


def test_a_row_of_a_table_that_is_not_utf8(read):
    text = pa.array([b"a", b"\xe9", b"c"]).view(pa.string())
    found = read("x.parquet", table_bytes("parquet", pa.table({"a": text})))
    assert found == [
        (1, {"a": "a"}, None),
        (2, None, "not UTF-8; write the table again from text"),
        (3, {"a": "c"}, None),
    ]


def test_columns_of_tables(tmp_path):
    pa.parquet.write_table(pa.table({"input": ["a", None], "other": [{"b": 1}, {"b": 2}]}), tmp_path / "x.parquet")
    path = str(tmp_path / "x.parquet")
    assert list(file_rows(path, ["input"])) == [
        Row(path, 1, {"input": "a"}, None),
        Row(path, 2, {"input": None}, None),
    ]
    assert [row.value for row in file_rows(path, ["other.b"])] == [{"other": {"b": 1}}, {"other": {"b": 2}}]


def test_samples_of_a_webdataset(read):
    image = encoded(picture())
    samples = [
        ("a/0.png", image),
        ("a/0.json", b'{"question": "?", "answer": 2.50}'),
        ("a/1.txt", b" hm "),
        ("b/1.txt", b"x"),
    ]
    first, second, third = read("x.tar", tar_bytes(samples))
    assert first[1]["images"] == [{"bytes": image, "path": "png"}] and str(first[1]["answer"]) == "2.50"
    assert (second, third) == ((2, {"txt": "hm"}, None), (3, {"txt": "x"}, None))
    [(_, value, problem)] = read("x.tar", tar_bytes([("0.txt", b"\xe9")]))
    assert value is None and "not UTF-8" in problem


def test_saved_data_sets_are_read_without_decoding_images(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(question=datasets.Value("string"), images=datasets.List(datasets.Image()))
    broken = {"bytes": b"\x89PNG broken", "path": None}
    data = datasets.Dataset.from_dict({"question": ["a"], "images": [[broken]]}, features=features)
    datasets.DatasetDict({"validation": data}).save_to_disk(tmp_path / "saved")
    [row] = rows(str(tmp_path / "saved"), "validation")
    assert row.value == {"question": "a", "images": [broken]} and row.number == 1
    with pytest.raises(Unreadable, match="no split 'train'; set the split to one of validation"):
        list(rows(str(tmp_path / "saved")))


def test_a_data_set_of_the_hub_is_streamed_without_decoding_images(monkeypatch):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(question=datasets.Value("string"), images=datasets.List(datasets.Image()))
    broken = {"bytes": b"\x89PNG broken", "path": None}
    data = datasets.Dataset.from_dict({"question": ["a"] * 20, "images": [[broken]] * 20}, features=features)
    asked = []

    def load_dataset(*words, **options):
        asked.append((words, options))
        return data.to_iterable_dataset() if options["streaming"] else data

    def builder(name, config):
        path = "hf://datasets/some/name@0a1b/test-00000-of-00001.parquet"
        return SimpleNamespace(config=SimpleNamespace(data_files={"test": [path]}))

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for offline in (False, True):
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", offline)
        found = list(rows("some/name:config", "test"))
        assert [row[:2] for row in found] == [("some/name:config", number) for number in range(1, 21)]
        assert found[0].value == {"question": "a", "images": [broken]}
    assert asked[0] == (("some/name", "config"), {"split": "test", "streaming": True})
    assert asked[1][1]["streaming"] is False


def test_json_files_of_the_hub_are_read_without_types(monkeypatch, tmp_path):
    datasets, hub = pytest.importorskip("datasets"), pytest.importorskip("huggingface_hub")
    (tmp_path / "b.jsonl").write_text(
        '{"q": "a", "label": "2024-01-01"}\n{"q": "b", "label": 1180591620717411303424}\n'
    )
    files = {"train": ["hf://datasets/some/name@0a1b/data/b.jsonl"], "test": ["hf://datasets/some/name@0a1b/t.csv"]}
    asked = []

    def download(name, path, revision, repo_type):
        asked.append((name, path, revision, repo_type))
        return str(tmp_path / "b.jsonl")

    def builder(name, config):
        if name == "no/name":
            raise FileNotFoundError("Dataset 'no/name' doesn't exist on the Hub")
        return SimpleNamespace(config=SimpleNamespace(data_files=files))

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert [row.value["label"] for row in rows("some/name")] == ["2024-01-01", 1180591620717411303424]
    assert asked == [("some/name", "data/b.jsonl", "0a1b", "dataset")]
    with pytest.raises(Unreadable, match="^no/name: cannot be loaded .*doesn't exist.*; correct the name$"):
        list(rows("no/name"))


def test_nested_columns():
    assert value_at({"a": '{"b": [2.50]}'}, "a.b.0") == 2.5 and has_column({"a": '{"b": 1}'}, "a.b")
    row = {"a": {"b": [{"c": 1}], "n": None}, "d.e": 2}
    assert value_at(row, "a.b.0.c") == 1 and value_at(row, "d.e") == 2 and value_at(row, "a.x") is None
    assert [has_column(row, name) for name in ("a", "a.n", "a.x", "d.e", "x.y")] == [True, True, False, True, False]


def test_a_large_row_group_is_read_in_parts(tmp_path):
    """One row group of 64 MiB of images in pages of 1 MiB: reading takes a small part of that in Arrow's memory."""
    image, path = random.Random(0).randbytes(1 << 18), str(tmp_path / "x.parquet")
    parts = [pa.table({"image": [{"bytes": image + bytes([n, m])} for m in range(4)]}) for n in range(64)]
    pa.parquet.write_table(pa.concat_tables(parts), path, use_dictionary=False)
    before, peak, found = pa.total_allocated_bytes(), 0, 0
    for _ in file_rows(path):
        found += 1
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert found == 256 and peak < 24 << 20
