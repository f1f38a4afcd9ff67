"""What a final answer is: text, a number or expression, a list, tuple, set, matrix, equation, range of numbers …"""

import itertools
import re
from dataclasses import dataclass

from kimi_plugins.grading.math import regions, values
from kimi_plugins.grading.math.notation import matching, number, split
from kimi_plugins.grading.math.parser import (
    FUNCTIONS,
    MOST_LETTERS,
    Incomplete,
    Node,
    Unreadable,
    add,
    expression,
    neg,
    num,
    symbols,
)
from kimi_plugins.grading.math.units import Unit, mixed_quantity, split_unit

MOST_ELEMENTS = 200
MOST_PARTS = 30  # of a range of numbers


@dataclass(frozen=True, slots=True)
class Text:
    """bare: the letters, if they may be a product as well."""

    words: str
    bare: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """A number or expression, perhaps with a unit."""

    text: str
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """x = value; f(x) = value."""

    name: str
    value: object
    left: str = ""  # the name as it is written


@dataclass(frozen=True, slots=True)
class Chain:
    """Terms with relations between them: a < b < c."""

    terms: tuple[str, ...]
    relations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rounded:
    """An exact value and approximations of it."""

    exact: object
    approximations: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Many:
    """A list or set: the order does not matter."""

    items: tuple


@dataclass(frozen=True, slots=True)
class Ordered:
    """A tuple, vector, interval or ratio: brackets "()", "(]", "<>", "::"."""

    items: tuple
    brackets: str


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: tuple
    kind: str


@dataclass(frozen=True, slots=True)
class Cases:
    """A function that is defined piecewise: (value, condition) pairs."""

    pieces: tuple


@dataclass(frozen=True, slots=True)
class Region:
    """Real numbers, and the variable's name if it was given."""

    numbers: regions.Set
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """A choice's letter, and what stands beside it."""

    letter: str
    content: object


@dataclass(frozen=True, slots=True)
class Congruence:
    left: str
    right: str
    modulus: str


