"""Whether two expressions have the same value.

Exactly, as fractions, where they are rational. Otherwise with as many digits as the numbers in them are large or
small, and again with three times as many: a difference that does not shrink with the rounding is real. Expressions
with variables are compared at points of all signs and sizes, and on both sides of where an absolute value turns.
Steps (floor, gcd …) and unknown functions of variables are equal only if their arguments are.
"""

import hashlib
import itertools
import math
from fractions import Fraction
from typing import Any, TypeAlias

import mpmath
from mpmath import mp, mpc, mpf

from kimi_plugins.grading.math.parser import Node, TooLarge, Unreadable, add, mul, neg, num, operations, symbols

MOST_BITS = 400_000  # of an integer; 9^{9^{8}} has 136 million
MOST_DIGITS = 4_000  # of what is not rational
_DIGITS = 60
_LEAST_POINTS = 3
_OPAQUE = {"floor", "ceil", "gcd", "lcm", "sgn"}
_TURNING = {"abs", "max", "min", "sqrt", "root", "@norm"}

Number: TypeAlias = Any  # Fraction, mpf or mpc: mpmath has no types


class Undefined(ArithmeticError):
    """It has no value, as 1/0."""


def same(a: Node, b: Node, tolerance: Fraction = Fraction(0)) -> bool:
    """Whether a is b everywhere; up to the tolerance if both are constants.

    Raises:
        Unreadable: one of them holds numbers that are too large.
    """
    names = sorted(symbols(a) | symbols(b))
    if not names:
        try:
            return _close(a, b, {}, tolerance)
        except Undefined:
            return False
    if a == b:
        return True
    operations_used = operations(a) | operations(b)
    by_domain = not {"ln", "log", "logarithm", "i"} & operations_used
    compared = positive = 0
    for point in _points(a, b, names):
        values = [_value_or_none(node, point) for node in (a, b)]
        if values[0] is None and values[1] is None:
            continue
        if by_domain and is_complex(values[1]) and {"sqrt", "root", "pow"} & operations_used:
            continue  # the reference is not defined there
        if values[0] is None or values[1] is None:
            if any(value.denominator == 1 for value in point.values()):
                continue  # a gap that is closed in the other, as in (x²−1)/(x−1)
            return False
        if not _close(a, b, point):
            return False
        compared += 1
        positive += all(value > 0 for value in point.values())
    return compared >= _LEAST_POINTS and positive > 0


def proportional(a: Node, b: Node, *, positive: bool) -> bool:
    """Whether a = c · b with a constant c ≠ 0 (c > 0 if `positive`), for expressions with the same variables."""
    names = sorted(symbols(b))
    if not names or sorted(symbols(a)) != names or same(b, num(0)):
        return False
    for point in _points(a, b, names):
        values = _value_or_none(a, point), _value_or_none(b, point)
        if values[0] is None or values[1] is None or any(is_complex(value) for value in values):
            continue
        zeros = [_close(node, num(0), point) for node in (a, b)]
        if zeros[0] != zeros[1]:
            return False
        if all(zeros):
            continue
        factors = [_constant(node, point) for node in (a, b)]
        if positive and (values[0] > 0) != (values[1] > 0):
            return False
        return same(mul(a, factors[1]), mul(b, factors[0]))
    return False


def _constant(node: Node, point: dict[str, Fraction]) -> Node:
    if node.op == "symbol":
        return num(point[str(node.value)])
    return node._replace(args=tuple(_constant(arg, point) for arg in node.args))


def substituted(node: Node, name: str, by: Node) -> Node:
    """The expression with another in place of a variable."""
    if node.op == "symbol" and node.value == name:
        return by
    return node._replace(args=tuple(substituted(arg, name, by) for arg in node.args))


def linear(node: Node, name: str) -> bool:
    """Whether an expression is linear in a variable, and not independent of it."""
    at = [substituted(node, name, num(value)) for value in (0, 1, 2, 5)]
    slope = add(at[1], neg(at[0]))
    line = [same(at[n], add(at[0], mul(num((0, 1, 2, 5)[n]), slope))) for n in (2, 3)]
    return all(line) and not same(slope, num(0))


def constant(node: Node) -> Number | None:
    """The value of an expression without variables: a fraction where it is rational; None if it has none."""
    return None if symbols(node) else _value_or_none(node, {})


