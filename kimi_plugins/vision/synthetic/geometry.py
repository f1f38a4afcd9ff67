"""Figures with labelled sides and angles, drawn to scale."""

from collections.abc import Sequence
from math import cos, dist, hypot, radians, sin, tan
from random import Random

from kimi_plugins.vision.synthetic.drawing import INK, Canvas, Point
from kimi_plugins.vision.synthetic.scene import Plan, between

FILL = (214, 228, 245)


def angles(rng: Random, difficulty: float, size: int) -> Plan:
    """The missing angle of a triangle. Harder: the angle outside, an isosceles triangle."""
    asked = rng.choice(("inner", "outer", "isosceles")[: between(1, 3, difficulty)])
    step = 10 if difficulty < 0.3 else 1
    if asked == "isosceles":
        apex = 2 * rng.randrange(15, 60)
        degrees = [(180 - apex) // 2, (180 - apex) // 2, apex]
    else:
        first = step * rng.randint(30 // step, 90 // step)
        second = step * rng.randint(30 // step, (150 - first) // step)
        degrees = [first, second, 180 - first - second]
    corners = _fitted(_triangle(degrees), size, 0.2, rng.uniform(0, 360) if asked != "outer" else 0)

    canvas = Canvas(size)
    canvas.polygon(corners, FILL, INK, 1.5)
    if asked == "isosceles":
        labels = ["?", "", f"{degrees[2]}°"]
        for a, b in ((0, 2), (1, 2)):
            _tick(canvas, corners[a], corners[b], size / 40)
        question = "The two marked sides are equally long. How many degrees has the angle marked with a question mark?"
        facts: tuple[str, ...] = (
            f"The angle between the equal sides is {degrees[2]} degrees; the other two are equal.",
            f"Together they have 180 - {degrees[2]} = {180 - degrees[2]} degrees.",
            f"Each has {180 - degrees[2]} / 2 = {degrees[0]} degrees.",
        )
        answer = degrees[0]
    elif asked == "outer":
        labels = [f"{degrees[0]}°", "", f"{degrees[2]}°"]
        corner = corners[1]
        canvas.line([corner, (corner[0] + size / 7, corner[1])])
        canvas.text((corner[0] + size / 14, corner[1] - size / 22), "?", size / 18)
        answer = degrees[0] + degrees[2]
        question = "How many degrees has the angle marked with a question mark, outside of the triangle?"
        facts = (
            f"The two angles given are {degrees[0]} and {degrees[2]} degrees.",
            f"The third inner angle is 180 - {degrees[0]} - {degrees[2]} = {degrees[1]} degrees.",
            f"The angle beside it is 180 - {degrees[1]} = {answer} degrees.",
        )
    else:
        labels = ["?", f"{degrees[1]}°", f"{degrees[2]}°"]
        answer = degrees[0]
        question = "How many degrees has the angle marked with a question mark?"
        facts = (
            f"The two angles given are {degrees[1]} and {degrees[2]} degrees, together {degrees[1] + degrees[2]}.",
            f"The angles of a triangle add up to 180, so it is 180 - {degrees[1] + degrees[2]} = {answer} degrees.",
        )
    centre = _centre(corners)
    for corner, label in zip(corners, labels, strict=True):
        away = dist(corner, centre)
        out = 1 + size / 13 / away
        canvas.text(
            (centre[0] + out * (corner[0] - centre[0]), centre[1] + out * (corner[1] - centre[1])), label, size / 18
        )
    parts = ({"kind": asked, "corners": corners, "labels": labels},)
    return Plan(canvas, question, str(answer), facts, parts)


def areas(rng: Random, difficulty: float, size: int) -> Plan:
    """Area of a rectangle, a right-angled triangle, or a rectangle with a corner cut off. Harder: larger numbers."""
    asked = rng.choice(("rectangle", "triangle", "notched")[: between(1, 3, difficulty)])
    most = between(8, 24, difficulty)
    width, height = rng.randint(4, most), rng.randint(4, most)
    while max(width, height) > 2.5 * min(width, height):
        height = rng.randint(4, most)
    if asked == "triangle" and width * height % 2:
        width += 1
    if asked == "rectangle":
        corners = [(0, 0), (width, 0), (width, height), (0, height)]
        sides = {(0, 1): width, (1, 2): height}
        answer = width * height
        facts: tuple[str, ...] = (
            f"The sides are {width} and {height}.",
            f"The area is {width} × {height} = {answer}.",
        )
    elif asked == "triangle":
        corners = [(0, 0), (width, height), (0, height)]
        sides = {(1, 2): width, (2, 0): height}
        answer = width * height // 2
        facts = (
            f"The sides at the right angle are {width} and {height}.",
            f"The area is {width} × {height} / 2 = {width * height} / 2 = {answer}.",
        )
    else:
        cut, drop = rng.randint(width // 3 or 1, width - 2), rng.randint(height // 3 or 1, height - 2)
        corners = [(0, 0), (width - cut, 0), (width - cut, drop), (width, drop), (width, height), (0, height)]
        sides = {(4, 5): width, (5, 0): height, (1, 2): drop, (2, 3): cut}
        answer = width * height - cut * drop
        facts = (
            f"The whole rectangle has the area {width} × {height} = {width * height}.",
            f"The piece cut off has the area {cut} × {drop} = {cut * drop}.",
            f"What is left: {width * height} - {cut * drop} = {answer}.",
        )
    placed = _fitted(corners, size, 0.2, 0)
    canvas = Canvas(size)
    canvas.polygon(placed, FILL, INK, 1.5)
    for (a, b), length in sides.items():
        _label_side(canvas, placed, a, b, str(length), size)
    parts = ({"kind": asked, "corners": placed, "sides": sides},)
    question = "All angles that look right are right angles; lengths are in cm. What is the area of the figure in cm²?"
    return Plan(canvas, question, str(answer), facts, parts)


def similar(rng: Random, difficulty: float, size: int) -> Plan:
    """A side of the larger of two similar triangles. Harder: ratios that are not whole numbers, larger numbers."""
    low, high = rng.choice(((1, 2), (1, 3)) if difficulty < 0.4 else ((2, 3), (3, 4), (3, 5), (1, 3), (2, 5)))
    most = between(9, 14, difficulty)
    first, second = low * rng.randint(2, most), low * rng.randint(2, most)
    while not 0.5 <= first / second <= 2 or first == second:
        second = low * rng.randint(2, most)
    answer = second * high // low
    angle = rng.randint(50, 110)

    def corners(scale: float) -> list[Point]:
        a, b = scale * first, scale * second
        return [(0, 0), (a, 0), (b * cos(radians(angle)), -b * sin(radians(angle)))]

    small, large = corners(low / high), corners(1)
    height = max(-y for _, y in large)
    scale = size * min(0.74 / (_extent(small) + _extent(large)), 0.6 / height)
    canvas, parts, left = Canvas(size), [], 0.1 * size
    for triangle, labels in ((small, (first, second)), (large, (first * high // low, "?"))):
        low_x = min(x for x, _ in triangle)
        placed = [(left + scale * (x - low_x), 0.72 * size + scale * y) for x, y in triangle]
        canvas.polygon(placed, FILL, INK, 1.5)
        _label_side(canvas, placed, 0, 1, str(labels[0]), size)
        _label_side(canvas, placed, 0, 2, str(labels[1]), size)
        parts.append({"corners": placed, "labels": labels})
        left += scale * _extent(triangle) + 0.1 * size
    facts = (
        f"The lower sides are {first} and {first * high // low}, so the ratio is {high} / {low}.",
        f"The side asked for belongs to the side {second}: {second} × {high} / {low} = {answer}.",
    )
    question = "The two triangles are similar. How long is the side marked with a question mark?"
    return Plan(canvas, question, str(answer), facts, tuple(parts))


def _triangle(degrees: list[int]) -> list[Point]:
    """Corners with these angles, the side between the first two on the x axis."""
    a, b = tan(radians(degrees[0])), tan(radians(degrees[1]))
    if degrees[0] == 90:
        return [(0, 0), (1, 0), (0, -b)]
    if degrees[1] == 90:
        return [(0, 0), (1, 0), (1, -a)]
    x = b / (a + b)
    return [(0, 0), (1, 0), (x, -a * x)]


def _fitted(points: Sequence[Point], size: int, margin: float, turn: float) -> list[Point]:
    """Turned by so many degrees, and scaled to the canvas less a margin, a share of it."""
    c, s = cos(radians(turn)), sin(radians(turn))
    turned = [(c * x - s * y, s * x + c * y) for x, y in points]
    xs, ys = [x for x, _ in turned], [y for _, y in turned]
    scale = size * (1 - 2 * margin) / max(max(xs) - min(xs), max(ys) - min(ys))
    mid_x, mid_y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    return [(size / 2 + scale * (x - mid_x), size / 2 + scale * (y - mid_y)) for x, y in turned]


def _centre(points: list[Point]) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _extent(points: list[Point]) -> float:
    return max(x for x, _ in points) - min(x for x, _ in points)


def _label_side(canvas: Canvas, corners: list[Point], a: int, b: int, text: str, size: int) -> None:
    """Beside the middle of a side, away from the figure."""
    (x0, y0), (x1, y1) = corners[a], corners[b]
    length = hypot(x1 - x0, y1 - y0)
    normal = ((y1 - y0) / length, (x0 - x1) / length)
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    twice_area = sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(corners, corners[1:] + corners[:1], strict=True))
    # The normal points away from a figure that turns clockwise on the screen, and whose side is taken forwards.
    forwards = (b - a) % len(corners) == 1
    sign = 1 if (twice_area > 0) == forwards else -1
    off = sign * size / 18
    canvas.text((middle[0] + off * normal[0], middle[1] + off * normal[1]), text, size / 18)


def _tick(canvas: Canvas, a: Point, b: Point, length: float) -> None:
    """A mark across the middle of a side."""
    x, y = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
    nx, ny = (b[1] - a[1]) / dist(a, b), (a[0] - b[0]) / dist(a, b)
    canvas.line([(x - length * nx, y - length * ny), (x + length * nx, y + length * ny)])
