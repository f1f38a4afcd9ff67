"""What the trainer gets of a data set: the rows that the checks have read, labels as they are written."""

import base64
import json
from types import SimpleNamespace

import pytest
from made_images import encoded, picture
from shape_rows import ASK, PNG, user

from kimi_plugins.data.known import UnknownShape
from kimi_plugins.data.training import Options, delivered, load, load_for, opened

TEXT = Options("input", "label", "images", chat=False)
CHAT = Options("input", "label", "images", chat=True)


@pytest.fixture
def loaded(tmp_path):
    """loaded(lines, options): the data set of a JSONL file of these lines."""

    def loaded(lines, options=TEXT, most=10**8):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        return load(str(path), "train", most, options, tmp_path / "run", lambda line: None)

    return loaded


@pytest.mark.parametrize(
    "labels",
    [
        ["1180591620717411303424", "1180591620717411303425"],  # beyond 64 bits
        ["2.5", "12345678901234567"],  # one float, and a number that no float holds
        ['"2024-01-02"', '"2025-03-04"'],  # what looks like dates
        ['"2024-01-02T03:04:05"', '"2025-03-04T05:06:07"'],
        ["1", '"\\\\frac{1}{2}"', "0.50"],  # mixed types
        ["1e400", "0.1234567890123456789"],
    ],
)
def test_labels_are_the_text_of_the_file(loaded, labels):
    data = loaded(f'{{"input": "?", "label": {label}}}' for label in labels)
    assert data["label"] == [json.loads(label) if label.startswith('"') else label for label in labels]


def test_a_type_that_changes_after_ten_megabytes(loaded):
    filler = "x" * 20_000
    rows = [{"input": filler, "label": 1} for _ in range(600)] + [{"input": "?", "label": "one", "new": [1]}]
    assert loaded(rows)["label"][-2:] == ["1", "one"]


def test_a_key_that_stands_twice_is_refused_before_and_by_the_trainer(loaded, tmp_path):
    with pytest.raises(ValueError, match="rows.jsonl row 2: not valid JSON .the key 'label' appears twice"):
        loaded([{"input": "?", "label": "1"}, '{"input": "?", "label": "1", "label": "2"}'])
    found = opened(str(tmp_path / "rows.jsonl"), "train", TEXT)
    assert [problem is None for *_, problem in found.prompts()] == [True, False]


def test_messages_and_texts(loaded):
    rows = [{"input": user(ASK), "label": "2"}, {"input": ASK, "label": "2"}]
    assert loaded(rows, CHAT)["input"] == [user(ASK), user(ASK)]
    assert loaded(rows[1:], CHAT)["input"] == [ASK]  # OpenRLHF makes a message of it
    with pytest.raises(ValueError, match="row 1: holds messages, not text; set data.apply_chat_template"):
        loaded(rows, TEXT)


def test_other_columns_are_text_and_nested_ones_only_where_they_are_asked_for(loaded):
    rows = [{"input": "?", "label": 1, "level": 3, "pair": None, "extra": {"id": 7}, "datasource": "made"}] * 2
    data = loaded(rows, Options("input", "label", "images", chat=False, columns=("extra.id", "gone")))
    assert data[0] == {
        "input": "?", "label": "1", "images": [], "datasource": "made", "level": "3", "pair": None,
        "extra.id": "7", "difficulty": "3",
    }  # fmt: skip


def test_objects_as_labels_are_json(loaded):
    label = {"cases": [{"input": "1", "output": "2"}]}
    assert json.loads(loaded([{"input": "?", "label": label}])["label"][0]) == label


def test_images_become_files(loaded, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(size=(64, 56))))
    uri = "data:image/png;base64," + base64.b64encode(PNG["bytes"]).decode()
    rows = [{"input": "<image>?", "label": "1", "images": [image]} for image in ("a.png", uri)]
    first, second = loaded(rows, CHAT)["images"]
    assert first == [str(tmp_path / "a.png")] and second[0].startswith(str(tmp_path / "run"))
    with pytest.raises(ValueError, match=r"row 1: image 1 \(gone.png\): there is no such file"):
        loaded([{"input": "<image>?", "label": "1", "images": ["gone.png"]}], CHAT)
    with pytest.raises(ValueError, match="row 1: an image is a URL; make the set by openrlhf kimi vision-prepare"):
        loaded([{"input": "<image>?", "label": "1", "images": ["http://127.0.0.1/x.png"]}], CHAT)


