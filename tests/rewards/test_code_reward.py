"""The code reward as OpenRLHF calls it: the reward_func of a file, from many threads at a time."""

import asyncio
import importlib.util
import json
import logging
from pathlib import Path

import pytest

from kimi_plugins.sandbox.pool import Sandbox, SandboxError

pytestmark = pytest.mark.slow

FILE = Path(__file__).parents[2] / "kimi_plugins" / "rewards" / "code_reward.py"
PROMPT = "Double a number.\n"
LABEL = json.dumps({"function": "double", "cases": [{"args": [n], "output": 2 * n} for n in (1, 21)]})
RIGHT = "```python\ndef double(n): return 2 * n\n```<|im_end|>"
WRONG = "```python\ndef double(n): return 2\n```<|im_end|>"


@pytest.fixture(scope="module")
def reward(sandbox):
    """The reward function, loaded as OpenRLHF loads it."""
    spec = importlib.util.spec_from_file_location("reward_func", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.reward_func
    module.reward_func.close()


def ask(reward, query, prompt=PROMPT, label=LABEL):
    result = reward([query], [prompt], [label])
    assert result["rewards"] == result["scores"]
    return result["rewards"], result["extra_logs"]["grader_failed"]


def test_programs_are_run(reward):
    found = [ask(reward, PROMPT + response) for response in (RIGHT, WRONG, "2 n")]
    assert found == [(1.0, 0.0), (0.0, 0.0), (0.0, 0.0)]


def test_from_more_threads_than_workers(reward):
    async def rollouts():
        calls = [asyncio.to_thread(ask, reward, PROMPT + response) for response in [RIGHT, WRONG] * 8]
        return await asyncio.gather(*calls)

    assert asyncio.run(rollouts()) == [(1.0, 0.0), (0.0, 0.0)] * 8


def test_thinking_that_the_prompt_opens(reward):
    prompt = PROMPT + "<think>\n"
    assert [ask(reward, prompt + text, prompt)[0] for text in (RIGHT, "</think>" + RIGHT)] == [0.0, 1.0]


@pytest.mark.parametrize(
    "query, label, reason",
    [
        (PROMPT + RIGHT, "42", "the label must be a problem"),
        (PROMPT + RIGHT, "/no/such/file.jsonl#1", "No such file"),
        (RIGHT, LABEL, "the response cannot be told from the prompt"),
    ],
)
def test_what_cannot_be_graded_is_marked_and_logged(reward, caplog, query, label, reason):
    with caplog.at_level(logging.WARNING):
        assert ask(reward, query, label=label) == (0.0, 1.0)
    assert reason in caplog.text


def test_a_failing_sandbox_is_marked(reward, monkeypatch):
    def run(*_, **__):
        raise SandboxError("no cores left")

    monkeypatch.setattr(Sandbox, "run_python", run)
    assert ask(reward, PROMPT + RIGHT) == (0.0, 1.0)
