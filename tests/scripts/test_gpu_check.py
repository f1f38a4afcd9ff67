"""The check for GPUs, small and on the CPU; and that it notices what is wrong."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_without_a_device_it_says_what_to_do():
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, env={"CUDA_VISIBLE_DEVICES": "", "PATH": ""}
    )
    assert done.returncode == 2 and "openrlhf kimi doctor" in done.stderr


def test_the_loss_against_its_formula(script, monkeypatch):
    assert script.loss("cpu", script.QUICK)["passed"]

    class Doubled(script.MirrorDescentLoss):
        def forward(self, *args):
            return tuple(2 * value if value is not None else None for value in super().forward(*args))

    monkeypatch.setattr(script, "MirrorDescentLoss", Doubled)
    assert not script.loss("cpu", script.QUICK)["passed"]


def test_a_missing_reset_is_noticed(script, monkeypatch):
    assert script.reset_of_torch("cpu", fused=False) <= 1e-6
    monkeypatch.setattr(script, "reset_optimizer", lambda optimizer: None)
    assert script.reset_of_torch("cpu", fused=False) > 1e-4


def test_log_probs_against_float64(script):
    result = script.log_probs("cpu", script.QUICK)
    assert result["passed"], result
    assert [(one["tokens"], one["path"]) for one in result["lengths"]] == [
        (tokens, path) for tokens in script.QUICK.tokens for path in ("chunks", "whole")
    ]


def test_out_of_memory_is_a_result(script):
    def compute():
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert script.measure("cpu", torch.nn.Linear(1, 1), compute, ()) == {"out of memory": True}


def test_parts_after_the_time_is_over_are_left_out(script, monkeypatch):
    monkeypatch.setattr(script, "SECONDS", -1)
    assert [result["skipped"] for _, result in script.run("cpu", script.QUICK, ["loss", "ipc"])] == [
        "-1 s are over"
    ] * 2


@pytest.mark.slow
@pytest.mark.stack
def test_the_whole_script(tmp_path):
    out = tmp_path / "check.json"
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert all(report[part]["passed"] for part in ("loss", "reset", "log_probs", "ipc"))
    assert report["reset"]["difference"].keys() == {"torch", "ZeRO 0", "ZeRO 1", "ZeRO 2", "ZeRO 3"}
