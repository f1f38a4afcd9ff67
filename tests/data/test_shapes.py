"""The field's shapes: what each command takes of them, and rows of which something would be lost."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from made_images import LIMITS, encoded, picture
from shape_rows import CASES, PATH, PNG, Case, user

from kimi_plugins.completions.prompts import read_prompts
from kimi_plugins.data import training
from kimi_plugins.data.known import FORMATS, Columns, UnknownShape, opened, recognised
from kimi_plugins.data.shards import Unreadable
from kimi_plugins.data.sources import Mapping, Normaliser, Source, check_columns, normalised
from kimi_plugins.data.store import Store, adapted
from kimi_plugins.data.values import BadRow
from kimi_plugins.prompts.exclude import excluded

DOCS = Path(__file__).parents[2] / "docs/data.md"
BEGIN, END = "<!-- shapes: written by tests/data/test_shapes.py -->", "<!-- end of shapes -->"
TRAINED = training.Options("input", "label", "images", chat=True)


def write(folder: Path, case: Case) -> Path:
    """The row as a file: JSON lines, or Parquet where it holds bytes."""
    (folder / PATH).write_bytes(encoded(picture(size=(64, 56))))
    if "bytes" in str(case.row) and isinstance(case.row, dict):
        path = folder / "rows.parquet"
        pa.parquet.write_table(pa.Table.from_pylist([case.row] * 3), path)
    else:
        path = folder / "rows.jsonl"
        path.write_text((json.dumps(case.row) + "\n") * 3)
    return path


def by_curate(path: Path) -> tuple[str, str, int]:
    sources, mapping = [Source(str(path), "train")], Mapping.parse([])
    [line] = check_columns(sources, [], mapping)
    [(prompt, reason), *_] = normalised(sources, Normaliser(mapping, None, path.parent / "images"))
    assert reason is None, reason
    return prompt["question"], prompt["answer"], len(prompt.get("image", []))


def by_vision_prepare(path: Path) -> tuple[str, str, int]:
    shape, rows = opened(str(path))
    row = adapted(next(rows).value, shape, path.parent, Store(path.parent / "store"), LIMITS, allow_urls=False)
    assert all(Path(image).is_file() for image in row["images"])
    return "\n\n".join(message["content"] for message in row["input"]), row["label"], len(row["images"])


def by_warmup(path: Path) -> tuple[str, str, int]:
    prompt = next(read_prompts(path))
    asked = prompt.request.prompt
    text = asked if isinstance(asked, str) else "\n\n".join(message["content"] for message in asked)
    assert all(image.startswith("data:") or Path(image).is_file() for image in prompt.request.images)
    return text, prompt.answer, len(prompt.request.images)


def by_train(path: Path) -> tuple[str, str, int]:
    said = []
    row = training.load(str(path), "train", 2, TRAINED, path.parent / "run", said.append)[0]
    assert said[0].startswith(f"{path}: 2 prompts, ")
    text = row["input"] if isinstance(row["input"], str) else "\n\n".join(part["content"] for part in row["input"])
    assert all(Path(image).is_file() for image in row["images"])
    return text, row["label"], len(row["images"])


READ_ALIKE = ("train", "warmup", "frontier", "shortest", "pairs", "vision-prepare")
COMMANDS = {"curate": by_curate, "vision-prepare": by_vision_prepare, "warmup": by_warmup, "train": by_train}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.data)
def test_every_command_reads_the_same_of_every_shape(tmp_path, case):
    path = write(tmp_path, case)
    shape, rows = opened(str(path))
    assert shape.name == case.shape
    for command, read in COMMANDS.items():
        assert read(path) == (case.question, case.answer, case.images), command
    if case.shape not in ("openrlhf", "columns"):  # chosen by name, the same
        shape, rows = opened(str(path), format=case.shape)
        assert shape.prompt(next(rows).value).answer == case.answer


ODD = [json.loads(line) for line in Path(__file__).with_name("odd_rows.jsonl").open(encoding="utf-8")]


@pytest.mark.parametrize("case", ODD, ids=lambda case: case["name"])
def test_odd_values_are_taken_right_or_rejected_with_the_reason(tmp_path, case):
    """Null fields, empty lists, several answers, nested text, numbers: rows of public sets' shapes."""
    path = write(tmp_path, Case("", "", case["row"], "", ""))
    if "answer" in case:
        question, answer, images = by_curate(path)
        assert (answer, images) == (case["answer"], case["images"]) and ("1 + 1" in question)
        assert by_train(path) == (question, answer, images)
        return
    with pytest.raises((BadRow, UnknownShape), match="^no |column|images|unusable|has |image|message"):
        shape, rows = opened(str(path))
        adapted(next(rows).value, shape, path.parent, Store(path.parent / "store"), LIMITS, allow_urls=False)


