"""A failed grade in the reward function, in the hooks of kimi-rewards, and in a file."""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from openrlhf.utils.agent import SingleTurnAgentExecutor
from openrlhf.utils.config import hierarchize

from kimi_plugins import groups, options
from kimi_plugins.grading.failures import TooManyFailures
from kimi_plugins.plugin import Length, Policy, Rewards, Sampling
from kimi_plugins.policy.advantages import group_advantages
from kimi_plugins.policy.batch import baseline_scale
from kimi_plugins.rewards import math_reward
from kimi_plugins.rewards.math_reward import MathReward
from kimi_plugins.rewards.mixed_reward import response_of

pytestmark = pytest.mark.slow

K = 4


def experiences(rewards, failed, order=None):
    """Rewards and failures of all samples in the rollout's order, in micro-batches of 3."""
    order = order or list(range(len(rewards)))
    rewards, failed = torch.tensor(rewards), torch.tensor(failed, dtype=torch.float32)
    return [
        SimpleNamespace(
            index=order[start : start + 3],
            rewards=rewards[order[start : start + 3]],
            scores=rewards[order[start : start + 3]],
            info={"grader_failed": failed[order[start : start + 3]]},
            response_length=torch.tensor([10] * len(order[start : start + 3])),
            labels=["2"] * len(order[start : start + 3]),
        )
        for start in range(0, len(order), 3)
    ]


def settings(failure_limit=0.05, **policy):
    kimi = SimpleNamespace(rewards=options.Rewards(failure_limit=failure_limit))
    if policy:
        kimi.policy = options.Policy(**policy)
    train = SimpleNamespace(agent_func_path=None)
    return SimpleNamespace(rollout=SimpleNamespace(n_samples_per_prompt=K), kimi=kimi, train=train)


