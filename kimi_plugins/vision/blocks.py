"""A text taken apart: prose, code and tables in order, and in them the atoms that a line is not broken within."""

import re
from typing import NamedTuple

TAB = 4
# A closing $ stands right after the formula and before no digit, as in Pandoc: "$5 or $6" is not a formula.
_MATH = re.compile(
    r"\\\((?P<paren>.+?)\\\)|\\\[(?P<bracket>.+?)\\\]|\$\$(?P<display>(?:\\.|[^$\\])+?)\$\$"
    r"|(?P<environment>\\begin\{(?P<name>(?:align|equation|gather|multline|eqnarray|alignat|displaymath|math)\*?)\}"
    r".+?\\end\{(?P=name)\})"
    r"|(?<![\\$A-Za-z0-9])\$(?P<dollar>(?:\\.|[^\s$\\])(?:(?:\\.|[^$\n\\]|\n(?!\s*\n))*?(?:\\.|[^\s$\\]))?)\$(?![\d$])",
    re.DOTALL,
)
_KINDS = ("paren", "bracket", "display", "environment", "dollar")
_BREAK = re.compile(r"\n(?:[ \t]*\n)+")
_RUN = re.compile(r"(?<![.?!:;\s])\s{2,}(?=\S)|(?<=\S)\t|(?<=\S)\s{3,}(?=\S)")  # two may follow a sentence
# Characters between which a line may end, with the punctuation that stays with them.
_OPEN, _CLOSE = "（《「『【〔“‘", "，。！？、；：）》」』】〕…—·”’ー々"
_IDEOGRAPH = "\u3041-\u30fb\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNITS = re.compile(f"[{_OPEN}]*[{_IDEOGRAPH}][{_CLOSE}]*|(?:(?![{_OPEN}]*[{_IDEOGRAPH}]).)+", re.DOTALL)
_FENCE = re.compile(r"^```[ \t]*(?P<language>[\w+#.-]*)[^\n]*\n(?P<code>.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
_TABLE = re.compile(r"(?:^[ \t]*\|[^\n]*\|[ \t]*(?:\n|\Z)){2,}", re.MULTILINE)
_TABLE_RULE = re.compile(r"[ \t]*\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*")


class Atom(NamedTuple):
    """What a line is not broken within, unless it is too long for one."""

    text: str
    gap: str
    formula: str | None = None
    colour: int = 0  # place in the look's colours
    bold: bool = False


class Prose(NamedTuple):
    atoms: list[Atom]


class Code(NamedTuple):
    """Text of which every space counts. fenced: as code, on a panel; tab: columns from one tab stop to the next."""

    indent: str  # before the first atom
    atoms: list[Atom]
    fenced: bool = True
    tab: int = TAB


class Table(NamedTuple):
    rows: list[list[list[Atom]]]


Block = Prose | Code | Table


def blocks_of(text: str) -> tuple[str, list[Block]]:
    """(what comes before the first atom, prose, code and tables in order); with the atoms' gaps that is all of it."""
    blocks: list[Block | str] = []
    at = 0
    for match in sorted([*_FENCE.finditer(text), *_TABLE.finditer(text)], key=lambda match: match.start()):
        fence = match.re is _FENCE
        if match.start() < at or not (match["code"].strip() if fence else _cells(match[0])):
            continue  # a table within code; what is empty or not a table stays prose
        _add_prose(blocks, text[at : match.start()])
        if fence:
            _add_code(blocks, text[match.start() : match.start("code")], match)
        else:
            _add_table(blocks, match[0])
        at = match.end()
    _add_prose(blocks, text[at:])
    lead = "".join(block for block in blocks if isinstance(block, str))
    return lead, [block for block in blocks if not isinstance(block, str)]


def _hang(blocks: list[Block | str], text: str) -> None:
    """Source that is not drawn goes into the gap of the piece before it; at the start it is a block of its own."""
    last = blocks[-1] if blocks else ""
    if isinstance(last, str):
        blocks.append(text)
        return
    atoms = last.rows[-1][-1] if isinstance(last, Table) else last.atoms
    atoms[-1] = atoms[-1]._replace(gap=atoms[-1].gap + text)


def _add_code(blocks: list[Block | str], opening: str, match: re.Match) -> None:
    first, *atoms = _code_atoms(match["code"], match["language"])
    _hang(blocks, opening + first.gap)
    atoms[-1] = atoms[-1]._replace(gap=atoms[-1].gap + match[0][match.end("code") - match.start() :])
    blocks.append(Code(first.gap, atoms))


def _add_prose(blocks: list[Block | str], text: str) -> None:
    """Paragraphs, those together of which spaces mean something and those of which they do not."""
    formulas = [match.span() for match in _MATH.finditer(text)]
    ends = [match.end() for match in _BREAK.finditer(text) if not any(a < match.start() < b for a, b in formulas)]
    runs: list[tuple[bool, str]] = []
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        paragraph = text[start:end]
        spaced = _spaces_matter(paragraph)
        if runs and (runs[-1][0] == spaced or not paragraph.strip()):
            runs[-1] = (runs[-1][0], runs[-1][1] + paragraph)
        else:
            runs.append((spaced, paragraph))
    for spaced, run in runs:
        if spaced:
            first, *atoms = _code_atoms(run, "text")
            _hang(blocks, first.gap)
            cells = [len(cell) for line in run.splitlines() for cell in line.strip().split("\t")[:-1]]
            blocks.append(Code(first.gap, atoms, fenced=False, tab=max([TAB, *(length + 2 for length in cells)])))
            continue
        stripped = run.lstrip()
        if run != stripped:
            _hang(blocks, run[: len(run) - len(stripped)])
        if stripped:
            blocks.append(Prose(_prose_atoms(stripped)))


def _spaces_matter(paragraph: str) -> bool:
    """Whether a paragraph is code, a grid or a table: indented lines, runs of spaces, or lines of one length."""
    lines = [line.rstrip() for line in _MATH.sub("x", paragraph).splitlines() if line.strip()]
    telling = [line for line in lines if _RUN.search(line) or len(lines) > 1 and line[0].isspace()]
    if _MATH.search(paragraph):
        return len(telling) > 1  # a line of LaTeX may well be indented
    alike = len(lines) > 1 and len(lines[0]) > 2 and len({len(line) for line in lines}) == 1
    return bool(telling) or alike


def _prose_atoms(text: str) -> list[Atom]:
    """Words and formulas; text does not start with space."""
    atoms: list[Atom] = []
    at = 0

    def add_words(part: str) -> None:
        for word in re.finditer(r"(\S+)(\s*)|(\s+)", part):
            if word[3]:
                atoms[-1] = atoms[-1]._replace(gap=atoms[-1].gap + word[3])
            else:
                *units, last = _UNITS.findall(word[1])
                atoms.extend(Atom(unit, "") for unit in units)
                atoms.append(Atom(last, word[2]))

    for match in _MATH.finditer(text):
        add_words(text[at : match.start()])
        formula = next(found for kind in _KINDS if (found := match[kind]) is not None)
        atoms.append(Atom(match[0], "", formula=formula))
        at = match.end()
    add_words(text[at:])
    return atoms


def _code_atoms(code: str, language: str) -> list[Atom]:
    """Tokens with their colours; the first one is empty, and its gap the space before the second."""
    from pygments.lexers import TextLexer, get_lexer_by_name
    from pygments.token import Comment, Keyword, Name, Number, String
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language or "text", stripnl=False, ensurenl=False)
    except ClassNotFound:
        lexer = TextLexer(stripnl=False, ensurenl=False)
    kinds = ((Keyword, 1), (String, 2), (Comment, 3), (Number, 4), (Name.Function, 5), (Name.Class, 5))
    atoms = [Atom("", "")]
    for kind, value in lexer.get_tokens(code):
        colour = next((n for token, n in kinds if kind in token), 0)
        for part in re.finditer(r"(\S+)|(\s+)", value):
            if part[2]:
                atoms[-1] = atoms[-1]._replace(gap=atoms[-1].gap + part[2])
            else:
                atoms.append(Atom(part[1], "", colour=colour, bold=colour == 1))
    return atoms


