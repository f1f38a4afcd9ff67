r"""LaTeX and plain mathematics as a tree in which every letter, digit and operator of the text is accounted for.

What has two readings (``x/2y``, ``\sin x/2``) or is not known is refused. Only the letters e and i and the command
\pi are constants; every other letter, with its index, is a variable of its own.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from kimi_plugins.grading.math.notation import depth, number

MOST_NESTED = 40
MOST_TOKENS = 1500


class Unreadable(ValueError):
    """Not mathematics that can be evaluated; the message says why."""


class Incomplete(Unreadable):
    """It breaks off."""


class TooLarge(Unreadable):
    """Larger or deeper than any answer is."""


class Node(NamedTuple):
    """op: number, symbol, pi, e, i, add, mul, div, pow, or a function's name. An unknown function's begins with @."""

    op: str
    args: tuple = ()
    value: Any = None  # a number's fraction, a symbol's name


PI, E, IMAGINARY = Node("pi"), Node("e"), Node("i")
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar nabla partial aleph".split()
)
_VARIANTS = {"varphi": "phi", "varepsilon": "epsilon", "vartheta": "theta", "varrho": "rho", "varsigma": "sigma"}
_FUNCTIONS = {
    **{name: name for name in "sin cos tan cot sec csc sinh cosh tanh coth sech csch exp ln log lg".split()},
    **{f"arc{name}": f"arc{name}" for name in "sin cos tan cot sec csc".split()},
    **{"asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot", "arctg": "arctan"},
    **{f"{a}{name}": f"ar{name}" for a in ("ar", "arc", "a") for name in ("sinh", "cosh", "tanh")},
    **{"sgn": "sgn", "sign": "sgn", "Re": "re", "Im": "im", "arg": "@arg", "det": "@det", "tr": "@tr", "dim": "@dim"},
    **{"rank": "@rank", "deg": "@deg", "ord": "@ord", "sinc": "@sinc", "erf": "@erf", "rad": "@rad", "cis": "cis"},
}
_INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sec": "arcsec", "csc": "arccsc"}
_INVERSES |= {"sinh": "arsinh", "cosh": "arcosh", "tanh": "artanh"}
_SEVERAL = {"max": "max", "min": "min", "gcd": "gcd", "lcm": "lcm"}
FUNCTIONS = {**_FUNCTIONS, **_SEVERAL, "sqrt": "sqrt", "cbrt": "cbrt", "abs": "abs", "floor": "floor", "ceil": "ceil"}
_BIG = {"sum", "prod", "int", "iint", "iiint", "oint", "lim", "limsup", "liminf", "sup", "inf"}
_ACCENTS = {
    "overline",
    "bar",
    "vec",
    "hat",
    "widehat",
    "tilde",
    "widetilde",
    "dot",
    "ddot",
    "overrightarrow",
    "underline",
}
_STYLES = {"mathbf", "mathbb", "mathcal", "mathfrak", "mathscr", "mathrm", "operatorname", "text", "boldsymbol", "bm"}
_CLOSING = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", r"\lvert": r"\rvert"}
_CLOSING |= {r"\{": r"\}", "|": "|", r"\|": r"\|", r"\lVert": r"\rVert"}
_BRACKET_FUNCTION = {
    r"\lfloor": "floor",
    r"\lceil": "ceil",
    r"\lvert": "abs",
    "|": "abs",
    r"\|": "@norm",
    r"\lVert": "@norm",
}
_NAMING = {r"\operatorname", r"\mathrm", r"\text"}  # of functions that have no command
_TIMES = {r"\cdot", r"\times", "*"}
_OVER = {"/", r"\div"}
_ATTACHED = ("sin", "cos", "tan", "ln", "log")
MOST_LETTERS = 4  # that stand for a product when they stand together; more are a word
# f(x) applies f; other letters before a bracket are factors.
_APPLIED = {"f", "g", "h", "F", "G", "H", "phi", "psi"}
_DIFFERENTIAL = re.compile(r"d(?:[xyztuvrspq]|\\theta(?![A-Za-z]))")

_TOKEN = re.compile(
    r"(?P<repeating>\d*\.\d*\\(?:overline|bar|dot)\s*\{?\d+\}?)"
    r"|(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+\.\d*|\.\d+|\d+)"
    r"|(?P<command>\\(?:[A-Za-z]+|[{}|]))"
    r"|(?P<word>[A-Za-z]+)"
    r"|(?P<space>\s+)"
    r"|(?P<other>[-+*/^_=(){}\[\]|!',%<>])"
)


class Token(NamedTuple):
    kind: str
    text: str
    spaced: bool  # white space before it


@lru_cache(maxsize=4000)
def expression(text: str) -> Node:
    """The tree of a tidied text.

    Raises:
        Unreadable: it is not understood as a whole.
    """
    if (literal := number(text)) is not None:
        return Node("number", (), literal.value)
    if depth(text) > MOST_NESTED:
        raise TooLarge("nested too deeply")
    return _Parser(_tokens(text)).whole()


def _tokens(text: str) -> list[Token]:
    tokens, place, spaced = [], 0, False
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise Unreadable(f"{text[place]!r} is not understood")
        if match.lastgroup == "space":
            spaced = True
        else:
            tokens.append(Token(match.lastgroup or "", match[0], spaced))
            spaced = False
        place = match.end()
    if len(tokens) > MOST_TOKENS:
        raise TooLarge("too long for an answer")
    return tokens


def num(value: int | Fraction) -> Node:
    return Node("number", (), Fraction(value))


def add(*terms: Node) -> Node:
    return terms[0] if len(terms) == 1 else Node("add", terms)


def mul(*factors: Node) -> Node:
    return factors[0] if len(factors) == 1 else Node("mul", factors)


def neg(node: Node) -> Node:
    return num(-node.value) if isinstance(node.value, Fraction) else mul(num(-1), node)


def symbols(node: Node) -> frozenset[str]:
    """The names of its variables."""
    if node.op == "symbol":
        return frozenset({str(node.value)})
    return frozenset().union(*map(symbols, node.args)) if node.args else frozenset()


def operations(node: Node) -> frozenset[str]:
    """The operations and functions in it."""
    return frozenset({node.op}).union(*map(operations, node.args))


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens, self._place, self._bars, self._depth = tokens, 0, 0, 0

    def whole(self) -> Node:
        node = self._sum()
        if self._place != len(self._tokens):
            raise Unreadable(f"{self._tokens[self._place].text!r} is not understood")
        return node

    def _peek(self, ahead: int = 0) -> str:
        place = self._place + ahead
        return self._tokens[place].text if place < len(self._tokens) else ""

    def _kind(self, ahead: int = 0) -> str:
        place = self._place + ahead
        return self._tokens[place].kind if place < len(self._tokens) else ""

    def _spaced(self) -> bool:
        return self._place < len(self._tokens) and self._tokens[self._place].spaced

    def _take(self) -> str:
        if self._place >= len(self._tokens):
            raise Incomplete("it breaks off")
        self._place += 1
        return self._tokens[self._place - 1].text

    def _expect(self, text: str) -> None:
        if self._peek() != text:
            raise Incomplete(f"{text} is missing")
        self._place += 1

    def _sum(self) -> Node:
        self._depth += 1
        if self._depth > MOST_NESTED:
            raise TooLarge("nested too deeply")
        terms = [self._signed()]
        while self._peek() in ("+", "-"):
            terms.append(self._signed())
        self._depth -= 1
        return add(*terms)

    def _signed(self) -> Node:
        negative = False
        while self._peek() in ("+", "-"):
            negative ^= self._take() == "-"
        term = self._product()
        return neg(term) if negative else term

    def _product(self) -> Node:
        result = self._run()
        while (operator := self._peek()) in _TIMES | _OVER:
            self._take()
            negative = False
            while self._peek() in ("+", "-"):
                negative ^= self._take() == "-"
            before = self._place
            segment = self._kind() == "word" and len(self._peek()) == 2 and self._peek().isupper()
            right = self._run()
            if operator == "/" and self._factors > 1 and not segment:  # AB/CD are lengths
                if result.op != "number" or self._tokens[before].kind != "number":
                    raise Unreadable("a/bc has two readings")
                first, *rest = right.args  # 3/4 x is (3/4)x
                right, result = neg(first) if negative else first, mul(result, *rest)
            elif negative:
                right = neg(right)
            result = Node("div", (result, right)) if operator in _OVER else mul(result, right)
        return result

    _factors = 1  # of the run read last

    def _run(self) -> Node:
        """Factors without a sign of multiplication between them."""
        factors = [self._factor()]
        while self._begins_factor():
            if self._kind() in ("number", "repeating"):
                power = factors[-1].op == "pow" and self._peek(1) == "^" and (self._spaced() or self._peek(-1) == "}")
                if power or self._peek(-1) == "!":  # 2^3 5^2, 3!7!
                    factors.append(self._factor())
                else:
                    factors[-1] = self._mixed(factors[-1])
                continue
            if (
                len(factors) == 1
                and factors[0].op == "number"
                and factors[0].value.denominator == 1
                and self._kind(-1) == "number"
                and self._peek() == r"\frac"
            ):
                fraction = self._factor()
                if fraction.op == "div" and all(part.op == "number" for part in fraction.args):
                    above, below = (part.value for part in fraction.args)
                    if not 0 < above < below:
                        raise Unreadable("a number before a fraction that is not proper")
                    factors[0] = num(factors[0].value + Fraction(above, below))
                else:
                    factors.append(fraction)
                continue
            factors.append(self._factor())
        self._factors = len(factors)
        return mul(*factors)

    def _mixed(self, before: Node) -> Node:
        """2 1/3."""
        if (
            before.op == "number"
            and before.value.denominator == 1
            and self._peek().isdigit()
            and self._peek(1) == "/"
            and self._peek(2).isdigit()
        ):
            above, _, below = Fraction(self._take()), self._take(), Fraction(self._take())
            if 0 < above < below:
                return num(before.value + above / below)
        raise Unreadable("a number after a factor, without a sign between them")

    def _begins_factor(self) -> bool:
        text, kind = self._peek(), self._kind()
        if kind in ("number", "repeating", "word"):
            return True
        if kind == "command":
            if text in (r"\|", r"\rvert") or text in (r"\rVert", r"\rfloor", r"\rceil", r"\}"):
                return text == r"\|" and not self._bars
            return text not in _TIMES | _OVER
        return text in ("(", "[", "{") or (text == "|" and not self._bars)

    def _factor(self) -> Node:
        node = self._postfix(self._atom())
        if self._peek() == "^":
            self._take()
            node = self._postfix(self._power(node))
            if self._peek() == "^":
                raise Unreadable("two exponents of one base")
        return node

    def _postfix(self, node: Node) -> Node:
        while True:
            if self._peek() == "!":
                self._take()
                if self._peek() == "!":
                    raise Unreadable("!! is not understood")
                node = Node("factorial", (node,))
            elif self._peek() == "%":
                self._take()
                node = Node("div", (node, num(100)))
            elif self._peek() == "^" and self._peek(1) == r"\circ":
                self._place += 2
                node = Node("div", (mul(node, PI), num(180)))
            else:
                return node

    def _power(self, base: Node) -> Node:
        marks = {r"\prime": "'", "*": "^*", r"\ast": "^*", r"\dagger": r"^\dagger", "+": "^+", "-": "^-"}
        text = self._peek()
        if text == "{" and self._peek(1) in marks and self._peek(2) == "}":
            self._place += 1
            node = self._marked(base, marks[self._take()])
            self._expect("}")
            return node
        if text in ("*", r"\prime", r"\ast", r"\dagger"):
            return self._marked(base, marks[self._take()])
        negative = False
        if text == "-":
            self._take()
            negative = True
            if self._kind() not in ("number", "word") or self._kind(1) in ("word", "number"):
                raise Unreadable("an exponent with two readings")
        exponent = self._argument(digits=True)
        return Node("pow", (base, neg(exponent) if negative else exponent))

    @staticmethod
    def _marked(base: Node, mark: str) -> Node:
        if base.op != "symbol":
            raise Unreadable(f"{mark} after what is not a letter")
        return Node("symbol", (), f"{base.value}{mark}")

    def _argument(self, digits: bool = False) -> Node:
        r"""A group in braces, or one token: a digit (all digits with `digits`), a letter or a command."""
        if self._peek() == "{":
            return self._group()
        token = self._tokens[self._place] if self._place < len(self._tokens) else Token("", "", False)
        if token.kind == "number" and not digits and len(token.text) > 1:
            if not token.text.isdigit():
                raise Unreadable("an argument with two readings")
            self._split(1)
            return num(Fraction(self._take()))
        if token.kind == "word" and len(token.text) > 1:
            self._split(1)
        if (
            token.kind == "command"
            and token.text not in (r"\frac", r"\sqrt", r"\pi", r"\infty", r"\binom")
            and (token.text[1:] not in _GREEK and token.text[1:] not in _VARIANTS and token.text[1:] not in _STYLES)
        ):
            raise Unreadable(f"{token.text} as an argument")
        if token.kind not in ("number", "word", "command") and token.text != "(":
            raise Incomplete("an argument is missing")
        if token.text == "(":
            return self._bracket("(")
        return self._atom(alone=True)

    def _split(self, length: int) -> None:
        token = self._tokens[self._place]
        self._tokens[self._place : self._place + 1] = [
            token._replace(text=token.text[:length]),
            Token(token.kind, token.text[length:], False),
        ]

    def _group(self) -> Node:
        self._expect("{")
        bars, self._bars = self._bars, 0
        node = self._sum()
        self._bars = bars
        self._expect("}")
        return node

    def _bracket(self, opening: str) -> Node:
        self._take()
        bars, self._bars = self._bars, int(opening in ("|", r"\|"))
        node = self._sum()
        self._bars = bars
        self._expect(_CLOSING[opening])
        function = _BRACKET_FUNCTION.get(opening)
        return Node(function, (node,)) if function else node

    def _atom(self, alone: bool = False) -> Node:
        """alone: without what may follow, as an index or arguments."""
        text, kind = self._peek(), self._kind()
        if kind == "number":
            self._take()
            if self._peek() == "_":
                raise Unreadable("a number with an index")
            return num(Fraction(text.replace(",", "")))
        if kind == "repeating":
            literal = number(self._take())
            if literal is None:
                raise Unreadable(f"{text} is not a number")
            return num(literal.value)
        if kind == "word":
            return self._word(alone)
        if text in ("{",):
            return self._group()
        if text in ("(", "[", "|", r"\lfloor", r"\lceil", r"\lvert", r"\|", r"\lVert"):
            return self._bracket(text)
        if kind == "command":
            return self._command(alone)
        if text in ("", "}", ")", "]"):
            raise Incomplete("it breaks off")
        raise Unreadable(f"{text!r} is not understood")

    def _word(self, alone: bool) -> Node:
        text = self._peek()
        if text in FUNCTIONS and len(text) > 1 and not alone:
            self._take()
            return self._function(text)
        if match := _DIFFERENTIAL.match(text):
            if self._differential(match):
                return Node("symbol", (), match[0])
        if len(text) > 3 and text in _GREEK and not alone:
            self._take()
            return self._letter("\\" + text, alone)
        for name in _ATTACHED:
            if text.startswith(name) and len(text) == len(name) + 1 and not alone:  # sinx
                self._split(len(name))
                return self._function(self._take())
        if len(text) > MOST_LETTERS:
            raise Unreadable(f"{text} is not understood")
        if len(text) > 1:
            self._split(1)
        return self._letter(self._take(), alone)

    def _differential(self, match: re.Match) -> bool:
        before = self._peek(-1) if self._place else ""
        if before not in ("", "{", "/", "+", "-", "("):
            return False
        text = self._peek()
        if len(text) > 2:
            return False
        follows = self._peek(1)
        if before == "" and follows not in ("/", ""):
            return False
        if before in ("{",) and follows != "}":
            return False
        self._take()
        return True

    def _letter(self, letter: str, alone: bool) -> Node:
        if alone:
            return {"e": E, "i": IMAGINARY}.get(letter) or Node("symbol", (), letter)
        name = letter
        while self._peek() in ("_", "'"):
            if self._take() == "'":
                name += "'"
            else:
                name += "_" + self._index()
        if name == "e":
            return E
        if name == "i":
            return IMAGINARY
        applied = letter in _APPLIED or "'" in name
        if self._peek() == "(" and applied:
            if letter in ("f", "F") or "'" in name or (self._kind(1) in ("word", "number") and self._peek(2) == ")"):
                return Node("@" + name, self._several("("))
        return Node("symbol", (), name)

    def _index(self) -> str:
        if self._peek() == "{":
            depth, parts = 0, []
            while True:
                text = self._take()
                depth += (text == "{") - (text == "}")
                parts.append(text)
                if depth == 0:
                    break
            inner = [part for part in parts if part not in ("{", "}", r"\text", r"\mathrm")]
            return "".join(inner)
        if self._kind() == "number" and len(self._peek()) > 1:
            self._split(1)
        if self._kind() == "word" and len(self._peek()) > 1:
            self._split(1)
        if self._kind() not in ("number", "word", "command"):
            raise Unreadable("an index is missing")
        return self._take()

    def _several(self, opening: str) -> tuple[Node, ...]:
        self._expect(opening)
        began, bars, self._bars = self._place, self._bars, 0
        nodes = [self._sum()]
        while self._peek() == ",":
            self._take()
            nodes.append(self._sum())
        self._bars = bars
        self._expect(_CLOSING[opening])
        if any("," in token.text and len(token.text) > 1 for token in self._tokens[began : self._place]):
            raise Unreadable("a comma that separates digits or arguments")
        return tuple(nodes)

    def _command(self, alone: bool) -> Node:
        text = self._take()
        name = text[1:]
        if name == "pi":
            return PI
        if name in ("frac", "binom"):
            above = self._differential_or_argument()
            below = self._differential_or_argument()
            return Node("div" if name == "frac" else "binom", (above, below))
        if name == "sqrt":
            degree = None
            if self._peek() == "[":
                self._take()
                degree = self._sum()
                self._expect("]")
            radicand = self._argument()
            return Node("root", (radicand, degree)) if degree else Node("sqrt", (radicand,))
        if name in _GREEK or name in _VARIANTS:
            name = _VARIANTS.get(name, name)
            if name == "Gamma" and self._peek() == "(":
                return Node("gamma", (self._bracket("("),))
            if name == "zeta" and self._peek() == "(":
                return Node("@zeta", (self._bracket("("),))
            if name == "Delta" and self._kind() == "word" and not alone:
                if len(self._peek()) > 1:
                    self._split(1)
                return self._letter("\\Delta " + self._take(), alone)
            letter = name if name in _APPLIED else "\\" + name
            node = self._letter(letter, alone)
            return node if not node.value or letter != name else node._replace(value="\\" + str(node.value))
        if name in ("operatorname", "mathrm", "text") and self._peek() == "{" and self._peek(2) == "}":
            word = self._peek(1)
            if word in FUNCTIONS:
                self._place += 3
                return self._function(word)
        if name in _ACCENTS or name in _STYLES:
            return self._decorated(name)
        if name in FUNCTIONS and not alone:
            return self._function(name)
        if name in _BIG:
            return self._big(name)
        raise Unreadable(f"{text} is not understood")

    def _differential_or_argument(self) -> Node:
        if self._peek() == "{" and self._peek(1) == "d" and self._peek(2).startswith("\\") and self._peek(3) == "}":
            self._place += 4
            return Node("symbol", (), "d" + self._peek(-2))
        return self._argument()

    def _decorated(self, name: str) -> Node:
        if self._peek() != "{":
            if self._kind() != "word":
                raise Unreadable(f"\\{name} is not understood")
            if len(self._peek()) > 1:
                self._split(1)
            inner = self._take()
        else:
            inner = self._index()
        if name in ("text", "mathrm", "operatorname"):
            raise Unreadable(f"the words {inner!r}")
        return self._letter(f"\\{name}{{{inner}}}", False)

    def _function(self, name: str) -> Node:
        if name in ("sqrt", "cbrt", "abs", "floor", "ceil"):
            argument = self._bracket("(") if self._peek() == "(" else self._argument()
            return Node("root", (argument, num(3))) if name == "cbrt" else Node(name, (argument,))
        if name in _SEVERAL:
            if self._peek() not in ("(", r"\{"):
                raise Unreadable(f"{name} without brackets")
            return Node(_SEVERAL[name], self._several(self._peek()))
        op, base, power = _FUNCTIONS[name], None, None
        while self._peek() in ("_", "^"):
            if self._take() == "_":
                if name != "log" or base is not None:
                    raise Unreadable(f"{name} with an index")
                base = self._argument()
            elif power is not None:
                raise Unreadable("two powers of a function")
            elif self._peek() == "-":
                raise Unreadable("an exponent with two readings")
            else:
                power = self._argument()
        if power == num(-1):
            if op not in _INVERSES:
                raise Unreadable(f"{name}^{{-1}} has two readings")
            op, power = _INVERSES[op], None
        argument = self._function_argument()
        if op == "lg":
            node = Node("logarithm", (argument, num(10)))
        elif base is not None:
            node = Node("logarithm", (argument, base))
        elif op == "cis":
            node = add(Node("cos", (argument,)), mul(IMAGINARY, Node("sin", (argument,))))
        elif op == "exp":
            node = Node("pow", (E, argument))
        else:
            node = Node(op, (argument,))
        return Node("pow", (node, power)) if power is not None else node

    def _function_argument(self) -> Node:
        r"""What a function is applied to: a bracket, or factors up to the next operator or function."""
        if self._peek() in ("(", "[") or (self._peek() == "{" and self._closes_before_factor()):
            node = (
                self._bracket("(")
                if self._peek() == "("
                else self._group()
                if self._peek() == "{"
                else (self._bracket("["))
            )
            if self._peek() in ("^", "!") and self._peek(1) != r"\circ":
                raise Unreadable("a power after a function's bracket has two readings")
            return node
        if self._peek() in ("-", "+"):
            raise Unreadable("a sign after a function's name")
        factors = [self._function_factor()]
        while self._begins_factor() and not self._begins_function():
            if self._peek() in ("(", "["):
                raise Unreadable("what the function is applied to has two readings")
            if self._kind() == "number" and self._kind(-1) == "number":
                raise Unreadable("two numbers side by side")
            factors.append(self._function_factor())
        if self._peek() == "/":
            raise Unreadable("what the function is applied to has two readings")
        return mul(*factors)

    def _function_factor(self) -> Node:
        if self._begins_function() and self._peek() not in _NAMING:  # \sin \ln x
            return self._function(self._take().lstrip("\\"))
        return self._factor()

    def _begins_function(self) -> bool:
        name = self._peek().removeprefix("\\")
        if self._peek() in _NAMING:
            return self._peek(2) in FUNCTIONS
        return len(name) > 1 and name in FUNCTIONS and name not in ("sqrt", "abs")

    def _closes_before_factor(self) -> bool:
        r"""Whether the group in braces is all of the argument: ``\sin{2x}\cos{x}`` and not ``\sin{2}x``."""
        depth = 0
        for place in range(self._place, len(self._tokens)):
            text = self._tokens[place].text
            depth += (text == "{") - (text == "}")
            if depth == 0:
                kept, self._place = self._place, place + 1
                follows = self._begins_factor() and not self._begins_function()
                self._place = kept
                if follows:
                    raise Unreadable("what the function is applied to has two readings")
                return True
        raise Incomplete("} is missing")

    def _big(self, name: str) -> Node:
        """A sum, product, integral or limit that is not worked out: equal only to one with the same bounds."""
        scripts = {}
        while self._peek() in ("_", "^"):
            sign = self._take()
            if sign in scripts:
                raise Unreadable("two bounds of one kind")
            scripts[sign] = self._index()
        bounds = "".join(f"{sign}{scripts[sign]}" for sign in sorted(scripts))
        return Node(f"@{name}{bounds}", (self._product(),))
