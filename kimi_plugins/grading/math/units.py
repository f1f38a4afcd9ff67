"""Units of quantities: names, conversion, and what a missing one means."""

import re
from fractions import Fraction
from typing import NamedTuple

from kimi_plugins.grading.math.notation import DOLLAR


class Unit(NamedTuple):
    """In base units: value · scale · factor. dimensions: sorted (base unit, power) pairs.

    scale: of words like million, part of the number. factor: Fraction, or a string of LaTeX for degrees.
    """

    scale: int
    factor: Fraction | str
    dimensions: tuple


# base unit: {spelling: how many base units}
_TABLE: dict[str, dict[str, str]] = {
    "m": {"mm": "1/1000", "cm": "1/100", "dm": "1/10", "m": "1", "km": "1000", "metre": "1", "millimeter": "1/1000"}
    | {"centimeter": "1/100", "meter": "1", "kilometer": "1000", "kilometre": "1000", "centimetre": "1/100"}
    | {"in": "0.0254", "inch": "0.0254", "ft": "0.3048", "foot": "0.3048", "feet": "0.3048", "yd": "0.9144"}
    | {"yard": "0.9144", "mi": "1609.344", "mile": "1609.344"},
    "g": {"mg": "1/1000", "g": "1", "kg": "1000", "gram": "1", "kilogram": "1000", "milligram": "1/1000"}
    | {"lb": "453.59237", "pound": "453.59237", "oz": "28.349523125", "ounce": "28.349523125"},
    "s": {
        "s": "1",
        "sec": "1",
        "second": "1",
        "ms": "1/1000",
        "min": "60",
        "minute": "60",
        "h": "3600",
        "hr": "3600",
        "hour": "3600",
    }
    | {"day": "86400", "week": "604800"},
    "month": {"month": "1", "mo": "1", "year": "12", "yr": "12"},
    "l": {"l": "1", "L": "1", "liter": "1", "litre": "1", "ml": "1/1000", "mL": "1/1000", "milliliter": "1/1000"},
    "gallon": {"gal": "1", "gallon": "1", "quart": "1/4", "pint": "1/8", "cup": "1/16"},
    "dollar": {"dollar": "1", DOLLAR: "1", "usd": "1", "USD": "1", "cent": "1/100", "¢": "1/100", "buck": "1"},
    "euro": {"euro": "1", "€": "1", "EUR": "1"},
    "sterling": {"£": "1", "GBP": "1"},
    "yen": {"yen": "1", "¥": "1", "￥": "1"},
    "yuan": {"yuan": "1", "元": "1", "RMB": "1", "CNY": "1"},
    "rupee": {"rupee": "1", "Rs": "1", "INR": "1"},
    "A": {"ampere": "1", "amp": "1", "mA": "1/1000"},
    "K": {"kelvin": "1"},
    "mol": {"mol": "1", "mole": "1", "mmol": "1/1000"},
    "eV": {"eV": "1", "keV": "1000", "MeV": "1e6", "GeV": "1e9"},
}
_CHINESE = {
    **{"毫米": "mm", "厘米": "cm", "分米": "dm", "米": "m", "千米": "km", "公里": "km"},
    **{"克": "g", "千克": "kg", "公斤": "kg", "升": "l", "毫升": "ml"},
    **{"秒": "s", "分钟": "min", "分": "min", "小时": "h", "时": "h", "天": "day"},
}
for _names in _TABLE.values():
    _names |= {chinese: _names[name] for chinese, name in _CHINESE.items() if name in _names}
