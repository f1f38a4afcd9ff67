r"""Grading of mathematical answers by rules, on math-verify (k1.5 §2.3.5). Rules: docs/rewards.md.

The final answer is read as what it is (text, list, tuple, interval, matrix, equation, quantity, expression), and must
be of the reference's kind and equal in its parts. Precision counts before recall: RL finds and uses what is accepted
wrongly, and what is rejected wrongly only costs signal.
"""

import re
from fractions import Fraction
from typing import NamedTuple

import sympy

from kimi_plugins.grading.extraction import NoAnswer, final_answers
from kimi_plugins.grading.math import expressions
from kimi_plugins.grading.math.expressions import TooLarge, Unreadable
from kimi_plugins.grading.math.notation import matching, number, split, tidy
from kimi_plugins.grading.math.units import Unit, split_unit
from kimi_plugins.grading.verdict import RIGHT, Kind, Verdict

MOST_CHARACTERS = 2000  # of an answer; longer ones are no answer
MOST_ELEMENTS = 200


def grade(response: str, reference: str, *, pattern: str | None = None) -> Verdict:
    """Grade the final answer of a response.

    Args:
        response: thinking and answer, without the prompt.
        reference: the right answer alone, in LaTeX or plain text.
        pattern: see extraction.final_answers; by default the answer is in a box.

    Returns:
        correct None if the reference cannot be read, which says nothing of the response.
    """
    try:
        answers = final_answers(response, pattern)
    except NoAnswer as error:
        return Verdict(Kind.WRONG, str(error))
    if len(set(answers)) == 1:
        return grade_answer(answers[0], reference)
    verdicts = [grade_answer(answer, reference) for answer in answers]
    if all(verdict.correct for verdict in verdicts):
        return RIGHT
    whole = grade_answer(", ".join(answers), reference)  # the parts of a list, each in a box
    return whole if whole.correct is not False else Verdict(Kind.WRONG, "several final answers")


def grade_answer(answer: str, reference: str) -> Verdict:
    """Grade an answer that stands alone, without a box."""
    if not reference.strip():
        return Verdict(Kind.FAILED, "the reference is empty")
    if len(answer) > max(MOST_CHARACTERS, 2 * len(reference)):
        return Verdict(Kind.WRONG, "too long for an answer")
    answer, reference = tidy(answer), tidy(reference)
    if not answer:
        return Verdict(Kind.WRONG, "the final answer is empty")
    if answer == reference:
        return RIGHT
    try:
        try:
            expected = read(reference)
        except Unreadable as error:
            raise UnreadableReference(str(error)) from error
        found = read(answer)
        if same(found, expected):
            return RIGHT
        if values_differ(found, expected):
            return Verdict(Kind.WRONG, "not equal")
        return Verdict(Kind.OTHER_FORM, "not in the form of the reference")
    except UnreadableReference as error:
        if _squeezed(answer) == _squeezed(reference):
            return RIGHT
        return Verdict(Kind.REFERENCE_UNREADABLE, f"the reference cannot be read: {error}")
    except TooLarge as error:
        return Verdict(Kind.WRONG, f"no answer: {error}")
    except (Unreadable, RecursionError) as error:
        return Verdict(Kind.ANSWER_UNREADABLE, f"the answer cannot be read: {error}")


def _squeezed(text: str) -> str:
    return re.sub(r"\\text|[{}\s]", "", text).casefold()


class UnreadableReference(Exception):
    pass


# What an answer can be. All strings are tidied.


class Text(NamedTuple):
    words: str


class Term(NamedTuple):
    """A number or expression, perhaps with a unit."""

    text: str
    unit: Unit | None = None


class Named(NamedTuple):
    """x = value; f(x) = value."""

    name: str
    value: object


class Chain(NamedTuple):
    """Terms with relations between them: a < b < c."""

    terms: tuple[str, ...]
    relations: tuple[str, ...]


class Many(NamedTuple):
    """A list or set: the order does not matter."""

    items: tuple


class Ordered(NamedTuple):
    """A tuple, vector, interval or ratio: brackets "()", "(]", "<>", "::"."""

    items: tuple
    brackets: str


