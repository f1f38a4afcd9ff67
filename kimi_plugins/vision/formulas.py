"""LaTeX formulas as coverage masks.

matplotlib's mathtext sets one line. This module lays out what has two dimensions: matrices, cases, arrays, aligned
lines, and delimiters, scripts, fractions and frames around them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from math import ceil, floor
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from kimi_plugins.vision.fonts import Face, language
from kimi_plugins.vision.latex import (
    Arrow,
    Braced,
    Fenced,
    Fraction,
    Framed,
    Grid,
    Line,
    Scripted,
    Untypeset,
    Words,
    read,
)

SMALLEST = 8  # pixels of a script's font


@dataclass(frozen=True)
class Setting:
    """How a formula is drawn: font size in pixels, and mathtext's name of the fonts."""

    size: int
    fonts: str

    def smaller(self) -> "Setting":
        return Setting(max(SMALLEST, round(0.7 * self.size)), self.fonts)


class Box(NamedTuple):
    """mask: coverage [height, width], uint8. down: how many of its rows are below the baseline."""

    mask: np.ndarray
    down: int

    @property
    def up(self) -> int:
        return self.mask.shape[0] - self.down

    @property
    def width(self) -> int:
        return self.mask.shape[1]


@lru_cache(maxsize=1024)
def typeset(source: str, setting: Setting) -> tuple[Image.Image, int]:
    """(coverage, "L", cut to its ink; how far that reaches below the baseline).

    Raises:
        Untypeset: a command or an environment that is not known, unbalanced braces, or nothing to draw.
    """
    box = _row(read(source), setting)
    if not box.mask.any():
        raise Untypeset("has nothing to draw")
    lowest = int(np.flatnonzero(box.mask.any(axis=1))[-1])
    return Image.fromarray(_inked(box.mask)), box.down - (box.mask.shape[0] - 1 - lowest)


@cache
def _parser():
    from matplotlib.mathtext import MathTextParser

    return MathTextParser("agg")


def _line(latex: str, setting: Setting) -> Box:
    from matplotlib.font_manager import FontProperties

    try:
        # 72 dpi: a point is a pixel.
        properties = FontProperties(size=setting.size, math_fontfamily=setting.fonts)
        parsed = _parser().parse(f"${latex}$", dpi=72, prop=properties)
    except ValueError as error:
        raise Untypeset(str(error).strip().splitlines()[-1]) from error
    mask = np.asarray(parsed.image)
    return Box(mask, min(round(parsed.depth), mask.shape[0]))


def _row(nodes: list, setting: Setting) -> Box:
    """Boxes side by side on one baseline; neighbouring lines are set together."""
    boxes, at = [], 0
    while at < len(nodes):
        end = at
        while end < len(nodes) and isinstance(nodes[end], Line):
            end += 1
        if end > at:
            latex = " ".join(node.latex for node in nodes[at:end])
            if latex.strip(" {}"):
                boxes.append(_line(latex, setting))
            at = end
        else:
            boxes.append(_LAYOUTS[type(nodes[at])](nodes[at], setting))
            at += 1
    return _beside(boxes, round(0.2 * setting.size))


def _beside(boxes: list[Box], gap: int) -> Box:
    if not boxes:
        return Box(np.zeros((1, 1), np.uint8), 0)
    up, down = max(box.up for box in boxes), max(box.down for box in boxes)
    mask = np.zeros((up + down, sum(box.width for box in boxes) + gap * (len(boxes) - 1)), np.uint8)
    x = 0
    for box in boxes:
        mask[up - box.up : up + box.down, x : x + box.width] = box.mask
        x += box.width + gap
    return Box(mask, down)


def _axis(setting: Setting) -> int:
    """Height of a fraction's rule above the baseline."""
    return round(0.28 * setting.size)


