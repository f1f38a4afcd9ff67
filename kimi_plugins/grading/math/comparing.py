"""Whether an answer that was read is the reference that was read."""

import re
from dataclasses import replace
from fractions import Fraction

from kimi_plugins.grading.math import regions, values
from kimi_plugins.grading.math.notation import number
from kimi_plugins.grading.math.parser import (
    Incomplete,
    Node,
    TooLarge,
    Unreadable,
    add,
    expression,
    neg,
    operations,
    symbols,
)
from kimi_plugins.grading.math.reading import (
    _FLIPPED,
    Alternatives,
    Cases,
    Chain,
    Congruence,
    Many,
    Matrix,
    Named,
    Option,
    Ordered,
    Qualified,
    Region,
    Rounded,
    Term,
    Text,
    as_region,
    read,
)
from kimi_plugins.grading.math.units import Unit, read_unit

_PARAMETERS = set("klmnjpqNKMZ")  # names of integers in general solutions


class UnreadableReference(Exception):
    """The reference is malformed; the message says how."""


class NotUnderstood(Exception):
    """The reference is well-formed and of no kind that can be compared but as text."""


def same(a, r) -> bool:
    """Whether the answer a is the reference r.

    Raises:
        Unreadable: the answer holds an expression that cannot be evaluated.
        UnreadableReference, NotUnderstood: the reference does.
    """
    if a == r:
        return True
    for found, other, ours in ((a, r, True), (r, a, False)):
        if isinstance(found, Alternatives):
            return any(same(*((one, other) if ours else (other, one))) for one in found.readings)
    if isinstance(a, Option) or isinstance(r, Option):
        return _same_option(a, r)
    if isinstance(a, Qualified) or isinstance(r, Qualified):
        return _same_qualified(a, r)
    if isinstance(r, Rounded):
        return same(a.exact if isinstance(a, Rounded) else a, r.exact) or (
            len(r.approximations) == 1 and same(a, r.approximations[0])
        )
    if isinstance(a, Rounded):
        return same(a.exact, r) and all(_approximates(one, a.exact) for one in a.approximations)
    if isinstance(a, Named) and a.name.startswith("(") and isinstance(a.value, Ordered) and isinstance(r, Many):
        return not _is_named_list(r) and _same_sequence(a.value.items, r.items) or _same_many(a, r)
    if isinstance(a, Named) and not isinstance(r, Named | Chain | Cases) and not _is_named_list(r):
        return same(a.value, r)
    if isinstance(r, Named) and isinstance(r.value, Named) and not isinstance(a, Named):
        return same(a, r.value)  # x = y = 2
    if isinstance(a, Chain) and isinstance(r, Term | Text):
        # 2 + 3 = 5 for 5: every side is the reference. 8 = 7 is not 7.
        return set(a.relations) == {"="} and all(same(read(term), r) for term in a.terms)
    if isinstance(r, Text) and isinstance(a, Term):
        return _as_letter(a.text) == r.words or (bool(r.bare) and _same_term(a, Term(r.bare)))
    match r:
        case Text():
            return _same_text(a, r)
        case Matrix():
            return _same_matrix(a, r)
        case Ordered() if not isinstance(a, Ordered):
            return _same_as_ordered(a, r)
        case Term():
            return _same_term(a, r) or (r == Term("R") and _same_region(a, r))
        case Named():
            return _same_named(a, r)
        case Many():
            return _same_many(a, r)
        case Ordered():
            if len(r.items) > 2 and {a.brackets, r.brackets} == {"()", "[]"}:  # too long for intervals
                return _same_sequence(a.items, r.items)
            if a.brackets == r.brackets and (as_region(a) is None or as_region(r) is None):
                return _same_sequence(a.items, r.items)
            return _same_region(a, r)
        case Region():
            return _same_region(a, r)
        case Chain():
            return _same_chain(a, r)
        case Cases():
            return isinstance(a, Cases) and _same_items(
                tuple(Ordered(piece, "{}") for piece in a.pieces), tuple(Ordered(piece, "{}") for piece in r.pieces)
            )
        case Congruence():
            return _same_congruence(a, r)
    raise TypeError(f"unknown kind of answer: {r!r}")