def test_a_response_stands_in_for_no_missing_label(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"question": "1 + 1?", "answer": null, "response": "\\\\boxed{3}"}\n')
    shape, rows = opened(str(tmp_path / "x.jsonl"))
    with pytest.raises(BadRow, match="no answer: answer is null"):
        shape.prompt(next(rows).value)


def cells(folder: Path, case: Case) -> list[str]:
    """The case's line of the table in the docs."""
    folder.mkdir()
    path = write(folder, case)
    shape = recognised([case.row], "")
    roles = dict(part.split(" = ") for part in shape.described(case.row)[len(shape.name) + 2 : -1].split(", "))
    columns = [roles[role] for role in ("question", "images", "choices") if role in roles]
    columns = [name for name in columns if case.images or name != roles.get("images")]
    question, answer, images = by_train(path)
    prompt = [f"{images} image{'s' if images > 1 else ''}"] if images else []
    prompt += ["choices with letters"] if "Answer with the letter" in question else []
    [(curated, _), *_] = normalised([Source(str(path), "train")], Normaliser(Mapping.parse([]), None, folder / "i"))
    reason = excluded(curated)[1]
    return [
        case.data,
        f"`{shape.name}`",
        ", ".join(f"`{name}`" for name in columns),
        f"`{roles['answer']}`" if "answer" in roles else "last message",
        ", ".join(["text", *prompt]),
        "taken" if reason is None else f"read; excluded as {reason.partition(':')[0]}",
    ]


def test_the_table_in_the_docs(tmp_path):
    lines = [
        f"| data | `--format` | prompt from | answer from | {', '.join(READ_ALIKE)} | curate |",
        "|---|---|---|---|---|---|",
    ]
    for number, case in enumerate(CASES):
        lines.append(f"| {' | '.join(cells(tmp_path / str(number), case))} |")
    text = DOCS.read_text("utf-8")
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    table = "\n\n" + "\n".join(lines) + "\n\n"
    if text[begin:end] != table:
        DOCS.write_text(text[:begin] + table + text[end:], "utf-8")
    assert text[begin:end] == table, "the table was out of date and is written anew"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "What is in <image>?", "answer": "1"}, "has 1 × <image> and 0 images"),
        ({"question": "What is in <img>?", "answer": "1"}, "has 1 × <image> and 0 images"),
        ({"question": "What is in <image 1>?", "answer": "1"}, "has <image 1> and 0 images"),
        ({"question": "What is in [IMAGE]?", "answer": "1"}, "has 1 × <image> and 0 images"),
        ({"question": "What is in <image_2>?", "answer": "1", "image": "a.png"}, "has <image_2> and 1 images"),
        ({"question": "![](a.png) What?", "answer": "1"}, "which stands for an image"),
        ({"question": "<img src='a.png'> What?", "answer": "1"}, "which stands for an image"),
        ({"question": "\\includegraphics{a} What?", "answer": "1"}, "which stands for an image"),
        ({"question": "<|vision_start|><|image_pad|><|vision_end|>", "answer": "1"}, "which stands for an image"),
        ({"question": "1?<|im_end|>", "answer": "1"}, "a chat template's token"),
        (
            {"question": "What?", "answer": "1", "image": PNG, "image_after": PNG},
            "an image in the column 'image_after' too",
        ),
        (
            {"question": "What?", "answer": "1", "image": PNG, "other": {"bytes": PNG["bytes"]}},
            "in the column 'other' too",
        ),
        ({"question": "What?", "answer": "1", "image": PNG, "picture": PNG}, "in the column 'picture' too"),
        ({"question": "What?", "answer": "1", "plot_file_name": "b.png"}, "in the column 'plot_file_name' too"),
        (
            {"question": "<image>?", "answer": "1", "image": "a.png", "image_1": "b.png"},
            "in numbered columns and in another .image, image_1.; keep one",
        ),
        ({"question": '[{"role": "user", "content": }]', "answer": "1"}, "looks like messages and is not valid JSON"),
        ({"question": "", "answer": "1"}, "no question: question is empty"),
        ({"question": " \n", "answer": "1"}, "no question: question is empty"),
        ({"question": user(" "), "answer": "1"}, "no question: it is empty"),
        ({"question": [], "answer": "1"}, "no messages"),
        ({"question": [{"role": "system", "content": "a"}], "answer": "1"}, "no message of the user"),
        ({"question": [{"role": ["user"], "content": "a"}], "answer": "1"}, "a message has the role ."),
        ({"question": [{"role": "judge", "content": "a"}], "answer": "1"}, "a message has the role 'judge'"),
        ({"question": user([{"type": "video", "video": "a"}]), "answer": "1"}, "a part of type 'video'"),
        ({"question": "?", "answer": ["1", "2"]}, "a list of 2 different answers"),
        ({"question": "?", "answer": {"a": 1}}, "answer is an object with a, not one answer"),
        ({"question": "?", "answer": "1", "choices": ["2", "3"]}, "'1' is none of the choices"),
        ({"question": "?", "answer": "E", "choices": ["2", "3"]}, "'E' is none of the choices"),
        ({"question": "?", "answer": "A", "choices": ["B", "A"]}, "'A' is more than one of the choices"),
        ({"question": "?", "answer": 1, "options": ["1", "2"]}, "1 may be an option or its number; name the shape"),
        ({"question": "?", "answer": "A", "choices": "one or two"}, "choices is not a list of options"),
        ({"question": "?", "answer": "A", "choices": ["x", "x"]}, "an empty option, or one twice"),
        ({"question": "?", "answer": "A", "choices": ["x"]}, "only one option"),
        ({"question": "?", "answer": float("inf")}, "answer is inf"),
        ({"problem": "?", "solution": "It is 2."}, "solution has no final box"),
        (
            {"prompt": "?", "verification_info": '{"test_cases": []}'},
            "lacks the column verification_info.ground_truth",
        ),
        (
            {"messages": [*user("?"), {"role": "assistant", "content": "So we think. " * 20}]},
            "has 60 words and no final box",
        ),
        ({"question": "?", "answer": "\ud800"}, "half a character"),
    ],
)
def test_nothing_is_taken_wrongly_in_silence(row, reason):
    with pytest.raises(BadRow, match=reason):
        recognised([row], "x").prompt(row)


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"question": "?", "answer": "We add. So $\\boxed{2}$."}, "2"),
        ({"question": "?", "answer": "so\n#### 1,234"}, "1,234"),
        ({"question": "?", "answer": "<think>1</think><answer>2</answer>"}, "2"),
        ({"question": "?", "answer": ["2", "2"]}, "2"),
        ({"question": "?", "options": "[]", "answer": "2"}, "2"),
        ({"messages": [*user("?"), {"role": "assistant", "content": "<think>\\boxed{1}</think>So \\boxed{2}"}]}, "2"),
        ({"message": user([{"type": "image", "image": "a.png"}]), "answer": "2", "images": ["a.png"]}, "2"),
        ({"file_name": "a.png", "question": "?", "answer": "2"}, "2"),
    ],
)
def test_the_answer_that_is_meant(row, answer):
    assert recognised([row], "x").prompt(row).answer == answer


