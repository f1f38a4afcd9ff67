"""What a grader says of a response."""

from typing import NamedTuple


class Verdict(NamedTuple):
    """correct: None if the grader failed, which says nothing of the response. reason: why, in a few words."""

    correct: bool | None
    reason: str


RIGHT = Verdict(True, "equal")

# Where the rules for mathematics end (math.py). A judge that reads may know more.
OTHER_FORM = "not in the form of the reference"
ANSWER_UNREADABLE = "the answer cannot be read"
REFERENCE_UNREADABLE = "the reference cannot be read"


def undecided(verdict: Verdict) -> bool:
    """Whether the rules for mathematics refused the answer for its form, and not for its value."""
    return not verdict.correct and verdict.reason.startswith((OTHER_FORM, ANSWER_UNREADABLE, REFERENCE_UNREADABLE))
