"""The checkpoint for the second RL phase, from logs and directories as runs leave them."""

import shutil

import pytest

from kimi_plugins import run_log
from kimi_plugins.cli import add_commands
from kimi_plugins.long2short.pick import evaluations, pick
from kimi_plugins.quickstart.model import build_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "model"
    build_model(directory, seed=0)
    return directory


def evaluated(run, step, accuracy, tokens, name="default"):
    run_log.append(run, "eval", step, {f"eval_{name}_pass1": accuracy, "eval_response_length_mean": tokens})


@pytest.fixture
def run(tmp_path, model):
    for step, accuracy, tokens in ((0, 0.3, 20), (8, 0.805, 50), (16, 0.81, 60), (24, 0.8, 49), (32, 0.79, 40)):
        evaluated(tmp_path, step, accuracy, tokens)
        if step not in (0, 24):
            shutil.copytree(model, tmp_path / f"global_step{step}_hf")
    return tmp_path


def test_fewest_tokens_within_a_point_of_the_best(run):
    directory, text = pick(run, 1.0)
    assert directory == run / "global_step8_hf"
    lines = text.splitlines()
    assert [line.split()[:4] for line in lines[1:6]] == [
        ["0", "30.0%", "20.0", "yes"],
        ["8", "80.5%", "50.0", "yes"],
        ["16", "81.0%", "60.0", "yes"],
        ["24", "80.0%", "49.0", "yes"],
        ["32", "79.0%", "40.0", "yes"],
    ]
    assert "not saved" in lines[1] and "not saved" in lines[4] and lines[2].endswith("saved")
    assert lines[6] == (
        "step 8: 50.0 tokens at 80.5%, the fewest among the saved steps at most 1 points below the best of them (step "
        "16: 60.0 tokens at 81.0%)"
    )
    assert pick(run, 0)[0].name == "global_step16_hf"
    assert pick(run, 2)[0].name == "global_step32_hf"


def test_a_checkpoint_that_is_not_whole_is_passed_over(run):
    weights = run / "global_step8_hf/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    directory, text = pick(run, 1.0)
    assert directory.name == "global_step16_hf"
    assert "truncated, or still being written" in text


def test_steps_done_again_count_once_and_data_sets_are_averaged(tmp_path):
    logs = {"eval_math_pass1": 0.5, "eval_code_pass1": 0.7, "eval_code_pass4": 1.0, "eval_response_length_mean": 9.0}
    run_log.append(tmp_path, "eval", 4, {"eval_math_pass1": 0.1, "eval_response_length_mean": 3.0})
    run_log.append(tmp_path, "train", 4, {})
    run_log.append(tmp_path, "eval", 4, logs)
    [point] = evaluations(tmp_path)
    assert point.name == "4" and point.accuracy == pytest.approx(0.6) and point.tokens == 9


def test_runs_without_what_is_needed(tmp_path, capsys):
    import argparse

    parser = argparse.ArgumentParser()
    add_commands(parser)

    def command(*words):
        args = parser.parse_args(["pick-checkpoint", str(tmp_path), *words])
        return args.func(args), capsys.readouterr().err

    code, error = command()
    assert code == 2 and f"{tmp_path}/metrics.jsonl: no such file; train with --plugins kimi-log" in error
    run_log.append(tmp_path, "train", 1, {"reward": 1.0})
    assert "its log has no evaluation; train with eval.dataset and eval.steps" in command()[1]
    evaluated(tmp_path, 8, 0.5, 10)
    code, error = command()
    assert code == 2 and "no evaluated step has a whole model in global_stepN_hf; train with ckpt.save_hf" in error
    assert command("--within", "-1")[0] == 2
