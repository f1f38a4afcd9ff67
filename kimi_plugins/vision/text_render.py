"""Text as an image (k1.5 §2.3.5), so that a model answers alike whether it reads a prompt or sees it.

Prose, fenced code with highlighting, tables in Markdown and LaTeX formulas are laid out on a canvas that grows with
the text. Nothing is clipped and nothing is left out: what cannot be drawn faithfully is refused. The layout record
names every piece of the text with its box.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import ceil, cos, radians, sin
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FAMILIES = ("sans", "serif", "mono")
LOOKS = ("plain", "paper", "screen", "dark")
SMALLEST_FORMULA = 10
SMALLEST_FONT = 12  # pixels; ours
TAB = 4
_FONTS = {  # carried by matplotlib: the same on every machine
    "sans": ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    "serif": ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf"),
    "mono": ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"),
}
_MATH_FONTS = {"sans": "dejavusans", "serif": "dejavuserif", "mono": "dejavusans"}

# A closing $ stands right after the formula and before no digit, as in Pandoc: "$5 or $6" is no formula.
_MATH = re.compile(
    r"\\\((?P<paren>.+?)\\\)|\\\[(?P<bracket>.+?)\\\]|\$\$(?P<display>[^$]+?)\$\$|(?<![\\$\w])\$(?P<dollar>[^\s$](?:[^$\n]*?[^\s$\\])?)\$(?![\d$])",
    re.DOTALL,
)
_FENCE = re.compile(r"^```[ \t]*(?P<language>[\w+#.-]*)[^\n]*\n(?P<code>.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
_TABLE = re.compile(r"(?:^[ \t]*\|[^\n]*\|[ \t]*(?:\n|\Z)){2,}", re.MULTILINE)
_TABLE_RULE = re.compile(r"[ \t]*\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*")


class Unrenderable(ValueError):
    """Text that cannot be drawn faithfully; the message says why."""


@dataclass(frozen=True)
class Style:
    """How a text is drawn. width: of the text's column, in pixels. font: size in pixels. Noise in grey levels.

    skew: degrees, clockwise.
    """

    family: str = "sans"
    font: int = 18
    width: int = 512
    look: str = "plain"
    noise: float = 0.0
    skew: float = 0.0


class Piece(NamedTuple):
    """text: drawn as it stands, or typeset if it is a formula. gap: what follows it in the source and is not drawn,
    which is space, or markup: fences, bars and rules of a table. box: left, top, right, bottom of the ink, pixels."""

    text: str
    gap: str
    box: tuple[float, float, float, float]


class Rendered(NamedTuple):
    """lead + every piece's text and gap is the source."""

    image: Image.Image
    lead: str
    pieces: tuple[Piece, ...]

    @property
    def source(self) -> str:
        return self.lead + "".join(piece.text + piece.gap for piece in self.pieces)


class _Atom(NamedTuple):
    """What a line is not broken within, unless it is too long for one."""

    text: str
    gap: str
    formula: str | None = None
    colour: int = 0  # place in the look's colours
    bold: bool = False


class _Placed(NamedTuple):
    atom: _Atom
    x: float
    baseline: float
    font: ImageFont.FreeTypeFont
    mask: Image.Image | None  # of a formula, whose lower edge is at the baseline


# Paper and ink first, then the colours of code: keyword, string, comment, number, name.
_COLOURS = {
    "plain": ((255, 255, 255), (0, 0, 0)),
    "paper": ((250, 244, 228), (40, 32, 28)),
    "screen": ((246, 248, 250), (31, 35, 40)),
    "dark": ((30, 30, 30), (220, 220, 220)),
}
_CODE_COLOURS = {False: ((0, 0, 190), (163, 21, 21), (0, 110, 0), (9, 100, 90), (110, 50, 120))}
_CODE_COLOURS[True] = ((86, 156, 214), (206, 145, 120), (120, 170, 100), (181, 206, 168), (220, 220, 170))


def sample_style(rng, *, width: int, font: tuple[int, int] = (14, 24)) -> Style:
    """A style drawn by a random.Random."""
    look = rng.choice(LOOKS)
    printed = look == "paper"
    return Style(
        family=rng.choice(("sans", "serif", "mono") if rng.random() < 0.4 else ("sans", "serif")),
        font=rng.randint(*font),
        width=width,
        look=look,
        noise=rng.uniform(2, 10) if printed else 0.0,
        skew=rng.uniform(-2, 2) if printed else 0.0,
    )


