r"""The reward of answers that rules or else a judge grade, for ``--reward.remote_url …/rewards/judge_reward.py``.

It asks the server that ``openrlhf kimi judge-serve`` starts on this machine. For another one, or other settings than
the defaults (options.Judge, options.MathGrader), write a file of two lines and name that:

    from kimi_plugins.rewards.judge_reward import JudgeReward
    reward_func = JudgeReward(url="http://judges:8100/v1", request_timeout=120)
"""

import logging

from kimi_plugins.grading.judge.judge import Judge
from kimi_plugins.grading.judge.prompt import question_of
from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.groups import GRADER_FAILED
from kimi_plugins.rewards.math_reward import response_of

logger = logging.getLogger(__name__)


class JudgeReward:
    """A reward function of OpenRLHF: 1 for a right final answer, else 0. The question is the prompt.

    settings: see Judge. The grader processes start with the first response.
    """

    def __init__(self, **settings) -> None:
        self._judge = Judge(**settings)

    def __call__(self, queries: list[str], prompts: list[str], labels: list[str]) -> dict:
        """Grade one response, as MathReward does; OpenRLHF calls it with lists of one.

        Returns:
            rewards and scores; in extra_logs grader_failed, and judge_asked: 1 if the verdict is a judge's.
        """
        [query], [prompt], [label] = queries, prompts, labels
        response = response_of(query, prompt)
        if response is None:
            verdict = Verdict(Kind.FAILED, "the response cannot be told from the prompt")
        else:
            verdict = self._judge.grade(question_of(prompt), response, str(label))
        if verdict.correct is None:
            logger.warning(
                "grader failed: %s; label %.80r, response ends in %.80r", verdict.reason, label, query[-80:]
            )
        reward = float(verdict.correct or False)
        logs = {
            GRADER_FAILED: float(verdict.correct is None),
            "judge_asked": float(verdict.reason.startswith("judge: ")),
        }
        return {"rewards": reward, "scores": reward, "extra_logs": logs}


reward_func = JudgeReward()
