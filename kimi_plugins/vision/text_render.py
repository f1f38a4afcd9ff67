"""Text as an image (k1.5 §2.3.5), so that a model answers alike whether it reads a prompt or sees it.

Prose, fenced code with highlighting, tables in Markdown and LaTeX formulas are laid out on a canvas that grows with
the text. Nothing is clipped and nothing is left out: what cannot be drawn faithfully is refused. The layout record
names every piece of the text with its box.
"""

import unicodedata
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, cos, radians, sin
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from kimi_plugins.vision.blocks import Atom, Code, Prose, blocks_of
from kimi_plugins.vision.fonts import Face, columns, language, why_not_drawn
from kimi_plugins.vision.formulas import Setting, Untypeset, typeset

FAMILIES = ("sans", "serif", "mono")
LOOKS = ("plain", "paper", "screen", "dark")
SMALLEST_FORMULA = 10
WIDEST = 120  # columns of a line whose spaces matter; the canvas is widened for it
SMALLEST_FONT = 12  # pixels; ours
_MATH_FONTS = {"sans": "dejavusans", "serif": "dejavuserif", "mono": "dejavusans"}


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


class _Placed(NamedTuple):
    atom: Atom
    x: float
    baseline: float
    font: Face
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
    for character in unicodedata.normalize("NFC", text):
        reason = None if character in "\n\t " else why_not_drawn(character, style.family)
        if reason is not None:
            name = unicodedata.name(character, "control character")
            raise Unrenderable(f"U+{ord(character):04X} ({name}) {reason}")
    lead, blocks = blocks_of(text)
    for size in range(style.font, min(style.font, SMALLEST_FONT) - 1, -1):
        layout = _Layout(replace(style, font=size), language(text))
        for block in blocks:
            layout.add(block)
        width, height = layout.size()
        # A skewed page needs a larger image.
        turned = width * height + abs(sin(radians(style.skew))) * (width**2 + height**2)
        if turned <= most_pixels:
            return _finish(layout.draw(lead), style, seed)
    raise Unrenderable(f"needs {width} × {height} pixels at {size} pixels a letter, and {most_pixels:,} are allowed")


def _formula(source: str, size: int, style: Style) -> tuple[Image.Image, int]:
    """A formula's coverage, and how far that reaches below the baseline."""
    try:
        return typeset(source, Setting(size, _MATH_FONTS[style.family]))
    except Untypeset as error:
        raise Unrenderable(f"the formula {' '.join(source.split()):.60} cannot be typeset: {error}") from error


# Layout ------------------------------------------------------------------------------------------------------------