# Of several base units: how many, and which powers.
_DERIVED: dict[str, tuple[int | str, str]] = {
    **{"N": (1000, "g m s-2"), "newton": (1000, "g m s-2"), "kN": (10**6, "g m s-2")},
    **{"J": (1000, "g m2 s-2"), "joule": (1000, "g m2 s-2"), "kJ": (10**6, "g m2 s-2"), "MJ": (10**9, "g m2 s-2")},
    **{"W": (1000, "g m2 s-3"), "watt": (1000, "g m2 s-3"), "kW": (10**6, "g m2 s-3"), "MW": (10**9, "g m2 s-3")},
    **{"Pa": (1000, "g m-1 s-2"), "pascal": (1000, "g m-1 s-2"), "kPa": (10**6, "g m-1 s-2")},
    **{
        "MPa": (10**9, "g m-1 s-2"),
        "Hz": (1, "s-1"),
        "hertz": (1, "s-1"),
        "kHz": (1000, "s-1"),
        "MHz": (10**6, "s-1"),
    },
    **{"V": (1000, "g m2 s-3 A-1"), "volt": (1000, "g m2 s-3 A-1"), "kV": (10**6, "g m2 s-3 A-1")},
    **{
        "C": (1, "s A"),
        "coulomb": (1, "s A"),
        "kΩ": (10**6, "g m2 s-3 A-2"),
        "MΩ": (10**9, "g m2 s-3 A-2"),
        "ohm": (1000, "g m2 s-3 A-2"),
        "Ω": (1000, "g m2 s-3 A-2"),
    },
    **{"kWh": (3_600_000_000, "g m2 s-2"), "cal": (4184, "g m2 s-2"), "hectare": (10_000, "m2"), "ha": (10_000, "m2")},
    **{"acre": ("4046.8564224", "m2"), "T": (1000, "g s-2 A-1"), "tesla": (1000, "g s-2 A-1")},
    **{"kmol": (1000, "mol"), "tonne": (10**6, "g"), "ton": ("907184.74", "g"), "吨": (10**6, "g")},
}
_KNOWN = {name: (base, Fraction(factor)) for base, names in _TABLE.items() for name, factor in names.items()}
_SPEEDS = {"mph": "mi/h", "kmh": "km/h", "kph": "km/h", "kmph": "km/h", "mps": "m/s"}
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PLAIN = {"%": Fraction(1, 100), "percent": Fraction(1, 100), "percentage": Fraction(1, 100)}
_ANGLES: dict[str, Fraction | str] = {
    r"^\circ": r"\frac{\pi}{180}",
    "degree": r"\frac{\pi}{180}",
    "deg": r"\frac{\pi}{180}",
}
_ANGLES |= {"度": _ANGLES["deg"], "radian": Fraction(1), "rad": Fraction(1)}
_TEMPERATURES = {"c": "celsius", "celsius": "celsius", "f": "fahrenheit", "fahrenheit": "fahrenheit"}
_TABLES = {*_KNOWN, *_DERIVED, *_SPEEDS, *_SCALES, *_PLAIN, *_ANGLES, "celsius", "fahrenheit"}

# Words after a number that change it, and are not units.
_NO_UNIT = set(
    "and or not plus minus times over by less more than if is are of the squared cubed factorial to from with without "
    "half halves third thirds quarter quarters tenths hundredths thousandths mod modulo remainder base power equals "
    "choose root negative".split()
)
_CJK = r"\u4e00-\u9fff"
_ATOM = (
    rf"(?:[{_CJK}]+|\\text\{{[^{{}}]*\}}|\^\\circ|%|[{DOLLAR}€£¥￥¢]|Ω|(?<![\\A-Za-z])[A-Za-z]+\.?)"
    r"(?:\^(?:\{-?\d\}|-?\d))?"
)
_TAIL = re.compile(rf"(?<=[\d}})\]\w%.\s])\s*(?P<unit>{_ATOM}(?:\s*(?:/|\\cdot|-)?\s*{_ATOM})*)$")
_HEAD = re.compile(
    rf"^(?P<sign>-?)\s*(?P<unit>(?:US|HK|A|C)?[{DOLLAR}€£¥￥]|USD|EUR|GBP|RMB|(?:\\text\{{\s*)?Rs\.?\s*\}}?)"
    r"\s*(?=-?[\d.\\])"
)
_TOKEN = re.compile(
    rf"\^\\circ|/|\bper\b|%|[{DOLLAR}€£¥￥¢]|(?P<word>[A-Za-zΩ]+|[{_CJK}]+)\.?(?:\^\{{?(?P<power>-?\d)\}}?)?"
)


def split_unit(text: str) -> tuple[str, Unit | None]:
    r"""A quantity's number, as written, and its unit; None if it has none, or what follows is not a unit.

    Units are text (``5\text{ m}``), known names of two letters and more (``5 cm``, ``5 km/h``), signs, and words of
    four letters and more (``18 eggs``). A single letter in mathematics is a variable: ``5 m`` has no unit.
    """
    unit, sign = "", ""
    if head := _HEAD.match(text):
        unit, sign, text = head["unit"], head["sign"], text[head.end() :].strip()
    if tail := _longest_tail(text):
        text, unit = text[: tail.start()].strip(), f"{unit} {tail['unit']}"
    found = read_unit(unit) if unit else None
    return (sign + text, found) if text else (text, None)


_QUANTITY = re.compile(
    rf"\s*(?:and|\\text\{{\s*and\s*\}})?\s*(\d+(?:\.\d+|/\d+)?|\\frac\{{\d+\}}\{{\d+\}})\s*"
    rf"((?:\\text\{{\s*[A-Za-z.]+\s*(?:and\s*)?\}}|(?!and)[A-Za-z]{{1,}}\.?|[{_CJK}]+|\^\\circ|'+)(?:\^\{{?\d\}}?)?)"
)


