"""Whether what a program gave is an accepted output: text by tokens, lines or exactly, values as encoded JSON.

Standard library only, since large outputs are compared by this file inside the sandbox, where it can be killed.
Nothing here hashes numbers or builds integers from long decimal text, so the time is linear in the outputs (but for
sorting).
"""

import json
import math
import re
from decimal import Decimal, InvalidOperation

TEXT = ("tokens", "lines", "exact")
VALUES = ("ordered", "unordered", "unordered_nested")
NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,5})?", re.ASCII)
# Floating-point tokens in an answer: with a point, or with an exponent that has a sign (12e4 may be an identifier).
FLOAT = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE][+-]))(?:[eE][+-]?\d{1,5})?", re.ASCII)
INFINITY = re.compile(r"([+-]?)inf(?:inity)?", re.IGNORECASE)
LONGEST_NUMBER = 1000  # characters of a token that is compared as a number
RELATIVE_ALWAYS, RELATIVE_ROUNDED = 1e-9, 1e-6
Tolerance = float | dict[str, float] | None  # see close()


def same_text(
    found: bytes, expected: bytes, compare: str = "tokens", tolerance: Tolerance = None, ignore_case: bool = False
) -> bool:
    """Whether two outputs are the same. tolerance: see close()."""
    if ignore_case:
        found, expected = found.lower(), expected.lower()
    if compare == "exact":
        return found == expected
    if compare == "lines":
        return _lines(found) == _lines(expected)
    left, right = found.split(), expected.split()
    if left == right:
        return True
    return len(left) == len(right) and all(
        a == b or _same_token(a, b, tolerance) for a, b in zip(left, right, strict=True)
    )


def _lines(text: bytes) -> list[bytes]:
    return [line.rstrip() for line in text.rstrip().split(b"\n")]


def _same_token(found: bytes, expected: bytes, tolerance: Tolerance) -> bool:
    """Yes and no in any case; nan and infinity; numbers of equal value or, if floating-point, within tolerance."""
    if max(len(found), len(expected)) > LONGEST_NUMBER:
        return False
    left, right = found.decode("latin-1"), expected.decode("latin-1")
    if right.lower() in ("yes", "no"):
        return left.lower() == right.lower()
    if right.lower().lstrip("+-") == "nan":
        return left.lower().lstrip("+-") == "nan"
    if (infinite := INFINITY.fullmatch(right)) is not None:
        other = INFINITY.fullmatch(left)
        return other is not None and (other[1] == "-") == (infinite[1] == "-")
    is_float = FLOAT.fullmatch(right)
    if not NUMBER.fullmatch(left) or not NUMBER.fullmatch(right) or (re.search("[eE]", right) and not is_float):
        return False
    try:
        number, answer = Decimal(left), Decimal(right)
    except InvalidOperation:
        return False
    if number == answer:
        return True
    return bool(is_float) and close(float(number), float(answer), tolerance, _unit(answer))


def _unit(answer: Decimal) -> float:
    """The value of 1 in the last written digit."""
    exponent = answer.as_tuple().exponent
    return float(Decimal(1).scaleb(exponent)) if isinstance(exponent, int) else 0.0


def close(number: float, answer: float, tolerance: Tolerance, unit: float) -> bool:
    """Whether a number is as near to the answer as the tolerance says.

    A number: absolutely or relatively. {"absolute": a, "relative": r}: one of the two will do, 0 if not given.
    None: within 1e-9, or within 1e-6 if it also rounds to the answer as written (`unit` is 1 in its last
    digit).
    """
    if not (math.isfinite(number) and math.isfinite(answer)):
        return number == answer
    scale, difference = max(1.0, abs(answer)), abs(number - answer)
    if isinstance(tolerance, dict):
        return difference <= max(tolerance.get("absolute", 0.0), tolerance.get("relative", 0.0) * abs(answer))
    if tolerance is not None:
        return difference <= tolerance * scale
    return difference <= max(RELATIVE_ALWAYS * scale, min(unit / 2 * (1 + 1e-9), RELATIVE_ROUNDED * scale))


def same_result(line: bytes, accepted: list, compare: str = "ordered", tolerance: Tolerance = None) -> bool:
    """Whether the line a program wrote is one of the accepted values; a malformed line never is.

    accepted: as encoded by the sandbox's interpreter, see interpreter.encode.
    """
    try:
        found = json.loads(line)
        return any(same_value(found, value, compare, tolerance) for value in accepted)
    except (ValueError, TypeError, RecursionError, OverflowError, KeyError):
        return False