class _Layout:
    """Places atoms from the top down; the canvas is as high as they need and wider than the column if one needs it."""

    def __init__(self, style: Style, language: int) -> None:
        self.style, self.language = style, language
        self.margin = 2 * style.font
        self.y = float(self.margin)  # top of the next line
        self.placed: list[_Placed] = []
        self.rules: list[tuple[float, float, float, float]] = []
        self.panels: list[tuple[float, float]] = []
        self.right = float(self.margin + style.width)

    def add(self, block) -> None:
        if isinstance(block, Prose):
            self._prose(block.atoms)
        elif isinstance(block, Code):
            self._code(block)
        else:
            self._table(block.rows)
        self.y += 0.5 * self.style.font

    def size(self) -> tuple[int, int]:
        boxes = [_ink(placed) for placed in self.placed]
        right = max(self.right, *(box[2] for box in boxes))
        return ceil(right + self.margin), ceil(max(self.y, *(box[3] for box in boxes)) + self.margin)

    def _prose(self, atoms: list[Atom]) -> None:
        for line in self._lines(atoms, self.style.width):
            self._line(line, self.margin)

    def _lines(self, atoms: list[Atom], width: float, *, rigid: bool = False):
        """Lines of [(atom, offset, mask, depth)], each within the width; a newline between atoms ends a line.

        A formula that is too long widens the canvas, or is refused where the width is rigid.
        """
        line: list[tuple[Atom, float, Image.Image | None, float]] = []
        x = 0.0
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
                    x += self._font(part).length(" ")
        if line:
            yield line

    def _font(self, atom: Atom, family: str | None = None) -> Face:
        return Face(family or self.style.family, self.style.font, atom.bold, self.language)

    def _parts(self, atom: Atom, width: float):
        """(atom, mask, depth, width) of the atom, in as many parts as a line's width asks for."""
        size = self.style.font
        if atom.formula is not None:
            mask, depth = _formula(atom.formula, size, self.style)
            if mask.width > width:
                smaller = max(SMALLEST_FORMULA, int(size * width / mask.width) - 1)
                mask, depth = _formula(atom.formula, smaller, self.style)
            yield atom, mask, depth, mask.width
            return
        font, rest = self._font(atom), atom.text
        while len(rest) > 1 and font.length(rest) > width:
            most = min(len(rest) - 1, int(5 * width / size))  # no letter is narrower than a fifth
            end = next(n for n in range(most, 0, -1) if n == 1 or font.length(rest[:n]) <= width)
            yield atom._replace(text=rest[:end], gap=""), None, 0.0, width
            rest = rest[end:]
        yield atom._replace(text=rest), None, 0.0, font.length(rest)

    def _line(self, line: list, left: float) -> None:
        """Put a line at self.y, high enough for its highest formula, and move on below it."""
        size = self.style.font
        above = max([size, *(mask.height - depth for _, _, mask, depth in line if mask)])
        below = max([0.3 * size, *(depth for *_, depth in line)])
        for atom, x, mask, depth in line:
            self.placed.append(_Placed(atom, left + x, self.y + above + depth, self._font(atom), mask))
        self.y += above + below + 0.15 * size

    def _code(self, block: Code) -> None:
        """Token by token in a typewriter font, spaces as they are. The canvas is widened for lines of up to WIDEST
        columns; longer ones go on below, at their indentation, and are refused where columns are aligned."""
        size, start = self.style.font, self.y
        pitch = self._font(Atom("", ""), "mono").length("m")
        most = int(self.style.width // pitch)
        self.y += 0.5 * size if block.fenced else 0
        lines = _code_lines(block)
        aligned = sum(_has_runs(line) for line in lines) > 1 and not block.fenced
        for line in lines:
            end = line[-1][1] + columns(line[-1][0].text) if line else 0
            if end > WIDEST and aligned and _has_runs(line):
                raise Unrenderable(f"a line of {end} columns, whose spaces matter, does not fit")
            self._code_line(line, pitch, most if end > WIDEST else WIDEST)
            self.y += 1.3 * size
        if block.fenced:
            self.y += 0.5 * size
            self.panels.append((start, self.y))

    def _code_line(self, line: list[tuple[Atom, int]], pitch: float, most: int) -> None:
        """Tokens at their columns; broken between tokens, or within one that is too long, after `most` columns."""
        size, shift = self.style.font, 0
        indent = min(line[0][1], most // 2) if line else 0
        for atom, column in line:
            rest, at = atom.text, column - shift
            while rest:
                if at >= most or at > indent and at + columns(rest) > most >= indent + columns(rest):
                    self.y += 1.3 * size
                    at = indent
                taken = len(rest)
                while taken > 1 and at + columns(rest[:taken]) > most:
                    taken -= 1
                part, rest = rest[:taken], rest[taken:]
                piece = atom._replace(text=part, gap="" if rest else atom.gap)
                x = self.margin + at * pitch
                self.placed.append(_Placed(piece, x, self.y + size, self._font(atom, "mono"), None))
                at += columns(part)
            shift = column + columns(atom.text) - at

    def _table(self, rows: list[list[list[Atom]]]) -> None:
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

    def _natural(self, atoms: list[Atom]) -> float:
        """Width of a cell in one line."""
        lengths = (length + self._font(atom).length(" ") for atom in atoms for *_, length in self._parts(atom, 1e6))
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
                placed.font.draw(draw, at, atom.text, colours[atom.colour])
            pieces.append(Piece(atom.text, atom.gap, box))
        return Rendered(image, lead, tuple(pieces))


def _code_lines(block: Code) -> list[list[tuple[Atom, int]]]:
    """Lines of (token, its column)."""
    lines: list[list[tuple[Atom, int]]] = [[]]
    column = 0
    for atom in [Atom("", block.indent), *block.atoms]:
        if atom.text:
            lines[-1].append((atom, column))
            column += columns(atom.text)
        for space in atom.gap if atom is not block.atoms[-1] else "":
            if space == "\n":
                lines.append([])
                column = 0
            else:
                column += block.tab - column % block.tab if space == "\t" else columns(space)
    return lines


def _has_runs(line: list[tuple[Atom, int]]) -> bool:
    """Whether there is more than a space between two tokens."""
    return any(at - before - columns(atom.text) > 1 for (atom, before), (_, at) in pairwise(line))


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
    left, top, right, bottom = placed.font.box(placed.atom.text)
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
        left, right = rng.uniform(-8, 0, 2)
        light = np.linspace(left, right, image.width, dtype=np.float32)[None, :, None]
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
