"""Coloured shapes on a white ground: how many, and where."""

from collections import Counter
from math import ceil, dist
from random import Random

from kimi_plugins.vision.synthetic.drawing import COLOURS, SHAPES, Canvas
from kimi_plugins.vision.synthetic.scene import Plan, between, counted, listed


def counting(rng: Random, difficulty: float, size: int) -> Plan:
    """How many of one colour, one shape, or both. Harder: more shapes, more of them alike."""
    shapes = rng.sample(SHAPES, between(2, 5, difficulty))
    colours = rng.sample(list(COLOURS), between(2, 5, difficulty))
    asked = rng.choice(("colour and shape", "shape", "colour"))
    colour, shape = colours[0], shapes[0]
    wanted = rng.randint(1, between(4, 14, difficulty))
    others = rng.randint(between(1, 4, difficulty), between(3, 14, difficulty))

    def matches(kind: tuple[str, str]) -> bool:
        return (asked == "shape" or kind[0] == colour) and (asked == "colour" or kind[1] == shape)

    every = [(c, s) for c in colours for s in shapes]
    inside, outside = [kind for kind in every if matches(kind)], [kind for kind in every if not matches(kind)]
    kinds = [rng.choice(inside) for _ in range(wanted)] + [rng.choice(outside) for _ in range(others)]
    noun = {"colour and shape": f"{colour} {shape}s", "shape": f"{shape}s", "colour": f"{colour} shapes"}[asked]

    canvas, parts = Canvas(size), []
    cells = ceil((1.3 * len(kinds)) ** 0.5)
    side = size / cells
    places = rng.sample([(x, y) for x in range(cells) for y in range(cells)], len(kinds))
    for (column, row), (c, s) in zip(places, kinds, strict=True):
        radius = min(side / 2 - 2, size / 9) * rng.uniform(0.7, 1)
        free = side / 2 - radius - 1
        centre = ((column + 0.5) * side + rng.uniform(-free, free), (row + 0.5) * side + rng.uniform(-free, free))
        canvas.shape(s, centre, radius, c)
        parts.append({"colour": c, "shape": s, "centre": centre, "radius": radius})

    tally = Counter(kind for kind in kinds if matches(kind))
    facts = [f"There are {len(kinds)} shapes in the picture."]
    facts += [f"There {'is' if n == 1 else 'are'} {counted(n, f'{c} {s}')}." for (c, s), n in sorted(tally.items())]
    total = " + ".join(str(n) for _, n in sorted(tally.items()))
    facts.append(f"So the number of {noun} is {f'{total} = ' if len(tally) > 1 else ''}{wanted}.")
    return Plan(canvas, f"How many {noun} are there?", str(wanted), tuple(facts), tuple(parts))


# Each: direction → (words of the order, sort key of a centre).
ORDERS = {
    "left": ("from left to right", lambda at: at[0]),
    "right": ("from right to left", lambda at: -at[0]),
    "top": ("from top to bottom", lambda at: at[1]),
    "bottom": ("from bottom to top", lambda at: -at[1]),
}
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def spatial(rng: Random, difficulty: float, size: int) -> Plan:
    """Where shapes lie: the order in one direction, how many lie on one side, which is nearest. Harder: more shapes.

    No two lie closer in x or in y than 8 pixels of 224, and no two candidates are nearly equally near.
    """
    count = between(3, 8, difficulty)
    radius = size / 18
    every = [(c, s) for c in COLOURS for s in SHAPES]
    kinds = rng.sample(every, count)
    names = [f"{c} {s}" for c, s in kinds]
    asked = rng.choice(("order", "side", "nearest") if difficulty < 0.5 else ("order", "side", "nearest", "two steps"))
    direction = rng.choice(list(ORDERS))
    words, key = ORDERS[direction]
    while True:
        centres = _scattered(rng, count, size, radius)
        order = sorted(range(count), key=lambda n: key(centres[n]))
        start = order[0] if asked == "two steps" else rng.randrange(count)
        near = sorted((n for n in range(count) if n != start), key=lambda n: dist(centres[n], centres[start]))
        gap = dist(centres[near[1]], centres[start]) - dist(centres[near[0]], centres[start])
        if gap >= size / 20:
            break

    ordered = f"The shapes {words}: {listed([f'the {names[n]}' for n in order])}."
    if asked == "order":
        place = rng.randrange(count)
        question = f"Going {words}, which shape is the {ORDINALS[place]}?"
        answer, facts = names[order[place]], [ordered]
        facts.append(f"The {ORDINALS[place]} is the {answer}.")
    elif asked == "side":
        place = order.index(start)
        side = {"left": "to the left of", "right": "to the right of", "top": "above", "bottom": "below"}[direction]
        question = f"How many shapes lie {side} the {names[start]}, seen from its centre to theirs?"
        answer = str(place)
        before = [f"the {names[n]}" for n in order[:place]]
        facts = [ordered, f"Before the {names[start]}: {listed(before) if before else 'none'}. That makes {place}."]
    else:
        answer = names[near[0]]
        extreme = {"left": "leftmost", "right": "rightmost", "top": "topmost", "bottom": "lowest"}[direction]
        target = f"the {extreme} shape" if asked == "two steps" else f"the {names[start]}"
        question = f"Which shape is nearest to {target}, from centre to centre?"
        facts = [f"The {extreme} shape is the {names[start]}."] if asked == "two steps" else []
        facts.append(f"By distance from it: {listed([f'the {names[n]}' for n in near])}.")
        facts.append(f"The nearest is the {answer}.")
    if not answer.isdigit():
        question += " Give colour and shape, as in 'pink oval'."

    canvas, parts = Canvas(size), []
    for (colour, shape), centre in zip(kinds, centres, strict=True):
        canvas.shape(shape, centre, radius, colour)
        parts.append({"colour": colour, "shape": shape, "centre": centre, "radius": radius})
    return Plan(canvas, question, answer, tuple(facts), tuple(parts))


def _scattered(rng: Random, count: int, size: int, radius: float) -> list[tuple[float, float]]:
    """Centres of which no two overlap, no two are nearly in a column, and no two nearly in a row."""
    margin = radius + 2
    step = (size - 2 * margin) / count
    jitter = (step - size / 28) / 2

    def place(number: int) -> float:
        return margin + (number + 0.5) * step + rng.uniform(-jitter, jitter)

    while True:
        columns, rows = rng.sample(range(count), count), rng.sample(range(count), count)
        centres = [(place(column), place(row)) for column, row in zip(columns, rows, strict=True)]
        if all(dist(a, b) > 2 * radius + 3 for n, a in enumerate(centres) for b in centres[:n]):
            return centres
