r"""The reward of mathematical answers, for ``--reward.remote_url …/kimi_plugins/rewards/math_reward.py``.

For other settings than the defaults (options.MathGrader) write a file of two lines and name that:

    from kimi_plugins.rewards.math_reward import MathReward
    reward_func = MathReward(answer_pattern="####", timeout=10)
"""

import logging
import threading
from dataclasses import asdict

from kimi_plugins import options
from kimi_plugins.grading.extraction import opens_thinking
from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.grading.workers import Pool
from kimi_plugins.groups import GRADER_FAILED

logger = logging.getLogger(__name__)

PROMPT_END = 60  # characters by which the end of a prompt is found


class MathReward:
    """A reward function of OpenRLHF: 1 for a right final answer, else 0 (k1.5's r(x, y, y*)).

    settings: fields of options.MathGrader. The grader processes start with the first response.
    """

    def __init__(self, **settings) -> None:
        self._settings = asdict(options.MathGrader(**settings))
        self._pool: Pool | None = None
        self._lock = threading.Lock()  # OpenRLHF calls from many threads

    def __call__(self, queries: list[str], prompts: list[str], labels: list[str]) -> dict:
        """Grade one response; OpenRLHF calls it with lists of one.

        queries: prompt and response with special tokens, as decoded from the rollout.

        Returns:
            rewards and scores, 0 too for a failed grade, which extra_logs' grader_failed tells kimi-rewards to leave
            out.
        """
        [query], [prompt], [label] = queries, prompts, labels
        response = response_of(query, prompt)
        if response is None:
            verdict = Verdict(Kind.FAILED, "the response cannot be told from the prompt")
        else:
            verdict = self._start().grade(response, str(label))
        if verdict.correct is None:
            logger.warning(
                "grader failed: %s; label %.80r, response ends in %.80r", verdict.reason, label, query[-80:]
            )
        reward = float(verdict.correct or False)
        failed = float(verdict.correct is None)
        return {"rewards": reward, "scores": reward, "extra_logs": {GRADER_FAILED: failed}}

    def _start(self) -> Pool:
        with self._lock:
            if self._pool is None:
                settings = dict(self._settings)
                self._pool = Pool(pattern=settings.pop("answer_pattern"), **settings)
            return self._pool


def response_of(query: str, prompt: str) -> str | None:
    """What follows the prompt, with the thinking opened if the prompt opens it; None if that cannot be told.

    A query does not begin with its prompt if the prompt was cut to the context or its image tokens were expanded; its
    end is found then.
    """
    if query.startswith(prompt):
        response = query[len(prompt) :]
    else:
        end = prompt[-PROMPT_END:]
        parts = query.split(end, prompt.count(end)) if end else []
        if not end or len(parts) <= prompt.count(end):
            return None
        response = parts[-1]
    return "<think>" + response if opens_thinking(prompt) else response


reward_func = MathReward()
