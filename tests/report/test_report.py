import argparse
import json
import math
import random
import re
import time
import tracemalloc

import plotly.graph_objects as go
import pytest
from made_run import TRAIN, eval_record, response, rollout_record, train_record, write_jsonl, write_run

from kimi_plugins import cli
from kimi_plugins.report.charts import panels
from kimi_plugins.report.page import tiles, write_report
from kimi_plugins.report.rollouts import BUDGET, Samples, SuccessRates, collect, cut, success_bin
from kimi_plugins.report.series import POINTS, not_finite, spaced, thin, values_of


def embedded(path) -> dict:
    """What the page's script reads."""
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)[1])


# Series


@pytest.mark.parametrize("n", [0, 1, 10, 11, 12, 99, 1000])
def test_thinning_keeps_the_ends_and_the_extremes(n):
    rng = random.Random(n)
    values = [rng.random() for _ in range(n)]
    places = thin(values, limit=10)
    assert len(places) <= 10 and places == sorted(set(places))
    if n:
        assert places[0] == 0 and places[-1] == n - 1
        assert {values.index(min(values)), values.index(max(values))} <= set(places)
    if n <= 10:
        assert places == list(range(n))


def test_thinning_keeps_a_gap_only_where_a_whole_stretch_is_unknown():
    values = [1.0] * 50 + [None] * 30 + [None, 2.0] * 10
    kept = [values[place] for place in thin(values, limit=22)]  # stretches of 10
    assert kept.count(None) == 3 and kept[-1] == 2.0


@pytest.mark.parametrize("n", [0, 1, 10, 11, 999])
def test_spaced_places_are_distinct_and_end_at_the_ends(n):
    places = spaced(n, limit=10)
    assert len(places) == min(n, 10) == len(set(places))
    if n:
        assert (places[0], places[-1]) == (0, n - 1)
    gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_numbers_that_json_does_not_know_are_gaps_and_are_counted():
    records = [{"step": 1, "a": 1.0}, {"step": 2, "a": math.nan}, {"step": 3}, {"step": 4, "a": -math.inf, "b": 0.0}]
    assert values_of(records, "a") == ([1, 2, 4], [1.0, None, None])
    assert not_finite(records) == {"a": 2}


# Rollouts


@pytest.mark.parametrize("k", [2, 3, 8, 16])
def test_every_success_rate_of_k_responses_has_its_own_bin(k):
    assert [success_bin(solved / k, k) for solved in range(k + 1)] == list(range(k + 1))


def test_only_prompts_that_never_or_always_succeed_are_in_the_outer_bins():
    assert [success_bin(rate, 10) for rate in (0.0, 1e-6, 0.5, 1 - 1e-6, 1.0)] == [0, 1, 5, 9, 10]


def test_success_rates_against_brute_force():
    rng = random.Random(0)
    history = [(step, [[rng.randrange(30), rng.randrange(5) / 4] for _ in range(8)]) for step in range(3, 40)]
    rates = SuccessRates(levels=4)
    for step, groups in history:
        rates.add(step, groups)

    assert rates.steps == [step for step, _ in history]
    for now in range(len(history)):
        latest = {}
        for _, groups in history[: now + 1]:
            for prompt, rate in groups:
                latest[prompt] = rate
        assert rates.counts[now] == [sum(rate == i / 4 for rate in latest.values()) for i in range(5)]
        of_step = [rate for _, rate in history[now][1]]
        assert rates.none_solved[now] == of_step.count(0.0) / 8
        assert rates.all_solved[now] == of_step.count(1.0) / 8


def test_the_bins_follow_the_number_of_responses():
    assert collect([rollout_record(1, [response("a")] * 3)])[0].levels == 3
    assert collect([rollout_record(1, [response("a")] * 64)])[0].levels == 10
    assert collect([rollout_record(1)])[0].levels == 10
    assert collect([])[0].counts == []


@pytest.mark.parametrize("n", [1, 2, 7, 100, 101])
def test_samples_are_evenly_spaced_within_the_budget_and_end_with_the_last_step(n):
    samples = Samples(budget=3000)
    for step in range(1, n + 1):
        samples.add(rollout_record(step, [response("x" * 100)]))
    text = samples.to_json()
    steps = [record["step"] for record in json.loads(text)]
    assert steps[0] == 1 and steps[-1] == n and len(steps) == len(set(steps))
    assert len({b - a for a, b in zip(steps[:-1], steps[1:-1], strict=False)}) <= 1
    assert len(text) < 3500
    if n > 100:
        assert len(steps) > 6


