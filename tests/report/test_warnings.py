"""What the report warns of, on runs that never were: a sound one, and for each rule one that breaks it alone."""

import argparse
import math

import pytest
from made_run import train_record, write_jsonl

from kimi_plugins import cli
from kimi_plugins.report.page import write_report
from kimi_plugins.report.warnings import RULES, findings

STEPS = 40
SOUND = {
    "entropy_loss": 1.0,
    "actor_optimizer_steps": 16,
    "actor_skipped_steps": 0,
    "kimi/optimizer_reset": 1.0,
}


def run(**changes):
    """Records of a run; a change is a value, or a function of the progress from 0 to 1."""
    return [
        train_record(
            step,
            **SOUND | {key: value(step / STEPS) if callable(value) else value for key, value in changes.items()},
        )
        for step in range(1, STEPS + 1)
    ]


# Metric, a value or course that is known to work, one that is not, what is found, and a key to change.
BROKEN = {
    "no gradient": (
        {"kimi/zero_advantage_share": 0.5},
        {"kimi/zero_advantage_share": 0.8},
        "80% of the groups",
        "priority",
    ),
    "skipped": (
        {"actor_skipped_steps": 1},
        {"actor_skipped_steps": 4},
        "20% of the optimizer steps",
        "train.batch_size",
    ),
    "drift": ({"kimi/kl_mean": 0.9}, {"kimi/kl_mean": 1.1}, "drifts by 1.1 nats", "kimi.policy.tau"),
    "drift of long responses": (
        {"kimi/kl_mean": 3.0, "rollout/response_length_mean": 400.0},
        {"kimi/kl_mean": 5.0, "rollout/response_length_mean": 400.0},
        "below 4",
        "actor.adam.lr",
    ),
    "clipped": (
        {"kimi/log_ratio_clip_share": 0.01},
        {"kimi/log_ratio_clip_share": 0.02},
        "2.0% of the log",
        "learning rate",
    ),
    "resets": (
        {"actor_optimizer_steps": 10},
        {"actor_optimizer_steps": 4},
        "takes 4 steps",
        "kimi.policy.reset_every",
    ),
    "wrong answers": (
        {"kimi/wrong_length_mean": lambda x: 25 + 5 * x},
        {"kimi/wrong_length_mean": lambda x: 25 + 25 * x},
        "times as long, right ones 1 times",
        "kimi.length.weight",
    ),
    "entropy": (
        {"entropy_loss": lambda x: 1 - 0.6 * x},
        {"entropy_loss": lambda x: 1 - 0.9 * x},
        "has fallen to",
        "entropy_coef",
    ),
}


def test_a_sound_run_has_no_warning():
    assert findings(run()) == []
    assert findings([]) == findings(run()[:1]) == []


@pytest.mark.parametrize("name", BROKEN)
def test_every_rule_finds_its_fault_alone_and_says_what_to_change(name):
    sound, broken, found, change = BROKEN[name]
    assert findings(run(**sound)) == []
    [finding] = findings(run(**broken))
    assert found in finding.found and "healthy: " in finding.found and change in finding.change


def test_every_rule_has_a_run_that_breaks_it():
    broken = [set(rule.__name__ for rule in RULES if list(rule(run(**case[1])))) for case in BROKEN.values()]
    assert set().union(*broken) == {rule.__name__ for rule in RULES}


def test_what_happened_early_and_passed_is_no_warning():
    assert findings(run(**{"kimi/kl_mean": lambda x: 5.0 if x < 0.5 else 0.1})) == []


def test_wrong_answers_may_grow_with_the_right_ones():
    both = {"kimi/wrong_length_mean": lambda x: 25 + 25 * x, "kimi/correct_length_mean": lambda x: 18 + 18 * x}
    assert findings(run(**both)) == []


def test_resets_every_few_iterations_add_up_their_steps():
    every = 4
    records = run(actor_optimizer_steps=4)
    for record in records:
        record["kimi/optimizer_reset"] = float((record["step"] - 1) % every == 0)
    assert findings(records) == []  # 16 steps from one reset to the next
    never = [record | {"kimi/optimizer_reset": 0.0} for record in records]
    assert findings(never) == []


def test_numbers_that_are_not_finite_and_metrics_that_are_missing_find_nothing():
    assert findings(run(**{"kimi/kl_mean": math.nan, "entropy_loss": math.inf})) == []
    assert findings([{"split": "train", "step": step, "time": 0.0} for step in range(STEPS)]) == []


def test_the_page_and_the_command_say_it(tmp_path, capsys):
    write_jsonl(tmp_path / "metrics.jsonl", run(**{"kimi/kl_mean": 7.0}))
    parser = argparse.ArgumentParser()
    cli.add_commands(parser)
    args = parser.parse_args(["report", str(tmp_path)])
    assert args.func(args) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'report.html'}\n"
    assert printed.err.startswith("openrlhf kimi report: warning: Within an iteration the policy drifts by 7 nats")
    assert printed.err.count("\n") == 1
    assert "drifts by 7 nats" in (tmp_path / "report.html").read_text()

    write_jsonl(tmp_path / "metrics.jsonl", run())
    assert 'class="findings"' not in write_report(tmp_path).read_text()
