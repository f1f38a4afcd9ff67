"""Accuracy against tokens: the Pareto front, and the point to choose on it."""

from typing import NamedTuple, TypeVar


class Point(NamedTuple):
    """accuracy: pass@1, from 0 to 1. tokens: mean of a response."""

    name: str
    accuracy: float
    tokens: float


P = TypeVar("P", bound=Point)


def on_front(points: list[P]) -> list[bool]:
    """Whether no other point is as accurate with as few tokens, and better in one of them."""
    return [
        not any(
            other.accuracy >= point.accuracy
            and other.tokens <= point.tokens
            and (other.accuracy, other.tokens) != (point.accuracy, point.tokens)
            for other in points
        )
        for point in points
    ]


def choose(points: list[P], within: float) -> P:
    """The point of fewest tokens among those at most `within` (a share) less accurate than the best: on the front.

    Of equal ones the last.
    """
    best = max(point.accuracy for point in points)
    # What is exactly `within` less in decimals must not fall out by rounding.
    near = [point for point in points if point.accuracy >= best - within - 1e-9]
    return min(reversed(near), key=lambda point: (point.tokens, -point.accuracy))
