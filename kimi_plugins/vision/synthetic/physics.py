"""Levers, gears, and a ball between walls."""

from math import cos, pi, sin
from random import Random

from kimi_plugins.vision.synthetic.drawing import COLOURS, GREY, INK, PAPER, Canvas
from kimi_plugins.vision.synthetic.scene import Plan, between, listed


def lever(rng: Random, difficulty: float, size: int) -> Plan:
    """The mass that keeps a beam in balance. Harder: more masses, greater distances."""
    reach = between(3, 6, difficulty)
    each = between(1, 3, difficulty)
    most = between(4, 9, difficulty)
    while True:
        left = {place: rng.randint(1, most) for place in rng.sample(range(1, reach + 1), rng.randint(1, each))}
        places = rng.sample(range(1, reach + 1), rng.randint(1, each))
        unknown, right = places[0], {place: rng.randint(1, most) for place in places[1:]}
        moment = sum(place * mass for place, mass in left.items())
        rest = moment - sum(place * mass for place, mass in right.items())
        if rest > 0 and rest % unknown == 0 and rest // unknown <= 40:
            break
    answer = rest // unknown
    flipped = rng.random() < 0.5
    canvas, parts = Canvas(size), []
    y, pitch, side = 0.6 * size, 0.44 * size / reach, 0.44 * size / reach * 0.85
    side = min(side, size / 9)
    canvas.polygon(
        [(size / 2, y), (size / 2 - size / 16, y + size / 6), (size / 2 + size / 16, y + size / 6)], GREY, INK
    )
    canvas.line([(0.04 * size, y), (0.96 * size, y)], INK, 2.5)
    for place in range(-reach, reach + 1):
        x = size / 2 + place * pitch
        canvas.line([(x, y), (x, y + size / 40)], INK, 1)
        if place:
            canvas.text((x, y + size / 18), str(abs(place)), size / 24)
    loads = [(-place, str(mass)) for place, mass in left.items()] + [(p, str(m)) for p, m in right.items()]
    for place, text in [*loads, (unknown, "?")]:
        x = size / 2 + (-place if flipped else place) * pitch
        box = (x - side / 2, y - side - 1.5), (x + side / 2, y - 1.5)
        canvas.rectangle(*box, (255, 224, 178), INK, 1)
        canvas.text((x, y - side / 2 - 1.5), text, min(size / 20, side / 1.8))
        parts.append({"place": -place if flipped else place, "text": text, "box": box, "colour": (255, 224, 178)})
    terms = " + ".join(f"{place} × {mass}" for place, mass in sorted(left.items()))
    facts = [f"On the side without the unknown mass: {terms} = {moment}."]
    if right:
        others = " + ".join(f"{place} × {mass}" for place, mass in sorted(right.items()))
        facts.append(f"The known masses on the other side give {others} = {moment - rest}, so {rest} is missing.")
    facts.append(f"The unknown mass stands at {unknown}: {rest} / {unknown} = {answer}.")
    question = (
        "The beam is in balance; masses are in kg, and distances from the pivot are marked below it. What is the "
    )
    return Plan(canvas, question + "unknown mass in kg?", str(answer), tuple(facts), tuple(parts))