class Matrix(NamedTuple):
    rows: tuple
    kind: str


class Region(NamedTuple):
    """Real numbers: a sympy set, and the variable's name if it was given."""

    numbers: sympy.Set
    name: str | None = None


_COMMA = re.compile(r"\s*[,;]\s*(?:(?:and|or)\s)?(?!\d{3}(?!\d))|\s+(?:and|or)\s+|\s*[,;]\s+|(?<=\D),|;")
_BARE_COMMA = re.compile(r"\s*[,;]\s*")
_AND = re.compile(r"\s+and\s+")
_OR = re.compile(r"\s+or\s+")
_UNION = re.compile(r"\s*\\cup(?![A-Za-z])\s*")
_RELATION = re.compile(r"\s*(=|<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\ne(?![A-Za-z]))\s*")
_IN = re.compile(r"^\s*([A-Za-z])\s*\\in(?![A-Za-z])\s*")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![A-Za-z])")
_MATRIX = re.compile(r"^\\begin\{([pbvBV]?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\}$", re.DOTALL)
_BASE = re.compile(r"^([0-9A-F]+)\s*_\s*\{?(\d+)\}?$")
_RATIO = re.compile(r"^[\d.]+(?:\s*:\s*[\d.]+)+$")
_NAME = re.compile(
    r"^(?:\\text\{[^{}]*\}|(?:\\(?!frac|sqrt|pi(?![A-Za-z])|infty)[A-Za-z]+\s*)?(?:\{?[A-Za-z][A-Za-z ]*\}?)|\\[a-z]+)"
    r"(?:_(?:\{\w+\}|\w))?'*(?:\([A-Za-z, ]+\))?$"
)
_VARIABLE = re.compile(r"^(?:[A-Za-z]|\\(?!pi(?![a-z])|infty)[a-z]+)(?:_(?:\{\w+\}|\w))?$")
_NAMES = re.compile(r"^\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])+\s*\)$")
_CONSTANT_NAMES = {"e", "i", r"\pi", r"\infty", r"\emptyset"}
_SETS = {r"\mathbb{R}": sympy.S.Reals, "R": None, r"\emptyset": sympy.S.EmptySet}
_NO_SOLUTION = {"no solution", "no solutions", "no real solution", "no real solutions", "empty set", "none exist"}
_FLIPPED = {"<": ">", r"\le": r"\ge", ">": "<", r"\ge": r"\le"}


def read(text: str):
    """What a tidied answer is."""
    if not text:
        raise Unreadable("an empty part")
    if _BASE.match(text):
        return Text(re.sub(r"[\s{}]", "", text))
    if number(text):
        return Term(text)
    if membership := _IN.match(text):
        values = read(text[membership.end() :])
        region = as_region(values)
        return Region(region.numbers, membership[1]) if region else Named(membership[1], values)
    if _is_text(text):
        return _read_text(text)
    for reader in (_read_region, _read_list, _read_relation, _read_brackets, _read_matrix, _read_plus_minus):
        if (found := reader(text)) is not None:
            return found
    if _RATIO.match(text):
        return Ordered(tuple(Term(part.strip()) for part in text.split(":")), "::")
    return Term(*split_unit(text))


def _is_text(text: str) -> bool:
    if re.fullmatch(r"(?:\\text\{[^{}]*\}|[A-Za-z.,'\-() ])+", text) is None or re.search(r"\(.*,.*\)", text):
        return False
    words = re.findall(r"[A-Za-z]+", text.replace(r"\text", ""))
    return r"\text" in text or any(len(word) > 2 for word in words) or [word.casefold() for word in words] == ["no"]


def _read_text(text: str):
    words = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip(" .,!?'\"")
    words = re.sub(r"^\(([A-Za-z])\)$", r"\1", words)
    if len(words) > 1:
        words = re.sub(r"^(?:the|an?) ", "", " ".join(words.replace("-", " ").casefold().split()))
    if words in _NO_SOLUTION:
        return Region(sympy.S.EmptySet)
    if len(parts := split(words, re.compile(r"\s*,\s*(?:and )?|\s+and\s+"))) > 1:
        return Many(tuple(map(Text, parts)))
    return Text(words)