def render(text: str, style: Style, *, most_pixels: int, seed: int = 0) -> Rendered:
    """Draw a text.

    Args:
        most_pixels: area of the image; the font shrinks, down to SMALLEST_FONT, for a text to fit.
        seed: of the noise.

    Raises:
        Unrenderable: nothing to draw, a character or a formula that cannot be drawn, or too much text.
    """
    text = text.replace("\r\n", "\n")
    if not text.strip():
        raise Unrenderable("there is no text")
    if len(text) * SMALLEST_FONT**2 / 4 > most_pixels:
        raise Unrenderable(f"{len(text):,} characters do not fit into {most_pixels:,} pixels")
    _check_characters(text, style.family)
    lead, blocks = _blocks(text)
    for size in range(style.font, min(style.font, SMALLEST_FONT) - 1, -1):
        layout = _Layout(replace(style, font=size))
        for block in blocks:
            layout.add(block)
        width, height = layout.size()
        # A skewed page needs a larger image.
        turned = width * height + abs(sin(radians(style.skew))) * (width**2 + height**2)
        if turned <= most_pixels:
            return _finish(layout.draw(lead), style, seed)
    raise Unrenderable(f"needs {width} × {height} pixels at {size} pixels a letter, and {most_pixels:,} are allowed")


def _check_characters(text: str, family: str) -> None:
    drawable = _characters(family) & _characters("mono")
    for character in text:
        if character in "\n\t ":
            continue
        unfit = unicodedata.category(character) in ("Mn", "Me", "Mc", "Cf", "Cc", "Cs", "Co", "Cn", "Zl", "Zp")
        if unfit or unicodedata.bidirectional(character) in ("R", "AL", "AN") or ord(character) not in drawable:
            name = unicodedata.name(character, "control character")
            raise Unrenderable(f"U+{ord(character):04X} ({name}) cannot be drawn")


@cache
def _font_path(family: str, bold: bool) -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / _FONTS[family][bold])


@cache
def _characters(family: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(_font_path(family, False)).get_charmap()) & frozenset(
        FT2Font(_font_path(family, True)).get_charmap()
    )


@cache
def _font(family: str, size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_font_path(family, bold), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1024)
def _formula(source: str, size: int, family: str) -> tuple[Image.Image, float]:
    """A formula's coverage, "L", cut to its ink, and how far that reaches below the baseline."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import MathTextParser

    line = " ".join(source.split())
    try:
        # 72 dpi: a point is a pixel.
        parsed = _parser(MathTextParser).parse(
            f"${line}$", dpi=72, prop=FontProperties(size=size, math_fontfamily=_MATH_FONTS[family])
        )
    except ValueError as error:
        reason = str(error).strip().splitlines()[-1]
        raise Unrenderable(f"the formula {line:.60} cannot be typeset: {reason}") from error
    array = np.asarray(parsed.image)
    rows, columns = array.any(axis=1).nonzero()[0], array.any(axis=0).nonzero()[0]
    if len(rows) == 0:
        raise Unrenderable(f"the formula {line:.60} has nothing to draw")
    depth = parsed.depth - (array.shape[0] - 1 - rows[-1])
    return Image.fromarray(array[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]), depth


@cache
def _parser(kind):
    return kind("agg")


# Blocks ------------------------------------------------------------------------------------------------------------


class _Prose(NamedTuple):
    atoms: list[_Atom]


class _Code(NamedTuple):
    indent: str  # before the first atom
    atoms: list[_Atom]


class _Table(NamedTuple):
    rows: list[list[list[_Atom]]]


def _blocks(text: str) -> tuple[str, list]:
    """(what comes before the first atom, prose, code and tables in order); with the atoms' gaps that is all of it."""
    blocks, at = [], 0
    for match in sorted([*_FENCE.finditer(text), *_TABLE.finditer(text)], key=lambda match: match.start()):
        fence = match.re is _FENCE
        if match.start() < at or not (match["code"].strip() if fence else _cells(match[0])):
            continue  # a table within code; what is empty or no table stays prose
        _add_prose(blocks, text[at : match.start()])
        if fence:
            _add_code(blocks, text[match.start() : match.start("code")], match)
        else:
            _add_table(blocks, match[0])
        at = match.end()
    _add_prose(blocks, text[at:])
    lead = "".join(block for block in blocks if isinstance(block, str))
    return lead, [block for block in blocks if not isinstance(block, str)]


