import json

import torch

from kimi_plugins import run_log


def test_records_come_back_by_split_and_in_order(tmp_path):
    directory = tmp_path / "new" / "ckpt"
    run_log.append(directory, "eval", 0, {"pass1": 0.5})
    run_log.append(
        directory, "train", 1, {"reward": torch.tensor(0.25), "nothing": None, "generated_samples": ["é", 1]}
    )
    run_log.append(directory, "train", 2, {"reward": 1})

    train = run_log.read(directory, "train")
    assert [record["step"] for record in train] == [1, 2]
    assert train[0] | {"time": 0} == {
        "split": "train",
        "step": 1,
        "time": 0,
        "reward": 0.25,
    }
    assert [record["pass1"] for record in run_log.read(directory, "eval")] == [0.5]
    assert all(json.loads(line)["time"] > 1.7e9 for line in (directory / run_log.FILE_NAME).open())


def test_a_directory_without_a_log(tmp_path):
    assert run_log.read(tmp_path, "train") == []
    assert list(run_log.read_rollouts(tmp_path)) == []


def test_a_resumed_run_replaces_what_it_does_again(tmp_path):
    for step in (1, 2, 3, 4):
        run_log.append(tmp_path, "train", step, {"run": "killed"})
        run_log.append_rollouts(tmp_path, {"step": step, "run": "killed"})
        if step % 2 == 0:
            run_log.append(tmp_path, "eval", step, {"run": "killed"})
    run_log.append(tmp_path, "train", 3, {"run": "resumed"})
    run_log.append_rollouts(tmp_path, {"step": 3, "run": "resumed"})

    expected = [(1, "killed"), (2, "killed"), (3, "resumed")]
    assert [(record["step"], record["run"]) for record in run_log.read(tmp_path, "train")] == expected
    assert [(record["step"], record["run"]) for record in run_log.read_rollouts(tmp_path)] == expected
    assert [record["step"] for record in run_log.read(tmp_path, "eval")] == [2]


def test_a_line_cut_short_is_not_read_and_is_mended_by_the_next(tmp_path):
    run_log.append(tmp_path, "train", 1, {})
    with (tmp_path / run_log.FILE_NAME).open("a") as file:
        file.write('{"split": "train", "st')
    assert [record["step"] for record in run_log.read(tmp_path, "train")] == [1]
    run_log.append(tmp_path, "train", 2, {})
    assert [record["step"] for record in run_log.read(tmp_path, "train")] == [1, 2]


def test_model_output_that_is_no_unicode(tmp_path):
    run_log.append_rollouts(tmp_path, {"step": 1, "text": "\ud800 \u2028"})
    assert [record["text"] for record in run_log.read_rollouts(tmp_path)] == ["\ud800 \u2028"]