def _read_region(text: str) -> Region | None:
    r"""``\mathbb{R}``, unions of intervals, inequalities joined by and/or."""
    if _SETS.get(text) is not None:
        return Region(_SETS[text])
    for separator, join in ((_UNION, sympy.Union), (_OR, sympy.Union), (_AND, sympy.Intersection)):
        parts = split(text, separator)
        if len(parts) < 2:
            continue
        found = [read(part) for part in parts]
        if separator is not _UNION and not all(isinstance(part, Chain | Region) for part in found):
            return None  # (1,2) and (3,4) are two points
        regions = [as_region(part) for part in found]
        names = {region.name for region in regions if region is not None}
        if None in regions or len(names) != 1:
            return None
        return Region(join(*(region.numbers for region in regions)), names.pop())
    return None


def _read_list(text: str) -> Many | None:
    parts = split(text, _COMMA)
    if len(parts) < 2 or len(parts) > MOST_ELEMENTS or not all(parts):
        return None
    items = [read(part) for part in parts]
    first = items[0]
    # x = 1, 2 and x = 1 or x = 2 list the values of one variable.
    if isinstance(first, Named) and all(not isinstance(item, Named) or item.name == first.name for item in items):
        items = [item.value if isinstance(item, Named) else item for item in items]
    flat = [part for item in items for part in (item.items if isinstance(item, Many) else (item,))]
    return Many(tuple(flat))


def _read_relation(text: str):
    terms = split(text, _RELATION)
    if len(terms) < 2:
        return None
    if not all(terms):
        raise Unreadable("a relation with nothing on one side")
    relations = tuple(_RELATION.findall(_outside_brackets(text)))
    if len(relations) != len(terms) - 1:
        raise Unreadable("no relation")
    if set(relations) == {"="}:
        if _is_name(terms[0]):
            rest = terms[1:]
            # f(x) = y = 2: only the last is a value.
            value = read(rest[0]) if len(rest) == 1 else Chain(tuple(rest), relations[1:])
            return Named(_plain_name(terms[0]), value)
        if _is_name(terms[-1]) and len(terms) == 2:
            return Named(_plain_name(terms[1]), read(terms[0]))
    return Chain(tuple(terms), relations)


def _outside_brackets(text: str) -> str:
    kept, depth = [], 0
    for character in text:
        depth += character in "([{"
        if depth == 0:
            kept.append(character)
        depth -= character in ")]}"
    return "".join(kept)


def _is_name(text: str) -> bool:
    return text not in _CONSTANT_NAMES and (_NAME.match(text) or _NAMES.match(text)) is not None


def _plain_name(text: str) -> str:
    return re.sub(r"\\text|[{}\s]", "", text)


def _read_brackets(text: str):
    if text.startswith(r"\{") and text.endswith(r"\}"):
        inner = text[2:-2].strip()
        builder = split(inner, re.compile(r"\s*(?:\\mid(?![A-Za-z])|\||:)\s*"))
        if len(builder) == 2 and re.match(r"^[A-Za-z](?:\s*\\in\s*\\mathbb\{R\})?$", builder[0]):
            region = as_region(read(builder[1]))
            return region and Region(region.numbers)
        return Many(tuple(read(part) for part in split(inner, _BARE_COMMA)))
    if text.startswith(r"\langle") and text.endswith(r"\rangle"):
        return Ordered(tuple(read(part) for part in split(text[7:-7].strip(), _BARE_COMMA)), "()")
    if text[0] in "([" and text[-1] in ")]" and matching(text, 0) == len(text) - 1:
        parts = split(text[1:-1].strip(), _BARE_COMMA)
        if len(parts) == 1:
            return read(parts[0]) if text[0] + text[-1] == "()" else None
        if not all(parts):
            raise Unreadable("an empty element")
        items = tuple(read(part) for part in parts)
        if text[0] == "[" and all(isinstance(item, Ordered) and item.brackets == "[]" for item in items):
            return Matrix(tuple(item.items for item in items), "matrix")
        return Ordered(items, text[0] + text[-1])
    return None


