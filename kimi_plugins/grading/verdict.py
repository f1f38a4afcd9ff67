"""What a grader says of a response."""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What a verdict rests on. Of a failed grade nothing is known; the others are right or wrong."""

    RIGHT = "right"
    WRONG = "wrong"
    NO_PROGRAM = "no_program"  # wrong: the response has none to run
    OTHER_FORM = "other_form"  # not in the form of the reference: the values were not compared
    ANSWER_UNREADABLE = "answer_unreadable"
    TEXT_DIFFERS = "text_differs"  # the reference is not understood: only its own text is right
    REFERENCE_UNREADABLE = "reference_unreadable"  # a failed grade: the reference is malformed
    FAILED = "failed"

    @classmethod
    def of(cls, correct: bool | None) -> "Kind":
        """RIGHT, WRONG or, for None, FAILED."""
        return {True: cls.RIGHT, False: cls.WRONG, None: cls.FAILED}[correct]


class Verdict(NamedTuple):
    """kind: what it rests on. reason: why, in a few words."""

    kind: Kind
    reason: str

    @property
    def correct(self) -> bool | None:
        """None if the grader failed, which says nothing of the response."""
        if self.kind in (Kind.FAILED, Kind.REFERENCE_UNREADABLE):
            return None
        return self.kind is Kind.RIGHT

    @property
    def undecided(self) -> bool:
        """Whether rules refused the answer for its form, and not for its value: a judge that reads may know more."""
        return self.kind in _UNDECIDED


_UNDECIDED = (Kind.OTHER_FORM, Kind.ANSWER_UNREADABLE, Kind.TEXT_DIFFERS, Kind.REFERENCE_UNREADABLE)
RIGHT = Verdict(Kind.RIGHT, "equal")
