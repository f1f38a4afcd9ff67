"""Whether two expressions have the same value. Parsed by math-verify, compared by value here.

Exactly, in 50 digits: math-verify's own comparison rounds decimals to six places. Expressions with variables are
compared at fixed points, where two that are not equal everywhere agree with a probability of nearly 0; this also
spares expanding (x+y+z+w)^{400}.
"""

import logging
import re
from fractions import Fraction
from functools import lru_cache

import sympy
from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

from kimi_plugins.grading.math.notation import number

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time-outs are off; see workers.py

_LATEX = (
    LatexExtractionConfig(
        boxed_match_priority=-1,
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
        ),
    ),
)
_DIGITS = 50
_CLOSE = sympy.Float(10, _DIGITS) ** -40
_POINTS = 6
_MOST_BITS = 20_000  # of an intermediate integer; 9^{9^{8}} has 136 million
_MOST_NESTED = 40
_EVALUATION_ERRORS = (ArithmeticError, AttributeError, NotImplementedError, RecursionError, TypeError, ValueError)

_UNFINISHED = re.compile(r"\\(?:sum|prod|int|iint|oint|lim)(?![A-Za-z])")
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?!\s*\\(?:overline|bar|dot)|[\d.])")
_MIXED = re.compile(r"(?<![\d.}_^])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}")
# Read by math-verify as something: 3 5 as 8, 5_a as 5, 1.0.0 and 1%0 as products.
_MISREAD = re.compile(r"(?<![_\d])\d+\s+\d|(?<![A-Za-z}\d])\d+\s*_|\.\d*\.|%\s*\d|\\l?dots|\\$")
_LARGE_BINOMIAL = re.compile(r"\\[dt]?binom\s*\{?\s*\d{5}")
_REPEATING = re.compile(r"\d*\.\d*\\(?:overline|bar|dot)\s*\{?\d+\}?")


class Unreadable(ValueError):
    """Not mathematics that can be evaluated; the message says what it is."""


class TooLarge(Unreadable):
    """Larger than any answer is."""


def is_unfinished(text: str) -> bool:
    """Whether a sum, product, integral or limit is left to be worked out."""
    return _UNFINISHED.search(text) is not None


