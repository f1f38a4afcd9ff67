"""Grader failures: counted, and the end of a run when there are too many."""

from collections import Counter

from kimi_plugins.errors import Failed
from kimi_plugins.grading.verdict import Verdict

GRADER_FAILED = "grader_failed"  # in a rollout's info: 1 if its grade says nothing of it, else 0
LEAST_GRADES = 100  # denominator of rates over fewer grades, so that one early failure does not abort the run


class TooManyFailures(Failed):
    """The grader failed so often that the rewards cannot be trusted."""


class Failures:
    """graded: number of verdicts seen. reasons: how often each reason for a failure was met."""

    def __init__(self) -> None:
        self.graded = 0
        self.reasons: Counter[str] = Counter()

    @property
    def failed(self) -> int:
        return self.reasons.total()

    def add(self, verdict: Verdict) -> None:
        self.graded += 1
        if verdict.correct is None:
            self.reasons[verdict.reason] += 1

    def check(self, limit: float) -> None:
        """Raise TooManyFailures, with the commonest reasons, above the share `limit`, from 0 to 1."""
        reasons = "; ".join(f"{count} × {reason}" for reason, count in self.reasons.most_common(3))
        check(self.failed, self.graded, limit, reasons)


def check(failed: int, graded: int, limit: float, reasons: str) -> None:
    """Raise TooManyFailures if more than the share `limit` of the grades failed."""
    if failed > limit * max(graded, LEAST_GRADES):
        raise TooManyFailures(
            f"the grader failed on {failed} of {graded} responses, above the limit of {limit:g} of them: {reasons}"
        )
