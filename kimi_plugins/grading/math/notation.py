r"""One spelling for what LaTeX, plain text and Unicode write in several ways, and numbers as exact fractions."""

import re
from fractions import Fraction
from typing import NamedTuple

DOLLAR = "＄"  # the currency; a plain $ encloses mathematics

_GREEK_LETTERS = "αβγδεζηικλμνξρσςτυφχψωΓΔΘΛΞΠΣΦΨΩ"
_GREEK_NAMES = (
    "alpha beta gamma delta epsilon zeta eta iota kappa lambda mu nu xi rho sigma sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("−–—", "-"),
        **dict.fromkeys("·⋅∙*", r"\cdot "),
        **dict.fromkeys("\u00a0\u2009\u202f\t\n~", " "),
        **{"×": r"\times ", "÷": "/", "π": r"\pi ", "θ": r"\theta ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge "},
        **{"≠": r"\ne ", "±": r"\pm ", "∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset "},
        **{"ℝ": r"\mathbb{R}", "°": r"^\circ ", "√": r"\sqrt ", "，": ",", "’": "'"},
        **{"≡": r"\equiv ", "≈": r"\approx ", "∖": r"\setminus ", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}"},
        **{"∩": r"\cap ", "∠": r"\angle ", "△": r"\triangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor "},
        **{"⌈": r"\lceil ", "⌉": r"\rceil ", "∛": r"\sqrt[3]", "′": "'", "∣": "|", "⁻": "^-", "⟨": r"\langle "},
        **{"⟩": r"\rangle ", "₹": "Rs ", "（": "(", "）": ")", "；": ";", "：": ":", "、": ",", "。": ".", "％": "%"},
        **{letter: rf"\{name} " for letter, name in zip(_GREEK_LETTERS, _GREEK_NAMES.split(), strict=True)},
        **{superscript: f"^{digit}" for digit, superscript in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
        **{subscript: f"_{digit}" for digit, subscript in enumerate("₀₁₂₃₄₅₆₇₈₉")},
        **{chr(ord("０") + digit): str(digit) for digit in range(10)},
        **{"½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"},
    }
)