def gears(rng: Random, difficulty: float, size: int) -> Plan:
    """Turns of the last gear of a row, or how many turn clockwise. Harder: more gears, more of them to pass over."""
    count = between(2, 6, difficulty)
    teeth = [rng.randint(8, between(16, 30, difficulty)) for _ in range(count)]
    # A whole number of turns: the first gear turns a multiple of what the last one's teeth need.
    ratio = rng.choice((2, 3, 4))
    teeth[0], teeth[-1] = teeth[-1] * ratio, teeth[-1]
    turns = rng.randint(1, between(3, 9, difficulty))
    forward = rng.random() < 0.5
    answer, sizes = turns * ratio, [max(12, min(tooth, 30)) for tooth in teeth]
    scale = 0.94 * size / (2 * sum(sizes))
    canvas, parts, x = Canvas(size), [], 0.03 * size
    for n, (tooth, across) in enumerate(zip(teeth, sizes, strict=True)):
        radius = scale * across
        centre = (x + radius, size / 2)
        x += 2 * radius
        colour = list(COLOURS)[n % 6]
        corners = [
            (
                centre[0] + radius * (0.97 if k % 4 < 2 else 0.86) * cos(pi * k / 2 / min(tooth, 24)),
                centre[1] + radius * (0.97 if k % 4 < 2 else 0.86) * sin(pi * k / 2 / min(tooth, 24)),
            )
            for k in range(4 * min(tooth, 24))
        ]
        canvas.polygon(corners, COLOURS[colour])
        canvas.circle(centre, radius * 0.4, PAPER)
        canvas.text((centre[0], size / 2 + radius + size / 20), str(tooth), size / 20)
        canvas.text((centre[0], size / 2 - radius - size / 20), "ABCDEF"[n], size / 18)
        parts.append({"name": "ABCDEF"[n], "teeth": tooth, "colour": colour, "centre": centre, "radius": radius})
    if rng.random() < 0.7:
        a, b = ("A", "ABCDEF"[count - 1]) if forward else ("ABCDEF"[count - 1], "A")
        near, far = (teeth[0], teeth[-1]) if forward else (teeth[-1], teeth[0])
        if not forward:
            turns, answer = answer, turns
        question = f"The numbers are those of teeth. If gear {a} turns {turns} times, how often does gear {b} turn?"
        facts = (
            f"Gear {a} has {near} teeth and gear {b} has {far}; the gears between them do not matter.",
            f"{turns} × {near} = {turns * near} teeth pass.",
            f"Gear {b} turns {turns * near} / {far} = {answer} times.",
        )
    else:
        clockwise = ["ABCDEF"[n] for n in range(0, count, 2)]
        question, answer = "Gear A turns clockwise. How many of the gears, A included, turn clockwise?", len(clockwise)
        facts = (
            f"In the row are {count} gears, with {listed([str(tooth) for tooth in teeth])} teeth.",
            "Neighbours turn in opposite directions.",
            f"Clockwise turn {listed(clockwise)}; their number is {answer}.",
        )
    return Plan(canvas, question, str(answer), facts, tuple(parts))


def bounce(rng: Random, difficulty: float, size: int) -> Plan:
    """Where a ball is that runs diagonally and is thrown back by the walls. Harder: more steps, a larger field."""
    columns, rows = between(4, 8, difficulty), between(4, 8, difficulty)
    x, y = rng.randrange(columns), rng.randrange(rows)
    dx, dy = rng.choice((-1, 1)), rng.choice((-1, 1))
    dx = dx if 0 <= x + dx < columns else -dx  # the arrow points into the field
    dy = dy if 0 <= y + dy < rows else -dy
    steps = rng.randint(2, between(3, 12, difficulty))
    start, direction = (x, y), (dx, dy)
    track = []
    for _ in range(steps):
        dx = dx if 0 <= x + dx < columns else -dx
        dy = dy if 0 <= y + dy < rows else -dy
        x, y = x + dx, y + dy
        track.append((x + 1, y + 1))
    cell = 0.86 * size / max(columns, rows)
    left, high = (size - columns * cell) / 2, (size - rows * cell) / 2
    canvas = Canvas(size)
    for column in range(columns + 1):
        canvas.line([(left + column * cell, high), (left + column * cell, high + rows * cell)], GREY, 0.5)
    for row in range(rows + 1):
        canvas.line([(left, high + row * cell), (left + columns * cell, high + row * cell)], GREY, 0.5)
    canvas.rectangle((left, high), (left + columns * cell, high + rows * cell), None, INK, 2)
    centre = (left + (start[0] + 0.5) * cell, high + (start[1] + 0.5) * cell)
    canvas.circle(centre, 0.26 * cell, COLOURS["red"])
    canvas.arrow(centre, (centre[0] + direction[0] * cell, centre[1] + direction[1] * cell), INK, 1.5, cell / 3)
    asked, answer = rng.choice(
        (
            ("column, the leftmost being the first", track[-1][0]),
            ("row, the topmost being the first", track[-1][1]),
        )
    )
    question = (
        "The ball moves one square diagonally every second, first along the arrow. Where a wall is in the way, that "
        "part of its motion is turned round and it moves on within the same second. "
        f"After {steps} seconds, in which {asked}, is it? Answer with a number."
    )
    facts = [f"It starts in column {start[0] + 1}, row {start[1] + 1}."]
    facts += [f"Second {n}: column {c}, row {r}." for n, (c, r) in enumerate(track, 1)]
    facts.append(f"So the answer is {answer}.")
    parts = ({"start": start, "direction": direction, "steps": steps, "field": (columns, rows), "cell": cell},)
    parts[0].update(corner=(left, high), centre=centre, asked=asked.split(",")[0])
    return Plan(canvas, question, str(answer), tuple(facts), parts)