REWARDS = [1.0, 0.0, 0.0, 0.2, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
FAILED = [0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("baseline", options.BASELINES)
def test_a_failed_grade_has_no_advantage_and_changes_no_other(baseline):
    batch = experiences(REWARDS, FAILED, order=[7, 2, 0, 5, 3, 8, 1, 6, 4, 11, 10, 9])
    args = settings(baseline=baseline, tau=0.3)
    Rewards().openrlhf_shape_rewards(batch, args)
    rewards = groups.by_prompt(batch, K, lambda experience: experience.rewards)
    advantages = Policy().openrlhf_group_advantages(rewards, batch, args)
    # By hand: as if the group had the other three alone.
    scale = baseline_scale(args.kimi.policy)
    alone = group_advantages(torch.tensor([[1.0, 0.0, 0.2]]), baseline=baseline, tau=0.3, scale=scale)[0]
    assert torch.allclose(advantages[0, [0, 1, 3]], alone, atol=1e-6)
    assert advantages[0, 2] == 0
    assert torch.equal(rewards[1], torch.tensor(REWARDS[4:8]))
    assert not advantages[2].any()


def test_a_failed_grade_changes_no_length_reward_of_its_group():
    args = settings()
    args.kimi.length = options.Length(weight=1.0, warm_up_steps=0)
    batch = experiences([1.0, 1.0, 0.0, 0.0], [0, 0, 0, 1])
    for experience in batch:
        experience.response_length = torch.tensor([100, 200, 300, 4000])[experience.index]
    Length().openrlhf_shape_rewards(batch, 1, args)
    Rewards().openrlhf_shape_rewards(batch, args)
    rewards = groups.by_prompt(batch, K, lambda experience: experience.rewards)
    advantages = group_advantages(rewards, baseline="mean", tau=0.1)[0]
    assert advantages.tolist() == pytest.approx([5 / 6, 1 / 3, -7 / 6, 0], abs=1e-6)


def test_without_kimi_policy_the_mean_of_the_others_is_neutral():
    batch = experiences([1.0, 0.0, float("nan"), *REWARDS[3:]], FAILED)
    Rewards().openrlhf_shape_rewards(batch, settings())
    rewards = groups.by_prompt(batch, K, lambda experience: experience.rewards)
    assert rewards[0].tolist() == pytest.approx([1.0, 0.0, 0.4, 0.2])
    assert (rewards[0] - rewards[0].mean())[2].abs() < 1e-6


def test_too_many_failed_grades_end_the_run():
    batch = experiences([0.0] * 120, [1] * 12 + [0] * 108)
    assert Rewards().openrlhf_metrics(batch) == {"kimi/grader_failure_share": pytest.approx(0.1)}
    Rewards().openrlhf_shape_rewards(batch, settings(failure_limit=0.1))
    with pytest.raises(TooManyFailures, match="failed on 12 of 120 responses"):
        Rewards().openrlhf_shape_rewards(batch, settings(failure_limit=0.09))


def test_other_reward_functions_report_no_failure():
    batch = experiences([1.0, 0.0, 0.0, 1.0], [0] * 4)
    for experience in batch:
        experience.info = {}
    Rewards().openrlhf_shape_rewards(batch, settings(failure_limit=0.0))
    assert Rewards().openrlhf_metrics(batch) == {"kimi/grader_failure_share": 0.0}


def test_a_failed_grade_does_not_count_in_the_success_rate():
    seen = {}
    sampler = SimpleNamespace(observe=seen.__setitem__)
    Sampling().openrlhf_group_scored(experiences(REWARDS[4:8], [0, 0, 0, 1]), 7, sampler)
    Sampling().openrlhf_group_scored(experiences(REWARDS[8:], [1, 1, 1, 1]), 8, sampler)
    assert seen == {7: pytest.approx(2 / 3)}


def test_a_failed_grade_makes_no_prompt_unsolved():
    failed = [1, 0, 0, 0, *[0, 0, 0, 1], *[1, 1, 1, 1]]  # the right one of the first, a wrong one of the second
    batch = experiences([1.0, 0.0, 0.0, 0.0, *[1.0, 1.0, 1.0, 0.0], *[0.0] * 4], failed)
    assert groups.success_rates(batch, K).tolist() == pytest.approx([0.0, 1.0, float("nan")], nan_ok=True)
    third = pytest.approx(1 / 3)
    metrics = Sampling().openrlhf_metrics(batch, settings())
    assert metrics == {"kimi/solved_group_share": third, "kimi/unsolved_group_share": third}


@pytest.mark.parametrize("limit", [-0.1, 1.1, float("nan")])
def test_a_limit_that_is_no_share_is_refused(limit):
    parser = argparse.ArgumentParser()
    Rewards().openrlhf_add_arguments(parser, "train")
    flags = vars(parser.parse_args([])) | {"reward.remote_url": None, "train.agent_func_path": None}
    args = hierarchize(SimpleNamespace(**flags))
    assert Rewards().openrlhf_validate_config(args, "train") == []
    args.kimi.rewards.failure_limit = limit
    [problem] = Rewards().openrlhf_validate_config(args, "train")
    assert problem.startswith("kimi.rewards.failure_limit is ")
    assert Rewards().openrlhf_validate_config(args, "sft") == []


class Engine:
    """Stands in for vLLM: generates what it is told."""

    async def generate(self, prompt_token_ids, sampling_params, multi_modal_data=None):
        output = SimpleNamespace(token_ids=[7, 8], finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[output])


def tokenizer(query: str):
    class Tokenizer:
        def __call__(self, text, add_special_tokens, return_tensors):
            return {"input_ids": torch.tensor([[1, 2, 3]])}

        @staticmethod
        def decode(tokens, skip_special_tokens):
            return query

    return Tokenizer()


@pytest.mark.parametrize(
    "response, label, reward, failed",
    [
        (r"<think>\boxed{4}</think> \boxed{\frac12}<|im_end|>", "0.5", 1.0, 0.0),
        (r"<think>\boxed{0.5}</think> so<|im_end|>", "0.5", 0.0, 0.0),
        (r"\boxed{1}", r"\frac{1}{", 0.0, 1.0),
    ],
)
def test_openrlhf_takes_the_reward(response, label, reward, failed):
    executor = SingleTurnAgentExecutor(math_reward.__file__)
    params = SimpleNamespace(max_tokens=8, logprobs=None)
    prompt = "<|im_start|>user\n1/2?<|im_end|>\n"
    run = executor.execute(prompt, label, params, 32, tokenizer(prompt + response), Engine())
    output = asyncio.run(run)
    assert (output["reward"], output["scores"]) == (reward, reward)
    assert output["extra_logs"]["grader_failed"] == failed


def test_another_pattern_is_two_lines_of_a_file():
    reward_func = MathReward(answer_pattern="####", workers=1)
    assert reward_func(["Q: 6*7? 42, so\n#### 42"], ["Q: 6*7?"], ["42"])["rewards"] == 1.0
    with pytest.raises(TypeError, match="patern"):
        MathReward(patern="####")


@pytest.mark.parametrize(
    "query, prompt, response",
    [
        ("Q: 1+1? A: 2", "Q: 1+1? A:", " 2"),
        ("+1? A: 2", "Q: 1+1? A:", None),  # too little of the prompt is left
        ("<pad><pad>" + "x" * 80 + "A: 2", "<pad>" + "x" * 80 + "A:", " 2"),  # image tokens, expanded
        ("tail of it" + "x" * 80 + "A: 2", "the head and tail of it" + "x" * 80 + "A:", " 2"),  # cut to the context
        ("user<think>\n2</think>3", "user<think>\n", "<think>2</think>3"),
        ("u<think>a</think>v2", "u<think>a</think>v", "2"),
    ],
)
def test_the_response_is_told_from_the_prompt(query, prompt, response):
    assert response_of(query, prompt) == response


def test_a_query_without_its_prompt_is_a_failed_grade():
    result = MathReward()(["2"], ["Q: 1+1? A:"], ["2"])
    assert (result["rewards"], result["extra_logs"]["grader_failed"]) == (0.0, 1.0)


def command(*arguments):
    line = [sys.executable, "-m", "openrlhf.cli.main", "kimi", "grade", "math", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def write(path: Path, *rows) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_file_is_graded(tmp_path):
    rows = [
        {"id": 1, "response": r"\boxed{1/2}", "answer": 0.5},
        {"id": 2, "response": "\\boxed{\ud800}", "label": "3"},
        {"id": 3, "response": r"\boxed{1}", "answer": "9^{9^{9^{9}}}", "label": "1"},
    ]
    path = write(tmp_path / "in.jsonl", *rows, "")
    done = command(path)
    assert done.returncode == 0, done.stderr
    graded = [json.loads(line) for line in (tmp_path / "in.graded.jsonl").open()]
    assert [{name: row[name] for name in rows[0] if name in row} for row in graded[:1]] == rows[:1]
    assert [row["correct"] for row in graded] == [True, False, None]
    assert "3 graded in" in done.stdout and "1 right, 1 wrong, 1 failed" in done.stdout
    assert "the reference cannot be read" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.graded.jsonl", "in.jsonl"]


@pytest.mark.parametrize(
    "rows, options, error",
    [
        ([{"response": "5", "answer": "5"}, "{"], [], "in.jsonl row 2: not valid JSON"),
        (["[]", "[]"], [], "in.jsonl row 1: list instead of an object"),
        ([{"response": 5, "answer": "5"}], [], "row 1: response is not text; name the responses' with"),
        ([{"response": "5"}], [], "row 1: no column answer or label; name the right answers' with --answer-column"),
        ([{"response": "5", "label": True}], [], "row 1: label is true, not text or a number"),
        ([{"response": "5", "label": " "}], [], 'row 1: label " " cannot be an answer: it is empty; correct it'),
        ([{"response": "5", "answer": r"\frac{1}{"}], [], "cannot be an answer: it is malformed: it breaks off"),
        ([{"response": "5", "answer": r"so \boxed{"}], [], "cannot be an answer: it is malformed"),
        ([], [], "in.jsonl: no rows"),
        ([{"response": "5", "answer": "5"}], ["--answer-pattern", "("], "is not a regular expression"),
        ([{"response": "5", "answer": "5"}], ["--workers", "0"], "workers must be ≥ 1"),
    ],
)
def test_bad_input_is_named_and_nothing_written(tmp_path, rows, options, error):
    done = command(write(tmp_path / "in.jsonl", *rows), *options)
    assert done.returncode == 2 and error in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_too_many_failures_end_the_command(tmp_path):
    path = write(tmp_path / "in.jsonl", *[{"response": r"\boxed{5}", "answer": "9^{9^{9^{9}}}"}] * 3)
    done = command(path, "--failure-limit", "0.02")
    assert done.returncode == 1 and "3 × the reference cannot be read: its numbers are too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    rows = [{"response": "a" * 60, "answer": "5"}] * 20
    path = write(tmp_path / "in.jsonl", *rows)
    line = [sys.executable, "-m", "openrlhf.cli.main", "kimi", "grade", "math", str(path)]
    process = subprocess.Popen(
        [*line, "--answer-pattern", "(?:a+)+b", "--timeout", "2"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "in.graded.jsonl.partial").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in error and "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_the_command_explains_itself():
    from kimi_plugins.cli import add_commands

    parser = argparse.ArgumentParser()
    add_commands(parser)
    chosen = parser.parse_args(["grade", "math", "f.jsonl"])
    assert {name: getattr(chosen, name) for name in vars(options.MathGrader())} == vars(options.MathGrader())
    help_text = " ".join(command("--help").stdout.split())
    assert "Exit code 2" in help_text and r'\\boxed{1/2}", "answer": "0.5"' in help_text
