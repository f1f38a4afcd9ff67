"""Do answers agree whether a prompt is text or an image of it (k1.5 §2.3.5)?"""

from collections import Counter
from collections.abc import Sequence

from kimi_plugins.grading.extraction import NoAnswer, final_answers

Answer = str | float | None


def answer_of(response: str, pattern: str | None = None) -> Answer:
    """The final answer in a form in which equal ones are mostly equal: a number, or text; None if there is none.

    pattern: as options.MathGrader.answer_pattern.
    """
    try:
        text = " ".join(", ".join(final_answers(response, pattern)).split()).strip("$").casefold()
    except NoAnswer:
        return None
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text


def agreement(text: Sequence[Answer], image: Sequence[Answer]) -> float:
    """The probability that a response to the text and one to the image have the same answer; none agrees with nothing.

    text, image: answers of the responses, at least one each.
    """
    seen = Counter(answer for answer in image if answer is not None)
    return sum(seen[answer] for answer in text if answer is not None) / (len(text) * len(image))


def self_agreement(answers: Sequence[Answer]) -> float | None:
    """The same for two different responses to one prompt: what agreement can reach; None of a single response."""
    k = len(answers)
    if k < 2:
        return None
    counts = Counter(answer for answer in answers if answer is not None)
    return sum(n * (n - 1) for n in counts.values()) / (k * (k - 1))
