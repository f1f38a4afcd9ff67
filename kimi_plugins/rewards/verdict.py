"""What a grader says of a response."""

from typing import NamedTuple


class Verdict(NamedTuple):
    """correct: None if the grader failed, which says nothing of the response. reason: why, in a few words."""

    correct: bool | None
    reason: str


RIGHT = Verdict(True, "equal")
