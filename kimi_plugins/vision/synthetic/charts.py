"""Bar, line and pie charts and tables: read, compare, add up, extrapolate."""

from random import Random

from kimi_plugins.vision.synthetic.drawing import COLOURS, GREY, INK, PAPER, Canvas
from kimi_plugins.vision.synthetic.scene import Plan, between, listed

NAMES = ("Ash", "Bay", "Cow", "Dot", "Elm", "Fig", "Gum", "Hut", "Ink", "Jam", "Kit", "Log")
TICKS = 5


class _Axes:
    """A plot area with a scale from 0 to `top` in TICKS steps, whose lines are drawn and labelled."""

    def __init__(self, canvas: Canvas, top: int) -> None:
        self.canvas, self.top, size = canvas, top, canvas.size
        self.left, self.right = round(0.13 * size), round(0.97 * size)
        self.high, self.low = round(0.06 * size), round(0.86 * size)
        for tick in range(TICKS + 1):
            value = top * tick // TICKS
            y = self.y(value)
            canvas.line([(self.left, y), (self.right, y)], GREY, 0.5)
            canvas.text((self.left - size / 60, y), str(value), size / 22, "rm")

    def y(self, value: float) -> float:
        return self.low - (self.low - self.high) * value / self.top

    def name(self, x: float, text: str) -> None:
        self.canvas.text((x, self.low + self.canvas.size / 20), text, self.canvas.size / 22)


