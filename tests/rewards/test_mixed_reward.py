"""One reward function for rows of all kinds, and a user's function that does everything wrong."""

import argparse
import json
import logging
import pickle
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from judge_server import serving
from openrlhf.utils.config import hierarchize

from kimi_plugins import options
from kimi_plugins.grading.functions import Function, FunctionFailed
from kimi_plugins.grading.kinds import FILE, Grader, Settings
from kimi_plugins.plugin import Rewards
from kimi_plugins.rewards import labels
from kimi_plugins.rewards.labels import Tagged
from kimi_plugins.rewards.metrics import add_format_rewards, metrics
from kimi_plugins.rewards.mixed_reward import Format, MixedReward
from kimi_plugins.rewards.settings import problems, reward_function, tagged_label

FUNCTIONS = """
import os, re, sys, time

def reward_func(queries, prompts, labels):
    response = queries[0][len(prompts[0]):]
    match response:
        case "raises": raise KeyError("what the user's parser met")
        case "nan": return {"rewards": float("nan")}
        case "infinite": return {"rewards": 1.0, "scores": float("inf")}
        case "two": return {"rewards": [1.0, 0.0]}
        case "text": return {"rewards": 1.0, "extra_logs": {"kind": "text"}}
        case "nothing": return None
        case "exits": sys.exit(3)
        case "dies": os._exit(4)
        case "sleeps": time.sleep(60)
        case "spins": re.fullmatch("(a+)+b", "a" * 40)
    return {"rewards": [0.5], "scores": 1.0, "extra_logs": {"length": [len(response)]}}

def close(response, label):
    return 1 - abs(int(response) - label) / 10

def long(response, label, prompt):
    return len(response) > len(prompt)

def other(a, b, c, d):
    return 0

value = 3
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("functions") / "user_rewards.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture(scope="module")
def reward(file):
    functions = options.Functions(workers=2, timeout=1.5)
    made = MixedReward(Settings(file=str(file), functions=functions), FILE)
    made = pickle.loads(pickle.dumps(made))  # as it reaches the engines
    yield made
    made.close()


def ask(reward, response, label="2", prompt="1+1="):
    result = reward([prompt + response], [prompt], [label])
    return result["rewards"], result["scores"], result["extra_logs"]


def test_a_users_file_works_unchanged(reward):
    found = ask(reward, "four")
    assert found[:2] == (0.5, 1.0)
    assert found[2] == {"length": 4.0, "grader_failed": 0.0, "kimi_reasoning_share": 0.0}


@pytest.mark.parametrize(
    "response, reason",
    [
        ("raises", "raised KeyError"),
        ("nan", "returned rewards that is not finite: nan"),
        ("infinite", "returned scores that is not finite: inf"),
        ("two", "returned rewards of length 2 for one response"),
        ("text", "returned extra_logs['kind'] that is not a number: 'text'"),
        ("nothing", "returned its value that is not a number: None"),
        ("exits", "raised SystemExit: 3"),
        ("dies", "died"),
        ("sleeps", "timed out after 1.5 s"),
        ("spins", "timed out after 1.5 s"),
    ],
)
def test_whatever_a_function_does_wrong_is_a_failed_grade(reward, caplog, response, reason):
    with caplog.at_level(logging.WARNING):
        rewards, scores, logs = ask(reward, response)
    assert (rewards, scores, logs["grader_failed"]) == (0.0, 0.0, 1.0)
    assert reason in caplog.text
    assert ask(reward, "fine")[1] == 1.0


def test_the_traceback_is_logged_once(file, caplog):
    made = MixedReward(Settings(file=str(file)), FILE)
    with caplog.at_level(logging.WARNING):
        ask(made, "raises")
        ask(made, "raises")
    made.close()
    assert caplog.text.count("raised KeyError") == 2
    assert caplog.text.count('user_rewards.py", line') == 1


def test_calls_share_the_processes(file):
    function = Function(str(file), workers=1, timeout=5.0)
    function.check()
    [process] = function._live
    assert [function.grade("x", "", "p").score for _ in range(20)] == [1.0] * 20
    assert function._live == {process}
    function.close()


def test_a_process_outlives_the_thread_that_needed_it_first(file):
    function = Function(str(file), workers=1, timeout=5.0)
    first = threading.Thread(target=function.check)
    first.start()
    first.join()
    [process] = function._live
    time.sleep(0.2)
    assert function.grade("x", "", "p").score == 1.0 and function._live == {process}
    process._popen.kill()  # one that ended meanwhile is replaced
    process._popen.wait()
    assert function.grade("x", "", "p").score == 1.0
    function.close()


@pytest.fixture(scope="module")
def grader(file):
    import sys

    sys.path.insert(0, str(file.parent))
    with Grader(Settings(text=options.TextGrader(answer_pattern="Answer:"), math=options.MathGrader())) as made:
        yield made
    sys.path.remove(str(file.parent))


@pytest.mark.parametrize(
    "kind, response, label, score",
    [
        ("math", r"<think>\boxed{1}</think> \boxed{\frac12}<|im_end|>", "0.5", 1.0),
        ("math", r"\boxed{3}", 2, 0.0),
        ("vision", r"\boxed{12}", "12", 1.0),
        ("exact", "<think>Answer: b</think> Answer: a<|im_end|>", "a", 1.0),
        ("exact", "Answer: a or Answer: b", "a", 0.0),
        ("exact", "a", "a", 0.0),
        ("regex", "Answer: colour", "colou?r", 1.0),
        ("regex", "Answer: colours", "colou?r", 0.0),
        ("regex", "Answer: colour", "(", None),
        ("math", r"\boxed{3}", None, None),
        ("math", r"\boxed{3}", " ", None),
        ("maths", r"\boxed{3}", "3", None),
        ("user_rewards:close", "4<|im_end|>", 3, 0.9),
        ("user_rewards:long", "many words", "", 1.0),
        ("user_rewards:absent", "1", "1", None),
        ("no_such_module:f", "1", "1", None),
    ],
)
def test_each_kind(grader, kind, response, label, score):
    grade = grader.grade(kind, response, label, prompt="?")
    assert (grade.score, grade.failed) == (score, score is None), grade


@pytest.mark.slow
def test_code(grader, sandbox):
    label = {"cases": [{"input": "1 2", "output": "3"}]}
    program = "```python\nprint(sum(map(int, input().split())))\n```"
    for given in (label, json.dumps(label)):
        assert grader.grade("code", program, given).score == 1.0
    assert grader.grade("code", "```python\nprint(4)\n```", label).score == 0.0
    assert grader.grade("code", "<think>" + program, label).score == 0.0
    assert grader.grade("code", program, "42").failed


def test_a_row_is_graded_by_its_kind_and_its_thinking_measured(grader):
    made = MixedReward(Settings(), None, Format("<think>.*</think>.*", 1, 5.0, 30.0))
    tagged = Tagged("exact", "trivia", "yes").as_dict()
    result = made(["?<think>12345</think>yes"], ["?"], [tagged])
    assert (result["rewards"], result["scores"]) == (1.0, 1.0)
    logs = {"grader_failed": 0.0, "kimi_reasoning_share": 20 / 23, "kimi_has_format": 1.0}
    assert result["extra_logs"] == pytest.approx(logs)
    assert made(["?yes"], ["?"], [tagged])["extra_logs"]["kimi_has_format"] == 0.0
    assert made(["?yes"], ["?"], ["yes"])["extra_logs"]["grader_failed"] == 1.0  # nothing says of what kind it is
    made.close()


@pytest.mark.parametrize(
    "target, reason",
    [
        ("user_rewards:other", "it takes (a, b, c, d): write a function of (response, label)"),
        ("user_rewards:value", "value is a int and no function"),
        ("user_rewards:absent", "it defines no absent"),
        ("no_such_module:f", "No module named 'no_such_module'"),
    ],
)
def test_a_function_is_checked_before_the_run(grader, target, reason):
    function = Function(target, workers=1, timeout=5.0, start_timeout=30.0)
    with pytest.raises(FunctionFailed) as found:
        function.check()
    function.close()
    assert reason in str(found.value)


def arguments(*words, **changed):
    """Arguments of a run with these flags of kimi-rewards."""
    parser = argparse.ArgumentParser()
    Rewards().openrlhf_add_arguments(parser, "train")
    values = vars(parser.parse_args([f"--kimi.rewards.{word}" if "=" not in word[:4] else word for word in words]))
    values |= {
        "data.label_key": "label",
        "data.prompt_dataset": None,
        "data.prompt_split": "train",
        "data.input_key": "input",
        "data.image_key": "images",
        "data.apply_chat_template": True,
        "data.max_samples": 1000,
        "eval.dataset": None,
        "eval.split": "train",
        "reward.remote_url": None,
        "reward.model_name_or_path": None,
        "train.agent_func_path": None,
    } | {key.replace("__", "."): value for key, value in changed.items()}
    return hierarchize(SimpleNamespace(**values))


def table(*entries):
    args = arguments()
    args.kimi.rewards.sources = list(entries)
    return args


def test_options_of_every_grader_are_flags():
    args = arguments("math.answer_pattern=####", "judge.url=http://judge/v1", "code.workers=3", "functions.timeout=9")
    rewards = args.kimi.rewards
    assert (rewards.math.answer_pattern, rewards.judge.url, rewards.code.workers) == ("####", "http://judge/v1", 3)
    assert problems(args) == [] and reward_function(args) is None


@pytest.mark.parametrize(
    "row, expected",
    [
        ({"kind": "code", "datasource": "gsm8k"}, ("code", "gsm8k")),
        ({"kind": None, "datasource": "gsm8k"}, ("math", "gsm8k")),
        ({"datasource": "other"}, ("judge", "other")),
        ({}, ("judge", None)),
    ],
)
def test_a_row_has_the_kind_of_its_column_or_source_or_of_all(row, expected):
    args = table("gsm8k=math", "a=b=exact")
    args.kimi.rewards.kind_key, args.kimi.rewards.kind = "kind", "judge"
    tagged = labels.read(tagged_label(row, "5", args))
    assert tagged == (*expected, "5")
    assert labels.plain(tagged.as_dict()) == "5" and labels.plain("5") == "5"
    assert labels.read(tagged_label({"datasource": "a=b"}, "5", args)).kind == "exact"


def test_labels_stay_as_they_are_where_rows_have_no_kinds():
    assert tagged_label({"datasource": "gsm8k"}, "5", arguments()) is None


@pytest.mark.parametrize(
    "changed, named",
    [
        ({"kind": "maths"}, "kimi.rewards.kind: 'maths' is not a kind; choose math, code"),
        ({"sources": ["gsm8k:math"]}, "kimi.rewards.sources: 'gsm8k:math' is not SOURCE=KIND"),
        ({"sources": ["gsm8k=maths"]}, "kimi.rewards.sources: gsm8k: 'maths' is not a kind"),
        ({"sources": ["a=math", "a=code"]}, "kimi.rewards.sources: a is math and code; keep one"),
        ({"kind": "file"}, "kimi.rewards: the kind file needs a reward file"),
        ({"kind": "math", "data__label_key": None}, "data.label_key: not set"),
        ({"kind": "math", "reward__remote_url": ["my.py"]}, "reward.remote_url: my.py would grade no row"),
        ({"kind": "math", "reward__remote_url": ["http://x/y"]}, "reward.remote_url: http://x/y would grade no row"),
        ({"kind": "math", "reward__model_name_or_path": "rm"}, "reward.model_name_or_path: rm would not be asked"),
        ({"kind": "math", "train__agent_func_path": "a.py"}, "train.agent_func_path: a.py gives the rewards itself"),
        ({"kind": "math", "format": "("}, "kimi.rewards.format: '(' is not a regular expression"),
        ({"format_reward": 0.1}, "kimi.rewards.format_reward is 0.1 without a format"),
        ({"format_reward": float("nan")}, "kimi.rewards.format_reward is nan"),
        ({"kind": "math", "math.timeout": 0.0}, "kimi.rewards.math.timeout is 0.0"),
        ({"kind": "math", "math.answer_pattern": "("}, "kimi.rewards.math.answer_pattern: "),
        (
            {"kind": "judge", "judge.url": "judge"},
            "kimi.rewards.judge.url is judge: it must be an address that begins with http://",
        ),
        ({"kind": "a.b:c", "functions.workers": 0}, "kimi.rewards.functions.workers is 0"),
    ],
)
def test_settings_that_mean_nothing_are_named(changed, named):
    ours = {f"kimi.rewards.{key}": value for key, value in changed.items() if "__" not in key}
    args = arguments(**ours, **{key: value for key, value in changed.items() if "__" in key})
    [problem] = problems(args)
    assert problem.startswith(named), problem


def test_rows_without_a_kind_or_a_usable_label_are_named(write_rows):
    rows = [
        {"input": "?", "label": "5", "datasource": "gsm8k"},
        {"input": "?", "label": "5", "datasource": "apps"},
        {"input": "?", "label": None, "datasource": "gsm8k"},
        {"input": "?", "label": ["5"], "datasource": "gsm8k"},
        {"input": "?", "label": "5", "datasource": "aime"},
        {"input": "?", "label": "5"},
        {"input": "?", "label": "(", "datasource": "patterns"},
    ]
    args = table("gsm8k=math", "apps=code", "patterns=regex")
    args.data.prompt_dataset = str(write_rows("rows.jsonl", rows))
    found = [problem.partition("rows.jsonl ")[2] for problem in Rewards().openrlhf_check_machine(args, "train")]
    assert len(found) == 4
    assert found[0].startswith("row 2: 'label' is not a problem with test cases")
    assert found[1].startswith("row 5: the data source 'aime' is not in kimi.rewards.sources; add aime=KIND")
    assert found[2].startswith("row 6: no data source in 'datasource'")
    assert found[3].startswith("row 7: 'label': the answer pattern '(' is not")


def test_graders_that_cannot_be_had_are_named(write_rows, grader):
    args = arguments("kind=user_rewards:other", "judge.url=http://127.0.0.1:9/v1")
    args.data.prompt_dataset = str(write_rows("rows.jsonl", [{"input": "?", "label": "5"}]))
    [problem] = Rewards().openrlhf_check_machine(args, "train")
    assert problem.startswith("kimi.rewards: user_rewards:other cannot be used: ValueError: it takes (a, b, c, d)")
    args.kimi.rewards.kind = "judge"
    [problem] = Rewards().openrlhf_check_machine(args, "train")
    assert problem.startswith("kimi.rewards.judge.url: nothing answers at http://127.0.0.1:9/v1")


def test_what_grades_the_responses(file):
    assert reward_function(arguments(reward__remote_url=f"{file}")) is not None
    assert reward_function(arguments(reward__remote_url=["http://x/y"])) is not None
    assert reward_function(arguments(reward__model_name_or_path="rm")) is None
    assert reward_function(arguments(kimi__rewards__kind="math")) is not None
    assert reward_function(arguments(kimi__rewards__kind="math", train__agent_func_path="a.py")) is None


def test_reward_servers_answer_or_the_grade_fails(monkeypatch):
    monkeypatch.setattr("kimi_plugins.grading.servers.BACKOFF", 0.01)
    replies = iter(
        [(500, {}), (200, {"rewards": [0.5], "scores": [1.0]}), (200, {"rewards": [0.5, 1.0]}), *[None] * 4]
    )
    with serving(lambda *_: next(replies)) as server:
        reward = reward_function(arguments(reward__remote_url=[server.url]))
        assert ask(reward, "two")[:2] == (0.5, 1.0)
        assert server.requests[0][1] == {"query": ["1+1=two"], "prompts": ["1+1="], "labels": ["2"]}
        for _ in range(2):  # rewards of two responses; then the server breaks off
            assert ask(reward, "two")[2]["grader_failed"] == 1.0
        reward.close()
    assert len(server.requests) == 7


def batch(scores, failed, sources, shares, form):
    tagged = [Tagged("math", source, "5").as_dict() for source in sources]
    info = {"grader_failed": torch.tensor(failed), "kimi_reasoning_share": torch.tensor(shares)}
    return SimpleNamespace(
        scores=torch.tensor(scores),
        rewards=torch.tensor(scores),
        info=info | {"kimi_has_format": torch.tensor(form)},
        labels=tagged,
        response_length=torch.tensor([100] * len(scores)),
    )


def test_metrics_by_source():
    experiences = [
        batch([1.0, 0.0], [0.0, 1.0], ["gsm8k", "gsm8k"], [0.5, 0.0], [1.0, 1.0]),
        batch([0.0, 0.5], [0.0, 0.0], ["gsm8k", None], [0.25, 0.25], [0.0, 0.0]),
    ]
    assert metrics(experiences) == {
        "kimi/grader_failure_share": 0.25,
        "kimi/reasoning_tokens_mean": 25.0,
        "kimi/format_share": 0.5,
        "kimi/rewards/gsm8k/responses": 3.0,
        "kimi/rewards/gsm8k/accuracy": 0.5,
        "kimi/rewards/gsm8k/failure_share": pytest.approx(1 / 3),
        "kimi/rewards/gsm8k/length_mean": 100.0,
        "kimi/rewards/math/responses": 1.0,
        "kimi/rewards/math/accuracy": 0.5,
        "kimi/rewards/math/failure_share": 0.0,
        "kimi/rewards/math/length_mean": 100.0,
    }
    add_format_rewards(experiences, 0.2)
    assert experiences[0].rewards.tolist() == pytest.approx([1.2, 0.2])
    assert experiences[1].rewards.tolist() == pytest.approx([0.0, 0.5])