def _hang(blocks: list, text: str) -> None:
    """Source that is not drawn goes into the gap of the piece before it; at the start it is a block of its own."""
    if not blocks or isinstance(blocks[-1], str):
        blocks.append(text)
        return
    atoms = blocks[-1].rows[-1][-1] if isinstance(blocks[-1], _Table) else blocks[-1].atoms
    atoms[-1] = atoms[-1]._replace(gap=atoms[-1].gap + text)


def _add_code(blocks: list, opening: str, match: re.Match) -> None:
    first, *atoms = _code_atoms(match["code"], match["language"])
    _hang(blocks, opening + first.gap)
    atoms[-1] = atoms[-1]._replace(gap=atoms[-1].gap + match[0][match.end("code") - match.start() :])
    blocks.append(_Code(first.gap, atoms))


def _add_prose(blocks: list, text: str) -> None:
    stripped = text.lstrip()
    if text != stripped:
        _hang(blocks, text[: len(text) - len(stripped)])
    if stripped:
        blocks.append(_Prose(_prose_atoms(stripped)))


def _prose_atoms(text: str) -> list[_Atom]:
    """Words and formulas; text does not start with space."""
    atoms, at = [], 0

    def add_words(part: str) -> None:
        for word in re.finditer(r"(\S+)(\s*)|(\s+)", part):
            if word[3]:
                atoms[-1] = atoms[-1]._replace(gap=atoms[-1].gap + word[3])
            else:
                atoms.append(_Atom(word[1], word[2]))

    for match in _MATH.finditer(text):
        add_words(text[at : match.start()])
        atoms.append(_Atom(match[0], "", formula=match[match.lastgroup]))
        at = match.end()
    add_words(text[at:])
    return atoms


def _code_atoms(code: str, language: str) -> list[_Atom]:
    """Tokens with their colours; the first one is empty, and its gap the space before the second."""
    from pygments.lexers import TextLexer, get_lexer_by_name
    from pygments.token import Comment, Keyword, Name, Number, String
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language or "text", stripnl=False, ensurenl=False)
    except ClassNotFound:
        lexer = TextLexer(stripnl=False, ensurenl=False)
    kinds = ((Keyword, 1), (String, 2), (Comment, 3), (Number, 4), (Name.Function, 5), (Name.Class, 5))
    atoms = [_Atom("", "")]
    for kind, value in lexer.get_tokens(code):
        colour = next((n for token, n in kinds if kind in token), 0)
        for part in re.finditer(r"(\S+)|(\s+)", value):
            if part[2]:
                atoms[-1] = atoms[-1]._replace(gap=atoms[-1].gap + part[2])
            else:
                atoms.append(_Atom(part[1], "", colour=colour, bold=colour == 1))
    return atoms


def _cells(text: str) -> list[list[re.Match]]:
    """Rows of the table's cells that hold something, one match a cell, without rules; [] if it is no table."""
    rows = []
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


def _add_table(blocks: list, text: str) -> None:
    rows, at = [], 0
    for row in _cells(text):
        atoms = []
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
    blocks.append(_Table(rows))


# Layout ------------------------------------------------------------------------------------------------------------


