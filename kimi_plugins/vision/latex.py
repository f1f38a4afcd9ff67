r"""LaTeX formulas read into pieces: lines that mathtext can set, and what has two dimensions, for formulas.py.

What authors write is put in the form that mathtext reads: `\le`, `\frac12`, `\text{if } x`.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from kimi_plugins.vision.fonts import in_formulas


class Untypeset(ValueError):
    """A formula that cannot be typeset; the message says why."""


class Line(NamedTuple):
    """A piece that mathtext can set."""

    latex: str


class Grid(NamedTuple):
    """Rows of cells. columns: the alignment of each, l, c or r, repeated; rules: before which columns one stands."""

    rows: list[list[list]]
    columns: str
    rules: tuple[int, ...] = ()
    lines: tuple[int, ...] = ()  # before which rows a rule stands
    gap: float = 0.9  # between columns, in font sizes; aligned lines have none
    script: bool = False


class Fenced(NamedTuple):
    left: str
    body: list
    right: str


class Fraction(NamedTuple):
    upper: list
    lower: list
    rule: bool = True


class Scripted(NamedTuple):
    base: list
    upper: list
    lower: list


class Framed(NamedTuple):
    body: list


class Braced(NamedTuple):
    """A horizontal brace at the body's edge, with a label beyond it."""

    body: list
    above: bool
    label: list


class Arrow(NamedTuple):
    """An arrow as wide as what is above and below it, or over a body. heads: of "<" and ">"."""

    heads: str
    body: list
    above: list
    below: list


class Words(NamedTuple):
    """Text with characters that mathtext has no glyphs for."""

    text: str


Node = Words | Line | Grid | Fenced | Fraction | Scripted | Framed | Braced | Arrow

_SAME = {  # names that mathtext does not know: what it calls them
    "le": r"\leq", "ge": r"\geq", "ne": r"\neq", "tfrac": r"\frac", "cfrac": r"\dfrac", "dbinom": r"\binom",
    "tbinom": r"\binom", "bold": r"\mathbf", "bm": r"\mathbf", "dotsm": r"\cdots", "dotsb": r"\cdots",
    "dotsc": r"\ldots", "dotso": r"\ldots", "dotsi": r"\cdots", "hdots": r"\ldots", "lvert": "|", "rvert": "|",
    "lVert": r"\|", "rVert": r"\|", "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]",
    "land": r"\wedge", "lor": r"\vee", "lnot": r"\neg", "iff": r"\Longleftrightarrow", "implies": r"\Longrightarrow",
    "impliedby": r"\Longleftarrow", "gets": r"\leftarrow", "owns": r"\ni", "square": "□", "Box": "□",
    "blacksquare": "■", "qed": "□", "degree": r"^{\circ}", "textdegree": r"^{\circ}", "colon": ":",
    "bmod": r"\ \mathrm{mod}\ ", "lt": "<", "gt": ">", "And": r"\ &\ ", "mathbbm": r"\mathbb", "Bbb": r"\mathbb",
    "textbackslash": r"\backslash", "vartriangle": r"\triangle", "bigtriangleup": r"\triangle",
    "complement": "∁", "checkmark": "✓", "lozenge": "◊", "longrightarrow": r"\rightarrow", "star": r"\star",
    "thinspace": r"\,", "medspace": r"\:", "thickspace": r"\;", "negthinspace": r"\!", "enspace": r"\ ",
    "nobreakspace": r"\ ", "space": r"\ ", "varGamma": r"\Gamma", "varDelta": r"\Delta", "euro": "€",
    "stackrel": r"\overset", "hfill": r"\ ", "pounds": "£", "yen": "¥", "textdollar": r"\$", "textquotesingle": "'",
    "overarc": r"\overline",
}  # fmt: skip
# Say how a formula is set, not what it says.
_LEFT_OUT = {
    "displaystyle", "textstyle", "scriptstyle", "scriptscriptstyle", "limits", "nolimits", "nonumber", "notag",
    "allowbreak", "nobreak", "relax", "strut", "null", "left.", "centering", "noindent", "displaylimits",
}  # fmt: skip
_SIZES = re.compile("(big|Big|bigg|Bigg)[lrm]?")
_ARGUMENTS = {  # number of arguments of each command
    **dict.fromkeys(
        "hat widehat tilde widetilde bar overline underline vec dot ddot dddot breve acute grave mathring "
        "mathbf mathrm mathit mathcal mathbb mathfrak mathscr mathsf mathtt "
        "boldsymbol operatorname mathnormal mathregular mathdefault".split(),
        1,
    ),
    **dict.fromkeys(("frac", "dfrac", "binom", "overset", "underset"), 2),
}
_ARROWS = {"xrightarrow": ">", "xleftarrow": "<", "xleftrightarrow": "<>"}
_OVER_ARROWS = {"overrightarrow": ">", "overleftarrow": "<", "overleftrightarrow": "<>"}
_TEXT = {"text": "mathrm", "mbox": "mathrm", "textrm": "mathrm", "textup": "mathrm", "textnormal": "mathrm"} | {
    "hbox": "mathrm", "textmd": "mathrm", "textbf": "mathbf", "textit": "mathit", "emph": "mathit", "textsl": "mathit",
    "texttt": "mathtt", "textsf": "mathsf", "textsc": "mathrm",
}  # fmt: skip
_SYMBOLS = {
    "&": r"\mathrm{&}", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "-": "", "/": "", "@": "", "\n": r"\ ",
}  # fmt: skip
_MARKS_OF_DELIMITERS = {
    r"\lvert": "|", r"\rvert": "|", r"\lVert": r"\|", r"\rVert": r"\|", r"\lbrace": r"\{", r"\rbrace": r"\}",
    r"\lbrack": "[", r"\rbrack": "]", r"\vert": "|", r"\Vert": r"\|", "<": r"\langle", ">": r"\rangle",
}  # fmt: skip
_CROSSED = {
    "=": r"\neq", r"\in": r"\notin", r"\equiv": "≢", r"\mid": "∤", "|": "∤", r"\subset": "⊄", r"\leq": "≰",
    r"\geq": "≱", "<": "≮", ">": "≯", r"\subseteq": "⊈", r"\exists": "∄", r"\sim": "≁",
}  # fmt: skip
_DELIMITED = {
    "matrix": ("", ""), "pmatrix": ("(", ")"), "bmatrix": ("[", "]"), "Bmatrix": (r"\{", r"\}"),
    "vmatrix": ("|", "|"), "Vmatrix": (r"\|", r"\|"), "smallmatrix": ("", ""),
}  # fmt: skip
_LINES = "aligned align alignedat alignat split eqnarray".split()
_CENTRED = "gathered gather equation multline displaymath math".split()
_WORD = re.compile(r"\\([A-Za-z]+)\*?|\\(.)", re.DOTALL)
_LINE_END = re.compile(r"(?<!\\)%[ \t]*\n")  # joins two lines of the source; any other % is taken for a per cent sign