def bars(rng: Random, difficulty: float, size: int) -> Plan:
    """Read a bar, compare or add two, count those above a line. Harder: more bars, and values between the lines."""
    count = between(3, 7, difficulty)
    top = rng.choice((50, 100, 200))
    step = top // TICKS if difficulty < 0.3 else top // TICKS // 2
    values = [step * rng.randint(1, top // step) for _ in range(count)]
    names = rng.sample(NAMES, count)
    colours = rng.choices([colour for colour in COLOURS if colour != "black"], k=count)
    canvas = Canvas(size)
    axes = _Axes(canvas, top)
    pitch = (axes.right - axes.left) / count
    parts = []
    for n, value in enumerate(values):
        x = axes.left + (n + 0.5) * pitch
        box = (x - 0.33 * pitch, axes.y(value)), (x + 0.33 * pitch, axes.low)
        canvas.rectangle(*box, COLOURS[colours[n]])
        axes.name(x, names[n])
        parts.append({"name": names[n], "value": value, "colour": colours[n], "box": box, "low": axes.low, "top": top})
        parts[-1]["high"] = axes.high
    canvas.line([(axes.left, axes.low), (axes.right, axes.low)], INK, 1)
    question, answer, facts = _compared(rng, difficulty, names, values, "bar")
    return Plan(canvas, question, answer, facts, tuple(parts))


def _compared(rng: Random, difficulty: float, names: list[str], values: list[int], noun: str):
    """(question, answer, facts) on values by name."""
    asked = rng.choice(("read", "difference", "sum", "range", "above")[: between(2, 5, difficulty)])
    a, b = rng.sample(range(len(values)), 2)
    read = f"The values are {listed([f'{name} {value}' for name, value in zip(names, values, strict=True)])}."
    if asked == "read":
        return f"What is the value of {names[a]}?", str(values[a]), (f"The value of {names[a]} is {values[a]}.",)
    if asked == "difference":
        a, b = (a, b) if values[a] >= values[b] else (b, a)
        facts: tuple[str, ...] = (
            f"The value of {names[a]} is {values[a]}, that of {names[b]} is {values[b]}.",
            f"The difference is {values[a]} - {values[b]} = {values[a] - values[b]}.",
        )
        return f"By how much do {names[a]} and {names[b]} differ?", str(values[a] - values[b]), facts
    if asked == "sum":
        total = sum(values)
        return (
            "What do all the values add up to?",
            str(total),
            (read, f"{' + '.join(map(str, values))} = {total}."),
        )
    if asked == "range":
        low, high = min(values), max(values)
        facts = (read, f"The largest is {high}, the smallest {low}.", f"{high} - {low} = {high - low}.")
        return "What is the largest value less the smallest?", str(high - low), facts
    limit = values[a]
    above = [name for name, value in zip(names, values, strict=True) if value > limit]
    facts = (
        read,
        f"{names[a]} has {limit}; greater are {listed(above) if above else 'none'}.",
        f"The number of them is {len(above)}.",
    )
    return f"How many {noun}s have a greater value than {names[a]}?", str(len(above)), facts


def line(rng: Random, difficulty: float, size: int) -> Plan:
    """Read a point, find the greatest rise, or extend a straight line. Harder: more points, finer values."""
    count = between(4, 8, difficulty)
    first = rng.randint(2001, 2015)
    years = list(range(first, first + count))
    top = rng.choice((50, 100))
    asked = rng.choice(("read", "rise", "extrapolate") if difficulty >= 0.25 else ("read", "extrapolate"))
    step = top // TICKS if difficulty < 0.3 else top // TICKS // 2
    if asked == "extrapolate":
        slope = rng.choice((-1, 1)) * (top // 10 if count <= 8 else top // 20)
        room = abs(slope) * (count - 1)
        low = (top // 10) * rng.randint(0, (top - room) // (top // 10))
        values = [low + abs(slope) * n for n in range(count)]
        values = values if slope > 0 else values[::-1]
        ahead = rng.randint(1, between(1, 4, difficulty))
        if values[-1] + slope * ahead < 0:
            slope, values = -slope, values[::-1]
        answer = values[-1] + slope * ahead
        question = f"If the line goes on as it is, what is the value in {years[-1] + ahead}?"
        facts: tuple[str, ...] = (
            f"The value is {values[0]} in {years[0]} and {values[-1]} in {years[-1]}.",
            f"It changes by {slope} every year.",
            f"{values[-1]} {'+' if slope > 0 else '-'} {ahead} × {abs(slope)} = {answer}.",
        )
    else:
        values = [step * rng.randint(0, top // step) for _ in range(count)]
        rises = [b - a for a, b in zip(values, values[1:], strict=False)]
        if asked == "rise":
            while sorted(rises)[-1] <= max(0, sorted(rises)[-2]):  # one rise, and one that is the greatest
                values = [step * rng.randint(0, top // step) for _ in range(count)]
                rises = [b - a for a, b in zip(values, values[1:], strict=False)]
            answer = years[rises.index(max(rises)) + 1]
            question = "In which year was the value furthest above that of the year before?"
            facts = (
                f"The values are {listed([f'{value} in {year}' for year, value in zip(years, values, strict=True)])}.",
                f"The greatest rise is {max(rises)}, to the year {answer}.",
            )
        else:
            place = rng.randrange(count)
            answer = values[place]
            question = f"What is the value in {years[place]}?"
            facts = (f"The value in {years[place]} is {answer}.",)
    canvas = Canvas(size)
    axes = _Axes(canvas, top)
    pitch = (axes.right - axes.left) / count
    points = [(axes.left + (n + 0.5) * pitch, axes.y(value)) for n, value in enumerate(values)]
    colour = rng.choice(("red", "blue", "green", "purple"))
    canvas.line(points, COLOURS[colour], 1.5)
    for point, year in zip(points, years, strict=True):
        canvas.circle(point, size / 60, COLOURS[colour])
        axes.name(point[0], str(year) if count <= 6 else f"'{year % 100:02d}")
    parts = {"points": points, "values": values, "years": years, "colour": colour, "asked": asked}
    parts |= {"low": axes.low, "high": axes.high, "top": top}
    return Plan(canvas, question, str(answer), facts, (parts,))


def pie(rng: Random, difficulty: float, size: int) -> Plan:
    """The missing share, the difference of two, or a share of a total. Harder: more sectors."""
    count = between(3, 6, difficulty)
    cuts = sorted(rng.sample(range(1, 20 - count), count - 1))
    units = [b - a + 1 for a, b in zip([-1, *cuts], [*cuts, 20 - count], strict=True)]
    units[-1] += 20 - sum(units)
    shares = [5 * unit for unit in units]
    rng.shuffle(shares)
    names = rng.sample(NAMES, count)
    colours = rng.sample([colour for colour in COLOURS if colour != "black"], count)
    asked = rng.choice(("missing", "difference", "total") if difficulty >= 0.3 else ("missing", "difference"))
    place, other = rng.sample(range(count), 2)
    labels = [f"{share}%" for share in shares]
    known = " - ".join(str(share) for n, share in enumerate(shares) if n != place)
    if asked == "missing":
        labels[place] = "?"
        answer = shares[place]
        question = f"What share of the whole is {names[place]}, in percent?"
        facts = ("All shares add up to 100 percent.", f"{names[place]} has 100 - {known} = {answer} percent.")
    elif asked == "difference":
        a, b = max(shares[place], shares[other]), min(shares[place], shares[other])
        answer = a - b
        question = f"By how many percentage points do {names[place]} and {names[other]} differ?"
        facts = (
            f"{names[place]} has {shares[place]} percent and {names[other]} {shares[other]} percent.",
            f"{a} - {b} = {answer}.",
        )
    else:
        total = 20 * rng.randint(2, between(5, 40, difficulty))
        answer = total * shares[place] // 100
        question = f"The whole is {total}. How much of it is {names[place]}?"
        facts = (
            f"{names[place]} has {shares[place]} percent.",
            f"{shares[place]} percent of {total} is {total} × {shares[place]} / 100 = {answer}.",
        )
    canvas = Canvas(size)
    centre, radius, angle = (0.34 * size, 0.5 * size), 0.31 * size, rng.uniform(0, 360)
    parts = []
    for n, share in enumerate(shares):
        canvas.slice(centre, radius, angle, angle + 3.6 * share, COLOURS[colours[n]])
        angle += 3.6 * share
        y = 0.5 * size + (n - (count - 1) / 2) * size / 9
        canvas.rectangle((0.7 * size, y - size / 50), (0.7 * size + size / 25, y + size / 50), COLOURS[colours[n]])
        canvas.text((0.76 * size, y), f"{names[n]} {labels[n]}", size / 22, "lm")
        parts.append({"name": names[n], "share": shares[n], "colour": colours[n], "centre": centre, "radius": radius})
    return Plan(canvas, question, str(answer), facts, tuple(parts))


HEADS = ("red", "tall", "new", "old", "wet", "cold")


def table(rng: Random, difficulty: float, size: int) -> Plan:
    """Read a cell, add up a column, compare two cells, find the greatest of a column. Harder: more cells, digits."""
    rows, columns = between(3, 7, difficulty), between(2, 4, difficulty)
    names, heads = rng.sample(NAMES, rows), rng.sample(HEADS, columns)
    values = [[rng.randint(1, between(9, 99, difficulty)) for _ in range(columns)] for _ in range(rows)]
    asked = rng.choice(("read", "sum", "difference", "most")[: between(2, 4, difficulty)])
    row, other = rng.sample(range(rows), 2)
    column = rng.randrange(columns)
    along = [line[column] for line in values]
    if asked == "most":
        while along.count(max(along)) > 1:
            values[along.index(max(along))][column] += 1
            along = [line[column] for line in values]
    head = heads[column]
    if asked == "read":
        question, answer = f"What is the entry of {names[row]} under '{head}'?", str(values[row][column])
        facts: tuple[str, ...] = (f"The row {names[row]} has {answer} in the column '{head}'.",)
    elif asked == "sum":
        question, answer = f"What do the entries under '{head}' add up to?", str(sum(along))
        facts = (
            f"The entries under '{head}' are {listed([str(value) for value in along])}.",
            f"{' + '.join(map(str, along))} = {answer}.",
        )
    elif asked == "difference":
        a, b = along[row], along[other]
        question = f"By how much do {names[row]} and {names[other]} differ under '{head}'?"
        answer = str(abs(a - b))
        facts = (
            f"Under '{head}', {names[row]} has {a} and {names[other]} has {b}.",
            f"{max(a, b)} - {min(a, b)} = {answer}.",
        )
    else:
        question = f"Who has the greatest entry under '{head}'?"
        answer = names[along.index(max(along))]
        facts = (
            f"The entries under '{head}' are {listed([f'{n} {v}' for n, v in zip(names, along, strict=True)])}.",
            f"The greatest is {max(along)}, of {answer}.",
        )
    canvas = Canvas(size)
    width, height = 0.92 * size / (columns + 1), min(0.92 * size / (rows + 1), size / 8)
    left, high = (size - (columns + 1) * width) / 2, (size - (rows + 1) * height) / 2
    cells = [["", *heads]] + [[name, *map(str, line)] for name, line in zip(names, values, strict=True)]
    parts = []
    for y, texts in enumerate(cells):
        for x, text in enumerate(texts):
            low = (left + x * width, high + y * height)
            box = low, (low[0] + width, low[1] + height)
            canvas.rectangle(*box, (230, 230, 230) if x == 0 or y == 0 else PAPER, INK, 0.5)
            canvas.text(((box[0][0] + box[1][0]) / 2, (box[0][1] + box[1][1]) / 2), text, size / 20)
            parts.append({"row": y, "column": x, "text": text, "box": box})
    return Plan(canvas, question, answer, facts, tuple(parts))