def test_one_step_cannot_use_up_the_page():
    huge = rollout_record(1, [response("漢" * 100_000) for _ in range(100)])
    huge["samples"] *= 50
    samples = Samples()
    samples.add(huge)
    text = samples.to_json()
    (record,) = json.loads(text)
    assert 800_000 < len(text) < 1_100_000
    shown = [len(group["responses"]) for group in record["groups"]]
    assert shown[0] > 10 and shown[0] + record["groups"][0]["left_out"] == 100
    assert len(record["groups"]) + record["left_out"] == 50


def test_a_long_text_loses_its_middle():
    text = "".join(chr(65 + i % 26) for i in range(1001))
    head, left_out, tail = cut(text, limit=100)
    assert len(head) + left_out + len(tail) == 1001
    assert text.startswith(head) and text.endswith(tail)
    assert cut(text, limit=1001) == text


# Panels and tiles


def test_plotly_accepts_the_figures_and_every_metric_is_drawn():
    rates, _ = collect([rollout_record(step, groups=[[step, 0.5], [0, 1.0]]) for step in (1, 2)])
    train = [train_record(step) for step in (1, 2)]
    evals = [eval_record(0, **{"eval_<b>_pass1": 0.1, "eval_b_pass1": 0.2, "eval_response_length_mean": 9})]
    shown = panels(train, evals, rates)
    assert all(panel.figure for panel in shown)
    drawn = {}
    for panel in shown:
        go.Figure(panel.figure)  # refuses unknown properties and values
        drawn |= {trace.get("name"): trace.get("y") for trace in panel.figure["data"]}
    values = [list(y) for y in drawn.values()]
    for key in TRAIN.keys() - {"response_length", "rollout/reward_mean", "rollout/num_samples", "timing/step_total"}:
        assert [TRAIN[key]] * 2 in values, key
    assert [0.4, 0.4] in [pytest.approx(y) for y in values]  # 6.5 s of which 6.1 s have a name
    assert drawn["held-out pass@1, &lt;b&gt;"] == [0.1]  # Plotly reads names as HTML


def test_the_heat_map_counts_the_prompts_that_come_later():
    rates, _ = collect(
        [rollout_record(1, groups=[[1, 0.0], [2, 1.0]]), rollout_record(2, groups=[[1, 1.0], [3, 0.5]])]
    )
    (figure,) = (panel.figure for panel in panels([], [], rates) if panel.title == "Success rates of the prompts")
    tried, untried = figure["data"]
    assert dict(zip(tried["y"], tried["z"], strict=True)) == {
        "not tried yet": [None, None],
        "none": [1, None],
        **{f"{i}0.0%": [None, 1 if i == 5 else None] for i in range(1, 10)},
        "all": [1, 2],
    }
    assert untried["z"][0] == [1, None]


def test_a_panel_without_data_says_what_would_fill_it(tmp_path):
    write_jsonl(tmp_path / "metrics.jsonl", [{"split": "train", "step": 1, "time": 0.0, "reward": 0.5}])
    page = write_report(tmp_path).read_text("utf-8")
    charts = embedded(tmp_path / "report.html")["charts"]
    assert [chart is not None for chart in charts] == [True] + [False] * 7
    assert page.count('class="missing"') == 8  # and the rollouts
    assert "kimi-length" in page and "--plugins kimi-log" in page


def test_an_evaluation_alone_makes_a_page(tmp_path):
    write_jsonl(tmp_path / "metrics.jsonl", [eval_record(0, eval_default_pass1=0.5)])
    assert "50.0%" in write_report(tmp_path).read_text("utf-8")


def test_tiles():
    train = [
        train_record(1, **{"rollout/response_length_mean": 1000.0, "kimi/zero_advantage_share": 0.5}),
        train_record(2, **{"rollout/response_length_mean": 3000.0, "kimi/zero_advantage_share": math.nan}),
    ]
    evals = [eval_record(0, eval_math_pass1=0.25, eval_code_pass1=0.1), eval_record(2, eval_math_pass1=0.5)]
    assert tiles(train, evals) == [
        ("pass@1, code", "10.0%"),
        ("pass@1, math", "25.0% → 50.0%"),
        ("mean tokens per response", "1,000 → 3,000"),
        ("tokens generated in training", "32 k"),
        ("groups without gradient, last", "50.0%"),
    ]
    assert {value for _, value in tiles([], [])} == {"–"}