def _flat(nodes: list) -> str | None:
    """The nodes as one line of mathtext; None if one of them is laid out here."""
    parts = []
    for node in nodes:
        if not isinstance(node, Line):
            return None
        parts.append(node.latex)
    return " ".join(parts)


class _Reader:
    """Recursive descent over a formula's source."""

    def __init__(self, source: str) -> None:
        self.source = _LINE_END.sub("", source)
        self.at = 0

    def rest(self) -> str:
        return self.source[self.at :]

    def skip_space(self) -> None:
        while self.at < len(self.source) and self.source[self.at].isspace():
            self.at += 1

    def take(self, text: str) -> bool:
        """Whether `text` follows, which is then passed over."""
        self.skip_space()
        if not self.source.startswith(text, self.at):
            return False
        self.at += len(text)
        return True

    def nodes(self, ends: tuple[str, ...]) -> list:
        """Up to one of the ends, which is not passed over, or to the end of the source."""
        found: list = []
        while True:
            self.skip_space()
            if self.at >= len(self.source):
                if ends:
                    raise Untypeset(f"{ends[0]} is missing")
                return found
            if self.ends(ends):
                return found
            if self.command() in ("over", "choose", "atop"):
                return [self.infix(found, ends)]
            if self.source[self.at] in "}&" or self.source.startswith((r"\\", r"\right", r"\end{"), self.at):
                if not ends and self.source.startswith(r"\\", self.at):
                    return self.broken(found)
                if not (self.source.startswith(r"\right", self.at) and self.command() != "right"):
                    raise Untypeset(f"{self.rest():.20} is not expected here")
            self.node(found)

    def infix(self, before: list, ends: tuple[str, ...]) -> Node:
        r"""{a \over b} and {a \choose b}."""
        name = self.command()
        self.at += len(name) + 1
        after = self.nodes(ends)
        lines = [_flat(before), _flat(after)]
        if None not in lines and name != "atop":
            return Line(f"\\{'frac' if name == 'over' else 'binom'}{{{lines[0]}}}{{{lines[1]}}}")
        fraction = Fraction(before, after, rule=name == "over")
        return Fenced("(", [fraction], ")") if name == "choose" else fraction

    def ends(self, ends: tuple[str, ...]) -> bool:
        for end in ends:
            if self.source.startswith(end, self.at) and (end != r"\right" or self.command() == "right"):
                return True
        return False

    def command(self) -> str:
        word = _WORD.match(self.source, self.at)
        return (word[1] or word[2]) if word else ""

    def broken(self, first: list) -> list:
        r"""Lines that only \\ separates."""
        rows = [[first]]
        while self.take(r"\\"):
            row: list = []
            while self.at < len(self.source) and not self.source.startswith(r"\\", self.at):
                self.skip_space()
                if self.at < len(self.source):
                    self.node(row)
            rows.append([row])
        return [Grid([row for row in rows if row[0]], "c", gap=0)]

    def node(self, found: list) -> None:
        """Read one and put it behind those found."""
        character = self.source[self.at]
        if character in "^_":
            self.scripts(found)
        elif character == "{":
            found.extend(self.group())
        elif character == "\\":
            self.word(found)
        elif character == "~":
            self.at += 1
            found.append(Line(r"\ "))
        elif character == "'":
            self.at += 1
            if found and isinstance(found[-1], Line):
                found[-1] = Line(found[-1].latex + "'")
            else:
                found.append(Line("'"))
        else:
            if self.take("``"):
                found.append(Line("“"))
                return
            number = re.compile(r"\d+").match(self.source, self.at)
            text = number[0] if number else character
            self.at += len(text)
            if not in_formulas(text[0]):
                found.append(Words(text))
                return
            found.append(Line({"$": r"\$", "`": "‘", "%": r"\%", "#": r"\#", '"': "”"}.get(text, text)))

    def group(self) -> list:
        """{…}: one line in braces, or what is laid out here."""
        self.at += 1
        body = self.nodes(("}",))
        self.at += 1
        line = _flat(body)
        return body if line is None else [Line("{" + line + "}")]

    def argument(self, command: str) -> list:
        """What follows a command: a group's contents, a command with its own arguments, or one character."""
        self.skip_space()
        if self.at >= len(self.source):
            raise Untypeset(f"\\{command} has no argument")
        if self.source[self.at] == "{":
            self.at += 1
            body = self.nodes(("}",))
            self.at += 1
            return body
        if self.source[self.at] in "}&^_":
            raise Untypeset(f"\\{command} has no argument")
        found: list = []
        if self.source[self.at].isdigit():
            found.append(Line(self.source[self.at]))
            self.at += 1
        else:
            self.node(found)
        return found

    def raw(self, command: str) -> str:
        """The source of a group."""
        if not self.take("{"):
            raise Untypeset(f"\\{command} needs braces")
        start, depth = self.at, 1
        while self.at < len(self.source):
            character = self.source[self.at]
            if character == "\\":
                self.at += 1
            depth += (character == "{") - (character == "}")
            self.at += 1
            if depth == 0:
                return self.source[start : self.at - 1]
        raise Untypeset("} is missing")

    def option(self) -> str | None:
        """[…], if it follows."""
        if not self.take("["):
            return None
        start, depth = self.at, 0
        while self.at < len(self.source):
            character = self.source[self.at]
            depth += (character == "{") - (character == "}")
            self.at += 1
            if character == "]" and depth == 0:
                return self.source[start : self.at - 1]
        raise Untypeset("] is missing")

    def scripts(self, found: list) -> None:
        parts: dict[str, list] = {}
        flat = ""
        while self.at < len(self.source) and self.source[self.at] in "^_":
            mark = self.source[self.at]
            self.at += 1
            if mark in parts:
                raise Untypeset(f"two {mark} in a row")
            parts[mark] = self.argument(mark)
            self.skip_space()
        base = found[-1:]
        lines = {mark: _flat(nodes) for mark, nodes in parts.items()}
        if None not in lines.values() and (not base or isinstance(base[0], Line)):
            for mark, line in lines.items():
                # A prime that stands in front of the script, or a circle, goes on where it stands.
                flat += f"{mark}{{{line}}}"
            if base:
                found[-1] = Line(base[0].latex + flat)
            else:
                found.append(Line("{}" + flat))
            return
        if isinstance(base[0] if base else None, Braced):
            found[-1] = base[0]._replace(label=parts.get("^", parts.get("_", [])))
            return
        found[-1:] = [Scripted(base, parts.get("^", []), parts.get("_", []))]

    def word(self, found: list) -> None:
        """A command with its arguments."""
        match = _WORD.match(self.source, self.at)
        if match is None:
            raise Untypeset("ends with a backslash")
        self.at = match.end()
        if match[1] is None:
            found.append(Line(_SYMBOLS.get(match[2], "\\" + match[2])))
        elif _SIZES.fullmatch(match[1]):
            mark = self.delimiter()
            found += [Line(mark)] if mark != "." else []  # in the size of the letters
        elif match[1] not in _LEFT_OUT:
            read = _COMMANDS.get(match[1], _Reader.known)
            found += read(self, match[1])

    def known(self, name: str) -> list[Node]:
        """A command that mathtext has, perhaps under another name."""
        latex = _SAME.get(name, "\\" + name)
        command = latex[1:] if latex.startswith("\\") else ""
        if count := _ARGUMENTS.get(command, 0):
            return [self.applied(command, count)]
        return [Line(latex)]

    def fenced(self, name: str) -> list[Node]:
        left = self.delimiter()
        body = self.nodes((r"\right",))
        self.at += len(r"\right")
        right, line = self.delimiter(), _flat(body)
        return [Line(rf"\left{left} {line} \right{right}") if line else Fenced(left, body, right)]

    def modulus(self, name: str) -> list[Node]:
        words = r"\mathrm{mod}\ " if name != "pod" else ""
        modulus = self.line(name)
        return [Line(rf"\ \ {words}{modulus}" if name == "mod" else rf"\ \ ({words}{modulus})")]

    def root(self, name: str) -> list[Node]:
        index, root = self.option(), self.line(name)
        return [Line(rf"\sqrt[{index}]{{{root}}}" if index else rf"\sqrt{{{root}}}")]

    def substack(self, name: str) -> list[Node]:
        self.take("{")
        rows, _ = self.rows("}")
        self.at += 1
        return [Grid(rows, "c", script=True)]

    def grouped(self, name: str) -> list[Node]:
        body = self.argument(name)
        line = _flat(body)
        return body if line is None else [Line("{" + line + "}")]

    def unseen(self, name: str) -> list[Node]:
        self.raw(name)
        return []

    def arrow(self, name: str) -> list[Node]:
        below = self.option()
        under = _Reader(below).nodes(()) if below else []
        return [Arrow(_ARROWS[name], [], self.argument(name), under)]

    def applied(self, command: str, count: int) -> Node:
        bodies = [self.argument(command) for _ in range(count)]
        lines = [_flat(body) for body in bodies]
        if None not in lines:
            if command == "operatorname":
                lines = [re.sub(r"[{}]|\\mathrm", "", line or "").replace(r"\ ", " ") for line in lines]
                return Line(rf"\mathrm{{{lines[0]}}}")
            return Line(f"\\{command}" + "".join(f"{{{line}}}" for line in lines))
        if command in ("frac", "dfrac"):
            return Fraction(bodies[0], bodies[1])
        if command == "binom":
            return Fenced("(", [Fraction(bodies[0], bodies[1], rule=False)], ")")
        raise Untypeset(f"\\{command} around a matrix")

    def negated(self) -> Line:
        self.skip_space()
        found: list = []
        self.node(found)
        latex = found[0].latex if isinstance(found[0], Line) else ""
        if latex not in _CROSSED:
            raise Untypeset(f"\\not{latex}")
        return Line(_CROSSED[latex])

    def line(self, command: str) -> str:
        line = _flat(self.argument(command))
        if line is None:
            raise Untypeset(f"\\{command} around a matrix")
        return line

    def delimiter(self) -> str:
        self.skip_space()
        word = _WORD.match(self.source, self.at)
        mark = word[0] if word else self.source[self.at : self.at + 1]
        self.at += len(mark)
        return _MARKS_OF_DELIMITERS.get(mark, mark)

    def environment(self) -> Node:
        name = self.raw("begin")
        plain = name.rstrip("*")
        columns, gap = "c", 0.9
        rules: tuple[int, ...] = ()
        left, right = _DELIMITED.get(plain, ("", ""))
        if plain in ("array", "tabular"):
            self.option()
            spec = _spelled_out(self.raw(name))
            columns, rules = spec.replace("|", ""), _bars(spec)
        elif plain in ("cases", "dcases", "rcases"):
            columns = "l"
            left, right = ("", r"\}") if plain == "rcases" else (r"\{", "")
        elif plain in _LINES:
            if plain in ("alignedat", "alignat"):
                self.raw(name)
            self.option()
            columns, gap = "rcl" if plain == "eqnarray" else "rl", 0.0
        elif plain in _CENTRED:
            gap = 0.0
        elif plain not in _DELIMITED:
            raise Untypeset(f"the environment {name!r} is not known")
        elif name.endswith("*"):
            columns = self.option() or "c"
        rows, lines = self.rows(rf"\end{{{name}}}")
        self.at += len(rf"\end{{{name}}}")
        grid = Grid(rows, columns, rules, lines, gap, plain == "smallmatrix")
        return Fenced(left or ".", [grid], right or ".") if left or right else grid

    def rows(self, end: str) -> tuple[list[list[list]], tuple[int, ...]]:
        r"""Cells of every row up to the end, which is not passed over, and before which rows a \hline stands."""
        rows: list[list[list]] = [[]]
        lines = []
        while True:
            while any(map(self.take, (r"\hline", r"\cline", r"\toprule", r"\midrule", r"\bottomrule"))):
                if self.source.startswith("{", self.at):
                    self.raw("cline")  # from which column to which: drawn over all
                lines.append(len(rows) - 1)
            rows[-1].append(self.nodes(("&", r"\\", r"\cr", end)))
            if self.take("&"):
                continue
            if self.take(r"\\") or self.take(r"\cr"):
                if re.compile(r"\s*\[\s*-?[\d.]+\s*[a-z]+\s*\]").match(self.source, self.at):
                    self.option()
                rows.append([])
                continue
            if len(rows) > 1 and rows[-1] == [[]]:
                rows.pop()  # the last line ended with a break
            if not any(cell for row in rows for cell in row):
                raise Untypeset("an environment without contents")
            return rows, tuple(lines)


