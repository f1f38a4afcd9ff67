"""The code reward as OpenRLHF calls it: the reward_func of a file, from many threads at a time."""

import asyncio
import importlib.util
import json
import logging
from pathlib import Path

import pytest

from kimi_plugins.sandbox.pool import SandboxError

pytestmark = pytest.mark.slow

FILE = Path(__file__).parents[2] / "kimi_plugins" / "rewards" / "code_reward.py"
PROMPT = "Double a number.\n"
LABEL = json.dumps({"function": "double", "cases": [{"args": [n], "output": 2 * n} for n in (1, 21)]})
RIGHT = "```python\ndef double(n): return 2 * n\n```<|im_end|>"
WRONG = "```python\ndef double(n): return 2\n```<|im_end|>"


@pytest.fixture(scope="module")
def reward(sandbox):
    """The module, loaded as OpenRLHF loads it."""
    spec = importlib.util.spec_from_file_location("reward_func", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    module.sandbox.close()


def test_a_batch(reward):
    responses = [RIGHT, WRONG, "2 n"]
    result = reward.reward_func([PROMPT + response for response in responses], [PROMPT] * 3, [LABEL] * 3)
    assert result["rewards"].tolist() == result["scores"].tolist() == [1.0, 0.0, 0.0]
    assert {name: values.tolist() for name, values in result["extra_logs"].items()} == {
        "grader_failed": [0.0, 0.0, 0.0],
        "answered": [1.0, 1.0, 0.0],
    }


def test_from_more_threads_than_workers(reward):
    async def rollouts():
        calls = [
            asyncio.to_thread(reward.reward_func, [PROMPT + response], [PROMPT], [LABEL])
            for response in [RIGHT, WRONG] * 8
        ]
        return await asyncio.gather(*calls)

    assert [result["rewards"].item() for result in asyncio.run(rollouts())] == [1.0, 0.0] * 8


def test_thinking_that_the_prompt_opens(reward):
    prompt = PROMPT + "<think>\n"
    result = reward.reward_func([prompt + RIGHT, prompt + "</think>" + RIGHT], [prompt] * 2, [LABEL] * 2)
    assert result["rewards"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "query, label, reason",
    [
        (PROMPT + RIGHT, "42", "the label must be a problem"),
        (PROMPT + RIGHT, "/no/such/file.jsonl#1", "No such file"),
        (RIGHT, LABEL, "the query does not begin with its prompt"),
    ],
)
def test_what_cannot_be_graded_is_marked_and_logged(reward, caplog, query, label, reason):
    with caplog.at_level(logging.WARNING):
        result = reward.reward_func([query], [PROMPT], [label])
    assert (result["rewards"].item(), result["extra_logs"]["grader_failed"].item()) == (0.0, 1.0)
    assert reason in caplog.text


def test_a_failing_sandbox_is_marked(reward, monkeypatch):
    def run(*_, **__):
        raise SandboxError("no cores left")

    monkeypatch.setattr(reward.sandbox, "run", run)
    result = reward.reward_func([PROMPT + RIGHT], [PROMPT], [LABEL])
    assert (result["rewards"].item(), result["extra_logs"]["grader_failed"].item()) == (0.0, 1.0)