def _same_option(a, r) -> bool:
    """(C) 12 is C, and it is 12."""
    if isinstance(a, Option) and isinstance(r, Option):
        return a.letter == r.letter and same(a.content, r.content)
    if isinstance(a, Option):
        return _letter_of(r) == a.letter if _letter_of(r) else same(a.content, r)
    return _letter_of(a) == r.letter or same(a, r.content)


def _letter_of(found) -> str | None:
    text = found.words if isinstance(found, Text) else found.text if isinstance(found, Term) else ""
    letter = _as_letter(text)
    return letter if re.fullmatch("[A-H]", letter) else None


def _same_qualified(a, r) -> bool:
    """A condition that says that a parameter is an integer may be left out; any other must be there on both sides."""
    if isinstance(a, Qualified) and isinstance(r, Qualified):
        if a.mild and r.mild:
            return _same_general(a.value, r.value)
        return a.condition == r.condition and same(a.value, r.value)
    qualified = a if isinstance(a, Qualified) else r
    if not qualified.mild:
        return False
    return _same_general(*((a.value, r) if isinstance(a, Qualified) else (a, r.value)))


def _same_general(a, r) -> bool:
    """Up to the name of one parameter."""
    return same(a, r) or any(same(renamed, r) for renamed in _renamed(a, r))


def _renamed(a, r):
    terms = [found.value if isinstance(found, Named) else found for found in (a, r)]
    if not all(isinstance(term, Term) for term in terms):
        return
    try:
        names = [symbols(expression(term.text)) for term in terms]
    except Unreadable:
        return
    ours, theirs = names[0] - names[1], names[1] - names[0]
    if len(ours) == len(theirs) == 1 and ours | theirs <= _PARAMETERS:
        text = re.sub(rf"(?<![\\A-Za-z]){next(iter(ours))}(?![A-Za-z])", next(iter(theirs)), terms[0].text)
        renamed = replace(terms[0], text=text)
        yield replace(a, value=renamed) if isinstance(a, Named) else renamed


def _approximates(decimal: Term, exact) -> bool:
    """Whether a decimal is right but for less than a unit of its last place."""
    if isinstance(exact, Named):
        return _approximates(decimal, exact.value)
    literal = number(decimal.text)
    places = len(decimal.text.partition(".")[2].rstrip("%"))
    if not isinstance(exact, Term) or literal is None:
        return False
    value = values.constant(expression(exact.text))
    if value is None or values.is_complex(value):
        return False
    approximation = literal.value
    if decimal.unit == PERCENT and exact.unit is None:
        approximation, places = approximation / 100, places + 2
    difference = abs(values.as_float(value) - values.as_float(approximation))
    return difference <= values.as_float(Fraction(11, 10) / 10**places)


def _is_named_list(r) -> bool:
    return isinstance(r, Many) and any(isinstance(item, Named) for item in r.items)


def _as_letter(text: str) -> str:
    return text.strip("() ") if re.fullmatch(r"\(?[A-Za-z]\)?", text) else text


def _same_text(a, r: Text) -> bool:
    if isinstance(a, Many) and (letters := _letters(r)) is not None:
        return _same_letters(a, letters)
    if not isinstance(a, Text):
        return False
    return sorted(a.bare) == sorted(r.bare) if a.bare and r.bare else a.words == r.words


def _letters(found) -> str | None:
    """The choices of ACD."""
    text = (
        found.text if isinstance(found, Term) else found.bare or found.words.upper() if isinstance(found, Text) else ""
    )
    return text if re.fullmatch("[A-H]{2,8}", text) else None


def _same_letters(found: Many, letters: str) -> bool:
    return sorted(map(str, map(_letter_of, found.items))) == sorted(letters)


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