def read(source: str) -> list[Node]:
    """The pieces of a formula.

    Raises:
        Untypeset: an environment that is not known, a command around what it cannot be around, or unbalanced braces.
    """
    reader = _Reader(source)
    found = reader.nodes(())
    if reader.at < len(source):
        raise Untypeset(f"{reader.rest():.20} has no opening counterpart")
    return found


_LENGTH = re.compile(r"\s*(-?[\d.]+)\s*(cm|mm|in|em|mu)\s*")
_EMS = {"cm": 2.4, "mm": 0.24, "in": 6.0, "em": 1.0, "mu": 1 / 18}


def _space(command: str, content: str) -> list[Line]:
    """The space of a length, or of what is not shown, in quads: a blank to fill in must not look like a dash."""
    length = _LENGTH.fullmatch(content)
    if "phantom" in command:
        quads = len(content) // 2
    else:
        quads = round(float(length[1]) * _EMS[length[2]]) if length else 0
    return [Line(r"\quad")] * min(quads, 12) if quads > 0 else [Line(r"\ ")]


def _spelled_out(spec: str) -> str:
    """Columns of an array as l, c, r and |, the first of them never missing."""
    spec = re.sub(r"\*\{(\d+)\}\{([^{}]*)\}", lambda match: match[2] * min(int(match[1]), 100), spec)
    spec = re.sub(r"[@!><]\{[^}]*\}", "", re.sub(r"[pmb]\{[^}]*\}", "l", spec))
    spec = "".join(letter for letter in spec if letter in "lcr|")
    return spec if spec.strip("|") else spec + "c"


