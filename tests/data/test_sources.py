import csv
import json
from pathlib import Path

import pytest
from made_images import encoded, picture

from kimi_plugins.data.sources import ROLES, Mapping, Normaliser, Source, UnknownColumn, check_columns, normalised


def prompts(paths, tmp_path, mapping=(), pattern=None, split="train"):
    sources = [Source(str(path), split) for path in paths]
    mapping = Mapping.parse(list(mapping))
    check_columns(sources, [], mapping)
    return list(normalised(sources, Normaliser(mapping, pattern, tmp_path / "images")))


ROWS = [{"problem": "1 + 1?", "target": 2.0, "level": "Level 5"}, {"problem": "½ + ½?", "target": "1", "level": "2"}]
MAPPED = ["question=problem", "answer=target", "difficulty=level"]


def test_every_format_gives_the_same_prompts(tmp_path, write_rows):
    import datasets
    import pyarrow
    import pyarrow.parquet

    rows = [row | {"target": str(row["target"])} for row in ROWS]
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    with pyarrow.OSFile(str(tmp_path / "x.arrow"), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "x.json").write_text(json.dumps(rows))
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "split")
    names = ["x.parquet", "x.arrow", "x.csv", "x.json", "saved", "split", write_rows("x.jsonl", rows).name]
    for name in names:
        found = prompts([tmp_path / name], tmp_path, MAPPED)
        assert [reason for _, reason in found] == [None, None], name
        assert [(row["question"], row["answer"], row["difficulty"]) for row, _ in found] == [
            ("1 + 1?", "2.0", 5.0),
            ("½ + ½?", "1", 2.0),
        ]


def test_what_a_prompt_knows_of_its_origin(tmp_path, write_rows):
    path = write_rows("some.jsonl", ["", *ROWS])
    [(first, _), (second, _)] = prompts([path], tmp_path, MAPPED)
    assert first == {
        "file": str(path), "row": 2, "source": "some", "question": "1 + 1?", "answer": "2", "difficulty": 5.0,
    }  # fmt: skip
    assert second["row"] == 3


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "unreadable: not valid JSON"),
        ("3", "unreadable: int instead of an object"),
        ({"question": "", "answer": "1"}, "no question: question is empty"),
        ({"question": " \n", "answer": "1"}, "no question: question is empty"),
        ({"question": None, "answer": "1"}, "no question: question is null"),
        ({"question": ["a"], "answer": "1"}, "no question: question is a list"),
        ({"answer": "1"}, "no question: the row lacks the column"),
        ({"question": "1?"}, "no answer: the row lacks the column"),
        ({"question": "1?", "answer": None}, "no answer: answer is null"),
        ({"question": "1?", "answer": ["1", "2"]}, "no answer: answer is a list"),
        ({"question": "1?", "answer": {"a": 1}}, "no answer: answer is an object"),
        ({"question": "1?", "answer": "  "}, "no answer: answer is empty"),
        ({"question": "1?", "answer": float("nan")}, "no answer: answer is nan"),
        ({"question": "1?", "answer": "1", "image": "gone.png"}, "no image: "),
        ({"question": "1?", "answer": "1", "image": 7}, "no image: image 1: is a int"),
    ],
)
def test_rows_that_are_no_prompts(tmp_path, write_rows, row, reason):
    path = write_rows("x.jsonl", [{"question": "1 + 1?", "answer": 2}, row])
    [(_, fine), (rejected, found)] = prompts([path], tmp_path)
    assert fine is None
    assert found.startswith(reason)
    assert (rejected["file"], rejected["row"]) == (str(path), 2)


def test_lines_that_are_not_utf8(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"question": "1?", "answer": "1"}\n{"question": "\xe9", "answer": "1"}\n')
    reasons = [(row["row"], reason) for row, reason in prompts([path], tmp_path)]
    assert (2, "unreadable: not UTF-8; convert the file (iconv -f latin1 -t utf-8, for example)") in reasons
    assert (1, None) in reasons