def _read_matrix(text: str) -> Matrix | None:
    match = _MATRIX.match(text)
    if match is None:
        return None
    rows = [row for row in split(match[2], re.compile(r"\\\\(?:\[[^\]]*\])?")) if row]
    cells = tuple(tuple(read(cell) for cell in split(row, re.compile("&"))) for row in rows)
    return Matrix(cells, match[1] if match[1] in ("vmatrix", "Vmatrix") else "matrix")


def _read_plus_minus(text: str) -> Many | None:
    if not _PLUS_MINUS.search(text):
        return None
    upper = _PLUS_MINUS.sub(lambda match: "+" if match[1] == "pm" else "-", text)
    lower = _PLUS_MINUS.sub(lambda match: "-" if match[1] == "pm" else "+", text)
    return Many((read(upper.removeprefix("+").strip()), read(lower.removeprefix("+").strip())))


def as_region(found) -> Region | None:
    """A set of real numbers, of an interval or an inequality in one variable with constant bounds."""
    if isinstance(found, Region):
        return found
    if isinstance(found, Ordered) and len(found.items) == 2 and found.brackets in ("()", "(]", "[)", "[]"):
        bounds = [_bound(item) for item in found.items]
        if None in bounds or not bounds[0] < bounds[1]:
            return None
        return Region(sympy.Interval(*bounds, found.brackets[0] == "(", found.brackets[1] == ")"))
    if isinstance(found, Chain):
        return _inequality(found)
    return None


def _bound(item):
    """A real number or infinity, None if it is neither."""
    if not isinstance(item, Term) or item.unit:
        return None
    text = re.sub(r"^\+\s*", "", item.text)
    if text.replace(" ", "") in (r"\infty", r"-\infty"):
        return -sympy.oo if text.startswith("-") else sympy.oo
    try:
        value = expressions.expression(text)
    except Unreadable:
        return None
    return value.doit() if not value.free_symbols and value.is_real else None


def _inequality(chain: Chain) -> Region | None:
    places = [place for place, term in enumerate(chain.terms) if _VARIABLE.match(term)]
    if len(places) != 1 or len(chain.terms) > 3 or (len(chain.terms) == 3 and places != [1]):
        return None
    [variable] = places
    name, numbers = _plain_name(chain.terms[variable]), sympy.S.Reals
    for place, relation in enumerate(chain.relations):
        left = place == variable  # the variable is on the left of this relation
        bound = _bound(read(chain.terms[place + 1] if left else chain.terms[place]))
        if bound is None or relation == "=":
            return None
        if relation == r"\ne":
            return Region(
                sympy.Union(sympy.Interval.open(-sympy.oo, bound), sympy.Interval.open(bound, sympy.oo)), name
            )
        relation = relation if left else _FLIPPED[relation]
        below = relation in ("<", r"\le")
        is_open = relation in "<>"
        piece = (
            sympy.Interval(-sympy.oo, bound, True, is_open)
            if below
            else sympy.Interval(bound, sympy.oo, is_open, True)
        )
        numbers = numbers.intersect(piece)
    return Region(numbers, name)


# Whether two are the same: an answer a, a reference r.


def same(a, r) -> bool:
    """Whether an answer that was read is the reference that was read.

    Raises:
        Unreadable: the answer holds an expression that cannot be evaluated.
        UnreadableReference: the reference does.
    """
    if a == r:
        return True
    if isinstance(a, Named) and not isinstance(r, Named | Chain):
        return same(a.value, r)
    if isinstance(a, Chain) and isinstance(r, Term | Text):
        # 2 + 3 = 5 for 5: every side is the reference. 8 = 7 is not 7.
        return set(a.relations) == {"="} and all(same(read(term), r) for term in a.terms)
    if isinstance(r, Text) and isinstance(a, Term):
        return _as_letter(a.text) == r.words
    match r:
        case Text() | Matrix() | Ordered() if type(a) is not type(r):
            return isinstance(r, Ordered) and _same_region(a, r)
        case Text():
            return a.words == r.words
        case Term():
            return _same_term(a, r)
        case Named():
            return _same_named(a, r)
        case Many():
            return isinstance(a, Many) and _same_items(a.items, r.items)
        case Ordered():
            return a.brackets == r.brackets and _same_sequence(a.items, r.items)
        case Matrix():
            return a.kind == r.kind and len(a.rows) == len(r.rows) and all(map(_same_sequence, a.rows, r.rows))
        case Region():
            return _same_region(a, r)
        case Chain():
            return _same_chain(a, r)
    raise TypeError(f"unknown kind of answer: {r!r}")