def test_choices_that_the_question_lists_already_stay_once():
    row = {"question": "Which?\nA. x\nB. y", "choices": ["x", "y"], "answer": "y"}
    prompt = recognised([row], "x").prompt(row)
    assert (prompt.messages[0]["content"], prompt.answer) == (row["question"], "B")


def test_conversations_of_several_turns_are_no_question():
    turns = [*user("1?"), {"role": "assistant", "content": "1"}, *user("2?"), {"role": "assistant", "content": "2"}]
    prompt = recognised([{"messages": turns}], "x").prompt({"messages": turns})
    assert (prompt.messages, prompt.answer) == (turns[:3], "2")
    with pytest.raises(BadRow, match="a conversation of 3 messages, not one question"):
        prompt.question()


def test_unknown_shapes_list_the_columns(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"task": "1?", "key": "1"}\n')
    with pytest.raises(UnknownShape, match="x.jsonl: no column for question and answer; its columns are task, key"):
        opened(str(path))
    with pytest.raises(UnknownShape, match="x.jsonl: no column for question .prompt.; its columns are task, key"):
        opened(str(path), format="verl")
    with pytest.raises(UnknownShape, match="--format vrel: there is no such format; did you mean 'verl'"):
        opened(str(path), format="vrel")
    with pytest.raises(UnknownShape, match="no column for answer .kye.; its columns are task, key"):
        opened(str(path), columns=Columns("task", "kye"))
    shape, rows = opened(str(path), columns=Columns("task", "key"))
    assert shape.prompt(next(rows).value).answer == "1"
    path.write_text("{\n[\n")
    with pytest.raises(Unreadable, match="not one of the first 2 rows can be read; row 1: not valid JSON"):
        opened(str(path))


def test_nested_columns_are_named_with_dots(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"task": {"text": "1?", "key": {"value": 2.50}}}\n' * 2)
    shape, rows = opened(str(path), columns=Columns("task.text", "task.key.value"))
    prompt = shape.prompt(next(rows).value)
    assert (prompt.question(), prompt.answer) == ("1?", "2.50")
    mapping = Mapping.parse(["question=task.text", "answer=task.key.value"])
    assert check_columns([Source(str(path), "train")], [], mapping) == [
        f"{path}: columns (question = task.text, answer = task.key.value)"
    ]


def test_a_pattern_finds_the_answer_where_it_can():
    shape = replace(recognised([{"question": "?", "answer": "1"}], "x"), pattern="= (.*)")
    assert shape.prompt({"question": "?", "answer": "x = 3"}).answer == "3"
    assert shape.prompt({"question": "?", "answer": "3"}).answer == "3"


def test_there_are_forty_shapes_and_every_one_has_a_case():
    assert len(CASES) >= 40
    assert {case.shape for case in CASES} == set(FORMATS)