# (what, pattern, replacement), in this order.
SPELLINGS = [
    ("Markdown bold", r"^\\cdot \\cdot (.*?)(?:\\cdot \\cdot ?)?$", r"\1"),
    ("powers of Python", r"\\cdot \\cdot ", "^"),
    ("thousands separators of LaTeX", r"(?<=\d)(?:\{,\}|,?\\[,!;: ])\s*(?=\d{3})", ","),
    ("escaped dollars", r"\\\$", DOLLAR),
    ("a dollar before a number, with no second one", r"^([^$]*)\$(?=\s*[\d.])([^$]*)$", rf"\1{DOLLAR}\2"),
    ("mathematics delimiters", r"\$|(?<!\\)\\[()\[\]]", ""),
    ("spaces", r"(?<!\\)\\(?:[,;:>! ]|quad|qquad|thinspace|hspace\{[^{}]*\})", " "),
    ("sizes", r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits)(?![A-Za-z])\.?", ""),
    ("Roman letters that are mathematics", r"\\(?:mathrm|text|textrm)\s*\{\s*([ei])\s*\}", r"\1"),
    ("text", r"\\(?:text(?:rm|bf|it|sf|tt|normal)?|mathrm|mathsf|mathit|mbox|hbox|textnormal)\s*\{", r"\\text{"),
    ("boxes", r"\\(?:boxed|fbox)\s*(?=\{)", ""),
    (
        "names of functions",
        r"\\operatorname\*?\s*\{\s*(sin|cos|tan|cot|sec|csc|log|ln|exp|arcsin|arccos|arctan|sinh|cosh|tanh)\s*\}",
        r"\\\1 ",
    ),
    ("fonts and sizes", r"\\(?:bf|it|rm|sf|tt|[lL]arge|LARGE|[hH]uge|small|normalsize|boldmath)(?![A-Za-z])", ""),
    ("an ordinal in text", r"^\\text\{\s*(\d+)(?:st|nd|rd|th)\s*\}$", r"\1"),
    ("circled numbers", r"(?<=[①-⑳])\s*[,和]\s*(?=[①-⑳])", ""),
    ("an approximation in brackets", r"\(\s*(\\approx(?![A-Za-z])[^()]*)\)$", r"\1"),
    ("a transposed tuple", r"^(\([^()]*,[^()]*\))\s*\^\s*(?:T|\\top|\{\s*(?:T|\\top)\s*\})$", r"\1"),
    ("text in brackets after a number", r"(?<=[\d}])\s*\(\s*\\text\{([A-Za-z ]+)\}\s*\)$", r"\\text{ \1}"),
    ("a sentence before the answer", r"^\\text\{(?![^{}]*\bnot\b)[^{}]*\b(?:is|are|equals)\s*:?\s*\}\s*(?=\S)", ""),
    ("layout", r"\\(?:underline|mathstrut|phantom|overset\{\}|textcolor\{[a-z]+\}|color\{[a-z]+\})(?![A-Za-z])", ""),
    ("modules of Python", r"(?<![A-Za-z\\])(?:np|numpy|math|sympy|sp)\.(?=[a-z])", ""),
    ("ordinals", r"(?<=\d)\s*\^?\s*(?:\{\s*)?(?:\\text\{\s*)?(?:st|nd|rd|th)\s*\}{0,2}(?![A-Za-z])", ""),
    ("ohms", r"(?<=\d)\s*([kM]?)\s*\\Omega$", r"\\text{ \1Ω}"),
    ("a cross for times", r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", r"\\times "),
    ("ratios in words", r"^(\d+(?:\.\d+)?)\s*(?:\\text\{\s*to\s*\}|to)\s*(\d+(?:\.\d+)?)$", r"\1:\2"),
    ("a lead-in", r"^(\\text\{)?\s*(?:the )?(?:final )?answer(?: is)?:?\s+(?=[^\s=])|^(\\text\{)?answer:\s*", r"\1\2"),
    ("and, or at the end of text", r"\\text\{([^{}]*?)\s+(and|or)\s*\}", r"\\text{\1} \2 "),
    ("percent in text", r"\\text\{\s*(?:per cent|percent)\s*\}", "%"),
    ("text without letters", r"\\text\{([^{}A-Za-z]*)\}", r"\1"),
    ("and, or", r",?\s*(?:\\text\{\s*(and|or)\s*\}|(?<![A-Za-z\\])(and|or)(?![A-Za-z]))", r" \1\2 "),
    (
        "and between relations",
        r"(?<=[=<>\d}])([^=<>]*)\\(?:land|wedge)(?![A-Za-z])(?=.*(?:[=<>]|\\[lgn]e))",
        r"\1 and ",
    ),
    ("or between relations", r"(?<=[=<>\d}])([^=<>]*)\\(?:lor|vee)(?![A-Za-z])(?=.*(?:[=<>]|\\[lgn]e))", r"\1 or "),
    ("fractions", r"\\[dtc]frac", r"\\frac"),
    ("binomials", r"\\[dt]binom", r"\\binom"),
    ("signs in braces", r"\{([:,=])\}", r"\1"),
    ("a quantity in text", r"^\\text\{\s*([-+]?\d[\d,.]*)\s+([A-Za-z ]+)\}$", r"\1\\text{ \2}"),
    ("digits as arguments", r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    ("a digit as numerator", r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
    ("a digit as denominator", r"\\frac\s*(\{[^{}]*\})\s*(\d)", r"\\frac\1{\2}"),
    ("functions and constants in plain text", r"(?<![\\A-Za-z])(sqrt|pi|sin|cos|tan|log|ln)(?![A-Za-z])", r"\\\1"),
    ("a digit or letter under a root", r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
    ("infinity", r"(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])", r"\\infty "),
    ("comparisons", r"<=|\\(?:leq|leqslant|leqq)(?![A-Za-z])", r"\\le "),
    ("comparisons", r">=|\\(?:geq|geqslant|geqq)(?![A-Za-z])", r"\\ge "),
    ("comparisons", r"!=|\\neq(?![A-Za-z])", r"\\ne "),
    ("comparisons", r"\\lt(?![A-Za-z])", "<"),
    ("comparisons", r"\\gt(?![A-Za-z])", ">"),
    ("approximate results", r"\\(?:approx|simeq|thickapprox|doteq)(?![A-Za-z])|~=", r"\\approx "),
    ("an equals sign before the answer", r"^(?:=|\\approx(?![A-Za-z])|\\therefore(?![A-Za-z]))\s*(?=.)", ""),
    ("braces of sets", r"\\lbrace(?![A-Za-z])", r"\\{"),
    ("braces of sets", r"\\rbrace(?![A-Za-z])", r"\\}"),
    ("empty set", r"\\varnothing|\\\{\s*\\\}", r"\\emptyset "),
    ("squares of units", r"(?<=[A-Za-z]) squared(?![A-Za-z])", "^2"),
    ("cubes of units", r"(?<=[A-Za-z]) cubed(?![A-Za-z])", "^3"),
    ("percent", r"\\%|(?<=[\d}\s{])per cent(?![A-Za-z])", "%"),
    ("degrees", r"\^\s*\{\s*\\circ\s*\}|\\degree(?![A-Za-z])", r"^\\circ "),
    ("plus-minus", r"\+\s*/?\s*-(?=\s*[\d\\A-Za-z(])(?<=/-)", r"\\pm "),
    ("emphasis", r"\\(?:textbf|mathbf|boldsymbol|bm)\s*\{([^{}]*)\}", r"\1"),
    ("spaces", r"\s+", " "),
    ("line breaks at the end", r"(?:\s*\\\\)+\s*$", ""),
    ("a full stop", r"(?<![.,;:])[.,;:]$", ""),
]
_SPELLINGS = [(re.compile(pattern, re.IGNORECASE if "lead" in what else 0), new) for what, pattern, new in SPELLINGS]


def tidy(text: str) -> str:
    """The answer in one spelling, without what only lays it out."""
    text = text.translate(CHARACTERS)
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text.strip())
    return _braced_arguments(text.strip())


def _braced_arguments(text: str) -> str:
    r"""``\sqrt(x)`` as ``\sqrt{x}``, ``2^(x)`` as ``2^{x}``."""
    for head in ("\\sqrt(", "\\sqrt (", "^("):
        while (start := text.find(head)) >= 0:
            opening = start + len(head) - 1
            closing = matching(text, opening)
            if closing is None:
                break
            text = f"{text[: start + len(head.strip('( '))]}{{{text[opening + 1 : closing]}}}{text[closing + 1 :]}"
    return text


def depth(text: str) -> int:
    """How deep brackets of any kind are nested."""
    deepest = now = 0
    for character in text:
        now += (character in "([{") - (character in ")]}")
        deepest = max(deepest, now)
    return deepest


def without_braces(text: str) -> str:
    """The text without the braces around all of it."""
    text = text.strip()
    outer = min(len(text) - len(text.lstrip("{")), len(text) - len(text.rstrip("}")))
    now = lowest = outer
    for character in text[outer : len(text) - outer]:
        now += (character == "{") - (character == "}")
        lowest = min(lowest, now)
    outer = lowest if now == outer else 0
    return text[outer : len(text) - outer] if outer > 1 else text


PAIRS = {"(": ")", "[": "]", "{": "}"}


def matching(text: str, opening: int) -> int | None:
    """Index of the bracket that closes the one at `opening`; any kind of bracket closes one of round or square."""
    depth = 0
    for place in range(opening, len(text)):
        if text[place] in "([{":
            depth += 1
        elif text[place] in ")]}":
            depth -= 1
            if depth == 0:
                return place
    return None


def split(text: str, separator: re.Pattern) -> list[str]:
    """The parts of a text between the separators that stand in no bracket, environment or group."""
    parts, start, depth, place = [], 0, 0, 0
    while place < len(text):
        if depth == 0 and (match := separator.match(text, place)):
            parts.append(text[start : match.start()])
            start = place = match.end()
            continue
        if text.startswith((r"\begin", r"\langle"), place):
            depth += 1
        elif text.startswith((r"\end", r"\rangle"), place):
            depth -= 1
        depth += (text[place] in "([{") - (text[place] in ")]}")
        place += 1
    return [part.strip() for part in [*parts, text[start:]]]


class Number(NamedTuple):
    """value: exact. tolerance: half a unit of the last place of a decimal that is taken for rounded, else 0.

    Rounded is a terminating decimal with four places and four significant digits or more; 0.5, 1234.5, 12.50 and 3.14
    are taken literally by other decimals. half: half a unit of the last place. digits: significant ones.
    """

    value: Fraction
    tolerance: Fraction = Fraction(0)
    half: Fraction = Fraction(0)
    digits: int = 0

    def rounding(self, *, exact: bool, irrational: bool) -> Fraction:
        """The tolerance towards an answer that is not a decimal: a fraction (`exact`), or another exact expression.

        A decimal of two places and three (for fractions) or four significant digits stands for what rounds to it.
        """
        if (exact and self.digits >= 3) or (irrational and self.digits >= _ROUNDED):
            return max(self.half, self.tolerance)
        return self.tolerance


_ROUNDED = 4


_INTEGER = r"(?:\d{1,3}(?:[, ]\d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?P<whole>{_INTEGER})?(?:\.(?P<places>\d*))?"
_REPEATING = r"(?:\\(?:overline|bar|dot)\s*\{?(?P<repeat>\d+)\}?|\((?P<round>\d+)\))"
_POWER = r"(?:[eE](?P<e>[+-]?\d{1,4})|\s*\\(?:times|cdot)\s*10\^(?:\{(?P<braced>[+-]?\s*\d{1,4})\}|(?P<bare>\d)))"
_NUMBERS = [
    ("decimal", re.compile(rf"(?=\.?\d){_DECIMAL}{_POWER}?")),
    ("repeating", re.compile(r"(?P<whole>\d*)\.(?P<places>\d*)" + _REPEATING)),
    ("fraction", re.compile(rf"(?P<a>{_INTEGER})\s*/\s*(?P<b>{_INTEGER})|\\frac\{{(?P<c>-?\d+)\}}\{{(?P<d>-?\d+)\}}")),
    ("mixed", re.compile(r"(?P<whole>\d+)(?:\s*\\frac\{(?P<a>\d+)\}\{(?P<b>\d+)\}|\s+(?P<c>\d+)/(?P<d>\d+))")),
]
MOST_DIGITS = 1000


def number(text: str) -> Number | None:
    """A number written in digits, exactly: integer, decimal, repeating decimal, power of ten, fraction or mixed."""
    text = text.strip()
    if len(text) > MOST_DIGITS:
        return None
    while text.startswith("{") and matching(text, 0) == len(text) - 1:
        text = text[1:-1].strip()
    sign = -1 if text.startswith("-") else 1
    if text.startswith(("-", "+")):
        text = text[1:].strip()
    for kind, pattern in _NUMBERS:
        if match := pattern.fullmatch(text):
            found = _NUMBER_OF[kind](match.groupdict())
            return found and found._replace(value=sign * found.value)
    return None


def _digits(text: str | None) -> str:
    return re.sub("[, ]", "", text or "")


def _decimal(groups: dict) -> Number:
    whole, places = _digits(groups["whole"]), (groups["places"] or "").rstrip("0")
    unit = Fraction(10) ** (int(_digits(groups["e"] or groups["braced"] or groups["bare"]) or 0) - len(places))
    digits = len((whole + places).lstrip("0"))
    rounded = len(places) >= _ROUNDED and digits >= _ROUNDED
    half = unit / 2 if len(places) >= 2 else Fraction(0)
    return Number(int(whole + places or 0) * unit, unit / 2 if rounded else Fraction(0), half, digits)


def _repeating(groups: dict) -> Number:
    whole, places, repeat = groups["whole"] or "0", groups["places"], groups["repeat"] or groups["round"]
    first = Fraction(int(whole + places), 10 ** len(places))
    return Number(first + Fraction(int(repeat), (10 ** len(repeat) - 1) * 10 ** len(places)))


def _fraction(groups: dict) -> Number | None:
    above, below = (int(_digits(groups[a] or groups[b])) for a, b in ("ac", "bd"))
    return Number(Fraction(above, below)) if below else None


def _mixed(groups: dict) -> Number | None:
    part = _fraction(groups)
    # 2 5/3 is not a mixed number.
    return part and part.value < 1 and Number(int(groups["whole"]) + part.value) or None


_NUMBER_OF = {"decimal": _decimal, "repeating": _repeating, "fraction": _fraction, "mixed": _mixed}