class _Layout:
    """Places atoms from the top down; the canvas is as high as they need and wider than the column if one needs it."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self.margin = 2 * style.font
        self.y = float(self.margin)  # top of the next line
        self.placed: list[_Placed] = []
        self.rules: list[tuple[float, float, float, float]] = []
        self.panels: list[tuple[float, float]] = []
        self.right = float(self.margin + style.width)

    def add(self, block) -> None:
        if isinstance(block, _Prose):
            self._prose(block.atoms)
        elif isinstance(block, _Code):
            self._code(block)
        else:
            self._table(block.rows)
        self.y += 0.5 * self.style.font

    def size(self) -> tuple[int, int]:
        boxes = [_ink(placed) for placed in self.placed]
        right = max(self.right, *(box[2] for box in boxes))
        return ceil(right + self.margin), ceil(max(self.y, *(box[3] for box in boxes)) + self.margin)

    def _prose(self, atoms: list[_Atom]) -> None:
        for line in self._lines(atoms, self.style.width):
            self._line(line, self.margin)

    def _lines(self, atoms: list[_Atom], width: float, *, rigid: bool = False):
        """Lines of [(atom, offset, mask, depth)], each within the width; a newline between atoms ends a line.

        A formula that is too long widens the canvas, or is refused where the width is rigid.
        """
        line, x = [], 0.0
        for atom in atoms:
            for part, mask, depth, length in self._parts(atom, width):
                if rigid and length > width:
                    raise Unrenderable(f"{part.text:.60} is wider than its cell")
                if line and x + length > width:
                    yield line
                    line, x = [], 0.0
                line.append((part, x, mask, depth))
                x += length
                if "\n" in part.gap and atom is not atoms[-1]:
                    yield line
                    for _ in range(part.gap.count("\n") - 1):
                        yield []
                    line, x = [], 0.0
                elif part.gap:
                    x += self._font(part).getlength(" ")
        if line:
            yield line

    def _font(self, atom: _Atom) -> ImageFont.FreeTypeFont:
        return _font(self.style.family, self.style.font, atom.bold)

    def _parts(self, atom: _Atom, width: float):
        """(atom, mask, depth, width) of the atom, in as many parts as a line's width asks for."""
        size = self.style.font
        if atom.formula is not None:
            mask, depth = _formula(atom.formula, size, self.style.family)
            if mask.width > width:
                smaller = max(SMALLEST_FORMULA, int(size * width / mask.width) - 1)
                mask, depth = _formula(atom.formula, smaller, self.style.family)
            yield atom, mask, depth, mask.width
            return
        font, rest = self._font(atom), atom.text
        while len(rest) > 1 and font.getlength(rest) > width:
            most = min(len(rest) - 1, int(5 * width / size))  # no letter is narrower than a fifth
            end = next(n for n in range(most, 0, -1) if n == 1 or font.getlength(rest[:n]) <= width)
            yield atom._replace(text=rest[:end], gap=""), None, 0.0, width
            rest = rest[end:]
        yield atom._replace(text=rest), None, 0.0, font.getlength(rest)

    def _line(self, line: list, left: float) -> None:
        """Put a line at self.y, high enough for its highest formula, and move on below it."""
        size = self.style.font
        above = max([size, *(mask.height - depth for _, _, mask, depth in line if mask)])
        below = max([0.3 * size, *(depth for *_, depth in line)])
        for atom, x, mask, depth in line:
            self.placed.append(_Placed(atom, left + x, self.y + above + depth, self._font(atom), mask))
        self.y += above + below + 0.15 * size

    def _code(self, block: _Code) -> None:
        """Token by token in a typewriter font, spaces as they are; a line that is too long goes on below."""
        size, start = self.style.font, self.y
        font = _font("mono", size)
        pitch, most = font.getlength("m"), int(self.style.width // font.getlength("m"))
        self.y += 0.5 * size
        column = 0
        for atom in [_Atom("", block.indent), *block.atoms]:
            rest = atom.text
            while rest:
                if column >= most:
                    column, self.y = 0, self.y + 1.3 * size
                part, rest = rest[: most - column], rest[most - column :]
                piece = atom._replace(text=part, gap="" if rest else atom.gap)
                bold = _font("mono", size, atom.bold)
                self.placed.append(_Placed(piece, self.margin + column * pitch, self.y + size, bold, None))
                column += len(part)
            for space in atom.gap if atom is not block.atoms[-1] else "":
                if space == "\n":
                    column, self.y = 0, self.y + 1.3 * size
                elif space == " ":
                    column += 1
                elif space == "\t":
                    column += TAB - column % TAB
        self.y += 1.8 * size
        self.panels.append((start, self.y))

    def _table(self, rows: list[list[list[_Atom]]]) -> None:
        """A grid; columns are as wide as their longest line of words, and wrap if all together are too wide."""
        size, pad, count = self.style.font, 0.5 * self.style.font, len(rows[0])
        natural = [max(self._natural(row[column]) for row in rows) for column in range(count)]
        room = self.style.width - 2 * pad * count
        if room < 2 * size * count:
            raise Unrenderable(f"a table of {count} columns does not fit into {self.style.width} pixels")
        widths = natural if sum(natural) <= room else _shared(natural, room)
        top, left = self.y, float(self.margin)
        edges = [left]
        for width in widths:
            edges.append(edges[-1] + width + 2 * pad)
        self.rules.append((left, top, edges[-1], top))
        for row in rows:
            start, lowest = self.y, self.y
            for cell, edge, width in zip(row, edges, widths, strict=False):
                self.y = start + 0.3 * size
                for line in self._lines(cell, width, rigid=True):
                    self._line(line, edge + pad)
                lowest = max(lowest, self.y)
            self.y = lowest + 0.2 * size
            self.rules.append((left, self.y, edges[-1], self.y))
        self.rules += [(edge, top, edge, self.y) for edge in edges]

    def _natural(self, atoms: list[_Atom]) -> float:
        """Width of a cell in one line."""
        lengths = (length + self._font(atom).getlength(" ") for atom in atoms for *_, length in self._parts(atom, 1e6))
        return max(sum(lengths), 2.0 * self.style.font)

    def draw(self, lead: str) -> Rendered:
        paper, ink = _COLOURS[self.style.look]
        dark = self.style.look == "dark"
        colours = (ink, *_CODE_COLOURS[dark])
        width, height = self.size()
        image = Image.new("RGB", (width, height), paper)
        draw = ImageDraw.Draw(image)
        shade = tuple(value + 14 if dark else value - 10 for value in paper)
        for top, bottom in self.panels:
            draw.rectangle((self.margin / 2, top, width - self.margin / 2, bottom), shade)
        for rule in self.rules:
            draw.line(rule, ink)
        pieces = []
        for placed in self.placed:
            atom, box = placed.atom, _ink(placed)
            if box[0] >= box[2] or box[1] >= box[3]:
                raise Unrenderable(f"{atom.text!r} leaves no ink")
            if placed.mask:
                image.paste(ink, (round(box[0]), round(box[1])), placed.mask)
            else:
                at = (round(placed.x), round(placed.baseline))
                draw.text(at, atom.text, colours[atom.colour], placed.font, "ls")
            pieces.append(Piece(atom.text, atom.gap, box))
        return Rendered(image, lead, tuple(pieces))


def _shared(natural: list[float], room: float) -> list[float]:
    """Widths of columns: narrow ones keep theirs, the others share what is left."""
    widths = list(natural)
    order = sorted(range(len(natural)), key=natural.__getitem__)
    for done, place in enumerate(order):
        widths[place] = min(natural[place], room / (len(order) - done))
        room -= widths[place]
    return widths


def _ink(placed: _Placed) -> tuple[float, float, float, float]:
    x, baseline = round(placed.x), round(placed.baseline)
    if placed.mask:
        return x, baseline - placed.mask.height, x + placed.mask.width, baseline
    left, top, right, bottom = placed.font.getbbox(placed.atom.text, anchor="ls")
    return x + left, baseline + top, x + right, baseline + bottom


# Looks -------------------------------------------------------------------------------------------------------------


def _finish(rendered: Rendered, style: Style, seed: int) -> Rendered:
    image, pieces = rendered.image, rendered.pieces
    if style.look == "screen":
        image, pieces = _framed(image, pieces, style)
    if style.skew:
        image, pieces = _turned(image, pieces, style)
    if style.noise:
        rng = np.random.default_rng(seed)
        values = np.asarray(image, dtype=np.float32)
        light = np.linspace(*rng.uniform(-8, 0, 2), image.width, dtype=np.float32)[None, :, None]
        grain = rng.normal(0, style.noise, (image.height, image.width, 1)).astype(np.float32)
        image = Image.fromarray(np.clip(values + light + grain, 0, 255).astype(np.uint8))
    return Rendered(image, rendered.lead, pieces)


def _framed(image: Image.Image, pieces: tuple[Piece, ...], style: Style):
    """A window's title bar above."""
    bar = round(1.4 * style.font)
    framed = Image.new("RGB", (image.width, image.height + bar), (222, 225, 230))
    framed.paste(image, (0, bar))
    draw = ImageDraw.Draw(framed)
    for n, colour in enumerate(((237, 106, 94), (245, 191, 79), (98, 197, 84))):
        x, r = (n + 1) * bar * 0.7, bar * 0.2
        draw.ellipse((x - r, bar / 2 - r, x + r, bar / 2 + r), colour)
    moved = (piece._replace(box=(x0, y0 + bar, x1, y1 + bar)) for piece in pieces for x0, y0, x1, y1 in [piece.box])
    return framed, tuple(moved)


def _turned(image: Image.Image, pieces: tuple[Piece, ...], style: Style):
    """Turned about the middle, on a canvas that holds all of it; boxes are those around the turned ones."""
    paper = _COLOURS[style.look][0]
    turned = image.rotate(-style.skew, Image.Resampling.BICUBIC, expand=True, fillcolor=paper)
    c, s = cos(radians(style.skew)), sin(radians(style.skew))

    def box(piece: Piece):
        x0, y0, x1, y1 = piece.box
        xs, ys = [], []
        for x, y in ((x0, y0), (x1, y0), (x0, y1), (x1, y1)):
            dx, dy = x - image.width / 2, y - image.height / 2
            xs.append(c * dx - s * dy + turned.width / 2)
            ys.append(s * dx + c * dy + turned.height / 2)
        return min(xs), min(ys), max(xs), max(ys)

    return turned, tuple(piece._replace(box=box(piece)) for piece in pieces)