def mixed_quantity(text: str) -> tuple[str, Unit] | None:
    """``5 ft 3 in`` as one quantity in the last unit; None if it is not a sum of quantities of one kind."""
    place, total = 0, Fraction(0)
    units: list[Unit] = []
    sizes: list[Fraction] = []
    while place < len(text):
        match = _QUANTITY.match(text, place)
        if match is None:
            return None
        value = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"\1/\2", match[1])
        unit = read_unit(re.sub(r"and\s*\}", "}", match[2]))
        if unit is None or value.endswith("/0") or isinstance(unit.factor, str) or not unit.dimensions:
            return None
        sizes.append(unit.scale * unit.factor)
        total += Fraction(value) * sizes[-1]
        units.append(unit)
        place = match.end()
    if len(units) < 2 or len({unit.dimensions for unit in units}) > 1 or sizes != sorted(set(sizes), reverse=True):
        return None
    total /= sizes[-1]
    return rf"\frac{{{total.numerator}}}{{{total.denominator}}}", units[-1]


def _longest_tail(text: str):
    tail = _TAIL.search(text)
    return tail if tail and _is_unit(tail["unit"], text[: tail.start()]) else None


def _is_unit(unit: str, before: str) -> bool:
    if not re.search(r"[\d})\]]\s*$|\\pi\s*$", before):
        return False
    if r"\circ" in unit and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", before):
        return False
    for text in re.findall(r"\\text\{([^{}]*)\}", unit):
        words = text.split()
        if len(words) > 4 or _NO_UNIT & set(text.casefold().split()):
            return False
        if len(words) == 1 and len(words[0]) == 1 and words[0].isalpha() and words[0] not in {*_TABLES, "C", "F", "K"}:
            return False  # a variable
    words = re.findall(r"[A-Za-z]+", re.sub(r"\\text\{[^{}]*\}|\\circ|\\cdot", " ", unit))
    if len(words) > 3 or _NO_UNIT & {word.casefold() for word in words}:
        return False
    if len(words) == 1 and len(words[0]) == 1 and "\\circ" in unit:
        return words[0] in "CFK"
    compound = "/" in unit
    return all(len(word) > 3 or (_is_known(word) and (compound or len(word) > 1)) for word in words)


def _is_known(word: str) -> bool:
    name = _singular(word)
    return name in _TABLES or word in ("per", "sq", "cu")


def _singular(word: str) -> str:
    """The spelling in the tables: symbols as they are, words in lower case without their plural."""
    if word in _KNOWN or word in _DERIVED:
        return word
    if len(word) < 3 and word.casefold() not in ("km", "cm", "kg", "hr", "ft", "in"):
        return word
    word = word.casefold()
    for name in (word, word.removesuffix("s"), word.removesuffix("es")):
        if name in _TABLES:
            return name
    return word.removesuffix("s")


def read_unit(text: str) -> Unit | None:
    """The unit that a text names; words that no table has stand for themselves. None if there is none."""
    text = re.sub(r"\\text\{\s*([^{}]*?)\s*\}|\\cdot", r" \1", text)
    for name, spelled in _SPEEDS.items():
        text = re.sub(rf"\b{name}\b", spelled, text)
    scale, factor = 1, Fraction(1)
    dimensions: dict[str, int] = {}
    angle: Fraction | str | None = None
    found, sign, prefix = False, 1, 1
    for match in _TOKEN.finditer(text):
        name = _singular(match["word"]) if match["word"] else match[0]
        if name in ("/", "per"):
            sign = -1
            continue
        if name in ("square", "sq", "cubic", "cu"):
            prefix = 2 if name in ("square", "sq") else 3
            continue
        if name.startswith(("平方", "立方")) and len(name) > 2:
            prefix, name = (2 if name[0] == "平" else 3), name[2:]
        found = True
        power = sign * prefix * int(match["power"] or 1)
        sign = prefix = 1
        if angle is not None and name.casefold() in _TEMPERATURES:
            angle, dimensions[_TEMPERATURES[name.casefold()]] = None, 1
        elif name in _SCALES:
            scale *= _SCALES[name]
        elif name in _PLAIN:
            factor *= _PLAIN[name]
        elif name in _ANGLES:
            angle = _ANGLES[name]
        elif name in _DERIVED:
            unit_factor, parts = _DERIVED[name]
            factor *= Fraction(unit_factor) ** power
            for base, exponent in re.findall(r"([A-Za-z]+)(-?\d*)", parts):
                dimensions[base] = dimensions.get(base, 0) + power * int(exponent or 1)
        else:
            base, in_base = _KNOWN.get(name, (name, Fraction(1)))
            factor *= in_base**power
            dimensions[base] = dimensions.get(base, 0) + power
    if not found:
        return None
    return Unit(scale, angle or factor, tuple(sorted(item for item in dimensions.items() if item[1])))
