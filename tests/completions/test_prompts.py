"""Prompt files: what is read of them, and what is said of bad rows."""

import json

import pytest

from kimi_plugins.completions.prompts import read_prompts
from kimi_plugins.completions.types import Request


def write(tmp_path, *rows):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_texts_messages_images_and_numbers(tmp_path):
    messages = [{"role": "user", "content": "<image>1+1?<image>"}]
    path = write(
        tmp_path,
        {"input": "1+1=", "label": 2, "source": "made"},
        {"input": messages, "label": 2.50, "images": ["a.png", "b.png"]},
        {"input": "see", "label": 0, "images": "a.png"},
    )
    first, second, third = read_prompts(path)
    assert first.request == Request("1", "1+1=", ()) and first.answer == "2" and first.row["source"] == "made"
    assert second.request == Request("2", messages, ("a.png", "b.png")) and second.answer == "2.5"
    assert third.request.images == ("a.png",) and third.request.prompt == "<image>see" and third.answer == "0"


def test_columns_of_other_names(tmp_path):
    [prompt] = read_prompts(write(tmp_path, {"q": "x", "a": "y"}), input_key="q", label_key="a")
    assert (prompt.request.prompt, prompt.answer) == ("x", "y")


@pytest.mark.parametrize(
    "row, said",
    [
        ("{", "row 2: not valid JSON"),
        ([1], "row 2: is a list, not an object"),
        ({"input": "", "label": "1"}, "row 2: no question: input is empty; name the columns with --input-key"),
        ({"input": "x"}, "row 2: no answer: the row lacks the column label; it has input"),
        ({"input": 3, "label": "1"}, "row 2: no question: input is a number, not text"),
        ({"input": "x", "label": [1]}, "row 2: no answer: label is a list, not text or a number"),
        ({"input": "x", "label": True}, "row 2: no answer: label is true or false"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, said):
    path = write(tmp_path, {"input": "x", "label": "1"}, row)
    with pytest.raises(ValueError, match=said):
        list(read_prompts(path))


def test_files_that_hold_no_prompts(tmp_path):
    with pytest.raises(ValueError, match="has no rows"):
        list(read_prompts(write(tmp_path)))
    with pytest.raises(ValueError, match="no such file"):
        list(read_prompts(tmp_path / "prompts.jsonl.gz"))