def less(a: Node, b: Node) -> bool | None:
    """Whether a < b, both without variables; None if they are equal or not real."""
    values = constant(a), constant(b)
    if None in values or any(is_complex(value) for value in values) or same(a, b):
        return None
    with mp.workdps(_DIGITS):
        return bool(as_float(values[0]) < as_float(values[1]))


def is_complex(value: Number | None) -> bool:
    return isinstance(value, mpc) and abs(value.imag) > abs(value) * mpf(10) ** -30


def checked(node: Node) -> None:
    """Raises TooLarge if an expression cannot be evaluated, at the first of the points if it has variables."""
    names = sorted(symbols(node))
    _value_or_none(node, {name: _coordinate(1, n) for n, name in enumerate(names)})


def _value_or_none(node: Node, point: dict[str, Fraction]) -> Number | None:
    try:
        return Evaluation(point, _DIGITS).value(node)
    except Undefined:
        return None


def _close(a: Node, b: Node, point: dict[str, Fraction], tolerance: Fraction = Fraction(0)) -> bool:
    first = _Pair(a, b, point, _DIGITS)
    if first.exact:
        return abs(first.a - first.b) <= tolerance
    digits = _DIGITS + first.digits_of_size
    if digits > MOST_DIGITS:
        raise TooLarge("its numbers are too large")
    pair = first if digits <= _DIGITS + 15 else _Pair(a, b, point, digits)
    if pair.difference == 0:
        return True
    if tolerance and pair.difference <= as_float(tolerance):
        return True
    relative = pair.difference / max(abs(pair.a), abs(pair.b))
    if relative < mpf(10) ** (15 - digits):
        return True
    if relative > mpf(10) ** -8 and min(abs(pair.a), abs(pair.b)) > mpf(10) ** -20:
        return False
    again = _Pair(a, b, point, 3 * digits)
    return again.difference <= pair.difference * mpf(10) ** -digits


class _Pair:
    def __init__(self, a: Node, b: Node, point: dict[str, Fraction], digits: int) -> None:
        with mp.workdps(digits):
            evaluation = Evaluation(point, digits)
            self.a, self.b = evaluation.value(a), evaluation.value(b)
            self.exact = isinstance(self.a, Fraction) and isinstance(self.b, Fraction)
            self.digits_of_size = int(evaluation.size * 0.302)
            if not self.exact:
                self.a, self.b = as_float(self.a), as_float(self.b)
                self.difference = abs(self.a - self.b)


def as_float(value: Number) -> mpf | mpc:
    if isinstance(value, Fraction):
        return mpf(value.numerator) / value.denominator
    return value


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