def same_value(found, expected, compare: str = "ordered", tolerance: Tolerance = None) -> bool:
    """Python's == of encoded values, with five exceptions.

    Where a list is expected a tuple is the same, and a linked list or tree as LeetCode writes it, of which None is an
    empty one; an object's keys may be numbers written as text; floating-point numbers may differ by the tolerance; nan
    is nan. unordered: the outermost list in any order; unordered_nested: every list.
    """
    left, right = _number(found), _number(expected)
    if left is not None and right is not None:
        return _same_number(left, right, tolerance)
    items, tag = _items(expected)
    if items is not None:
        if found is None and not items and tag in ("$list", "$tree"):
            return True
        others, other_tag = _items(found)
        if not items and not others and {tag, other_tag} == {"$list", "$tree"}:
            return True  # both are None
        any_order = tag == "$set" or (compare != "ordered" and tag == "")
        allowed = {"": {"", "$tuple", "$list", "$tree"} | ({"$set"} if any_order else set())}.get(tag, {tag})
        if others is None or other_tag not in allowed or len(items) != len(others):
            return False
        if any_order:
            items, others = sorted(items, key=_sort_key), sorted(others, key=_sort_key)
        inner = compare if compare == "unordered_nested" else "ordered"
        return all(same_value(a, b, inner, tolerance) for a, b in zip(others, items, strict=True))
    if expected is None and found in ({"$list": []}, {"$tree": []}):
        return True
    wanted = _pairs(expected)
    if wanted is not None:
        given = _pairs(found, as_text="$dict" not in expected)
        inner = compare if compare == "unordered_nested" else "ordered"
        return (
            given is not None
            and given.keys() == wanted.keys()
            and all(same_value(given[key], wanted[key], inner, tolerance) for key in wanted)
        )
    return type(found) is type(expected) and found == expected


def _number(value) -> int | float | None:
    if isinstance(value, int | float):
        return value
    if isinstance(value, dict) and len(value) == 1:
        if isinstance(text := value.get("$int"), str):
            return int(text, 16)
        if isinstance(text := value.get("$float"), str):
            return float(text)
    return None


def _same_number(found: int | float, expected: int | float, tolerance: Tolerance) -> bool:
    if found == expected or (found != found and expected != expected):
        return True
    if not isinstance(expected, float) or not math.isfinite(expected):
        return False
    try:
        number = float(found)
    except OverflowError:  # an integer larger than any float
        return False
    return close(number, expected, tolerance, _unit(Decimal(repr(expected))))


def _items(value) -> tuple[list | None, str]:
    """The items of a list, tuple, set, linked list or tree, and its tag."""
    if isinstance(value, list):
        return value, ""
    if isinstance(value, dict) and len(value) == 1:
        [(tag, items)] = value.items()
        if tag in ("$tuple", "$set", "$list", "$tree") and isinstance(items, list):
            return items, tag
    return None, ""


def _pairs(value, as_text: bool = False) -> dict | None:
    """Values by the text of their key. as_text: a number as key is the same as its text."""
    if not isinstance(value, dict):
        return None
    if "$dict" in value and len(value) == 1:
        pairs = {}
        for key, item in value["$dict"]:
            number = _number(key)
            if as_text and number is not None:
                key = str(key)
            pairs[json.dumps(_sort_key(key))] = item
        return pairs if len(pairs) == len(value["$dict"]) else None
    if any(key.startswith("$") for key in value):
        return None
    return {json.dumps(_sort_key(key)): item for key, item in value.items()}


def _sort_key(value) -> list:
    """Equal for equal values, and comparable with that of any other value."""
    number = _number(value)
    if number is not None:
        if number != number:
            return [1]
        return [0, int(number) if isinstance(number, float) and number.is_integer() else number]
    if value is None:
        return [2]
    if isinstance(value, str):
        return [3, value]
    items, tag = _items(value)
    if items is not None:
        keys = [_sort_key(item) for item in items]
        return [5, sorted(keys)] if tag == "$set" else [4, keys]
    if isinstance(value, dict):
        return [6, sorted(([3, key], _sort_key(item)) for key, item in value.items())]
    raise TypeError(f"{value!r:.60} is not an encoded value")


def compare_result(line: bytes, accepted: bytes, compare: str, tolerance: Tolerance) -> bool:
    """same_result as it is called inside the sandbox; accepted: as JSON."""
    return same_result(line, json.loads(accepted), compare, tolerance)