def _same_many(a, r: Many) -> bool:
    if len(r.items) == 1 and isinstance(r.items[0], Named):  # x = 1, 2
        named = r.items[0]
        if isinstance(a, Many) and len(a.items) == 1 and isinstance(a.items[0], Named):
            return a.items[0].name == named.name and same(a.items[0].value, named.value)
        if isinstance(a, Named):
            return a.name == named.name and same(a.value, named.value)
        return not _is_named_list(a) and same(a, named.value)
    if isinstance(a, Many) and len(a.items) == 1 and isinstance(a.items[0], Named) and not _is_named_list(r):
        return same(a.items[0].value, r)
    if _is_named_list(r) and all(isinstance(item, Named) for item in r.items):
        names, items = tuple(item.name for item in r.items), tuple(item.value for item in r.items)
        if isinstance(a, Named) and isinstance(a.value, Ordered):  # (x, y) = (1, 2)
            return a.name == f"({','.join(names)})" and _same_sequence(a.value.items, items)
        if isinstance(a, Ordered) and a.brackets == "()" and list(names) == sorted(names):
            return _same_sequence(a.items, items)
        if isinstance(a, Many) and not _is_named_list(a):
            return list(names) == sorted(names) and _same_sequence(a.items, items)
    if (letters := _letters(a)) is not None:
        return _same_letters(r, letters)
    if isinstance(a, Ordered) and a.brackets == "(x)":
        return _same_sequence(a.items, r.items)
    if not isinstance(a, Many):
        return False
    if all(isinstance(item, Named) for item in a.items) and not _is_named_list(r):
        return _same_sequence(tuple(item.value for item in a.items), r.items)  # minimum: 1, maximum: 3
    return _same_items(a.items, r.items)


def _same_matrix(a, r: Matrix) -> bool:
    if isinstance(a, Ordered) and a.brackets == "()" and r.kind == "matrix":
        vector = tuple(row[0] for row in r.rows) if all(len(row) == 1 for row in r.rows) else ()
        return len(vector) > 1 and _same_sequence(a.items, vector)
    if not isinstance(a, Matrix):
        return False
    return a.kind == r.kind and len(a.rows) == len(r.rows) and all(map(_same_sequence, a.rows, r.rows))


def _same_as_ordered(a, r: Ordered) -> bool:
    if isinstance(a, Matrix) and r.brackets == "()" and len(r.items) > 2 and a.kind == "matrix":
        return all(len(row) == 1 for row in a.rows) and _same_sequence(tuple(row[0] for row in a.rows), r.items)
    if isinstance(a, Many) and r.brackets == "()" and all(isinstance(item, Named) for item in a.items):
        names = [item.name for item in a.items]  # x = 1, y = 2 for (1, 2)
        return names == sorted(names) and _same_sequence(tuple(item.value for item in a.items), r.items)
    if isinstance(a, Term) and r.brackets == "::" and len(r.items) == 2 and a.unit is None:  # 2 for 2:1
        return _same_term(a, Term(rf"\frac{{{r.items[0].text}}}{{{r.items[1].text}}}"))
    if isinstance(a, Text) and r.brackets == "::":  # 7:05 a.m. for 7:05
        parts = [item.text for item in r.items if isinstance(item, Term)]
        return re.sub(r" [ap]m$", "", a.words) == ":".join(parts) != a.words
    return _same_region(a, r)


def _same_term(a, r: Term) -> bool:
    if isinstance(a, Text):
        return _as_letter(r.text) == a.words or (bool(a.bare) and _same_term(Term(a.bare), r))
    if isinstance(a, Many) and (letters := _letters(r)) is not None:
        return _same_letters(a, letters)
    if not isinstance(a, Term):
        return False
    if a.unit is None and r.unit and (written := re.match(r"^(.*[\d})])\s+([A-Za-z](?:\^\{?\d\}?)?)$", a.text)):
        if read_unit(written[2]) == r.unit:  # 300 K; K alone might be a variable
            return _equal(written[1], r.text)
    if a.unit is None or r.unit is None:
        # A missing unit is the other side's: the question names it. What a unit is worth as a number counts too.
        unit = a.unit or r.unit
        scaled = unit is not None and unit.scale != 1
        percent = unit is not None and unit == PERCENT
        if not scaled and not (percent and _is_fraction_of_one(r, a)) and _equal(a.text, r.text):
            return True
        if unit is None or (unit.dimensions and not scaled):
            return False
        if scaled and unit.dimensions:
            unit = Unit(unit.scale, Fraction(1), ())
        tolerance = _tolerance(a.text, r.text) / 100 if percent and r.unit else Fraction(0)
        return _equal(_times(a.text, a.unit and unit), _times(r.text, r.unit and unit), tolerance)
    if a.unit.dimensions != r.unit.dimensions:
        return False
    if (a.unit.scale, a.unit.factor) == (r.unit.scale, r.unit.factor):
        return _equal(a.text, r.text)
    return _equal(_times(a.text, a.unit), _times(r.text, r.unit))


PERCENT = Unit(1, Fraction(1, 100), ())


def _is_fraction_of_one(r: Term, a: Term) -> bool:
    """Whether the reference is a bare number up to 1: a probability, of which x% is the hundredth."""
    literal = number(r.text)
    return r.unit is None and literal is not None and abs(literal.value) <= 1


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


