"""Sets of real numbers, of intervals and points, compared exactly."""

from dataclasses import dataclass

from kimi_plugins.grading.math import values
from kimi_plugins.grading.math.parser import Node


@dataclass(frozen=True, slots=True)
class Interval:
    """low and high: constants, None for infinity."""

    low: Node | None
    low_open: bool
    high: Node | None
    high_open: bool


@dataclass(frozen=True, slots=True)
class Points:
    numbers: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Union:
    parts: tuple["Set", ...]


@dataclass(frozen=True, slots=True)
class Intersection:
    parts: tuple["Set", ...]


@dataclass(frozen=True, slots=True)
class Difference:
    whole: "Set"
    removed: "Set"


Set = Interval | Points | Union | Intersection | Difference
REALS = Interval(None, True, None, True)
EMPTY = Union(())


def equal(a: Set, b: Set) -> bool:
    """Whether two sets have the same numbers: at each of their bounds, and between them."""
    bounds: list[Node] = []
    for bound in (*_bounds(a), *_bounds(b)):
        if not any(values.same(bound, other) for other in bounds):
            place = sum(values.less(other, bound) is True for other in bounds)
            bounds.insert(place, bound)
    return all(
        _contains(a, position, bounds) == _contains(b, position, bounds) for position in range(2 * len(bounds) + 1)
    )


def valid(low: Node | None, high: Node | None) -> bool:
    """Whether they are the bounds of an interval: real constants, the first below the second."""
    for bound in (low, high):
        if bound is not None:
            value = values.constant(bound)
            if value is None or values.is_complex(value):
                return False
    return low is None or high is None or values.less(low, high) is True


def _bounds(found: Set):
    match found:
        case Interval():
            yield from (bound for bound in (found.low, found.high) if bound is not None)
        case Points():
            yield from found.numbers
        case Union() | Intersection():
            for part in found.parts:
                yield from _bounds(part)
        case Difference():
            yield from _bounds(found.whole)
            yield from _bounds(found.removed)


def _contains(found: Set, position: int, bounds: list[Node]) -> bool:
    """position: 2n + 1 for the bound n, 2n for what is below it."""
    match found:
        case Interval():
            low = -1 if found.low is None else _position(found.low, bounds)
            high = 2 * len(bounds) + 1 if found.high is None else _position(found.high, bounds)
            above = position > low or (position == low and not found.low_open)
            return above and (position < high or (position == high and not found.high_open))
        case Points():
            return any(position == _position(number, bounds) for number in found.numbers)
        case Union():
            return any(_contains(part, position, bounds) for part in found.parts)
        case Intersection():
            return all(_contains(part, position, bounds) for part in found.parts)
        case Difference():
            return _contains(found.whole, position, bounds) and not _contains(found.removed, position, bounds)


def _position(bound: Node, bounds: list[Node]) -> int:
    return 2 * next(n for n, other in enumerate(bounds) if values.same(bound, other)) + 1