@pytest.mark.parametrize(
    ("answer", "pattern", "expected"),
    [
        ("48 / 2 = 24\n#### 24", "####", "24"),
        ("x #### 1\ny\n#### 1,234 ", "####", "1,234"),
        (r"\frac{1}{2}", "####", r"\frac{1}{2}"),  # another source's
        ("9 (apples)", r"^([^(]*)\(", "9"),
        (43.0, None, "43"),
        (0.5, None, "0.5"),
        (-7, None, "-7"),
        (True, None, "True"),
        ("e\u0301", None, "\u00e9"),
        ("x²", None, "x²"),
    ],
)
def test_answers(tmp_path, write_rows, answer, pattern, expected):
    [(row, reason)] = prompts([write_rows("x.jsonl", [{"question": "?", "answer": answer}])], tmp_path, (), pattern)
    assert (row["answer"], reason) == (expected, None)


def test_columns_are_joined_and_tried_in_turn(tmp_path, write_rows):
    first = write_rows("a.jsonl", [{"Body": "Ann has 3 apples.", "Question": "How many?", "Answer": 3.0}])
    second = write_rows("b.jsonl", [{"problem": "1 + 1?", "answer": "2"}])
    third = write_rows("c.jsonl", [{"question": "2 + 2?", "answer": "4"}])
    mapping = ["question=Body+Question", "question=problem", "answer=Answer"]
    found = prompts([first, second, third], tmp_path, mapping)
    assert [row["question"] for row, _ in found] == ["Ann has 3 apples. How many?", "1 + 1?", "2 + 2?"]
    assert [row["answer"] for row, _ in found] == ["3", "2", "4"]


def test_unknown_columns_are_refused_with_those_there_are(tmp_path, write_rows):
    path = write_rows("x.jsonl", [{"task": "1 + 1?", "answer": "2"}])
    with pytest.raises(UnknownColumn, match="no column for question; its columns are task, answer"):
        prompts([path], tmp_path)
    with pytest.raises(UnknownColumn, match="no input has the column probelm; there are task, answer"):
        prompts([path], tmp_path, ["question=task", "domain=probelm"])
    for bad in ("question", "question=", "question=a+", "colour=x"):
        with pytest.raises(ValueError, match="--map"):
            Mapping.parse([bad])
    assert set(Mapping.parse([]).columns) == set(ROLES)


def test_inputs_that_are_not_there(tmp_path):
    for name, message in (
        ("gone.jsonl", "no such file"),
        (tmp_path / "gone", "no such file"),
        (tmp_path, "directory without data files"),
    ):
        with pytest.raises(ValueError, match=message):
            Source(str(name), "train").kind()
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ValueError, match="unknown format"):
        list(Source(str(tmp_path / "x.txt"), "train").rows())
    assert Source("openai/gsm8k:main", "train").kind() == "hub"


def test_images(tmp_path, write_rows):
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    path = write_rows(
        "x.jsonl",
        [
            {"question": "How many?", "answer": "3", "image": "a.png"},
            {"question": "<image> against <image>?", "answer": "3", "images": ["a.png", str(tmp_path / "a.png")]},
        ],
    )
    [(one, _)] = prompts([path], tmp_path)[:1]
    assert (one["question"], one["image"]) == ("<image>How many?", [one["image"][0]])
    assert Path(one["image"][0]).is_relative_to(tmp_path / "images")
    [_, (two, reason)] = prompts([path], tmp_path)
    assert reason is None and two["question"] == "<image> against <image>?" and len(two["image"]) == 2


def test_images_in_the_data_become_files(tmp_path):
    import datasets
    from PIL import Image

    Image.new("RGB", (60, 60)).save(tmp_path / "a.png")
    features = datasets.Features(
        {"question": datasets.Value("string"), "answer": datasets.Value("string"), "image": datasets.Image()}
    )
    rows = {"question": ["a?", "b?"], "answer": ["1", "2"], "image": [str(tmp_path / "a.png")] * 2}
    data = datasets.Dataset.from_dict(rows, features=features)
    data.save_to_disk(tmp_path / "saved")
    (one, first), (two, second) = prompts([tmp_path / "saved"], tmp_path)
    assert first is second is None
    assert one["image"] == two["image"]
    assert Image.open(one["image"][0]).size == (60, 60)


def test_a_split_that_is_not_there(tmp_path):
    import datasets

    data = datasets.Dataset.from_list([{"question": "a?", "answer": "1"}])
    datasets.DatasetDict({"validation": data}).save_to_disk(tmp_path / "split")
    with pytest.raises(ValueError, match="no split 'train'; set the split to one of validation"):
        prompts([tmp_path / "split"], tmp_path)
    [(row, _)] = prompts([tmp_path / "split"], tmp_path, split="validation")
    assert row["question"] == "a?"
