"""The code reward as OpenRLHF takes it: `--reward.remote_url …/kimi_plugins/rewards/code_reward.py`.

Importing it makes the sandbox, so that a machine which cannot isolate programs fails when the engine starts.
KIMI_SANDBOX_WORKERS: programs at a time in this process, one a core by default; every engine has its own.
"""

import logging
import os

import torch

from kimi_plugins.grading.extraction import opens_thinking
from kimi_plugins.grading.programs import Verdict, judge, read_label
from kimi_plugins.sandbox.pool import Sandbox

logger = logging.getLogger(__name__)
sandbox = Sandbox(workers=int(os.environ.get("KIMI_SANDBOX_WORKERS", "0")) or None)


def reward_func(queries: list[str], prompts: list[str], labels: list[str]) -> dict:
    """1 where the program at the end of the response passes all cases of its label, else 0; all [B].

    queries: prompt and response as decoded from the rollout. labels: see programs.read_label.
    extra_logs: grader_failed is 1 where nothing is known about the response, whose reward must not count;
    answered is 1 where there was a program.
    """
    verdicts = [_verdict(*row) for row in zip(queries, prompts, labels, strict=True)]
    for verdict in verdicts:
        if verdict.failed:
            logger.warning("a response could not be graded: %s", verdict.reason)
    rewards = torch.tensor([verdict.reward for verdict in verdicts])
    return {
        "rewards": rewards,
        "scores": rewards,
        "extra_logs": {
            "grader_failed": torch.tensor([float(verdict.failed) for verdict in verdicts]),
            "answered": torch.tensor([float(verdict.answered) for verdict in verdicts]),
        },
    }


def _verdict(query: str, prompt: str, label: str) -> Verdict:
    if not query.startswith(prompt):
        return Verdict(0.0, f"the query does not begin with its prompt {prompt!r:.60}", failed=True)
    try:
        problem = read_label(label)
    except (ValueError, OSError) as error:
        return Verdict(0.0, str(error), failed=True)
    return judge(query[len(prompt) :], problem, sandbox, thinking=opens_thinking(prompt))
