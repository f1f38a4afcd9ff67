"""What a generator returns, and its knob."""

from typing import NamedTuple

from PIL import Image

from kimi_plugins.vision.synthetic.drawing import Canvas


class Scene(NamedTuple):
    """A picture, a question about it, its only answer, and the steps that lead there.

    image: RGB, square.
    facts: sentences, the last one ending in the answer; a chain of thought for warm-up data (k1.5 §2.2).
    parts: what was drawn where, in pixels of the image, for checks by other means.
    """

    image: Image.Image
    question: str
    answer: str
    facts: tuple[str, ...]
    parts: tuple[dict, ...]


class Plan(NamedTuple):
    """A scene that is not drawn yet; otherwise as Scene."""

    canvas: Canvas
    question: str
    answer: str
    facts: tuple[str, ...]
    parts: tuple[dict, ...]


def between(low: float, high: float, difficulty: float) -> int:
    """A whole number from low, at difficulty 0, to high, at 1."""
    return round(low + (high - low) * difficulty)


def listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
