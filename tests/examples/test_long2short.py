"""The long2short example: what its data sets hold and what its summary says."""

import json
import sys
from pathlib import Path
from statistics import fmean

import pytest

from kimi_plugins.quickstart.model import CONTEXT, build_tokenizer
from kimi_plugins.quickstart.reward import reward_func

EXAMPLE = Path(__file__).parents[2] / "examples" / "long2short"
sys.path.insert(0, str(EXAMPLE))
try:
    import run
    import task
finally:
    sys.path.remove(str(EXAMPLE))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    task.write(directory, seed=3)
    names = ("long", "short", "sampled", "train", "valid", "held_out")
    return {
        name: [json.loads(line) for line in (directory / f"{name}.jsonl").read_text().splitlines()] for name in names
    }


def test_no_problem_is_in_two_files_even_with_its_operands_swapped(rows):
    problems = {
        name: {frozenset(row["input"].rstrip("=\n").split("+")) for row in rows[name]}
        for name in ("sampled", "train", "valid", "held_out")
    } | {"fine-tuning": {frozenset(row["input"].rstrip("=\n").split("+")) for row in rows["long"] + rows["short"]}}
    assert [len(problems[name]) for name in ("sampled", "train", "valid", "held_out")] == [256, 768, 100, 200]
    assert sum(map(len, problems.values())) == len(set.union(*problems.values()))


def test_demonstrations_are_right_and_the_long_ones_leave_half_of_their_tokens_to_save(rows):
    tokenizer = build_tokenizer()
    tokens = {}
    for name in ("long", "short"):
        some = rows[name][:1000]
        prompts = [row["input"] for row in some]
        queries = [row["input"] + row["output"] for row in some]
        labels = [str(sum(map(int, prompt.rstrip("=\n").split("+")))) for prompt in prompts]
        assert reward_func(queries, prompts, labels)["rewards"].mean() == 1
        tokens[name] = [len(tokenizer(row["output"])["input_ids"]) for row in some]
    once = [
        length for length, row in zip(tokens["long"], rows["long"], strict=False) if row["output"].count("ok") == 2
    ]
    assert fmean(once) < 0.5 * fmean(tokens["long"])  # §2.4's goal can be reached with one pass
    assert fmean(tokens["short"]) < 0.3 * fmean(tokens["long"])
    room = run.SAMPLING["max-new-tokens"]
    assert sum(length > room for length in tokens["long"]) < 0.01 * len(tokens["long"]) and room < CONTEXT


def model(name, accuracy, tokens):
    return {
        "name": name,
        "pass_at_1": accuracy,
        "tokens": tokens,
        "points_over_first": 100 * (accuracy - 0.9),
        "tokens_over_first": tokens / 50,
    }


def test_rl_is_compared_with_the_other_methods_and_the_goal():
    others = [
        model("merge", 0.8, 30),
        model("shortest", 0.9, 21),
        model("merge_rs", 0.895, 18),
        model("dpo", 0.7, 40),
    ]
    first = [model("long", 0.9, 50), model("short", 0.95, 5), *others, model("rl", 0.9, 20)]
    assert run.stand(first) == {"beats": ["merge", "shortest", "dpo"], "beaten_by": [], "goal": True}
    for accuracy, tokens, goal in ((0.891, 25, True), (0.889, 25, False), (0.9, 26, False)):
        assert run.stand([*first[:-1], model("rl", accuracy, tokens)])["goal"] == goal
    second = [*first[:-1], model("rl", 0.8, 22)]
    assert run.stand(second)["beaten_by"] == ["shortest", "merge_rs"]

    summary = run.summarize({1: first, 2: second})
    assert summary["means"]["rl"]["pass_at_1"] == pytest.approx(0.85) and summary["means"]["rl"]["tokens"] == 21
    text = run.report(summary | {"seconds": {1: {"long": 60, "rl": 40}, 2: {"long": 1}}})
    assert "few tokens as merge, shortest, dpo; the reverse holds for none; goal" in text
    assert "reached; 100 s" in text and "missed; 1 s" in text


def test_what_is_finished_is_not_done_again(tmp_path, capsys):
    step, done = run.Steps(tmp_path / "seed-1", 1), []
    result = tmp_path / "result"
    step("made", result, lambda: done.append(1))  # as if killed before its result was there
    step("made", result, lambda: (done.append(2), result.touch()))
    step("made", result, lambda: done.append(3))
    assert done == [1, 2]
    assert list(json.loads((tmp_path / "seed-1/seconds.json").read_text())) == ["made"]