class Evaluation:
    """Values of expressions at a point. size: bits that the largest or smallest number so far needs beyond 1."""

    def __init__(self, point: dict[str, Fraction], digits: int) -> None:
        self._point, self._digits, self.size = point, digits, 0

    def value(self, node: Node) -> Number:
        """Raises Undefined where there is none, TooLarge if it would take too long."""
        with mp.workdps(self._digits):
            try:
                return self._of(node)
            except (ZeroDivisionError, OverflowError, ValueError) as error:
                if isinstance(error, Unreadable):
                    raise
                raise Undefined(str(error)) from error

    def _of(self, node: Node) -> Number:
        match node.op:
            case "number":
                return self._sized(node.value)
            case "symbol":
                return self._point[str(node.value)]
            case "pi":
                return +mp.pi
            case "e":
                return +mp.e
            case "i":
                return mpc(0, 1)
            case "infinity":
                raise Undefined("infinity")
        if node.op in _OPAQUE and symbols(node):
            return self._opaque(node.op, [self._of(arg) for arg in node.args])
        values = [self._of(arg) for arg in node.args]
        if node.op.startswith("@"):
            return self._opaque(node.op, values)
        result = _OPERATIONS[node.op](*values)
        if isinstance(result, int):
            result = Fraction(result)
        if isinstance(result, float):
            result = mpf(result)
        if isinstance(result, mpf | mpc) and not mpmath.isfinite(result):
            raise Undefined("no finite value")
        return self._sized(result)

    def _sized(self, value: Number) -> Number:
        if isinstance(value, Fraction):
            bits = _bits(value)
            if bits > MOST_BITS:
                raise TooLarge("its numbers are too large")
        else:
            # mag() of a complex number is that of its larger part; a part that is 0 has none.
            bits = abs(mp.mag(value)) if value else 0
        self.size = max(self.size, bits)
        return value

    def _opaque(self, name: str, values: list[Number]) -> Fraction:
        """A number that depends on nothing but the function and its arguments."""
        spelled = [str(value) if isinstance(value, Fraction) else mpmath.nstr(value, 40) for value in values]
        if name in ("gcd", "lcm"):
            spelled.sort()
        digest = hashlib.blake2b(f"{name}{spelled}".encode(), digest_size=6).digest()
        return Fraction(int.from_bytes(digest, "big") % 10**9 + 1, 99_991_000)


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(exponent, Fraction):
        if isinstance(base, Fraction):
            if exponent.denominator == 1:
                if base == 0 and exponent <= 0:
                    raise Undefined("0 to a power that is not positive")
                if abs(base) not in (0, 1) and _bits(base) * abs(exponent) > MOST_BITS:
                    raise TooLarge("its numbers are too large")
                return base ** int(exponent % 2 if abs(base) == 1 else exponent)
            return _rational_power(base, exponent)
        if base == 0 and exponent <= 0:
            raise Undefined("0 to a power that is not positive")
    if base == 0:
        return Fraction(0)
    x = as_float(base)
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        _bounded(exponent * abs(mp.mag(x)), MOST_BITS)
        return x ** int(exponent)
    y = as_float(exponent)
    _bounded(abs(y) * max(1, abs(mp.mag(x))), 10**6)
    if isinstance(exponent, Fraction) and exponent.denominator % 2 and isinstance(x, mpf) and x < 0:
        return (-1) ** exponent.numerator * (-x) ** y
    return x**y


def _rational_power(base: Fraction, exponent: Fraction) -> Number:
    if _bits(base) * abs(exponent) > MOST_BITS:
        raise TooLarge("its numbers are too large")
    sign = 1
    if base < 0 and exponent.denominator % 2:
        base, sign = -base, (-1) ** exponent.numerator
    if base >= 0 and exponent.denominator < 1000:
        if base == 0 and exponent <= 0:
            raise Undefined("0 to a power that is not positive")
        root = _exact_root(base, exponent.denominator)
        if root is not None:
            return sign * root ** int(exponent.numerator)
    return sign * as_float(base) ** as_float(exponent)


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    parts = []
    for part in (value.numerator, value.denominator):
        root = math.isqrt(part) if degree == 2 else int(mpmath.nint(mpmath.root(part, degree)))
        if root**degree != part:
            return None
        parts.append(root)
    return Fraction(*parts)


def _sqrt(value: Number) -> Number:
    return _power(value, Fraction(1, 2))


def _root(value: Number, degree: Number) -> Number:
    if not isinstance(degree, Fraction) or degree == 0:
        raise Undefined("a root whose degree is not a number")
    return _power(value, 1 / degree)


def _bounded(value: Number, most: float) -> None:
    if abs(value) > most:
        raise TooLarge("its numbers are too large")


def _divided(a: Number, b: Number) -> Number:
    if b == 0:
        raise Undefined("division by 0")
    return a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else as_float(a) / as_float(b)


def _sum(*values: Number) -> Number:
    if all(isinstance(value, Fraction) for value in values):
        return sum(values, Fraction(0))
    return mp.fsum(map(as_float, values))


def _product(*values: Number) -> Number:
    result = values[0]
    for value in values[1:]:
        exact = isinstance(result, Fraction) and isinstance(value, Fraction)
        result = result * value if exact else as_float(result) * as_float(value)
    return result


def _analytic(function, most: float = 1e12):
    def call(value: Number) -> Number:
        _bounded(value, most)
        result = function(as_float(value))
        return result

    return call


def _inverse(function):
    return lambda value: function(1 / as_float(value))


def _abs(value: Number) -> Number:
    return abs(value)


def _real(value: Number) -> mpf | Fraction:
    if isinstance(value, mpc):
        if is_complex(value):
            raise Undefined("an order of complex numbers")
        return value.real
    return value


def _floor(value: Number) -> Fraction:
    value = _real(value)
    if isinstance(value, Fraction):
        return Fraction(math.floor(value))
    _bounded(value, 10**30)
    if abs(value - mp.nint(value)) < mpf(10) ** -35:
        raise Undefined("a step at a number that is not known exactly")
    return Fraction(int(mp.floor(value)))


