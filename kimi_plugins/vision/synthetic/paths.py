"""Ways through a maze, and along arrows."""

from collections import deque
from itertools import groupby
from random import Random

from kimi_plugins.vision.synthetic.drawing import COLOURS, GREY, INK, Canvas
from kimi_plugins.vision.synthetic.scene import Plan, between, counted, listed

SQUARES = (200, 200, 200)
MOVES = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
Cell = tuple[int, int]


def maze(rng: Random, difficulty: float, size: int) -> Plan:
    """Length of the shortest way from S to G. Harder: a larger maze, with ways round."""
    side = between(3, 8, difficulty)
    opened = _tree(rng, side)
    for _ in range(between(0, 6, difficulty)):
        x, y = rng.randrange(side - 1), rng.randrange(side)
        opened.add(((x, y), (x + 1, y)))
    start, goal = rng.sample([(x, y) for x in range(side) for y in range(side)], 2)
    way = shortest(side, opened, start, goal)
    cell, corner = 0.92 * size / side, 0.04 * size
    canvas = Canvas(size)
    for n in range(1, side):  # the squares, which walls alone would not show
        at = corner + n * cell
        canvas.line([(at, corner), (at, corner + side * cell)], SQUARES, 0.5)
        canvas.line([(corner, at), (corner + side * cell, at)], SQUARES, 0.5)
    canvas.rectangle((corner, corner), (corner + side * cell, corner + side * cell), None, INK, 2)
    for x in range(side):
        for y in range(side):
            right, below = corner + (x + 1) * cell, corner + (y + 1) * cell
            if x + 1 < side and ((x, y), (x + 1, y)) not in opened:
                canvas.line([(right, below - cell), (right, below)], INK, 2)
            if y + 1 < side and ((x, y), (x, y + 1)) not in opened:
                canvas.line([(right - cell, below), (right, below)], INK, 2)
    for letter, (x, y), colour in (("S", start, "blue"), ("G", goal, "red")):
        middle = (corner + (x + 0.5) * cell, corner + (y + 0.5) * cell)
        canvas.text(middle, letter, min(cell * 0.6, size / 12), fill=COLOURS[colour])
    moves = [(name, len(list(run))) for name, run in groupby(way)]
    facts = (
        f"The shortest way goes {listed([f'{n} {name}' for name, n in moves])}.",
        f"{' + '.join(str(n) for _, n in moves)} = {len(way)}."
        if len(moves) > 1
        else f"That is {counted(len(way), 'step')}: {len(way)}.",
    )
    question = "From square to square, not through walls: how many steps has the shortest way from S to G?"
    parts = ({"side": side, "start": start, "goal": goal, "cell": cell, "corner": corner},)
    return Plan(canvas, question, str(len(way)), facts, parts)


def _tree(rng: Random, side: int) -> set[tuple[Cell, Cell]]:
    """Openings between neighbours, the left or upper one first, by which every cell is reached in one way."""
    opened, seen, trail = set(), {(0, 0)}, [(0, 0)]
    while trail:
        x, y = trail[-1]
        free = [
            (x + dx, y + dy)
            for dx, dy in MOVES.values()
            if 0 <= x + dx < side and 0 <= y + dy < side and (x + dx, y + dy) not in seen
        ]
        if not free:
            trail.pop()
            continue
        step = rng.choice(free)
        opened.add((min((x, y), step), max((x, y), step)))
        seen.add(step)
        trail.append(step)
    return opened


def shortest(side: int, opened: set[tuple[Cell, Cell]], start: Cell, goal: Cell) -> list[str]:
    """Names of the moves of a shortest way."""
    came: dict[Cell, tuple[Cell, str]] = {start: (start, "")}
    queue = deque([start])
    while queue[0] != goal:
        x, y = cell = queue.popleft()
        for name, (dx, dy) in MOVES.items():
            step = (x + dx, y + dy)
            if step not in came and (min(cell, step), max(cell, step)) in opened:
                came[step] = (cell, name)
                queue.append(step)
    way, cell = [], goal
    while cell != start:
        cell, name = came[cell]
        way.append(name)
    return way[::-1]


def arrows(rng: Random, difficulty: float, size: int) -> Plan:
    """Which letter the arrows lead to. Harder: a longer way over a larger field, with other letters."""
    side = between(4, 7, difficulty)
    wanted = between(3, 12, difficulty)
    letters = rng.sample("ABCDEFHJKLMN", between(3, 6, difficulty))
    while True:
        way: list[tuple[Cell, str]] = []
        here = (rng.randrange(side), rng.randrange(side))
        seen = {here}
        while len(way) < wanted:
            free = [
                (name, step)
                for name, (dx, dy) in MOVES.items()
                if 0 <= (step := (here[0] + dx, here[1] + dy))[0] < side and 0 <= step[1] < side and step not in seen
            ]
            if not free:
                break
            name, step = rng.choice(free)
            way.append((here, name))
            seen.add(step)
            here = step
        free_cells = [(x, y) for x in range(side) for y in range(side) if (x, y) not in seen]
        if len(way) == wanted and len(free_cells) >= len(letters) - 1:
            break
    field = {cell: name for cell, name in way} | {here: letters[0]}
    field |= dict(zip(rng.sample(free_cells, len(letters) - 1), letters[1:], strict=True))
    for x in range(side):
        for y in range(side):
            inside = [n for n, (dx, dy) in MOVES.items() if 0 <= x + dx < side and 0 <= y + dy < side]
            field.setdefault((x, y), rng.choice(inside))
    cell, corner = 0.92 * size / side, 0.04 * size
    canvas = Canvas(size)
    start = way[0][0]
    for (x, y), mark in field.items():
        low = (corner + x * cell, corner + y * cell)
        canvas.rectangle(low, (low[0] + cell, low[1] + cell), (200, 230, 200) if (x, y) == start else None, GREY, 0.5)
        centre = (low[0] + cell / 2, low[1] + cell / 2)
        if mark in MOVES:
            dx, dy = MOVES[mark][0] * 0.34 * cell, MOVES[mark][1] * 0.34 * cell
            canvas.arrow((centre[0] - dx, centre[1] - dy), (centre[0] + dx, centre[1] + dy), INK, 1.5, cell / 4)
        else:
            canvas.text(centre, mark, 0.6 * cell, fill=COLOURS["red"])
    facts = (
        f"From the green square the arrows lead {', '.join(name for _, name in way)}.",
        f"After {counted(wanted, 'step')} they come to the letter {letters[0]}.",
    )
    question = "Start in the green square and follow the arrows, one square each. Which letter do they lead to?"
    parts = ({"side": side, "start": start, "cell": cell, "corner": corner, "field": field},)
    return Plan(canvas, question, letters[0], facts, parts)