# The file


def test_the_page_is_one_file_that_loads_nothing(tmp_path):
    run = write_run(tmp_path / "run")
    out = write_report(run, tmp_path / "new" / "page.html")
    assert out == tmp_path / "new" / "page.html"
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    page = re.sub(r"<script>.*?</script>", "", out.read_text("utf-8"), flags=re.DOTALL)
    assert not re.search(r"\b(src|href)=|url\(|@import", page)
    assert write_report(run) == run / "report.html"


def test_a_resumed_run_and_a_torn_last_line(tmp_path):
    run = write_run(tmp_path)
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        with (run / name).open("a") as file:
            again = train_record(4, score=0.99) if name == "metrics.jsonl" else rollout_record(4, [response("again")])
            file.write(json.dumps(again) + '\n{"step": 5, "spl')
    data = embedded(write_report(run))
    score = data["charts"][0]["data"][0]
    assert (score["x"], score["y"]) == ([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.99])
    assert [record["step"] for record in data["samples"]] == [1, 2, 3, 4]
    assert data["samples"][-1]["groups"][0]["responses"][0]["text"] == "again"


def test_a_report_that_fails_leaves_the_old_one(tmp_path):
    run = write_run(tmp_path)
    before = write_report(run).read_bytes()
    (run / "rollouts.jsonl").write_text("{broken}\n")
    with pytest.raises(
        ValueError, match=r"rollouts.jsonl, byte 0: not a JSON line (.*Expecting.*); correct or remove the line"
    ):
        write_report(run)
    assert (run / "report.html").read_bytes() == before


def test_bad_input_is_one_line_that_names_the_path_and_the_fix(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no-run: no such directory; give the run's ckpt.path"):
        write_report(tmp_path / "no-run")
    with pytest.raises(FileNotFoundError, match=r"metrics.jsonl: no such file; train with --plugins kimi-log"):
        write_report(tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ValueError, match=r"metrics.jsonl: no step logged yet; train with --plugins kimi-log"):
        write_report(tmp_path)
    write_run(tmp_path)
    with pytest.raises(ValueError, match="is a directory; give --out a file name"):
        write_report(tmp_path, tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_command_prints_the_page_or_one_line_of_what_is_wrong(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    cli.add_commands(parser)

    def report(*words) -> int:
        args = parser.parse_args(["report", *map(str, words)])
        return args.func(args)

    run = write_run(tmp_path / "run")
    assert report(run) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert report(run, "--out", tmp_path / "page.html") == 0
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!doctype html>")
    capsys.readouterr()
    assert report(tmp_path) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("openrlhf kimi report: error: ")
    assert printed.err.count("\n") == 1


@pytest.mark.slow
def test_a_long_run_makes_a_small_page_in_seconds_and_little_memory(tmp_path):
    rng = random.Random(0)
    steps, long_text = 10_000, "long chain of thought, " * 5_000  # about 32k tokens
    write_jsonl(tmp_path / "metrics.jsonl", (train_record(s, score=rng.random()) for s in range(1, steps + 1)))

    def rollouts():
        for step in range(1, steps + 1):
            groups = [[rng.randrange(100_000), rng.randrange(9) / 8] for _ in range(64)]
            text = long_text if step % 100 == 0 else "short"
            yield rollout_record(step, [response(text) for _ in range(8)], groups=groups)

    write_jsonl(tmp_path / "rollouts.jsonl", rollouts())
    assert (tmp_path / "rollouts.jsonl").stat().st_size > 9e7

    start = time.process_time()
    out = write_report(tmp_path)
    seconds = time.process_time() - start
    assert seconds < 30, seconds
    assert out.stat().st_size < 15e6
    data = embedded(out)
    assert all(len(trace["x"]) <= POINTS for chart in data["charts"] for trace in chart["data"])
    assert (data["samples"][0]["step"], data["samples"][-1]["step"]) == (1, steps)
    assert f"at most {POINTS:,} points of the {steps:,} steps" in out.read_text("utf-8")

    tracemalloc.start()
    collect(json.loads(line) for line in (tmp_path / "rollouts.jsonl").open())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6 + BUDGET, peak