def _integers(values) -> list[int]:
    if not all(isinstance(value, Fraction) and value.denominator == 1 for value in values):
        raise Undefined("not integers")
    return [int(value) for value in values]


def _factorial(value: Number) -> Number:
    if isinstance(value, Fraction) and value.denominator == 1:
        if value < 0:
            raise Undefined("a factorial of a negative number")
        if value > 30_000:
            raise TooLarge("its numbers are too large")
        return Fraction(math.factorial(int(value)))
    _bounded(value, 10**5)
    return mp.gamma(as_float(value) + 1)


def _gamma(value: Number) -> Number:
    if isinstance(value, Fraction) and value.denominator == 1:
        return _factorial(value - 1)
    _bounded(value, 10**5)
    return mp.gamma(as_float(value))


def _binomial(n: Number, k: Number) -> Number:
    if isinstance(k, Fraction) and k.denominator == 1 and isinstance(n, Fraction):
        if n.denominator == 1 and n >= 0:
            if min(k, n - k) > 20_000 or min(k, n - k) * _bits(n) > MOST_BITS:
                raise TooLarge("its numbers are too large")
            return Fraction(math.comb(int(n), int(k))) if k >= 0 else Fraction(0)
        if 0 <= k <= 100:
            result = Fraction(1)
            for step in range(int(k)):
                result *= (n - step) / Fraction(step + 1)
            return result
    for value in (n, k):
        _bounded(value, 10**5)
    return mp.binomial(as_float(n), as_float(k))


def _logarithm(value: Number, base: Number) -> Number:
    if base in (0, 1) or value == 0:
        raise Undefined("a logarithm without value")
    if isinstance(value, Fraction) and isinstance(base, Fraction) and value > 0 and base > 0:
        exact = _exact_logarithm(value, base)
        if exact is not None:
            return exact
    return mp.log(as_float(value)) / mp.log(as_float(base))


def _exact_logarithm(value: Fraction, base: Fraction) -> Fraction | None:
    guess = mp.log(as_float(value)) / mp.log(as_float(base))
    rounded = int(mp.nint(guess))
    if abs(guess - rounded) < mpf(10) ** -20 and abs(rounded) * _bits(base) < MOST_BITS and base**rounded == value:
        return Fraction(rounded)
    return None


def _plain_logarithm(value: Number) -> Number:
    """The base is not known: as good as any number."""
    if value == 0:
        raise Undefined("a logarithm of 0")
    return mp.log(as_float(value)) / mpf("1.7320493826051")


def _natural(value: Number) -> Number:
    if value == 0:
        raise Undefined("a logarithm of 0")
    return Fraction(0) if value == 1 else mp.log(as_float(value))


def _sign(value: Number) -> Fraction:
    value = _real(value)
    return Fraction((value > 0) - (value < 0))


_OPERATIONS = {
    "add": _sum,
    "mul": _product,
    "div": _divided,
    "pow": _power,
    "sqrt": _sqrt,
    "root": _root,
    "abs": _abs,
    "floor": _floor,
    "ceil": lambda value: -_floor(-value),
    "max": lambda *values: max(map(_real, values)),
    "min": lambda *values: min(map(_real, values)),
    "gcd": lambda *values: Fraction(math.gcd(*_integers(values))),
    "lcm": lambda *values: Fraction(math.lcm(*_integers(values))),
    "sgn": _sign,
    "re": lambda value: value.real if isinstance(value, mpc) else value,
    "im": lambda value: value.imag if isinstance(value, mpc) else Fraction(0),
    "conj": lambda value: mp.conj(value) if isinstance(value, mpc) else value,
    "factorial": _factorial,
    "gamma": _gamma,
    "binom": _binomial,
    "logarithm": _logarithm,
    "log": _plain_logarithm,
    "ln": _natural,
    **{name: _analytic(getattr(mp, name)) for name in "sin cos tan cot sec csc".split()},
    **{name: _analytic(getattr(mp, name), 1e5) for name in "sinh cosh tanh coth sech csch".split()},
    **{"arcsin": _analytic(mp.asin), "arccos": _analytic(mp.acos), "arctan": _analytic(mp.atan)},
    **{"arccot": _inverse(mp.atan), "arcsec": _inverse(mp.acos), "arccsc": _inverse(mp.asin)},
    **{"arsinh": _analytic(mp.asinh), "arcosh": _analytic(mp.acosh), "artanh": _analytic(mp.atanh)},
}