def _expected(text: str) -> Node:
    """The reference's tree, of which the value is known to be within limits.

    Raises:
        UnreadableReference, NotUnderstood
    """
    try:
        node = expression(text)
        values.checked(node)
        return node
    except TooLarge as error:
        raise UnreadableReference(str(error)) from error
    except Unreadable as error:
        raise fault_of(text, error) from error


def squeezed(text: str) -> str:
    """The text without layout, and without spaces but between digits."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text.replace(r"\text", ""))


def fault_of(text: str, error: Unreadable) -> UnreadableReference | NotUnderstood:
    """What is wrong with a reference: it is malformed, or of no kind that is known."""
    plain = re.sub(r"\\[{}|]|\\text\{[^{}]*\}", "", text)
    balanced = plain.count("{") == plain.count("}") and len(re.findall(r"[(\[]", plain)) == len(
        re.findall(r"[)\]]", plain)
    )
    return (
        NotUnderstood(str(error))
        if balanced and not isinstance(error, Incomplete)
        else UnreadableReference(str(error))
    )


def _tolerance(answer: str, reference: str) -> Fraction:
    """How far an answer may be from a decimal that is rounded."""
    literal, ours = number(reference), number(answer)
    if literal is None:
        return Fraction(0)
    if ours is not None and not re.search(r"frac|/|\\overline|\\bar|\\dot", answer):
        return literal.tolerance
    if ours is not None and 10**64 % ours.value.denominator == 0:
        return literal.tolerance  # 1251/1000 is a decimal too
    return literal.rounding(exact=ours is not None, irrational=not re.search(r"\d\.\d", answer))


def _equal(answer: str, reference: str, tolerance: Fraction | None = None) -> bool:
    if answer == reference:
        return True
    if tolerance is None:
        tolerance = _tolerance(answer, reference)
    literals = number(answer), number(reference)
    if literals[0] is not None and literals[1] is not None:
        return abs(literals[0].value - literals[1].value) <= tolerance
    if squeezed(answer) == squeezed(reference):
        return True
    if r"\infty" in (ends := [text.replace(" ", "").lstrip("+-") for text in (answer, reference)]):
        return ends[0] == ends[1] and answer.lstrip().startswith("-") == reference.lstrip().startswith("-")
    node = _expected(reference)
    found = expression(answer)
    if _unfinished(found) and not _unfinished(node):
        raise Unreadable("a sum, product, integral or limit that is not worked out")
    return values.same(found, node, tolerance)


def _unfinished(node: Node) -> bool:
    return any(re.match("@(?:sum|prod|i*int|oint|lim)", name) for name in operations(node))


def _same_named(a, r: Named) -> bool:
    if isinstance(a, Named):
        if _derivative(a.name) == _derivative(r.name) or {a.name, r.name} <= {"y", "f(x)"}:
            return same(a.value, r.value)
        if (renamed := _renamed_argument(a, r)) is not None:
            return renamed
        return _is_formula(r) and _same_equation(_sides(a), _sides(r))
    if isinstance(a, Chain):
        if a.relations == ("=",) and _is_formula(r):
            return _same_equation(a.terms, _sides(r))
        return same(a, r.value)
    return same(a, r.value) or _is_general(r.value) and any(same(one, r.value) for one in _renamed(a, r.value))


def _derivative(name: str) -> str:
    """dy/dx as y'."""
    return re.sub(r"^(?:\\frac)?d([a-z])/?d[a-z]$", r"\1'", name)


def _is_general(found) -> bool:
    """Whether a term is a general solution, such as kπ."""
    return isinstance(found, Term) and r"\pi" in found.text


def _renamed_argument(a: Named, r: Named) -> bool | None:
    """f(m) = 2m and f(n) = 2n; None if they do not name one function of one variable."""
    mine, other = (re.fullmatch(r"([fghuFGHΦ]'*)\(([a-z])\)", found.name) for found in (a, r))
    if mine is None or other is None or mine[1] != other[1]:
        return None
    if not isinstance(a.value, Term) or not isinstance(r.value, Term):
        return None
    ours, theirs = mine[2], other[2]
    node, expected = expression(a.value.text), _expected(r.value.text)
    if theirs in symbols(node) or mine[1] in re.findall(r"(?<=@)[A-Za-z]+'*", " ".join(operations(expected))):
        return False
    return values.same(values.substituted(node, ours, Node("symbol", (), theirs)), expected)