def _bars(spec: str) -> tuple[int, ...]:
    found, column = [], 0
    for letter in spec:
        if letter == "|":
            found.append(column)
        column += letter in "lcr"
    return tuple(found)


def _text(raw: str, font: str) -> list[Line | Words]:
    r"""The contents of \text, in which $…$ is mathematics again."""
    found: list[Line | Words] = []
    for number, part in enumerate(re.split(r"(?<!\\)\$", _composed(raw))):
        if number % 2:
            found.append(_one_line(part))
            continue
        # Nested fonts first: what is between them is words.
        for at, piece in enumerate(_NESTED.split(part)):
            if at % 3 == 0:
                found += _words_of(piece, font)
            elif at % 3 == 1:
                nested = _TEXT.get(piece)
            else:
                found += _text(piece, nested or font)
    return found


def _words_of(text: str, font: str) -> list[Line | Words]:
    words = re.sub(r"\\([%#_{}$])", r"\\\1", text)
    if re.search(r"\\(?![%#_{}$ ,;:])|[{}^]", re.sub(r"\\[{}]", "", words)):
        line = _one_line(re.sub(r"(?<!\\)\s+", r"\\ ", words))  # dots, signs, groups
        return [Line(f"\\{font}{{{line.latex}}}")]
    found: list[Line | Words] = []
    words = words.replace("---", "—").replace("--", "–").replace("``", "“").replace("''", "”").replace("~", " ")
    for pieces in re.split(r"(\s+)", words):
        if not all(map(in_formulas, pieces)):
            found.append(Words(pieces))
        elif pieces.isspace():
            found.append(Line(r"\ "))
        elif pieces:
            found.append(Line(f"\\{font}{{{_plain(pieces)}}}"))
    return found