# Sizes of the coordinates; irregular, so that nothing cancels by chance.
_SIZES = (Fraction(1), Fraction(3, 10), Fraction(7), Fraction(41))
_MOST_SIGNS = 8


def _coordinate(index: int, variable: int) -> Fraction:
    """Between 1 and 2."""
    seed = (index * 7919 + variable * 104_729 + 12_345) * 2_654_435_761 % 2**32
    return 1 + Fraction(seed % 9973, 9973)


def _points(a: Node, b: Node, names: list[str]):
    """Points with all signs (up to eight patterns), four sizes, integers, and around where an expression turns."""
    patterns = list(itertools.islice(itertools.product((1, -1), repeat=len(names)), _MOST_SIGNS))
    patterns += [tuple(-1 if (n + k) % 2 else 1 for n in range(len(names))) for k in (0, 1)] + [(-1,) * len(names)]
    index = 0
    for size in _SIZES:
        for pattern in patterns if size == 1 else (patterns[0], patterns[-1], patterns[index % len(patterns)]):
            index += 1
            yield {
                name: sign * size * _coordinate(index, n)
                for n, (name, sign) in enumerate(zip(names, pattern, strict=True))
            }
    by_integers = any(_of_integers(node) for node in (a, b))
    for integer in range(12 if by_integers else 3):
        yield {name: Fraction((2 + integer * (n + 1) + 3 * n) % (11 + 2 * n) + 1) for n, name in enumerate(names)}
    if _TURNING & (operations(a) | operations(b)):
        yield from _turns(a, b, names)


def _of_integers(node: Node) -> bool:
    """Whether an expression may be meant for integers alone: (−1)^n, n!."""
    if node.op in ("factorial", "binom") or (node.op == "pow" and symbols(node.args[1])):
        return True
    return any(map(_of_integers, node.args))


def _turns(a: Node, b: Node, names: list[str]):
    """Points between and beyond the zeros of what stands in an absolute value, maximum or root, along each axis."""
    inner = list(_inner(a)) + list(_inner(b))
    literals = sorted({abs(value) for value in (*_literals(a), *_literals(b)) if abs(value) < 10**9})[:20]
    for variable, name in enumerate(names):
        base = {other: _coordinate(77, n) for n, other in enumerate(names)}
        turns = {Fraction(0), *literals, *(-value for value in literals)}
        for node in inner:
            turns |= _zeros(node, base, name)
        ordered = sorted(turns)
        far = 3 * max(abs(ordered[0]), abs(ordered[-1])) + 11
        steps = [-far, *ordered, far]
        for low, high in itertools.pairwise(steps[:60]):
            if high > low:
                yield base | {name: low + (high - low) * Fraction(_coordinate(5, variable) - 1) / 2 + (high - low) / 4}


def _inner(node: Node):
    if node.op in ("abs", "sqrt", "root", "@norm"):
        yield node.args[0]
    if node.op in ("max", "min"):
        yield from (add(x, neg(y)) for x, y in itertools.combinations(node.args, 2))
    for arg in node.args:
        yield from _inner(arg)


def _literals(node: Node):
    if node.op == "number":
        yield node.value
    for arg in node.args:
        yield from _literals(arg)


def _zeros(node: Node, base: dict[str, Fraction], name: str) -> set[Fraction]:
    """Zeros along one axis, of a polynomial of degree 1 or 2 in it."""
    found = [_value_or_none(node, base | {name: Fraction(x)}) for x in (0, 1, -1)]
    exact = [value for value in found if isinstance(value, Fraction)]
    if len(exact) < len(found):
        return set()
    at_0, at_1, at_minus_1 = exact
    square, line = (at_1 + at_minus_1) / 2 - at_0, (at_1 - at_minus_1) / 2
    if square == 0:
        return {-at_0 / line} if line else set()
    discriminant = line**2 - 4 * square * at_0
    if discriminant < 0:
        return set()
    root = Fraction(math.sqrt(discriminant)) if _bits(discriminant) < 1000 else Fraction(0)
    return {(-line + root) / (2 * square), (-line - root) / (2 * square)}
