"""The reward of a run with mixed data, as OpenRLHF's engines call it: each response by the kind of its row."""

import logging
import threading
from dataclasses import dataclass

from kimi_plugins.grading.extraction import after_thinking, opens_thinking
from kimi_plugins.grading.failures import GRADER_FAILED
from kimi_plugins.grading.functions import Function, FunctionFailed
from kimi_plugins.grading.judge.prompt import question_of
from kimi_plugins.grading.kinds import FILE, Grade, Grader, Settings, is_function
from kimi_plugins.rewards import labels

logger = logging.getLogger(__name__)

HAS_FORMAT = "kimi_has_format"
REASONING_SHARE = "kimi_reasoning_share"  # of the response's characters
PROMPT_END = 60  # characters by which the end of a prompt is found


@dataclass(frozen=True)
class Format:
    """pattern: see options.Rewards.format; the rest is of its processes, see options.Functions."""

    pattern: str
    workers: int
    timeout: float
    start_timeout: float


class MixedReward:
    """A reward function of OpenRLHF, which can be pickled. Its processes start with the first response of each kind.

    kind: of rows whose label is not tagged (labels.py).
    """

    def __init__(self, settings: Settings, kind: str | None, form: Format | None = None) -> None:
        self._settings, self._kind, self._form = settings, kind, form
        self._grader = Grader(settings)
        self._format: Function | None = None
        self._lock = threading.Lock()
        self._reasons: set[str] = set()  # of failures whose traceback was logged

    def __reduce__(self):
        return MixedReward, (self._settings, self._kind, self._form)

    def __call__(self, queries: list[str], prompts: list[str], labels: list) -> dict:
        """Grade one response; OpenRLHF calls it with lists of one.

        queries: prompt and response with special tokens, as decoded from the rollout.

        Returns:
            rewards and scores, 0 too for a failed grade, which grader_failed in extra_logs tells kimi-rewards to leave
            out.
        """
        [query], [prompt], [label] = queries, prompts, labels
        response = response_of(query, prompt)
        grade = self._grade(query, prompt, response, label)
        if grade.failed:
            self._log(grade, label, query)
        logs = grade.logs | {GRADER_FAILED: float(grade.failed), REASONING_SHARE: _reasoning_share(response or "")}
        if self._form is not None:
            logs[HAS_FORMAT] = self._has_format(response or "", self._form)
        return {"rewards": grade.reward or 0.0, "scores": grade.score or 0.0, "extra_logs": logs}

    def _grade(self, query: str, prompt: str, response: str | None, label: object) -> Grade:
        tagged = labels.read(label)
        kind = self._kind if tagged is None else tagged.kind
        if kind is None:
            return Grade(None, None, "nothing says what kind the row is; set kimi.rewards.kind")
        if response is None and kind != FILE:
            return Grade(None, None, "the response cannot be told from the prompt")
        if kind == FILE or is_function(kind):  # what they get is the response as it is, without an opening tag
            response = query.removeprefix(prompt)
        return self._grader.grade(kind, response or "", labels.plain(label), question_of(prompt), prompt, query)

    def _log(self, grade: Grade, label: object, query: str) -> None:
        with self._lock:
            known = grade.reason in self._reasons
            self._reasons.add(grade.reason)
        traceback = "" if known or not grade.traceback else f"\n{grade.traceback}"
        label = str(labels.plain(label))
        logger.warning(
            "grader failed: %s; label %.80r, response ends in %.80r%s", grade.reason, label, query[-80:], traceback
        )

    def _has_format(self, response: str, form: Format) -> float:
        """1 or 0; a pattern that takes too long on a response does not match it."""
        with self._lock:
            if self._format is None:
                self._format = Function(
                    "kimi_plugins.grading.text:has_format",
                    {"pattern": form.pattern},
                    workers=form.workers,
                    timeout=form.timeout,
                    start_timeout=form.start_timeout,
                )
        try:
            return self._format.grade(response, "").score
        except FunctionFailed as error:
            logger.warning("the format was not checked: %s", error)
            return 0.0

    def close(self) -> None:
        """End the processes."""
        self._grader.close()
        if self._format is not None:
            self._format.close()


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


def _reasoning_share(response: str) -> float:
    """The share of a response before its final answer, by characters; 0 for one that does not think."""
    answer = after_thinking(response)
    return (len(response) - len(answer)) / len(response) if response else 0.0