def _rule(setting: Setting) -> int:
    return max(1, setting.size // 16)


def _centred(mask: np.ndarray, setting: Setting) -> Box:
    """Half of it above the axis, half below."""
    return Box(mask, max(0, mask.shape[0] // 2 - _axis(setting)))


def _grid(grid: Grid, setting: Setting) -> Box:
    setting = setting.smaller() if grid.script else setting
    cells = [[_row(cell, setting) for cell in row] for row in grid.rows]
    count = max(map(len, cells))
    widths = [max(row[n].width for row in cells if n < len(row)) for n in range(count)]
    gap = round(grid.gap * setting.size)
    # Aligned lines come in pairs, which are apart.
    gaps = [0] + [
        gap or (setting.size if grid.columns == "rl" and n % 2 == 0 else setting.size // 6) for n in range(1, count)
    ]
    edge = round(0.3 * setting.size) if grid.rules or grid.lines else 0
    lefts = [edge + sum(widths[:n]) + sum(gaps[: n + 1]) for n in range(count)]
    apart = round(0.4 * setting.size)
    ups = [max(setting.size * 7 // 10, *(box.up for box in row)) for row in cells]
    downs = [max(setting.size // 4, *(box.down for box in row)) for row in cells]
    tops = [edge + sum(ups[:n]) + sum(downs[:n]) + apart * n for n in range(len(cells))]
    mask = np.zeros((tops[-1] + ups[-1] + downs[-1] + edge, lefts[-1] + widths[-1] + edge), np.uint8)
    for row, top, up in zip(cells, tops, ups, strict=True):
        for n, box in enumerate(row):
            align = grid.columns[n % len(grid.columns)]
            x = lefts[n] + {"l": 0, "r": widths[n] - box.width}.get(align, (widths[n] - box.width) // 2)
            y = top + up - box.up
            mask[y : y + box.mask.shape[0], x : x + box.width] = box.mask
    rule = _rule(setting)
    for n in grid.rules:
        x = mask.shape[1] - rule if n >= count else 0 if n == 0 else lefts[n] - gaps[n] // 2
        mask[:, x : x + rule] = 255
    for n in grid.lines:
        y = mask.shape[0] - rule if n >= len(cells) else 0 if n == 0 else tops[n] - apart // 2
        mask[y : y + rule] = 255
    return _centred(mask, setting)


def _fenced(fenced: Fenced, setting: Setting) -> Box:
    body = _row(fenced.body, setting)
    axis = _axis(setting)
    half = max(body.up - axis, body.down + axis, setting.size // 2)
    sides = [
        _centred(_stretched(mark, 2 * half, setting), setting) for mark in (fenced.left, fenced.right) if mark != "."
    ]
    boxes = [body]
    if fenced.left != ".":
        boxes.insert(0, sides[0])
    if fenced.right != ".":
        boxes.append(sides[-1])
    return _beside(boxes, max(1, setting.size // 8))


def _stretched(mark: str, height: int, setting: Setting) -> np.ndarray:
    """A delimiter as high as what it encloses."""
    size = min(max(setting.size, round(0.9 * height)), 3 * setting.size)
    mask = _inked(_line(mark, Setting(size, setting.fonts)).mask)
    return np.asarray(Image.fromarray(mask).resize((mask.shape[1], height), Image.Resampling.BILINEAR))


def _inked(mask: np.ndarray) -> np.ndarray:
    """Cut to its ink."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _stacked(masks: list[np.ndarray], gap: int) -> np.ndarray:
    """Masks one above another, in the middle."""
    width = max(mask.shape[1] for mask in masks)
    rows = []
    for mask in masks:
        left = (width - mask.shape[1]) // 2
        rows += [np.pad(mask, ((0, 0), (left, width - mask.shape[1] - left))), np.zeros((gap, width), np.uint8)]
    return np.concatenate(rows[:-1])


def _words(words: Words, setting: Setting) -> Box:
    face = Face("sans", setting.size, language=language(words.text))
    left, top, right, bottom = face.box(words.text)
    image = Image.new("L", (ceil(right) + 1, ceil(bottom) - floor(top) + 1))
    face.draw(ImageDraw.Draw(image), (0, -floor(top)), words.text, 255)
    return Box(np.asarray(image), max(0, image.height + floor(top)))


def _fraction(fraction: Fraction, setting: Setting) -> Box:
    upper, lower = _row(fraction.upper, setting).mask, _row(fraction.lower, setting).mask
    gap = max(2, setting.size // 6)
    width = max(upper.shape[1], lower.shape[1])
    line = np.full((_rule(setting), width), 255 if fraction.rule else 0, np.uint8)
    down = lower.shape[0] + gap - _axis(setting)
    return Box(_stacked([upper, line, lower], gap), max(0, down))


def _scripted(node: Scripted, setting: Setting) -> Box:
    base = _row(node.base, setting)
    small = setting.smaller()
    boxes = [base]
    above, below = (_row(nodes, small) if nodes else None for nodes in (node.upper, node.lower))
    up = base.up - (above.mask.shape[0] // 2 if above else 0)
    width = max(box.width for box in (above, below) if box)
    top = max(base.up, up + above.mask.shape[0]) if above else base.up
    bottom = max(base.down, base.down - 1 + (below.mask.shape[0] // 2 if below else 0))
    mask = np.zeros((top + bottom, width), np.uint8)
    if above:
        y = top - up - above.mask.shape[0]
        mask[y : y + above.mask.shape[0], : above.width] |= above.mask
    if below:
        y = max(mask.shape[0] - below.mask.shape[0], 0)
        if above and y < top - up:
            raise Untypeset("two tall scripts at one base")
        if below.mask.shape[0] > mask.shape[0]:
            mask = np.pad(mask, ((0, below.mask.shape[0] - mask.shape[0]), (0, 0)))
            bottom = mask.shape[0] - top
        mask[y : y + below.mask.shape[0], : below.width] |= below.mask
    boxes.append(Box(mask, bottom))
    return _beside(boxes, max(1, setting.size // 12))


def _framed(node: Framed, setting: Setting) -> Box:
    body, pad, rule = _row(node.body, setting), max(3, setting.size // 4), _rule(setting)
    inner = np.pad(body.mask, pad)
    return Box(np.pad(inner, rule, constant_values=255), body.down + pad + rule)


def _braced(node: Braced, setting: Setting) -> Box:
    body = _row(node.body, setting)
    brace = np.rot90(_stretched(r"\{", max(body.width, setting.size), setting), 1 if not node.above else -1)
    label = _row(node.label, setting.smaller()).mask if node.label else None
    gap = max(1, setting.size // 8)
    parts = [body.mask, brace] + ([] if label is None else [label])
    extra = sum(part.shape[0] + gap for part in parts[1:])
    mask = _stacked(parts[::-1] if node.above else parts, gap)
    return Box(mask, body.down + (0 if node.above else extra))


def _arrow_mask(width: int, heads: str, setting: Setting) -> np.ndarray:
    height = max(5, setting.size // 3 | 1)
    image = Image.new("L", (width, height))
    draw, middle, rule = ImageDraw.Draw(image), height // 2, _rule(setting)
    draw.line((0, middle, width - 1, middle), 255, rule)
    for tip, back, head in ((0, middle, "<"), (width - 1, width - 1 - middle, ">")):
        if head in heads:
            draw.line((back, 0, tip, middle), 255, rule)
            draw.line((back, height - 1, tip, middle), 255, rule)
    return np.asarray(image)


def _arrow(node: Arrow, setting: Setting) -> Box:
    gap = max(1, setting.size // 8)
    if node.body:
        body = _row(node.body, setting)
        return Box(
            _stacked([_arrow_mask(max(body.width, setting.size), node.heads, setting), body.mask], gap), body.down
        )
    labels = [_row(nodes, setting.smaller()).mask if nodes else None for nodes in (node.above, node.below)]
    width = setting.size + max([setting.size // 2, *(label.shape[1] for label in labels if label is not None)])
    arrow = _arrow_mask(width, node.heads, setting)
    above, below = labels
    mask = _stacked([mask for mask in (above, arrow, below) if mask is not None], gap)
    under = arrow.shape[0] // 2 + (below.shape[0] + gap if below is not None else 0)
    return Box(mask, max(0, under - _axis(setting)))


_LAYOUTS: dict[type, Callable] = {
    Words: _words,
    Grid: _grid,
    Fenced: _fenced,
    Fraction: _fraction,
    Scripted: _scripted,
    Framed: _framed,
    Braced: _braced,
    Arrow: _arrow,
}
