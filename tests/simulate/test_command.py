"""The command `openrlhf kimi simulate`: what it prints, writes, recommends and refuses."""

import argparse
import json

import pytest

from kimi_plugins.cli import add_commands
from kimi_plugins.simulate import command

ENGINE = {"decode": [[1, 10], [64, 320], [256, 640]], "prefill": 20000, "max_running": 256}


@pytest.fixture
def simulate(tmp_path):
    """Run the command on a small engine; its exit code."""
    engine = tmp_path / "engine.json"
    engine.write_text(json.dumps(ENGINE))

    def run(*words, described=engine):
        parser = argparse.ArgumentParser()
        add_commands(parser)
        small = ["--mean", "200", "--longest", "3000", "--prompts-per-engine", "4", "--k", "4", "--steps", "16"]
        base = ["simulate", "--engine", str(described), "--out", str(tmp_path / "out"), *small]
        args = parser.parse_args([*base, "--sync-seconds", "1", "--train-rate", "2000", *map(str, words)])
        return args.func(args)

    return run


def test_a_table_json_and_a_page(simulate, tmp_path, capsys):
    assert simulate("--engines", 2, 4) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "simulation.json").read_text())
    schedules = ["synchronous", "partial", "asynchronous"]
    assert [(row["engines"], row["schedule"]) for row in result["rows"]] == [(n, s) for n in (2, 4) for s in schedules]
    for row in result["rows"]:
        assert f"{row['groups_per_second']:.3f}" in printed
        assert 0 < row["utilisation"] <= 1 and row["generation_seconds"] <= row["step_seconds"]
        assert row["groups_per_second"] == pytest.approx(4 * row["engines"] / row["step_seconds"])
    assert [row["speed_up"] for row in result["rows"] if row["schedule"] == "synchronous"] == [1.0, 1.0]
    assert f"kimi.rollout.segment_tokens {result['segment_tokens']}" in printed
    page = (tmp_path / "out" / "simulation.html").read_text()
    assert "recommended" in page and "asynchronous" in page and "<script src" not in page
    assert not list((tmp_path / "out").glob("*.partial"))


def test_the_recommended_budget_is_the_largest_that_is_about_as_fast_as_the_fastest(simulate, tmp_path):
    assert simulate("--engines", 2) == 0
    budgets = json.loads((tmp_path / "out" / "simulation.json").read_text())["budgets"]
    chosen = command.recommend(budgets)
    best = max(row["groups_per_second"] for row in budgets)
    near = [row["segment_tokens"] for row in budgets if row["groups_per_second"] >= 0.97 * best]
    assert chosen == max(near) and chosen < 3000  # with such a tail, cutting pays


def test_a_given_budget_is_not_searched_for(simulate, tmp_path, capsys):
    assert simulate("--segment-tokens", 300, "--engines", 2) == 0
    result = json.loads((tmp_path / "out" / "simulation.json").read_text())
    assert result["segment_tokens"] == 300 and result["budgets"] is None
    assert "recommended" not in capsys.readouterr().out


def test_lengths_of_a_run(simulate, tmp_path):
    run = tmp_path / "rollouts.jsonl"
    run.write_text(json.dumps({"step": 1, "samples": [{"responses": [{"tokens": 100}]}]}) + "\n")
    assert simulate("--lengths", run, "--engines", 2) == 0
    rows = json.loads((tmp_path / "out" / "simulation.json").read_text())["rows"]
    # 16 responses on each engine write 100 tokens together, after 16 prompts of 500 tokens.
    per_request = (10 + (320 - 10) * 15 / 63) / 16
    assert rows[0]["generation_seconds"] == pytest.approx(100 / per_request + 16 * 500 / 20000, rel=0.01)


@pytest.mark.parametrize(
    "words, named",
    [
        (["--engines", 1], "--engines is 1"),
        (["--k", 0], "--k is 0"),
        (["--segment-tokens", 0], "--segment-tokens is 0"),
        (["--train-share", 1.5], "--train-share is 1.5"),
        (["--p99-over-mean", 20], "p99/mean is 20"),
        (["--lengths", "missing.jsonl"], "missing.jsonl"),
        (["--max-staleness", -1], "--max-staleness"),
    ],
)
def test_bad_options_are_named(simulate, capsys, words, named):
    assert simulate(*words) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "{}", '{"decode": [[1, 0]], "prefill": 1, "max_running": 1}', '{"decode": 3}'])
def test_engine_files_that_make_no_sense(simulate, tmp_path, capsys, text):
    broken = tmp_path / "broken.json"
    broken.write_text(text)
    assert simulate(described=broken) == 2
    assert "error" in capsys.readouterr().err