def _as_letter(text: str) -> str:
    return text.strip("() ") if re.fullmatch(r"\(?[A-Za-z]\)?", text) else text


def _same_sequence(a: tuple, r: tuple) -> bool:
    return len(a) == len(r) and all(map(same, a, r))


def _same_items(a: tuple, r: tuple) -> bool:
    """Each item of the one is one of the other, in any order."""
    if len(a) != len(r):
        return False
    left = list(a)
    for expected in r:
        place = next((n for n, item in enumerate(left) if same(item, expected)), None)
        if place is None:
            return False
        del left[place]
    return True


def _same_term(a, r: Term) -> bool:
    if isinstance(a, Text):
        return _as_letter(r.text) == a.words
    if not isinstance(a, Term):
        return False
    literal = number(r.text)
    tolerance = literal.tolerance if literal else 0
    if a.unit is None or r.unit is None:
        # A missing unit is the other side's: the question names it. What a unit is worth as a number counts too.
        unit = a.unit or r.unit
        scaled = unit is not None and unit.scale != 1
        if not scaled and _equal(a.text, r.text, tolerance):
            return True
        if unit is None or (unit.dimensions and not scaled):
            return False
        if scaled and unit.dimensions:
            unit = Unit(unit.scale, Fraction(1), ())
        return _equal(_times(a.text, a.unit and unit), _times(r.text, r.unit and unit), 0)
    if a.unit.dimensions != r.unit.dimensions:
        return False
    if (a.unit.scale, a.unit.factor) == (r.unit.scale, r.unit.factor):
        return _equal(a.text, r.text, tolerance)
    return _equal(_times(a.text, a.unit), _times(r.text, r.unit), 0)


def _times(text: str, unit: Unit | None) -> str:
    """The term in base units, as text again."""
    if unit is None:
        return text
    literal = number(text)
    if literal and not isinstance(unit.factor, str):
        return _as_text(literal.value * unit.scale * unit.factor)
    factor = unit.factor if isinstance(unit.factor, str) else _as_text(unit.factor)
    return rf"{unit.scale} \cdot {factor} \cdot ({_as_text(literal.value) if literal else text})"


def _as_text(value: Fraction) -> str:
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _equal(answer: str, reference: str, tolerance=0) -> bool:
    if answer == reference:
        return True
    try:
        number(reference) or expressions.expression(reference)
    except Unreadable as error:
        raise UnreadableReference(str(error)) from error
    return expressions.equal(answer, reference, tolerance=Fraction(tolerance))


def _same_named(a, r: Named) -> bool:
    if isinstance(a, Named):
        if a.name == r.name:
            return same(a.value, r.value)
        return _is_formula(r) and _same_equation(_sides(a), _sides(r))
    if isinstance(a, Chain):
        if a.relations == ("=",) and _is_formula(r):
            return _same_equation(a.terms, _sides(r))
        return same(a, r.value)
    return same(a, r.value)


def _is_formula(named: Named) -> bool:
    """y = 2x + 3, which is an equation too, and not x = 5."""
    return isinstance(named.value, Term) and not number(named.value.text) and not named.name.endswith(")")


def _sides(named: Named) -> tuple[str, str] | None:
    return (named.name, named.value.text) if isinstance(named.value, Term) else None


def _same_region(a, r) -> bool:
    ours, theirs = as_region(a), as_region(r)
    if ours is None or theirs is None:
        return isinstance(a, Chain) and isinstance(r, Chain) and _same_chain(a, r)
    if ours.name and theirs.name and ours.name != theirs.name:
        return False
    return ours.numbers == theirs.numbers or _same_pieces(ours.numbers, theirs.numbers)