@lru_cache(maxsize=2000)
def expression(text: str):
    """The sympy expression (not evaluated) or matrix of a tidied text.

    Raises:
        Unreadable: it is none, or its numbers are too large to work with.
    """
    if (literal := number(text)) is not None:
        return sympy.Rational(literal.value.numerator, literal.value.denominator)
    if _depth(text) > _MOST_NESTED:
        raise TooLarge("nested too deeply")
    if _MISREAD.search(text):
        raise Unreadable("no expression")
    if _LARGE_BINOMIAL.search(text):
        raise TooLarge("its numbers are too large")  # math-verify evaluates it while parsing
    exact = _REPEATING.sub(_as_fraction, text)
    exact = _DECIMAL.sub(_as_fraction, exact)
    exact = _MIXED.sub(_as_fraction, re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", exact))
    # The first match is the whole; others would be parts of what cannot be read.
    found = parse(f"${exact}$", _LATEX, "no_fallback", "first_match", parsing_timeout=None)
    if len(found) != 1 or not isinstance(found[0], sympy.Expr):
        raise Unreadable("no expression")
    result = found[0].xreplace({symbol: sympy.I for symbol in found[0].free_symbols if symbol.name == "i"})
    if _bits(result) > _MOST_BITS:
        raise TooLarge("its numbers are too large")
    return result


def _as_fraction(match: re.Match) -> str:
    value = number(match[0])
    if value is None:
        return match[0]
    return rf"{{\frac{{{value.value.numerator}}}{{{value.value.denominator}}}}}"


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _bits(term) -> float:
    """A bound of the size of the integers in a constant term, found without evaluating it."""
    if term.is_Rational:
        return max(abs(term.p), term.q).bit_length()
    parts = [_bits(part) for part in term.args]
    if term.is_Pow and term.exp.is_number and parts[1] < 64:
        return max(parts[0], 1) * _magnitude(term.exp) if term.base.is_number else max(parts)
    if term.is_Pow and term.exp.is_number:
        return float("inf")
    if isinstance(term, sympy.factorial) and term.args[0].is_number:
        return float("inf") if parts[0] > 11 else 2 ** parts[0] * 11
    return sum(parts) if term.is_Mul or term.is_Add else max(parts, default=0)


def _magnitude(exponent) -> float:
    size = _bits(exponent)
    if size > 32:
        return float("inf")
    return max(1.0, abs(complex(exponent.evalf(5))))


def equal(answer: str, reference: str, *, tolerance: Fraction = Fraction(0)) -> bool:
    """Whether two tidied expressions have the same value, up to the tolerance if both are numbers.

    Raises:
        Unreadable: one of them is no expression.
    """
    literals = number(answer), number(reference)
    if None not in literals:
        return abs(literals[0].value - literals[1].value) <= tolerance
    if is_unfinished(answer) and not is_unfinished(reference):
        raise Unreadable("a sum, product, integral or limit that is not worked out")
    return same_value(expression(answer), expression(reference), tolerance) and _same_letters(answer, reference)


def same_value(a, b, tolerance: Fraction = Fraction(0)) -> bool:
    if a == b:
        return a is not sympy.nan and a is not sympy.zoo
    if a.free_symbols or b.free_symbols:
        return _same_at_points(a, b)
    value_a, value_b = value_at(a, {}), value_at(b, {})
    if value_a is None or value_b is None:
        return _infinity(a) is not None and _infinity(a) == _infinity(b)
    return _close(value_a, value_b, tolerance)


def _infinity(term):
    try:
        value = term.doit()
    except _EVALUATION_ERRORS:
        return None
    return value if value in (sympy.oo, -sympy.oo) else None


def _same_at_points(a, b) -> bool:
    symbols = sorted(a.free_symbols | b.free_symbols, key=lambda symbol: symbol.name)
    compared = 0
    for place in range(_POINTS):
        point = {symbol: _coordinate(place, n) for n, symbol in enumerate(symbols)}
        value_a, value_b = value_at(a, point), value_at(b, point)
        if value_a is None and value_b is None:
            continue
        if value_a is None or value_b is None or not _close(value_a, value_b):
            return False
        compared += 1
    # Undefined functions and the like have no values.
    return compared >= 2 or (compared == 0 and verify(b, a, timeout_seconds=None))


def _coordinate(place: int, variable: int):
    """Irregular rationals of both signs, some below 1 and some above 10."""
    seed = (place * 7919 + variable * 104729 + 12345) * 2654435761 % 2**32
    size = (sympy.Rational(3, 5), sympy.Rational(7, 3), 17)[place % 3]
    sign = 1 if place == 0 else (-1) ** (seed >> 5)
    return sign * size * (1 + sympy.Rational(seed % 9973, 9973))


def value_at(term, point: dict):
    """The complex value in 50 digits, None if there is none."""
    try:
        value = term.evalf(_DIGITS, subs=point)
        real, imaginary = value.as_real_imag()
    except _EVALUATION_ERRORS:
        return None
    if not (real.is_Float or real.is_Rational) or not (imaginary.is_Float or imaginary.is_Rational):
        return None
    return real, imaginary


def _close(a, b, tolerance: Fraction = Fraction(0)) -> bool:
    size = max(sympy.Integer(1), *map(abs, (*a, *b)))
    bound = max(_CLOSE * size, sympy.Rational(tolerance.numerator, tolerance.denominator))
    return all(abs(x - y) <= bound for x, y in zip(a, b, strict=True))


def _same_letters(answer: str, reference: str) -> bool:
    """math-verify reads A as a, and drops primes; a variable is written the same on both sides."""
    if not expression(reference).free_symbols:
        return True
    letters = [set(re.findall(r"(?<![\\A-Za-z])[A-Za-z](?![a-z]{2})|'", text)) for text in (answer, reference)]
    lower = {letter.casefold() for letter in letters[0] & letters[1]}
    return not any(letter.casefold() not in lower for letter in letters[0] ^ letters[1] if _twin(letter, letters))


def _twin(letter: str, letters: list[set]) -> bool:
    """Whether the other text has the letter only in the other case."""
    return letter == "'" or all(letter in side or letter.swapcase() in side for side in letters)


def proportional(a, b, *, positive: bool) -> bool:
    """Whether a = c · b with a constant c ≠ 0 (or c > 0), for expressions with variables."""
    if a.free_symbols != b.free_symbols or not b.free_symbols:
        return False
    symbols = sorted(b.free_symbols, key=lambda symbol: symbol.name)
    point = {symbol: _coordinate(_POINTS, n) for n, symbol in enumerate(symbols)}
    values = value_at(a, point), value_at(b, point)
    if None in values or (0, 0) in values or values[0][1] != 0 or values[1][1] != 0:
        return False
    factor = sympy.nsimplify(values[0][0] / values[1][0], rational=True)
    return (factor > 0 or not positive) and same_value(a, factor * b)
