"""Numbers that a short text holds, in digits or in English words, as exact fractions."""

import re
from fractions import Fraction
from typing import NamedTuple

from kimi_plugins.grading.math.units import read_unit

_TOKEN = re.compile(
    r"\\[dt]?frac\s*\{?\s*(\d+)\s*\}?\s*\{?\s*(\d+)\s*\}?|(?<![\d.])(\d+)\s*/\s*(\d+)(?![\d.])"
    r"|(?P<numeral>\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)|\\[A-Za-z]+|(?P<word>[^\W\d_]+|[%$€£¥'\"])"
)
_SMALL = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split(),
        range(20),
        strict=True,
    )
) | {"none": 0, "nothing": 0, "once": 1, "twice": 2, "double": 2, "noon": 12, "midnight": 12}
_TENS = dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True))
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_PARTS = {
    name: Fraction(1, size)
    for names, size in (
        ("half halves", 2),
        ("third thirds", 3),
        ("quarter quarters fourth fourths", 4),
        ("fifth fifths", 5),
        ("sixth sixths", 6),
        ("seventh sevenths", 7),
        ("eighth eighths", 8),
        ("ninth ninths", 9),
        ("tenth tenths", 10),
        ("hundredth hundredths", 100),
    )
    for name in names.split()
}
WORDS = frozenset((*_SMALL, *_TENS, *_SCALES, *_PARTS))
# Units in which a number without one may be meant.
_UNITS = "s min hour day week month year mm cm dm m km in ft yd mi mg g kg oz lb ml l cup cent dollar".split()


class Part(NamedTuple):
    """A number and the word that follows it, in lower case; digits: whether it has any."""

    value: Fraction
    word: str
    digits: bool


def parts(text: str) -> list[Part]:
    """The numbers of a text, in their order: 18, 3/4, twenty-six, one and a half, 5 million."""
    found: list[Part] = []
    current: Fraction | None = None
    digits = joined = False  # by "and", as in one and a half

    def end(word: str) -> None:
        nonlocal current, digits
        if current is not None:
            found.append(Part(current, word, digits))
        current, digits = None, False

    for match in _TOKEN.finditer(text):
        over = [int(group) for group in match.groups()[:4] if group is not None]
        word = (match["word"] or "").casefold()
        if match["numeral"] or over:
            if over and not over[1]:
                end("")
                continue
            value = Fraction(*over) if over else Fraction(match["numeral"].replace(",", ""))
            mixed = over and current is not None and current.denominator == 1 and value < 1
            if not mixed:
                end("")
            current, digits = (current or 0) + value if mixed else value, True
        elif word in ("a", "an") or re.fullmatch(r"\\(?:text\w*|mathrm|mathbf)", match[0]):
            continue
        elif word == "and" and current is not None:
            joined = True
            continue
        elif word in _PARTS:
            part = _PARTS[word]
            current = part if current is None else current + part if joined else current * part
        elif word in _SCALES:
            current = Fraction(_SCALES[word]) if current is None else current * _SCALES[word]
        elif word in _SMALL or word in _TENS:
            value = Fraction(_SMALL.get(word, _TENS.get(word, 0)))
            if not (current and not digits and _goes_on(current, value)):
                end("")
            current = value + (current or 0)
        else:
            end(word)
        joined = False
    end("")
    return found


def _goes_on(number: Fraction, value: Fraction) -> bool:
    """Whether a number in words goes on with a smaller one: twenty six, a hundred twenty."""
    return number % 100 == 0 or (number % 10 == 0 and number % 100 >= 20 and 0 < value < 10)


def quantity(text: str) -> tuple[tuple, Fraction] | None:
    """(dimensions, size in base units) of a text whose numbers all have units of one kind: 5 ft 3 in, 90 minutes."""
    total, dimensions = Fraction(0), set()
    for part in parts(text):
        unit = read_unit(part.word) if part.word else None
        if unit is None or not unit.dimensions or isinstance(unit.factor, str):
            return None
        total += part.value * unit.scale * unit.factor
        dimensions.add(unit.dimensions)
    return (dimensions.pop(), total) if len(dimensions) == 1 else None


def in_some_unit(size: tuple[tuple, Fraction], value: Fraction) -> bool:
    """Whether a quantity is this number in some unit: 5 ft 3 in is 63."""
    dimensions, total = size
    units = [unit for name in _UNITS if (unit := read_unit(name)) is not None and unit.dimensions == dimensions]
    return any(total == value * unit.scale * unit.factor for unit in units if not isinstance(unit.factor, str))


def same_digits(a: Fraction, b: Fraction) -> bool:
    """Whether two numbers are equal up to sign and a power of ten, which may be a word: percent, thousand, million."""
    a, b = abs(a), abs(b)
    if not a or not b:
        return a == b
    return any(a == b * Fraction(10) ** power for power in range(-9, 10))
