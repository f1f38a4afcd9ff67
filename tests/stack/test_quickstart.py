"""The quickstart's three steps on the real stack, cut down to seconds of training."""

import json

import pytest
import yaml

from kimi_plugins import run_log
from kimi_plugins.quickstart import run as quickstart

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

STEPS = 3


@pytest.fixture
def small_configs(tmp_path, monkeypatch):
    for name, changes in {
        "quickstart_sft.yaml": {"data": {"max_samples": 640}},
        "quickstart_cpu.yaml": {
            "data": {"max_samples": 32 * STEPS},
            "eval": {"steps": STEPS, "n_samples_per_prompt": 1},
            # So short a warm-up solves nothing: what advantages there are come from the lengths.
            "kimi": {"length": {"weight": 0.5, "warm_up_steps": 0}},
        },
    }.items():
        config = yaml.safe_load((quickstart.CONFIGS / name).read_text())
        for section, values in changes.items():
            config[section] |= values
        (tmp_path / name).write_text(yaml.safe_dump(config))
    monkeypatch.setattr(quickstart, "CONFIGS", tmp_path)


def test_the_quickstart_trains_and_reports(tmp_path, small_configs, capsys):
    out = tmp_path / "out"
    assert quickstart.run(out, seed=3) == 0
    printed = capsys.readouterr().out
    assert "held-out pass@1" in printed and "before" in printed and "after" in printed

    summary = json.loads((out / quickstart.SUMMARY).read_text())
    assert summary["before"]["step"] == 0 and summary["after"]["step"] == STEPS
    for when in ("before", "after"):
        assert 0 <= summary[when]["pass_at_1"] <= 1
        assert 0 < summary[when]["response_tokens"] <= 160
    records = run_log.read(out / "rl", "train")
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    assert all(0 <= record["kimi/zero_advantage_share"] < 1 for record in records)
    assert all(record["actor_grad_norm"] > 0 for record in records)
    assert all(record["kimi/logprob_gap_abs"] < 1e-4 for record in records)  # engine and actor both in float32
    assert (out / "rl_model" / "model.safetensors").exists()


def test_a_failed_step_shows_its_log(tmp_path, small_configs, capsys):
    config = yaml.safe_load((tmp_path / "quickstart_sft.yaml").read_text())
    (tmp_path / "quickstart_sft.yaml").write_text(yaml.safe_dump(config | {"adam": {"lrr": 1}}))
    assert quickstart.run(tmp_path / "out", seed=3) == 2
    shown = capsys.readouterr().err
    assert "did you mean 'adam.lr'?" in shown
    assert str(tmp_path / "out" / "warm_up.log") in shown
