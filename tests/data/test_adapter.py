"""Rows of data sets as prompts with images."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from made_images import LIMITS, encoded, noise, picture
from PIL import Image

from kimi_plugins.data.containers import rows as read_rows
from kimi_plugins.data.known import COLUMNS, Columns
from kimi_plugins.data.store import Store, adapted
from kimi_plugins.data.values import BadRow

GIVEN = Columns(input="input", label="label")


@pytest.fixture
def take(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    (tmp_path / "b.png").write_bytes(encoded(noise()))

    def take(row, columns=GIVEN):
        return adapted(row, columns.applied(COLUMNS), tmp_path, Store(tmp_path / "store"), LIMITS, allow_urls=False)

    return take


def user(content):
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    "prompt, images, expected",
    [
        ("What?", "a.png", "<image>What?"),
        ("What?", ["a.png", "b.png"], "<image><image>What?"),
        ("This <image> or <image>?", ["a.png", "b.png"], "This <image> or <image>?"),
        (user("What?"), ["a.png"], "<image>What?"),
        ("No picture.", None, "No picture."),
        ("No picture.", [], "No picture."),
        (user([{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]), None, "<image>What?"),
        (
            user(
                [
                    {"type": "text", "text": "Is ", "image": None},  # as Parquet fills it up
                    {"type": "image_url", "image_url": {"url": "a.png"}, "text": None},
                    {"type": "text", "text": " as "},
                    {"type": "image", "path": "b.png"},
                ]
            ),
            None,
            "Is <image> as <image>",
        ),
        (user([{"type": "image"}, {"type": "text", "text": "What?"}]), ["a.png"], "<image>What?"),
    ],
)
def test_images_get_their_places(take, prompt, images, expected):
    row = take({"input": prompt, "label": 3, "images": images})
    assert row["input"] == user(expected) and row["label"] == "3"
    assert len(row["images"]) == expected.count("<image>")
    sizes = [Image.open(path).size for path in row["images"]]
    assert sizes == [(40, 30), (64, 64)][: len(sizes)]


def test_images_go_into_the_users_first_message(take):
    system = {"role": "system", "content": "Think."}
    row = take({"input": [system, *user("One"), *user("Two")], "label": "x", "images": ["a.png"]})
    assert row["input"] == [system, *user("<image>One"), *user("Two")]


@pytest.mark.parametrize(
    "row, reason",
    [
        ("text", "is a str, not an object"),
        ({"input": "a \ud800", "label": "1"}, "half a character"),
        ({"input": "a", "label": "\udfff"}, "half a character"),
        ({"label": "1"}, "no question: the row lacks the column input; it has label"),
        ({"input": "a", "label": ""}, "no answer: label is empty"),
        ({"input": "a", "label": ["1", "2"]}, "a list of 2 different answers"),
        ({"input": 3, "label": "1"}, "input is a number, not text"),
        ({"input": [{"role": "user"}], "label": "1"}, "no 'role' or no 'content'"),
        ({"input": user([{"type": "audio"}]), "label": "1"}, "part of type 'audio'"),
        ({"input": "<image>a", "label": "1"}, "has 1 × <image> and 0 images"),
        ({"input": "<image>a", "label": "1", "images": ["a.png", "b.png"]}, "has 1 × <image> and 2 images"),
        ({"input": "<image><image>", "label": "1", "images": "a.png"}, "has 2 × <image> and 1 images"),
        ({"input": "a", "label": "1", "images": ["a.png", "c.png"]}, r"image 2 \(c.png\): there is no such file"),
        ({"input": "a", "label": "1", "images": [7]}, "image 1: is a int"),
        ({"input": user([{"type": "image", "image": "a.png"}]), "label": "1", "images": ["b.png"]}, "both"),
        ({"input": [{"role": "system", "content": "a"}], "label": "1", "images": ["b.png"]}, "no message of the user"),
    ],
)
def test_bad_rows_are_refused_with_a_reason(take, row, reason):
    with pytest.raises(BadRow, match=reason):
        take(row)


def test_an_image_is_stored_once(take, tmp_path):
    rows = [take({"input": "a", "label": n, "images": ["a.png"]}) for n in range(3)]
    assert len({row["images"][0] for row in rows}) == 1
    assert len([path for path in (tmp_path / "store").rglob("*") if path.is_file()]) == 1


def test_other_columns(take):
    row = take({"q": "Hm?", "a": 4, "pic": "a.png", "level": 2}, Columns("q", "a", "pic", "level"))
    assert (row["input"], row["label"], row["difficulty"]) == (user("<image>Hm?"), "4", 2)


def test_rows_of_every_kind_of_file(take, tmp_path):
    rows = [{"input": "One?", "label": "1", "images": ["a.png"]}, {"input": "Two?", "label": "2", "images": ["b.png"]}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{bad\n")
    binary = [row | {"images": [{"bytes": (tmp_path / row["images"][0]).read_bytes(), "path": None}]} for row in rows]
    pa.parquet.write_table(pa.Table.from_pylist(binary), tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("input,label,images\nOne?,1,a.png\nTwo?,2,b.png\n")
    results = {}
    for name in ("rows.jsonl", "rows.parquet", "rows.csv"):
        found = list(read_rows(str(tmp_path / name)))
        results[name] = [take(row.value) for row in found if row.problem is None]
        assert [row.number for row in found][:2] == ([2, 3] if name.endswith("csv") else [1, 2])
    assert results["rows.jsonl"] == results["rows.parquet"] == results["rows.csv"]
    assert [row.problem is None for row in read_rows(str(tmp_path / "rows.jsonl"))] == [True, True, False]
    (tmp_path / "rows.txt").write_text("x")
    with pytest.raises(ValueError, match="unknown format"):
        list(read_rows(str(tmp_path / "rows.txt")))


def test_rows_of_a_saved_hugging_face_data_set(take, tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        input=datasets.Value("string"), label=datasets.Value("string"), images=datasets.List(datasets.Image())
    )
    rows = {"input": ["One?", "Two?"], "label": ["1", "2"], "images": [[picture()], [noise(), picture()]]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    taken = [take(row.value) for row in read_rows(str(tmp_path / "saved"))]
    assert [len(row["images"]) for row in taken] == [1, 2]
    assert Image.open(taken[1]["images"][0]).tobytes() == noise().tobytes()


def test_a_truncated_image_within_saved_messages_is_a_rejected_row(take, tmp_path):
    datasets = pytest.importorskip("datasets")
    whole = encoded(noise(), "JPEG")
    parts = datasets.List(
        {"type": datasets.Value("string"), "image": datasets.Image(), "text": datasets.Value("string")}
    )
    features = datasets.Features(
        input=datasets.List({"role": datasets.Value("string"), "content": parts}), label=datasets.Value("string")
    )
    contents = [[{"type": "image", "image": {"bytes": data, "path": None}}] for data in (whole, whole[:-500], whole)]
    prompts = [[{"role": "user", "content": [{"text": None, **content[0]}]}] for content in contents]
    datasets.Dataset.from_dict({"input": prompts, "label": ["1"] * 3}, features=features).save_to_disk(tmp_path / "n")
    rows = [row.value for row in read_rows(str(tmp_path / "n"))]
    assert len(take(rows[0])["images"]) == len(take(rows[2])["images"]) == 1
    with pytest.raises(BadRow, match="image 1: is broken or truncated"):
        take(rows[1])


def test_a_reason_names_a_path_and_never_holds_an_image(take):
    with pytest.raises(BadRow, match=r"image 1 \(gone.png\): there is no such file"):
        take({"input": "a", "label": "b", "images": "gone.png"})
    with pytest.raises(BadRow, match="^image 1: is not a readable image"):
        take({"input": "a", "label": "b", "images": "data:image/png;base64,AAAA"})