def _is_formula(named: Named) -> bool:
    """y = 2x + 3, which is an equation too, and not x = 5."""
    if not isinstance(named.value, Term) or named.name.endswith(")"):
        return False
    return not number(named.value.text) or not re.fullmatch(r"\\?\w+", named.left) or len(named.left) in (2, 3)


def _sides(named: Named) -> tuple[str, str] | None:
    return (named.left, named.value.text) if isinstance(named.value, Term) and named.left else None


def _same_region(a, r) -> bool:
    reals = Region(regions.REALS)
    ours, theirs = (reals if found == Term("R") else as_region(found) for found in (a, r))
    if ours is None or theirs is None:
        return isinstance(a, Chain) and isinstance(r, Chain) and _same_chain(a, r)
    if ours.name and theirs.name and ours.name != theirs.name:
        return False
    return regions.equal(ours.numbers, theirs.numbers)


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


def _same_equation(a: tuple | None, r: tuple | None, *, positive: bool = False) -> bool:
    """Whether left − right differ by a constant factor only, which an inequality needs to be positive.

    Or whether one is the other solved for a variable: y = 6/x for xy = 6.
    """
    if a is None or r is None:
        return False
    expected = add(_expected(r[0]), neg(_expected(r[1])))
    found = add(expression(a[0]), neg(expression(a[1])))
    if values.proportional(found, expected, positive=positive):
        return True
    return not positive and (_solves(found, a, expected) or _solves(expected, r, found))


def _solves(equation: Node, sides: tuple, other: Node) -> bool:
    """Whether an equation y = … gives the only y that another one has."""
    left, right = (expression(side) for side in sides)
    if left.op != "symbol" or left.value in symbols(right) or symbols(other) != symbols(equation):
        return False
    name = str(left.value)
    return values.linear(other, name) and values.same(
        values.substituted(other, name, right), Node("number", (), Fraction(0))
    )


def _same_congruence(a, r: Congruence) -> bool:
    if not isinstance(a, Congruence) or a.left != r.left:
        return False
    literals = [number(text) for text in (a.right, r.right, a.modulus, r.modulus)]
    if None in literals:
        return a == r
    x, y, m, n = (literal.value for literal in literals if literal)
    return m == n != 0 and (x - y) % n == 0


# Whether what is not the same could be so in another form.


def values_differ(a, r) -> bool:
    """Whether an answer differs from the reference in its values, and not only in kind, words, units or letters.

    Raises:
        Unreadable, UnreadableReference: as same().
    """
    kinds = (Alternatives, Cases, Congruence, Option, Qualified, Rounded)
    if isinstance(a, kinds) or isinstance(r, kinds):
        return False
    regions_of = as_region(a), as_region(r)
    ours, theirs = list(leaves(a)), list(leaves(r))
    if any(isinstance(leaf, (Text, *kinds)) for leaf in (*ours, *theirs)):
        return False
    if None not in regions_of or any(isinstance(found, Region) for found in (a, r)):
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


def leaves(found):
    """The texts and terms in it, and regions as they are."""
    match found:
        case Named():
            yield from leaves(found.value)
        case Chain():
            yield from (leaf for term in found.terms for leaf in leaves(read(term)))
        case Many() | Ordered():
            yield from (leaf for item in found.items for leaf in leaves(item))
        case Matrix():
            yield from (leaf for row in found.rows for cell in row for leaf in leaves(cell))
        case _:
            yield found


def _is_compound(terms: list) -> bool:
    """18 dollars and 50 cents: quantities that may be parts of one."""
    units = {getattr(term, "unit", None) for term in terms}
    return len(units) == len(terms) and None not in units


def _comparable(a, r) -> bool:
    """Whether two terms are of the same dimensions and letters, so that other values make them different."""
    if not isinstance(a, Term) or not isinstance(r, Term):
        return True
    if a.unit and r.unit and a.unit.dimensions != r.unit.dimensions:
        return False
    if (a.unit is None) != (r.unit is None) and not (number(a.text) and number(r.text)):
        return False  # 1 hour 30 minutes, which is 90 of the question's minutes
    letters = [symbols(expression(term.text)) for term in (a, r)]
    return not all(letters) or letters[0] == letters[1]