def _cells(text: str) -> list[list[tuple[int, int]]]:
    """Rows of the table's cells, from where to where each stands, without rules; [] if it is not a table."""
    rows: list[list[tuple[int, int]]] = []
    at = 0
    for line in text.splitlines(keepends=True):
        if not _TABLE_RULE.fullmatch(line.rstrip("\n")):
            cells = list(re.finditer(r"\|([^|\n]*)(?=\|)", text[at : at + len(line)]))
            rows.append([(at + cell.start(1), at + cell.end(1)) for cell in cells])
        at += len(line)
    if (
        len(rows) < 2
        or len({len(row) for row in rows}) != 1
        or any(not text[a:b].strip() for row in rows for a, b in row)
    ):
        return []
    return rows


def _add_table(blocks: list[Block | str], text: str) -> None:
    rows: list[list[list[Atom]]] = []
    at = 0
    for row in _cells(text):
        atoms: list[list[Atom]] = []
        for start, end in row:
            content = text[start:end]
            first = start + len(content) - len(content.lstrip())
            markup = text[at:first]
            if rows and not atoms:
                last = rows[-1][-1]
                last[-1] = last[-1]._replace(gap=last[-1].gap + markup)
            elif atoms:
                atoms[-1][-1] = atoms[-1][-1]._replace(gap=atoms[-1][-1].gap + markup)
            else:
                _hang(blocks, markup)
            words = _prose_atoms(text[first:end])
            atoms.append([word._replace(bold=not rows) for word in words])
            at = end
        rows.append(atoms)
    last = rows[-1][-1]
    last[-1] = last[-1]._replace(gap=last[-1].gap + text[at:])
    blocks.append(Table(rows))