def _one_line(source: str) -> Line:
    line = _flat(_Reader(source).nodes(()))
    if line is None:
        raise Untypeset("a matrix within text")
    return Line(line)


_NESTED = re.compile(rf"\\({'|'.join(_TEXT)})\{{((?:[^{{}}\\]|\\.)*)\}}", re.DOTALL)
# A word's punctuation, which a formula would take for operators and set apart.
_PUNCTUATION = str.maketrans({"-": "‐", "*": "{*}", "'": "’", '"': "”", "`": "‘"})


def _plain(word: str) -> str:
    """A word of text: characters that mean something in a formula are escaped."""
    return re.sub(r"(?<!\\)[$#%_]", lambda mark: "\\" + mark[0], word).translate(_PUNCTUATION)


_MARKS = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307",
    "c": "\u0327", "v": "\u030c", "u": "\u0306", "H": "\u030b", "k": "\u0328", "r": "\u030a",
}  # fmt: skip
_LETTERS = {
    "aa": "å", "AA": "Å", "o": "ø", "O": "Ø", "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "l": "ł",
    "L": "Ł", "i": "ı", "j": "ȷ",
}  # fmt: skip
_ACCENT = re.compile(
    r"\\(?:(['`^\"~=.])\s*|([cvuHkr])(?:\s+|(?=\{)))(?:\{\\?([A-Za-z])\}|\\?([A-Za-z])(?![A-Za-z]*\{))"
)
_LETTER = re.compile(rf"\\({'|'.join(sorted(_LETTERS, key=len, reverse=True))})(?![A-Za-z])\s*(?:\{{\}})?")


