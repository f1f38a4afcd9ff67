"""A canvas, colours and text for scenes. Everything is drawn twice as large and halved, which smooths the edges."""

from collections.abc import Callable
from functools import cache, wraps
from io import BytesIO
from math import cos, pi, sin
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]

SCALE = 2
INK = (30, 30, 30)
PAPER = (255, 255, 255)
GREY = (175, 175, 175)
COLOURS = {  # far enough apart to be told by name, and no smoothed edge of one on white is another
    "red": (214, 39, 40),
    "blue": (31, 87, 200),
    "green": (34, 139, 34),
    "yellow": (240, 200, 0),
    "purple": (128, 0, 160),
    "orange": (255, 127, 14),
    "black": (0, 0, 0),
    "cyan": (0, 190, 210),
}
STAR = 0.38  # inner radius of a star by its outer one
SHAPES = ("circle", "square", "triangle", "star", "diamond")


RHOMBUS = 0.6  # width of a diamond by its height: a square on its corner would be a square, too


class Look(NamedTuple):
    """Colours of the ground and of lines, and the typeface: Pillow's own ("") or one of matplotlib's."""

    paper: tuple[int, int, int] = PAPER
    ink: tuple[int, int, int] = INK
    typeface: str = ""


LOOKS = tuple(
    Look(paper, ink, typeface)
    for paper in (PAPER, (253, 250, 242), (252, 252, 235), (255, 247, 240))
    for ink in (INK, (24, 34, 84), (62, 40, 26))
    for typeface in ("", "DejaVuSans.ttf", "DejaVuSerif.ttf")
)


@cache
def font(size: int, typeface: str = "") -> ImageFont.FreeTypeFont:
    """A typeface in Pillow's own layout: the same pixels on every machine."""
    if typeface:
        import matplotlib

        file: Path | BytesIO = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / typeface
        size = round(0.82 * size)  # as wide as Pillow's
    else:
        carried = ImageFont.load_default(size)
        if not isinstance(carried, ImageFont.FreeTypeFont):
            raise RuntimeError("this Pillow is built without FreeType; install a usual build")
        file = BytesIO(carried.font_bytes)
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def _later(method: Callable) -> Callable:
    """Recorded when it is called, and drawn by finished()."""

    @wraps(method)
    def record(self: "Canvas", *args, **kwargs) -> None:
        self._steps.append((method, args, kwargs))

    return record


class Canvas:
    """size: pixels of a side. All coordinates are pixels of the finished image, x to the right, y down."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._steps: list[tuple[Callable, tuple, dict]] = []
        self._look = Look()

    def finished(self, look: Look) -> Image.Image:
        """All that was drawn, in this look."""
        self._look = look
        image = Image.new("RGB", (SCALE * self.size, SCALE * self.size), look.paper)
        self._draw = ImageDraw.Draw(image)
        for method, args, kwargs in self._steps:
            method(self, *args, **kwargs)
        return image.reduce(SCALE)

    def _colour(self, colour: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        return {INK: self._look.ink, PAPER: self._look.paper}.get(colour, colour) if colour else None

    @_later
    def circle(self, centre: Point, radius: float, fill=None, outline=None, width: float = 1) -> None:
        (x, y), r = _scaled(centre), SCALE * radius
        self._draw.ellipse(
            (x - r, y - r, x + r, y + r), self._colour(fill), self._colour(outline), round(SCALE * width)
        )

    @_later
    def polygon(self, points: list[Point], fill=None, outline=None, width: float = 1) -> None:
        self._draw.polygon(
            [_scaled(point) for point in points], self._colour(fill), self._colour(outline), round(SCALE * width)
        )

    @_later
    def rectangle(self, low: Point, high: Point, fill=None, outline=None, width: float = 1) -> None:
        # The far edge of Pillow's boxes is drawn too.
        (x0, y0), (x1, y1) = _scaled(low), _scaled(high)
        self._draw.rectangle((x0, y0, x1 - 1, y1 - 1), self._colour(fill), self._colour(outline), round(SCALE * width))

    @_later
    def line(self, points: list[Point], fill=INK, width: float = 1.5) -> None:
        self._draw.line(
            [_scaled(point) for point in points], self._colour(fill), max(1, round(SCALE * width)), "curve"
        )

    def arrow(self, start: Point, end: Point, fill=INK, width: float = 1.5, head: float = 6) -> None:
        (x0, y0), (x1, y1) = start, end
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        neck = (x1 - head * ux, y1 - head * uy)
        self.line([start, neck], fill, width)
        side = head / 2
        self.polygon(
            [end, (neck[0] - side * uy, neck[1] + side * ux), (neck[0] + side * uy, neck[1] - side * ux)], fill
        )

    @_later
    def slice(self, centre: Point, radius: float, start: float, end: float, fill) -> None:
        """A sector from `start` to `end`, in degrees clockwise from the right."""
        (x, y), r = _scaled(centre), SCALE * radius
        self._draw.pieslice((x - r, y - r, x + r, y + r), start, end, fill, self._look.paper, SCALE)

    @_later
    def text(self, at: Point, text: str, size: float, anchor: str = "mm", fill=INK) -> None:
        self._draw.text(_scaled(at), text, self._colour(fill), font(round(SCALE * size), self._look.typeface), anchor)

    def shape(self, name: str, centre: Point, radius: float, colour: str) -> None:
        """A shape of SHAPES within a circle of this radius, in a colour of COLOURS."""
        if name == "circle":
            self.circle(centre, radius, COLOURS[colour])
        else:
            self.polygon(outline(name, centre, radius), COLOURS[colour])


def outline(name: str, centre: Point, radius: float) -> list[Point]:
    """Corners of a shape other than the circle."""
    corners, first = {"square": (4, pi / 4), "diamond": (4, 0), "triangle": (3, -pi / 2), "star": (10, -pi / 2)}[name]
    wide = RHOMBUS if name == "diamond" else 1
    return [
        (
            centre[0] + wide * radius * (STAR if name == "star" and n % 2 else 1) * cos(first + 2 * pi * n / corners),
            centre[1] + radius * (STAR if name == "star" and n % 2 else 1) * sin(first + 2 * pi * n / corners),
        )
        for n in range(corners)
    ]


def _scaled(point: Point) -> Point:
    return SCALE * point[0], SCALE * point[1]
