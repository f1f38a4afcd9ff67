import json

import pytest
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
        "generated_samples": ["é", 1],
    }
    assert [record["pass1"] for record in run_log.read(directory, "eval")] == [0.5]
    assert all(json.loads(line)["time"] > 1.7e9 for line in (directory / run_log.FILE_NAME).open())


def test_a_log_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        run_log.read(tmp_path, "train")
