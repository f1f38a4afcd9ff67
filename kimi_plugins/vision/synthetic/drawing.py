"""A canvas, colours and text for scenes. Everything is drawn twice as large and halved, which smooths the edges."""

from functools import cache
from io import BytesIO
from math import cos, pi, sin

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


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface, in Pillow's own layout: the same pixels on every machine."""
    default = ImageFont.load_default(size)
    return ImageFont.truetype(BytesIO(default.font_bytes), size, layout_engine=ImageFont.Layout.BASIC)


class Canvas:
    """size: pixels of a side. All coordinates are pixels of the finished image, x to the right, y down."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._image = Image.new("RGB", (SCALE * size, SCALE * size), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def circle(self, centre: Point, radius: float, fill=None, outline=None, width: float = 1) -> None:
        (x, y), r = _scaled(centre), SCALE * radius
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill, outline, round(SCALE * width))

    def polygon(self, points: list[Point], fill=None, outline=None, width: float = 1) -> None:
        self._draw.polygon([_scaled(point) for point in points], fill, outline, round(SCALE * width))

    def rectangle(self, low: Point, high: Point, fill=None, outline=None, width: float = 1) -> None:
        # The far edge of Pillow's boxes is drawn too.
        (x0, y0), (x1, y1) = _scaled(low), _scaled(high)
        self._draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill, outline, round(SCALE * width))

    def line(self, points: list[Point], fill=INK, width: float = 1.5) -> None:
        self._draw.line([_scaled(point) for point in points], fill, max(1, round(SCALE * width)), "curve")

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

    def slice(self, centre: Point, radius: float, start: float, end: float, fill) -> None:
        """A sector from `start` to `end`, in degrees clockwise from the right."""
        (x, y), r = _scaled(centre), SCALE * radius
        self._draw.pieslice((x - r, y - r, x + r, y + r), start, end, fill, PAPER, SCALE)

    def text(self, at: Point, text: str, size: float, anchor: str = "mm", fill=INK) -> None:
        self._draw.text(_scaled(at), text, fill, font(round(SCALE * size)), anchor)

    def text_width(self, text: str, size: float) -> float:
        return font(round(SCALE * size)).getlength(text) / SCALE

    def shape(self, name: str, centre: Point, radius: float, colour: str) -> None:
        """A shape of SHAPES within a circle of this radius, in a colour of COLOURS."""
        if name == "circle":
            self.circle(centre, radius, COLOURS[colour])
        else:
            self.polygon(outline(name, centre, radius), COLOURS[colour])

    def finished(self) -> Image.Image:
        return self._image.reduce(SCALE)


def outline(name: str, centre: Point, radius: float) -> list[Point]:
    """Corners of a shape other than the circle."""
    corners, first = {"square": (4, pi / 4), "diamond": (4, 0), "triangle": (3, -pi / 2), "star": (10, -pi / 2)}[name]
    return [
        (
            centre[0] + radius * (STAR if name == "star" and n % 2 else 1) * cos(first + 2 * pi * n / corners),
            centre[1] + radius * (STAR if name == "star" and n % 2 else 1) * sin(first + 2 * pi * n / corners),
        )
        for n in range(corners)
    ]


def _scaled(point: Point) -> Point:
    return SCALE * point[0], SCALE * point[1]