@dataclass(frozen=True, slots=True)
class Qualified:
    """An answer with a condition after it. mild: the condition says that a variable is an integer or any number."""

    value: object
    condition: str
    mild: bool


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Readings of one text, as 100,200."""

    readings: tuple


_COMMA = re.compile(r"\s*[,;]\s*(?:(?:and|or)\s)?(?!\d{3}(?!\d))|\s+(?:and|or)\s+|\s*[,;]\s+|(?<=\D),|;")
_BARE_COMMA = re.compile(r"\s*[,;]\s*")
_AND = re.compile(r"\s+and\s+")
_OR = re.compile(r"\s+or\s+")
_SET_OPERATION = re.compile(r"\s*\\(cup|cap|setminus|backslash)(?![A-Za-z])\s*")
_RELATION = re.compile(r"\s*(=|<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\ne(?![A-Za-z]))\s*")
_APPROXIMATELY = re.compile(r"\s*\\approx(?![A-Za-z])\s*")
_IN = re.compile(r"^\s*([A-Za-z])\s*\\in(?![A-Za-z])\s*")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![A-Za-z])")
_ENVIRONMENT = re.compile(
    r"^(?:\\left)?(?P<open>\[|\()?\s*\\begin\{(?P<kind>[pbvBV]?(?:small)?matrix|array)\}(?:\{[lcr| ]*\})?(?P<body>.*)"
    r"\\end\{(?P=kind)\}\s*(?P<close>\]|\))?$",
    re.DOTALL,
)
_LINES = re.compile(
    r"^(?:\\\{)?\s*\\begin\{(cases|aligned|align\*?|gathered|array|split)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\}$",
    re.DOTALL,
)
_ROW_END = re.compile(r"\\\\(?:\[[^\]]*\])?")
_BASE = re.compile(r"^([0-9A-F]+(?:\.[0-9A-F]+)?)\s*_\s*(?:\{(?:\\text\{)?(\w+)\}?\}|(\d+))$")
_RATIO = re.compile(r"^[^:=<>]+(?:\s*:\s*[^:=<>]+)+$")
_VARIABLE = re.compile(r"^(?:[A-Za-z]|\\(?!pi(?![a-z])|infty)[a-z]+)(?:_(?:\{\w+\}|\w))?$")
_OPTION = re.compile(
    r"^(?:\\text\{\s*)?(?:\(([A-H])\)|([A-H])(?:[.)]|:(?=\s)))\s*\}?(?:(?<=\})|\s)\s*(\S.*)$", re.DOTALL
)
_CONGRUENCE = re.compile(
    r"^(.+?)\\equiv(?![A-Za-z])(.+?)(?:\\[pb]?mod|\(\s*\\?mod|\\text\{\s*\(?mod\s*\})"
    r"\s*\{?\s*([^{}()]+?)\s*\}?\)?$"
)
_TIME = re.compile(
    r"^(\d{1,2})\s*(?::\s*(\d{2}))?(?::(\d{2}))?\s*(?:\\text\{)?\s*([ap])\s*\.?\s*m\s*\.?\s*\}?$", re.IGNORECASE
)
_POSITIVE, _NOT_NEGATIVE = (regions.Interval(num(0), is_open, None, True) for is_open in (True, False))
_SETS: dict[str, regions.Set] = {
    **{r"\mathbb{R}": regions.REALS, r"\R": regions.REALS, r"\emptyset": regions.EMPTY},
    **{r"\mathbb{R}^+": _POSITIVE, r"\mathbb{R}^{+}": _POSITIVE, r"\mathbb{R}_{>0}": _POSITIVE},
    r"\mathbb{R}_{\ge0}": _NOT_NEGATIVE,
}
_REALS = re.compile(
    r"^(?:\\text\{)?\s*(?:the set of )?all (?:the )?reals?(?: numbers?)?\s*"
    r"(?:(?:except|but|other than|excluding)(?: for)?\s*(?:\\text\{|\})*\s*(?:[A-Za-z]\s*=\s*)?(.+?))?\s*\}?$",
    re.IGNORECASE,
)
_NO_SOLUTION = {
    "no solution",
    "no solutions",
    "no real solution",
    "no real solutions",
    "empty set",
    "none exist",
    "none",
}
_NO_SOLUTION |= {"无解", "no such number exists", "there are no solutions", "there is no solution", "there are none"}
_NOT_EXISTING = {
    "dne",
    "does not exist",
    "doesn't exist",
    "limit does not exist",
    "the limit does not exist",
    "不存在",
}
_FLIPPED = {"<": ">", r"\le": r"\ge", ">": "<", r"\ge": r"\le"}
_LABEL = re.compile(r"^\\text\{([^{}]+?)\s*[:=]\s*\}\s*(?=\S)|^([A-Z]?[a-z]{2,}(?: [a-z]+)*)\s*:\s*(?=\S)")
_WORDS = r"(?:\\text\{[^{}]*\}|[A-Za-z.,'’\-() ]|[^\x00-\x7f])+"
_SMALL_WORDS = set(
    "no on not yes odd even all one two six ten red tie top cat dog east west none true left up down".split()
)
_INTEGERS = r"\\in\s*(?:\\mathbb\{?[ZNQRC]\}?|\\?[ZNR](?![A-Za-z]))(?:\^\{?[+*]\}?|_\{?\+\}?|_\{?\\ge\s*0\}?)?"
_SPACE = r"(?:\s|\\text\{\s*\}|\\text\{)*"
_MILD = re.compile(
    rf"{_SPACE}(?:[,;:(]|\\text\{{){_SPACE}(?:(?:for|where|with)\s*(?:all|any|every|some|each)?\s*)?\}}?\s*"
    rf"(?:\(?\s*(?:\\forall\s*)?[A-Za-z](?:\s*,\s*[A-Za-z])*\s*{_INTEGERS}\s*\)?"
    r"|(?:\\text\{)?\s*(?:for|where|with) (?:all|any|every|some|each)?\s*(?:integers?|real(?: numbers?)?)?\s*\}?"
    r"\s*[A-Za-z]\s*"
    r"(?:\\text\{\s*)?(?:is an(?:y)? integer|an integer|is any integer|is any real(?: number)?)?\s*\}?)\)?$"
)
_CONDITION = re.compile(
    r"(?:\s*,\s*|\s*\\text\{\s*)(?:for|where|if|when|with)(?:\s+|\s*\}\s*)(.+?)\}?$"
    r"|\s+\(([^()]*(?:[<>]|\\[lgn]e(?![A-Za-z])|\\in(?![A-Za-z]))[^()]*)\)$"
)


def read(text: str):
    """What a tidied answer is.

    Raises:
        Unreadable: it has an empty part.
    """
    text = text.strip()
    if not text:
        raise Incomplete("an empty part")
    if re.fullmatch(r"[1-9]\d{2}(?:,\d{3})+", text):
        literals = tuple(Term(part) for part in text.split(","))
        return Alternatives((Term(text), Many(literals)))
    if _BASE.match(text):
        return Text(re.sub(r"\\text|[\s{}]", "", text))
    if number(text):
        return Term(text)
    if (found := _read_whole(text)) is not None:
        return found
    if (membership := _IN.match(text)) and len(split(text[membership.end() :], _BARE_COMMA)) == 1:
        members = read(text[membership.end() :])
        region = as_region(members)
        return Region(region.numbers, membership[1]) if region else Named(membership[1], members)
    if _is_text(text):
        return _read_text(text)
    for reader in (
        _read_quantity,
        _read_region,
        _read_list,
        _read_rounded,
        _read_relation,
        _read_brackets,
        _read_matrix,
        _read_plus_minus,
    ):
        if (found := reader(text)) is not None:
            return found
    if _RATIO.match(text) and len(parts := split(text, re.compile(":"))) > 1:
        return Ordered(tuple(Term(part) for part in parts), "::")
    return Term(*split_unit(text))


def _read_whole(text: str):
    """Readings that the beginning or end of the text decides."""
    if match := _TIME.match(text):
        hour, minute, second, half = match.groups()
        return Text(f"{int(hour)}:{minute or '00'}{':' + second if second else ''} {half.lower()}m")
    if match := _OPTION.match(text):
        rest = re.sub(r"^\\text\{([^{}]*)\}$", r"\1", match[3])
        rest = rest.removesuffix("}") if rest.count("{") < rest.count("}") else rest
        return Option(match[1] or match[2], read(rest)) if not re.match(r"[-+*/^=(]", rest) else None
    if match := _CONGRUENCE.match(text):
        return Congruence(*(part.strip() for part in match.groups()))
    if match := _REALS.match(text):
        if match[1] is None:
            return Region(regions.REALS)
        removed = as_points(read(match[1].strip(" {}")))
        return removed and Region(regions.Difference(regions.REALS, removed))
    if (match := _MILD.search(text)) and match.start() > 0:
        return Qualified(read(text[: match.start()]), _squeezed(match[0]), True)
    if (match := _CONDITION.search(text)) and match.start() > 0 and r"\begin" not in text:
        return Qualified(read(text[: match.start()]), _squeezed(match[1] or match[2]), False)
    if match := _LINES.match(text):
        return _read_lines(match[2])
    return None


def _squeezed(text: str) -> str:
    return re.sub(r"\\text|\\left|\\right|[{}\s]", "", text)


def _read_lines(body: str):
    rows = [row.strip() for row in split(body, _ROW_END) if row.strip()]
    if rows and all(re.search(r"&\s*(?:=|\\[lg]e(?![A-Za-z])|[<>])|^[^&]*$", row) for row in rows):
        return read(", ".join(row.replace("&", "").rstrip(" ,;") for row in rows))
    pieces = []
    for row in rows:
        parts = split(row, re.compile("&"))
        if len(parts) != 2:
            raise Unreadable("a system that is not understood")
        condition = re.sub(r"\\text\{\s*(?:if|for|when)\s*\}|\b(?:if|for|when)\b", "", parts[1])
        pieces.append((read(parts[0].rstrip(" ,;")), read(condition.strip(" ,;."))))
    return Cases(tuple(pieces))


def _is_text(text: str) -> bool:
    if re.fullmatch(_WORDS, text) is None or re.search(r"\(.*,.*\)", text):
        return False
    words = [word for word in re.findall(r"[A-Za-z]+", text.replace(r"\text", "")) if word not in FUNCTIONS]
    other = re.search(r"[^\x00-\x7f]", text) is not None
    return r"\text" in text or other or any(len(word) > 2 for word in words) or [w.casefold() for w in words] == ["no"]


def _read_text(text: str):
    words = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip(" .,!?'\"")
    words = re.sub(r"^(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer) )?\(?([A-Za-z])\)?$", r"\1", words)
    letters = words if r"\text" not in text and re.fullmatch(rf"[A-Za-z]{{3,{MOST_LETTERS}}}", words) else ""
    bare = letters if letters.casefold() not in _SMALL_WORDS else ""
    if len(parts := split(words, re.compile(r"\s*,\s*(?:and )?|\s+and\s+"))) > 1:
        return Many(tuple(map(_read_text, parts)))
    if len(words) > 1:
        spaced = " ".join(re.sub(r"(?<=\w)-(?=\w)", " ", words).split())
        words = re.sub(r"^(?:the|an?) ", "", spaced, flags=re.IGNORECASE)
        words = re.sub(r"[^\W\d_]{2,}", lambda word: word[0].casefold(), words)  # single letters keep their case
    if words in _NO_SOLUTION:
        return Region(regions.EMPTY)
    if words in _NOT_EXISTING:
        return Text("does not exist")
    return Text(words, bare)


def _read_region(text: str):
    r"""``\mathbb{R}``, unions and differences of intervals and sets, inequalities joined by and/or."""
    if (named := _SETS.get(text.replace(" ", ""))) is not None:
        return Region(named)
    operators = _SET_OPERATION.findall(_outside_brackets(text))
    parts = split(text, _SET_OPERATION)
    if max(len(parts), len(split(text, _OR)), len(split(text, _AND))) > MOST_PARTS:
        return None
    if len(parts) > 1 and len(operators) == len(parts) - 1:
        return _set_operations([read(part) for part in parts], operators)
    for separator, join in ((_OR, regions.Union), (_AND, regions.Intersection)):
        parts = split(text, separator)
        if len(parts) < 2:
            continue
        found = [read(part) for part in parts]
        if not any(isinstance(part, Chain | Region) for part in found):
            return None  # (1,2) and (3,4) are two points
        known = [region for part in found if (region := _numbers_of(part)) is not None]
        names = {region.name for region in known}
        if len(known) < len(found) or len(names) != 1:
            return None
        return Region(join(tuple(region.numbers for region in known)), names.pop())
    return None


def _numbers_of(found) -> Region | None:
    """The region of an inequality, or of x = 1."""
    if isinstance(found, Named) and (points := as_points(found.value)) is not None:
        return Region(points, found.name)
    return as_region(found)


def _set_operations(found: list, operators: list[str]):
    if set(operators) == {"cup"} and all(isinstance(part, Many) for part in found):
        items: list = []
        for item in (item for part in found for item in part.items):
            if item not in items:
                items.append(item)
        return Many(tuple(items))
    sets = [numbers for part in found if (numbers := _set_of(part)) is not None]
    if len(sets) < len(found) or len(set(operators)) > 1:
        return None
    if operators[0] == "cup":
        return Region(regions.Union(tuple(sets)))
    if operators[0] == "cap":
        return Region(regions.Intersection(tuple(sets)))
    return Region(regions.Difference(sets[0], regions.Union(tuple(sets[1:]))))


def _set_of(found) -> regions.Set | None:
    """The numbers of a finite set or a range."""
    if isinstance(found, Many):
        return as_points(found)
    region = as_region(found)
    return None if region is None else region.numbers


def as_points(found) -> regions.Points | None:
    """The constants of a list or a single one."""
    items = found.items if isinstance(found, Many) else (found,)
    numbers = [bound for item in items if isinstance(bound := _bound(item), Node)]
    return regions.Points(tuple(numbers)) if len(numbers) == len(items) else None


def _read_list(text: str) -> Many | Region | None:
    parts = split(text, _COMMA)
    if len(parts) < 2 or len(parts) > MOST_ELEMENTS or not all(parts):
        return None
    items = [read(part) for part in parts]
    if (conditions := _conditions(items)) is not None:
        return conditions
    first = items[0]
    # x = 1, 2 and x = 1 or x = 2 list the values of one variable.
    if isinstance(first, Named) and all(not isinstance(item, Named) or item.name == first.name for item in items):
        values_of = [item.value if isinstance(item, Named) else item for item in items]
        return Many((Named(first.name, Many(tuple(_flat(values_of)))),))
    return Many(tuple(_flat(items)))


def _conditions(items: list) -> Region | None:
    """x ≠ 1, x ≠ −1: of one variable, all hold; at least one says what it is not, or that it is real."""
    found = [as_region(item) for item in items if isinstance(item, Chain | Region)]
    sets = [region.numbers for region in found if region is not None]
    names = {region.name for region in found if region is not None}
    if len(sets) < len(items) or len(names) != 1 or None in names:
        return None
    if not any(part == regions.REALS or isinstance(part, regions.Difference) for part in sets):
        return None
    return Region(regions.Intersection(tuple(sets)), names.pop())


def _flat(items):
    for item in items:
        if isinstance(item, Many):
            yield from item.items
        else:
            yield item


def _read_rounded(text: str):
    exact, *approximations = split(text, _APPROXIMATELY)
    if not approximations:
        return None
    if is_name(exact) and len(approximations) == 1:
        return Named(_squeezed(exact), read(approximations[0]))
    found = [read(part) for part in approximations]
    if not all(isinstance(part, Term) and number(part.text) for part in found):
        raise Unreadable("an approximation that is not a decimal")
    return Rounded(read(exact), tuple(found))


def _read_relation(text: str):
    if (match := _LABEL.match(text)) is not None:
        return Named(_squeezed(match[1] or match[2]), read(text[match.end() :]))
    terms = split(text, _RELATION)
    if len(terms) < 2:
        return None
    if not all(terms):
        raise Incomplete("a relation with nothing on one side")
    relations = tuple(_RELATION.findall(_outside_brackets(text)))
    if len(relations) != len(terms) - 1:
        raise Unreadable("not a relation")
    if set(relations) == {"="}:
        if is_name(terms[0]):
            rest = terms[1:]
            if len(rest) > 1 and all(map(is_name, rest[:-1])):  # x = y = 2
                return Named(_squeezed(terms[0]), Named(_squeezed(rest[-2]), read(rest[-1]), rest[-2]), terms[0])
            # f(x) = y = 2: only the last is a value.
            value = _read_side(rest[0]) if len(rest) == 1 else Chain(tuple(rest), relations[1:])
            return Named(_squeezed(terms[0]), value, terms[0])
        if is_name(terms[-1]) and len(terms) == 2:
            return Named(_squeezed(terms[1]), read(terms[0]), terms[1])
    return Chain(tuple(terms), relations)


def _read_side(text: str):
    """One side of an equation, where letters are a product: PV = nRT."""
    found = read(text)
    return Term(found.bare) if isinstance(found, Text) and found.bare else found


def _outside_brackets(text: str) -> str:
    kept, depth = [], 0
    for character in text:
        depth += character in "([{"
        if depth == 0:
            kept.append(character)
        depth -= character in ")]}"
    return "".join(kept)


_NAME = re.compile(
    r"^(?:\\text\{[^{}]*\}|\{?[A-Za-z][A-Za-z ]*\}?|\\(?!frac|sqrt|pi(?![A-Za-z])|infty)[A-Za-z]+)"
    r"(?:_(?:\{[^{}]*(?:\{[^{}]*\})?\}|\\[a-z]+|\w))?'*$"
)
_NAMES = re.compile(r"^\(\s*[A-Za-z]\w*(?:\s*,\s*[A-Za-z]\w*)+\s*\)$")
_NOT_NAMES = {"e", "i", r"\pi", r"\infty", r"\emptyset"}
_MEASURES = re.compile(
    r"^(?:\\(?:angle|triangle|overline|overrightarrow|widehat|arc|vec|bar|Delta|text|Pr|lim)(?![a-z])"
    r"|\\(?:mathbb|operatorname)\s*\{[A-Za-z]+\}|\\(?:sin|cos|tan|cot)\s*\\angle|m\s*\\angle|S_|P\s*\(|E\s*\(|[A-Z]\s*\()"
)


def is_name(text: str) -> bool:
    """Whether the left side of an equation names its right side: x, f(3), P(X=2), |z|, AB/CD, x+y, and not 2x or x^2.

    An expression of one variable that is not a function of it would have to be solved.
    """
    if text in _NOT_NAMES or number(text):
        return False
    if _NAME.match(text) or _NAMES.match(text) or _MEASURES.match(text):
        return True
    if re.fullmatch(r"\|[^|]*[A-Za-z][^|]*\|", text):
        return True
    if len(parts := split(text, re.compile(":"))) > 1:
        return all(map(is_name, parts))
    try:
        node = expression(text)
    except Unreadable:
        return False
    if not symbols(node):
        return node.op.startswith("@")
    if node.op in ("symbol", "abs", "@norm", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "re", "im"):
        return True
    if node.op.startswith("@") or node.op in ("gcd", "lcm", "max", "min"):
        return True
    if _is_derivative(node):
        return True
    return len(symbols(node)) > 1 and node.op in ("add", "mul", "div")


def _is_derivative(node: Node) -> bool:
    return node.op == "div" and all(part.op == "symbol" and str(part.value).startswith("d") for part in node.args)


def _read_brackets(text: str):
    if text.startswith("{") and matching(text, 0) == len(text) - 1:
        inner = text[1:-1].strip()
        parts = split(inner, _BARE_COMMA)
        return Many(tuple(_flat(map(read, parts)))) if len(parts) > 1 else read(inner)
    if text.startswith(r"\{") and text.endswith(r"\}"):
        inner = text[2:-2].strip()
        builder = split(inner, re.compile(r"\s*(?:\\mid(?![A-Za-z])|\||:)\s*"))
        if len(builder) == 2 and re.match(r"^[A-Za-z](?:\s*\\in\s*\\mathbb\{?R\}?)?$", builder[0]):
            region = as_region(read(builder[1]))
            return region and Region(region.numbers)
        return Many(tuple(_flat(map(read, split(inner, _BARE_COMMA)))))
    if text.startswith(r"\langle") and text.endswith(r"\rangle"):
        return Ordered(tuple(read(part) for part in split(text[7:-7].strip(), _BARE_COMMA)), "()")
    if text[0] in "([" and text[-1] in ")]" and matching(text, 0) == len(text) - 1:
        if text[1:-1].strip().startswith(r"\begin"):
            return None
        parts = split(text[1:-1].strip(), _BARE_COMMA)
        if len(parts) == 1:
            return read(parts[0]) if text[0] + text[-1] == "()" else None
        if not all(parts):
            raise Incomplete("an empty element")
        if _PLUS_MINUS.search(text):
            return _read_plus_minus(text)
        items = tuple(read(part) for part in parts)
        if text[0] == "[" and all(isinstance(item, Ordered) and item.brackets == "[]" for item in items):
            return Matrix(tuple(item.items for item in items), "matrix")
        return Ordered(items, text[0] + text[-1])
    return None


def _read_matrix(text: str) -> Matrix | None:
    start = text.find(r"\begin")
    if start < 0:
        return None
    before = re.search(r"[\[(]?\s*$", text[:start])
    factor = text[: before.start() if before else start].strip()
    match = _ENVIRONMENT.match(text[len(text[: before.start()]) :].strip() if before else text[start:])
    if match is None or (match["open"] is None) != (match["close"] is None):
        raise Unreadable("not a matrix")
    rows = [row for row in split(match["body"], _ROW_END) if row]
    if factor:
        factor = factor.removesuffix(r"\cdot").strip()
        scale = "-1" if factor == "-" else factor
        expression(scale)
        rows = [" & ".join(rf"({scale}) \cdot ({cell})" for cell in split(row, re.compile("&"))) for row in rows]
    cells = tuple(tuple(read(cell) for cell in split(row, re.compile("&"))) for row in rows)
    return Matrix(cells, match["kind"] if match["kind"] in ("vmatrix", "Vmatrix") else "matrix")


def _read_plus_minus(text: str) -> Many | None:
    found = _PLUS_MINUS.findall(text)
    if not found:
        return None
    if len(found) > 3:
        raise Unreadable("too many ±")
    if "mp" in found:  # the signs go together
        choices = [["+" if sign == "pm" else "-" for sign in found], ["-" if sign == "pm" else "+" for sign in found]]
    else:
        choices = [list(signs) for signs in itertools.product("+-", repeat=len(found))]
    items = []
    for signs in choices:
        spelled = text
        for sign in signs:
            spelled = _PLUS_MINUS.sub(sign, spelled, count=1)
        spelled = re.sub(r"(^|[(\[,{])\s*\+", r"\1", spelled)
        items.append(read(spelled.strip()))
    return Many(tuple(dict.fromkeys(items)))


def _read_quantity(text: str):
    """5 ft 3 in; with "and" between them also a list."""
    quantity = mixed_quantity(text)
    if quantity is None:
        return None
    listed = _read_list(text)
    return Term(*quantity) if listed is None else Alternatives((Term(*quantity), listed))


def as_region(found) -> Region | None:
    """A set of real numbers, of an interval or an inequality in one variable with constant bounds."""
    if isinstance(found, Region):
        return found
    if isinstance(found, Ordered) and len(found.items) == 2 and found.brackets in ("()", "(]", "[)", "[]"):
        low, high = map(_bound, found.items)
        if low is None or high is None or low == "+" or high == "-":
            return None
        ends = (None if isinstance(low, str) else low, None if isinstance(high, str) else high)
        if not regions.valid(*ends):
            return None
        return Region(regions.Interval(ends[0], found.brackets[0] == "(", ends[1], found.brackets[1] == ")"))
    if isinstance(found, Chain):
        return _inequality(found)
    return None


def _bound(item) -> Node | str | None:
    """A real constant, "+" or "-" for infinity; None if it is neither."""
    if not isinstance(item, Term) or item.unit:
        return None
    text = re.sub(r"^\+\s*", "", item.text)
    if text.replace(" ", "") in (r"\infty", r"-\infty"):
        return "-" if text.startswith("-") else "+"
    try:
        node = expression(text)
    except Unreadable:
        return None
    value = values.constant(node)
    return node if value is not None and not values.is_complex(value) else None


def _inequality(chain: Chain) -> Region | None:
    if len(chain.terms) == 2 and (match := re.match(r"^\|(.*)\|$", chain.terms[0])):
        return _absolute(match[1], chain.relations[0], chain.terms[1])
    places = [n for n, term in enumerate(chain.terms) if _VARIABLE.match(term) and term not in _NOT_NAMES]
    if len(places) != 1 or len(chain.terms) > 3 or (len(chain.terms) == 3 and places != [1]):
        return None
    [variable] = places
    name = _squeezed(chain.terms[variable])
    parts: list[regions.Set] = []
    for n, relation in enumerate(chain.relations):
        left = n == variable  # the variable is on the left of this relation
        other = read(chain.terms[n + 1] if left else chain.terms[n])
        if relation == r"\ne" and isinstance(other, Many) and (points := as_points(other)) is not None:
            parts.append(regions.Difference(regions.REALS, points))
            continue
        bound = _bound(other)
        if bound is None or relation == "=":
            return None
        part = _half_line(relation if left else _FLIPPED.get(relation, relation), bound)
        if part is None:
            return None
        parts.append(part)
    return Region(parts[0] if len(parts) == 1 else regions.Intersection(tuple(parts)), name)


def _half_line(relation: str, bound: Node | str) -> regions.Set | None:
    """The numbers x with x < bound and the like."""
    if isinstance(bound, str):
        return regions.REALS if (relation, bound) in (("<", "+"), (">", "-")) else None
    if relation == r"\ne":
        return regions.Difference(regions.REALS, regions.Points((bound,)))
    if relation in ("<", r"\le"):
        return regions.Interval(None, True, bound, relation == "<")
    return regions.Interval(bound, relation == ">", None, True)


def _absolute(inner: str, relation: str, bound_text: str) -> Region | None:
    """|x − a| < b."""
    try:
        node = expression(inner)
    except Unreadable:
        return None
    bound = _bound(read(bound_text))
    names = symbols(node)
    if not isinstance(bound, Node) or len(names) != 1 or relation not in _FLIPPED:
        return None
    [name] = names
    if not values.linear(node, name) or values.less(num(0), bound) is not True:
        return None
    at_0 = values.substituted(node, name, num(0))
    slope = add(values.substituted(node, name, num(1)), neg(at_0))
    ends = [Node("div", (add(end, neg(at_0)), slope)) for end in (neg(bound), bound)]
    if values.less(*ends) is False:
        ends.reverse()
    inside = regions.Interval(ends[0], relation == "<", ends[1], relation == "<")
    if relation in ("<", r"\le"):
        return Region(inside, name)
    inside = regions.Interval(ends[0], relation == r"\ge", ends[1], relation == r"\ge")
    return Region(regions.Difference(regions.REALS, inside), name)
