r"""Grading of mathematical answers by rules (k1.5 §2.3.5). Rules: docs/rewards.md.

The final answer is read as what it is (text, list, tuple, interval, matrix, equation, quantity, expression), and must
be of the reference's kind and equal in its parts. Precision counts before recall: RL finds and uses what is accepted
wrongly, and what is rejected wrongly only costs signal.
"""

from kimi_plugins.grading.extraction import NoAnswer, final_answers
from kimi_plugins.grading.math.comparing import (
    NotUnderstood,
    UnreadableReference,
    fault_of,
    same,
    squeezed,
    values_differ,
)
from kimi_plugins.grading.math.labels import clean, infinite
from kimi_plugins.grading.math.notation import depth, tidy, without_braces
from kimi_plugins.grading.math.parser import MOST_NESTED, TooLarge, Unreadable
from kimi_plugins.grading.math.reading import read
from kimi_plugins.grading.verdict import RIGHT, Kind, Verdict

MOST_CHARACTERS = 2000  # of an answer; longer ones are not answers
MOST_ANSWERS = 20  # in one statement


def grade(response: str, reference: str, *, pattern: str | None = None) -> Verdict:
    """Grade the final answer of a response.

    Args:
        response: thinking and answer, without the prompt.
        reference: the right answer in LaTeX or plain text; see labels.clean for what may stand around it.
        pattern: see extraction.final_answers; by default the answer is in a box.

    Returns:
        A failed grade if the reference cannot be read, which says nothing of the response.
    """
    try:
        answers = final_answers(response, pattern)
    except NoAnswer as error:
        return Verdict(Kind.WRONG, str(error))
    different = list(dict.fromkeys(answers))
    if len(different) == 1:
        return grade_answer(answers[0], reference)
    if len(different) > MOST_ANSWERS:
        return Verdict(Kind.WRONG, "several final answers")
    verdicts = [grade_answer(answer, reference) for answer in different]
    if all(verdict.correct for verdict in verdicts):
        return RIGHT
    whole = grade_answer(", ".join(answers), reference)  # the parts of a list, each in a box
    return whole if whole.correct is not False else Verdict(Kind.WRONG, "several final answers")


def grade_answer(answer: str, reference: str) -> Verdict:
    """Grade an answer that stands alone, without a box."""
    if answer.strip() == reference.strip() != "":
        return RIGHT
    answer, reference = infinite(answer), clean(reference)
    if not reference.strip():
        return Verdict(Kind.FAILED, "the reference is empty")
    if len(answer) > max(MOST_CHARACTERS, 2 * len(reference)):
        return Verdict(Kind.WRONG, "too long for an answer")
    answer, reference = without_braces(answer), without_braces(reference)
    if depth(answer) > max(MOST_NESTED, depth(reference)):
        return Verdict(Kind.WRONG, "no answer: nested too deeply")
    answer, reference = tidy(answer), tidy(reference)
    if not answer:
        return Verdict(Kind.WRONG, "the final answer is empty")
    if answer == reference:
        return RIGHT
    try:
        try:
            expected = read(reference)
        except Unreadable as error:
            raise fault_of(reference, error) from error
        found = read(answer)
        if same(found, expected):
            return RIGHT
        if values_differ(found, expected):
            return Verdict(Kind.WRONG, "not equal")
        return Verdict(Kind.OTHER_FORM, "not in the form of the reference")
    except UnreadableReference as error:
        if squeezed(answer) == squeezed(reference):
            return RIGHT
        return Verdict(Kind.REFERENCE_UNREADABLE, f"the reference cannot be read: {error}")
    except NotUnderstood as error:
        if squeezed(answer) == squeezed(reference):
            return RIGHT
        return Verdict(Kind.TEXT_DIFFERS, f"not the text of the reference, which is not understood: {error}")
    except TooLarge as error:
        return Verdict(Kind.WRONG, f"no answer: {error}")
    except (Unreadable, RecursionError) as error:
        return Verdict(Kind.ANSWER_UNREADABLE, f"the answer cannot be read: {error}")