def test_no_more_rows_than_are_asked_for(loaded):
    assert len(loaded([{"input": "?", "label": "1"}] * 3 + ["{bad"], most=3)) == 3
    with pytest.raises(ValueError, match="row 4: not valid JSON"):
        loaded([{"input": "?", "label": "1"}] * 3 + ["{bad"], most=4)
    with pytest.raises(ValueError, match="holds no rows"):
        loaded([])


def test_columns_that_options_name_are_not_guessed(loaded):
    rows = [{"question": "?", "answer": "1"}]
    assert loaded(rows)["label"] == ["1"]
    with pytest.raises(
        UnknownShape, match="no column 'qestion'; set data.input_key to one of its columns: question, a"
    ):
        loaded(rows, Options("qestion", "answer", "images", chat=False))
    with pytest.raises(UnknownShape, match="no column 'target'; set data.label_key to one of"):
        loaded(rows, Options("question", "target", "images", chat=False))
    nested = [{"question": {"text": "?"}, "answer": {"value": 2}}]
    data = loaded(nested, Options("question.text", "answer.value", "images", chat=False))
    assert (data["question.text"], data["answer.value"]) == (["?"], ["2"])
    assert "label" not in loaded(rows, Options("question", None, "images", chat=False)).column_names


def test_columns_that_choose_a_grader(loaded, tmp_path):
    loaded([{"input": "?", "label": "1", "kind": "math"}])
    [(row, prompt, problem)] = opened(str(tmp_path / "rows.jsonl"), "train", TEXT).prompts()
    assert problem is None and delivered(prompt, row.value, TEXT) == {"label": "1", "kind": "math"}


def test_what_is_left_to_openrlhf(tmp_path):
    data = SimpleNamespace(input_key="input", label_key="label", image_key="images", apply_chat_template=False)
    args = SimpleNamespace(data=data, use_ms=False, ckpt=SimpleNamespace(path=str(tmp_path)))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/rows.jsonl").write_text('{"input": "?", "label": 2.50}\n')
    assert load_for(f"{tmp_path}@sub", "train", 9, args) is None  # not the trainer of policies
    args.rollout = SimpleNamespace()
    assert load_for(f"{tmp_path}@sub", "train", 9, args)["label"] == ["2.50"]
    for name in ("s3://bucket/x.jsonl", "script.py", "name@data"):
        assert load_for(name, "train", 9, args) is None
    args.use_ms = True
    assert load_for(f"{tmp_path}/sub", "train", 9, args) is None


def test_openrlhf_takes_them(tmp_path, monkeypatch):
    """Through blending_datasets and PromptDataset, two files of different columns at once."""
    from openrlhf.datasets import PromptDataset, utils

    (tmp_path / "a.jsonl").write_text('{"input": "1?", "label": 1180591620717411303424, "level": 1}\n')
    (tmp_path / "b.jsonl").write_text(
        '{"prompt": "2?", "verification_info": "{\\"ground_truth\\": \\"2024-01-02\\"}"}\n'
    )
    data = SimpleNamespace(input_key="input", label_key="label", image_key="images", apply_chat_template=False)
    args = SimpleNamespace(
        data=data, use_ms=False, ckpt=SimpleNamespace(path=str(tmp_path)), rollout=SimpleNamespace()
    )
    strategy = SimpleNamespace(args=args, print=print, is_rank_0=lambda: False)
    hook = SimpleNamespace(
        openrlhf_load_dataset=lambda name, split, max_count, args: load_for(name, split, max_count, args)
    )
    monkeypatch.setattr(utils.plugins, "hook", hook, raising=False)
    rows = utils.blending_datasets(f"{tmp_path}/a.jsonl,{tmp_path}/b.jsonl", strategy=strategy, max_count=9)
    assert rows["label"] == ["1180591620717411303424", "2024-01-02"]
    monkeypatch.undo()
    prompts = PromptDataset(rows, None, strategy)
    assert [prompts[index][1:3] for index in range(2)] == [("1?", "1180591620717411303424"), ("2?", "2024-01-02")]