def _same_pieces(a: sympy.Set, r: sympy.Set) -> bool:
    """Intervals whose bounds are equal in value, as √8 and 2√2 are."""
    pieces = [sorted(s.args if isinstance(s, sympy.Union) else (s,), key=_start) for s in (a, r)]
    if len(pieces[0]) != len(pieces[1]) or not all(isinstance(p, sympy.Interval) for p in [*pieces[0], *pieces[1]]):
        return False
    return all(
        (x.left_open, x.right_open) == (y.left_open, y.right_open)
        and expressions.same_value(x.start, y.start)
        and expressions.same_value(x.end, y.end)
        for x, y in zip(*pieces, strict=True)
    )


def _start(piece: sympy.Set) -> float:
    return float(piece.start) if isinstance(piece, sympy.Interval) else 0.0


def _same_chain(a, r: Chain) -> bool:
    if as_region(r) is not None and as_region(a) is not None:
        return _same_region(a, r)
    if isinstance(a, Named) and r.relations == ("=",):
        return _same_equation(_sides(a), r.terms)
    if not isinstance(a, Chain) or len(a.relations) != 1 or len(r.relations) != 1:
        return isinstance(a, Chain) and a.relations == r.relations and all(map(_equal, a.terms, r.terms))
    relation, terms = a.relations[0], a.terms
    if relation != r.relations[0]:
        if _FLIPPED.get(relation) != r.relations[0]:
            return False
        terms = terms[::-1]
    return _same_equation(terms, r.terms, positive=relation in _FLIPPED)


def _same_equation(a: tuple[str, str] | None, r: tuple[str, str] | None, *, positive: bool = False) -> bool:
    """Whether left − right differ by a constant factor only, which an inequality needs to be positive."""
    if a is None or r is None:
        return False
    try:
        expected = expressions.expression(r[0]) - expressions.expression(r[1])
    except Unreadable as error:
        raise UnreadableReference(str(error)) from error
    found = expressions.expression(a[0]) - expressions.expression(a[1])
    return expressions.proportional(found, expected, positive=positive)


# Whether what is not the same could be so in another form.


def values_differ(a, r) -> bool:
    """Whether an answer differs from the reference in its values, and not only in kind, words, units or letters.

    Raises:
        Unreadable, UnreadableReference: as same().
    """
    regions = as_region(a), as_region(r)
    ours, theirs = list(_leaves(a)), list(_leaves(r))
    if any(isinstance(leaf, Text) for leaf in (*ours, *theirs)):
        return False
    if None not in regions or any(isinstance(found, Region) for found in (a, r)):
        return True
    if isinstance(a, Many) and not isinstance(r, Many) and _is_compound(ours):
        return False
    if isinstance(a, Ordered) and isinstance(r, Ordered) and a.brackets == r.brackets:
        return True
    for expected in list(theirs):
        place = next((n for n, leaf in enumerate(ours) if same(leaf, expected)), None)
        if place is not None:
            del ours[place]
            theirs.remove(expected)
    comparable = all(_comparable(leaf, expected) for leaf in ours for expected in theirs)
    return comparable and bool(ours or theirs)


def _leaves(found):
    """The texts and terms in it, and regions as they are."""
    match found:
        case Named():
            yield from _leaves(found.value)
        case Chain():
            yield from (leaf for term in found.terms for leaf in _leaves(read(term)))
        case Many() | Ordered():
            yield from (leaf for item in found.items for leaf in _leaves(item))
        case Matrix():
            yield from (leaf for row in found.rows for cell in row for leaf in _leaves(cell))
        case _:
            yield found


def _is_compound(terms: list[Term]) -> bool:
    """18 dollars and 50 cents: quantities that may be parts of one."""
    units = {term.unit for term in terms}
    return len(units) == len(terms) and None not in units


def _comparable(a, r) -> bool:
    """Whether two terms are of the same dimensions and letters, so that other values make them different."""
    if not isinstance(a, Term) or not isinstance(r, Term):
        return True
    if a.unit and r.unit and a.unit.dimensions != r.unit.dimensions:
        return False
    if (a.unit is None) != (r.unit is None) and not (number(a.text) and number(r.text)):
        return False  # 1 hour 30 minutes, which is 90 of the question's minutes
    letters = [expressions.expression(term.text).free_symbols for term in (a, r)]
    return not all(letters) or letters[0] == letters[1]