def _composed(text: str) -> str:
    r"""\'e and \ss and their like as the letters they stand for."""

    def accented(match: re.Match) -> str:
        letter = unicodedata.normalize("NFC", (match[3] or match[4]) + _MARKS[match[1] or match[2]])
        if len(letter) > 1:
            raise Untypeset(f"{match[0]} is not one letter")
        return letter

    return _LETTER.sub(lambda match: _LETTERS[match[1]], _ACCENT.sub(accented, text))


# Reads what follows a command: (reader, its name) → the pieces.
_COMMANDS: dict[str, Callable[[_Reader, str], list[Node]]] = {
    "begin": lambda reader, name: [reader.environment()],
    "left": _Reader.fenced,
    "sqrt": _Reader.root,
    "substack": _Reader.substack,
    "tag": lambda reader, name: [Line(r"\ \ ("), *_text(reader.raw(name), "mathrm"), Line(")")],
    "not": lambda reader, name: [reader.negated()],
    "check": lambda reader, name: [Line(_composed(rf"\v{{{reader.raw(name)}}}"))],
    **dict.fromkeys(_TEXT, lambda reader, name: [*_text(reader.raw(name), _TEXT[name])]),
    **dict.fromkeys(("pmod", "mod", "pod"), _Reader.modulus),
    **dict.fromkeys(("boxed", "fbox", "framebox"), lambda reader, name: [Framed(reader.argument(name))]),
    **dict.fromkeys(
        ("underbrace", "overbrace"), lambda reader, name: [Braced(reader.argument(name), name == "overbrace", [])]
    ),
    **dict.fromkeys(("vspace", "vphantom", "label"), _Reader.unseen),
    **dict.fromkeys(
        ("hspace", "hskip", "kern", "mkern", "phantom", "hphantom"),
        lambda reader, name: [*_space(name, reader.raw(name))],
    ),
    **dict.fromkeys(
        ("mathop", "mathbin", "mathrel", "mathord", "mathopen", "mathclose", "ensuremath", "smash"), _Reader.grouped
    ),
    **dict.fromkeys(_ARROWS, _Reader.arrow),
    **dict.fromkeys(_OVER_ARROWS, lambda reader, name: [Arrow(_OVER_ARROWS[name], reader.argument(name), [], [])]),
}
