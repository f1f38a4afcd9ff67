"""The answers of procedural scenes, found again from the picture or by another method than the generator's."""

import re
from collections import deque
from itertools import product
from math import acos, degrees, dist

import numpy as np
import pytest
from pixels import centroid, coloured_shapes, near

from kimi_plugins.vision.synthetic import TASKS, generate, identity
from kimi_plugins.vision.synthetic.drawing import outline

pytestmark = pytest.mark.slow

HARDNESS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = 8


def scenes(task, seeds=SEEDS):
    cases = enumerate(list(HARDNESS) * seeds)
    return [generate(task, seed=7, index=n, difficulty=difficulty) for n, difficulty in cases]


def contents(seed, difficulty, count):
    """The digests of scenes of every task."""
    return {
        task: [identity(generate(task, seed=seed, index=n, difficulty=difficulty)) for n in range(count)]
        for task in TASKS
    }


@pytest.mark.parametrize("difficulty", [0.0, 0.6])
def test_no_scene_of_one_seed_is_among_those_of_another(difficulty):
    training, held_out = contents(1, difficulty, 40), contents(2, difficulty, 40)
    for task in TASKS:
        assert not set(training[task]) & set(held_out[task]), task


def test_seeds_far_apart_and_other_sizes_and_looks_share_nothing():
    train = {identity(generate("areas", seed=3, index=n, difficulty=0)) for n in range(80)}
    held = {identity(generate("areas", seed=1001, index=n, difficulty=0, size=300)) for n in range(80)}
    assert train and held and not train & held


@pytest.mark.parametrize("task", TASKS)
def test_no_answer_stands_in_its_question(task):
    for scene in scenes(task, 20):
        assert scene.answer not in re.findall(r"\w+", scene.question)


def test_looks_vary_and_keep_the_contents():
    made = [generate("bars", seed=1, index=n) for n in range(40)]
    assert len({scene.image.getpixel((0, 0)) for scene in made}) >= 3


def test_a_diamond_is_no_square():
    corners = outline("diamond", (0, 0), 10)
    width, height = (max(p[axis] for p in corners) - min(p[axis] for p in corners) for axis in (0, 1))
    assert width < 0.7 * height


def test_a_maze_shows_its_squares():
    scene = generate("maze", seed=1, index=0, difficulty=1)
    [part] = scene.parts
    grey = np.asarray(scene.image.convert("L"), dtype=int)
    middle = [round(part["corner"] + (n + 0.5) * part["cell"]) for n in range(part["side"])]
    for n in range(1, part["side"]):
        at = round(part["corner"] + n * part["cell"])
        assert (grey[middle, at - 2 : at + 3].min(axis=1) < 240).all()


def number(text):
    return int(re.search(r"-?\d+", text)[0])


@pytest.mark.parametrize("task", TASKS)
def test_a_scene_is_the_same_for_the_same_seed_and_else_another(task):
    first = generate(task, seed=3, index=5)
    again = generate(task, seed=3, index=5)
    assert first[1:] == again[1:] and first.image.tobytes() == again.image.tobytes()
    others = [generate(task, seed=seed, index=index) for seed, index in ((3, 6), (4, 5), (4, 6))]
    assert all(other.image.tobytes() != first.image.tobytes() for other in others)


@pytest.mark.parametrize("task", TASKS)
def test_every_scene_is_rgb_of_the_size_asked_and_its_facts_end_in_the_answer(task):
    for size, difficulty, index in product((112, 224, 500), (0, 1), range(4)):
        scene = generate(task, seed=1, index=index, difficulty=difficulty, size=size)
        assert scene.image.mode == "RGB" and scene.image.size == (size, size)
        assert scene.question.strip() and scene.answer in scene.facts[-1]
        edge = np.concatenate([np.asarray(scene.image)[i] for i in (0, -1)])
        assert (edge > 100).all(), "something is cut off"


@pytest.mark.parametrize("task", TASKS)
def test_answers_vary_so_that_no_guess_pays(task):
    answers = [scene.answer for scene in scenes(task, 40)]
    assert max(map(answers.count, set(answers))) <= 0.35 * len(answers)


@pytest.mark.parametrize(
    "changed, text",
    [
        ({"task": "colours"}, "task 'colours' is unknown; choose of counting"),
        ({"difficulty": 1.5}, "difficulty is 1.5"),
        ({"size": 50}, "size is 50"),
    ],
)
def test_wrong_arguments_are_refused(changed, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        generate(**{"task": "counting", "seed": 1, "index": 1} | changed)


def test_counting_by_connected_pixels():
    for scene in scenes("counting"):
        found = coloured_shapes(scene.image)
        assert len(found) == len(scene.parts)
        noun = re.match(r"How many (.+)s are there", scene.question)[1]
        words = noun.split()
        hits = [1 for colour, shape, _ in found if all(word in (colour, shape, "shape") for word in words)]
        assert len(hits) == int(scene.answer), scene.question


def test_spatial_by_connected_pixels():
    keys = {"left": lambda at: at[0], "right": lambda at: -at[0], "top": lambda at: at[1], "bottom": lambda at: -at[1]}
    ordinals = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"]
    kinds = set()
    for scene in scenes("spatial"):
        found = {f"{colour} {shape}": at for colour, shape, at in coloured_shapes(scene.image)}
        assert len(found) == len(scene.parts)
        question = scene.question
        if match := re.match(r"Going from (\w+) to \w+, which shape is the (\w+)", question):
            kinds.add("order")
            expected = sorted(found, key=lambda name: keys[match[1]](found[name]))[ordinals.index(match[2])]
        elif match := re.match(r"How many shapes lie (.+) the (\w+ \w+), seen", question):
            kinds.add("side")
            direction = {"to the left of": "left", "to the right of": "right", "above": "top", "below": "bottom"}
            key = keys[direction[match[1]]]
            expected = str(sum(key(at) < key(found[match[2]]) for name, at in found.items() if name != match[2]))
        else:
            target = re.match(r"Which shape is nearest to the (.+), from", question)[1]
            if target not in found:
                kinds.add("two steps")
                words = {"leftmost": "left", "rightmost": "right", "topmost": "top", "lowest": "bottom"}
                target = min(found, key=lambda name: keys[words[target.split()[0]]](found[name]))
            others = [name for name in found if name != target]
            expected = min(others, key=lambda name: dist(found[name], found[target]))
        assert scene.answer == expected, question
    assert kinds == {"order", "side", "two steps"}


def angle(corners, n):
    a, b, c = (np.array(corners[(n + k) % 3]) for k in (-1, 0, 1))
    return degrees(acos((a - b) @ (c - b) / np.linalg.norm(a - b) / np.linalg.norm(c - b)))


def test_angles_measured_in_the_figure():
    for scene in scenes("angles"):
        [part] = scene.parts
        corners, labels = part["corners"], part["labels"]
        for n, label in enumerate(labels):
            if label.endswith("°"):
                assert angle(corners, n) == pytest.approx(number(label), abs=1e-6)
        if part["kind"] == "outer":
            assert 180 - angle(corners, 1) == pytest.approx(int(scene.answer))
        else:
            assert angle(corners, labels.index("?")) == pytest.approx(int(scene.answer))


def area(corners):
    return abs(sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(corners, corners[1:] + corners[:1], strict=True))) / 2


def test_areas_measured_in_the_figure_and_in_pixels():
    for scene in scenes("areas"):
        [part] = scene.parts
        corners = part["corners"]
        scales = [length / dist(corners[a], corners[b]) for (a, b), length in part["sides"].items()]
        assert scales == pytest.approx([scales[0]] * len(scales))  # drawn to scale
        assert area(corners) * scales[0] ** 2 == pytest.approx(int(scene.answer))
        inside = near(scene.image, (214, 228, 245)).sum()
        assert inside * scales[0] ** 2 == pytest.approx(int(scene.answer), rel=0.15)  # less the outline


def test_similar_triangles_measured():
    for scene in scenes("similar"):
        small, large = scene.parts
        ratio = dist(*large["corners"][:2]) / dist(*small["corners"][:2])
        assert small["labels"][0] * ratio == pytest.approx(large["labels"][0])
        assert small["labels"][1] * ratio == pytest.approx(int(scene.answer))
        scale = small["labels"][0] / dist(*small["corners"][:2])
        assert scale * dist(large["corners"][0], large["corners"][2]) == pytest.approx(int(scene.answer))


def answer_of_comparison(question, values):
    if match := re.match(r"What is the value of (\w+)", question):
        return values[match[1]]
    if match := re.match(r"By how much do (\w+) and (\w+) differ", question):
        return abs(values[match[1]] - values[match[2]])
    if "add up" in question:
        return sum(values.values())
    if "largest value less" in question:
        return max(values.values()) - min(values.values())
    name = re.search(r"greater value than (\w+)", question)[1]
    return sum(value > values[name] for value in values.values())


def test_bars_by_their_height_in_pixels():
    for scene in scenes("bars"):
        values = {}
        for part in scene.parts:
            (left, _), (right, _) = part["box"]
            column = near(scene.image, part["colour"])[:, round((left + right) / 2)]
            height = column[: part["low"]].sum()
            step = part["top"] / 10
            measured = height / (part["low"] - part["high"]) * part["top"]
            values[part["name"]] = round(measured / step) * step
            assert values[part["name"]] == pytest.approx(measured, abs=0.2 * step)
        assert answer_of_comparison(scene.question, values) == int(scene.answer), scene.question


def test_lines_by_their_points():
    seen = set()
    for scene in scenes("line"):
        [part] = scene.parts
        values = {}
        for year, (x, y) in zip(part["years"], part["points"], strict=True):
            assert near(scene.image, part["colour"])[round(y), round(x)]
            values[year] = round((part["low"] - y) / (part["low"] - part["high"]) * part["top"])
        seen.add(part["asked"])
        if part["asked"] == "extrapolate":
            slope, start = np.polyfit(list(values), list(values.values()), 1)
            expected = slope * number(scene.question) + start
        elif part["asked"] == "rise":
            expected = max(list(values)[1:], key=lambda year: values[year] - values[year - 1])
        else:
            expected = values[number(scene.question)]
        assert int(scene.answer) == pytest.approx(expected, abs=1e-6), scene.question
    assert seen == {"read", "rise", "extrapolate"}


def test_pies_by_their_share_of_pixels():
    for scene in scenes("pie"):
        shares = {}
        size = scene.image.size[0]
        for part in scene.parts:
            y, x = np.mgrid[:size, :size] + 0.5
            disc = (x - part["centre"][0]) ** 2 + (y - part["centre"][1]) ** 2 < (0.97 * part["radius"]) ** 2
            shares[part["name"]] = (near(scene.image, part["colour"]) & disc).sum()
        whole = sum(shares.values())
        exact = {name: 100 * pixels / whole for name, pixels in shares.items()}
        shares = {name: 5 * round(share / 5) for name, share in exact.items()}
        assert sum(shares.values()) == 100 and all(abs(shares[name] - exact[name]) < 2.2 for name in shares)
        if match := re.match(r"What share of the whole is (\w+)", scene.question):
            expected = shares[match[1]]
        elif match := re.match(r"By how many percentage points do (\w+) and (\w+)", scene.question):
            expected = abs(shares[match[1]] - shares[match[2]])
        else:
            match = re.match(r"The whole is (\d+). How much of it is (\w+)", scene.question)
            expected = int(match[1]) * shares[match[2]] / 100
        assert int(scene.answer) == expected


def test_tables_by_their_cells():
    for scene in scenes("table"):
        cells = {(part["row"], part["column"]): part["text"] for part in scene.parts}
        dark = np.asarray(scene.image.convert("L")) < 120
        for part in scene.parts:
            (x0, y0), (x1, y1) = part["box"]
            inside = dark[round(y0) + 2 : round(y1) - 2, round(x0) + 2 : round(x1) - 2]
            assert inside.any() == bool(part["text"])
            assert not inside[:, [0, -1]].any()  # the text ends within the cell
        heads = {text: column for (row, column), text in cells.items() if row == 0 and text}
        rows = {text: row for (row, column), text in cells.items() if column == 0 and text}
        column = heads[re.search(r"'(\w+)'", scene.question)[1]]
        along = {name: int(cells[row, column]) for name, row in rows.items()}
        if match := re.match(r"What is the entry of (\w+)", scene.question):
            expected = along[match[1]]
        elif "add up" in scene.question:
            expected = sum(along.values())
        elif match := re.match(r"By how much do (\w+) and (\w+)", scene.question):
            expected = abs(along[match[1]] - along[match[2]])
        else:
            expected = max(along, key=along.get)
            assert list(along.values()).count(along[expected]) == 1
        assert scene.answer == str(expected)


def test_levers_balance():
    for scene in scenes("lever"):
        moments = [part["place"] * int(part["text"].replace("?", scene.answer)) for part in scene.parts]
        assert sum(moments) == 0
        blocks = near(scene.image, (255, 224, 178), 20)
        for part in scene.parts:
            (x0, y0), (x1, y1) = part["box"]
            assert blocks[round(y0) + 2, round(x0) + 2] and blocks[round(y1) - 3, round(x1) - 3]
            assert np.sign((x0 + x1) / 2 - scene.image.size[0] / 2) == np.sign(part["place"])


def test_gears_by_the_teeth_that_pass():
    kinds = set()
    for scene in scenes("gears"):
        teeth = {part["name"]: part["teeth"] for part in scene.parts}
        touching = list(zip(scene.parts, scene.parts[1:], strict=False))
        assert all(dist(a["centre"], b["centre"]) == pytest.approx(a["radius"] + b["radius"]) for a, b in touching)
        if match := re.search(r"If gear (\w) turns (\d+) times, how often does gear (\w) turn", scene.question):
            kinds.add("turns")
            names = list(teeth) if match[1] == "A" else list(teeth)[::-1]
            turns = float(match[2])
            for a, b in zip(names, names[1:], strict=False):  # through every gear between
                turns *= teeth[a] / teeth[b]
            assert turns == pytest.approx(int(scene.answer)) and names[-1] == match[3]
        else:
            kinds.add("clockwise")
            assert int(scene.answer) == len([name for n, name in enumerate(teeth) if n % 2 == 0])
    assert kinds == {"turns", "clockwise"}


def test_bounces_by_unfolding_the_walls():
    def unfolded(start, direction, steps, length):
        """Reflected motion is straight motion in a row of mirrored fields."""
        place = (start + direction * steps) % (2 * (length - 1))
        return min(place, 2 * (length - 1) - place)

    for scene in scenes("bounce"):
        [part] = scene.parts
        x, y = centroid(near(scene.image, "red"))
        seen = [int((at - corner) // part["cell"]) for at, corner in zip((x, y), part["corner"], strict=True)]
        assert tuple(seen) == part["start"]
        assert int(re.search(r"After (\d+) seconds", scene.question)[1]) == part["steps"]
        axis = ("column", "row").index(part["asked"])
        end = unfolded(seen[axis], part["direction"][axis], part["steps"], part["field"][axis])
        assert end + 1 == int(scene.answer)


def test_mazes_by_walls_in_the_picture():
    for scene in scenes("maze"):
        [part] = scene.parts
        side, cell, corner = part["side"], part["cell"], part["corner"]
        dark = np.asarray(scene.image.convert("L")) < 128
        cells = [
            tuple(int((at - corner) // cell) for at in centroid(near(scene.image, colour)))
            for colour in ("blue", "red")
        ]
        assert cells == [part["start"], part["goal"]]

        def wall(a, b, dark=dark, cell=cell, corner=corner):
            x, y = (round(corner + (p + q + 1) / 2 * cell) for p, q in zip(a, b, strict=True))
            return dark[y - 2 : y + 3, x - 2 : x + 3].sum() >= 5

        steps, queue = {cells[0]: 0}, deque([cells[0]])
        while queue:
            x, y = queue.popleft()
            for b in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
                if 0 <= min(b) and max(b) < side and b not in steps and not wall((x, y), b):
                    steps[b] = steps[x, y] + 1
                    queue.append(b)
        assert steps[cells[1]] == int(scene.answer)
        assert len(steps) == side * side  # every square can be reached


def test_arrows_by_their_heads():
    for scene in scenes("arrows"):
        [part] = scene.parts
        cell, corner = part["cell"], part["corner"]
        grey = np.asarray(scene.image.convert("L"))
        red, green = near(scene.image, "red", 100), near(scene.image, (200, 230, 200), 20)
        here = tuple(int((at - corner) // cell) for at in centroid(green))
        for _ in range(100):
            x, y = (round(corner + p * cell) for p in here)
            inside = slice(y + 2, y + round(cell) - 1), slice(x + 2, x + round(cell) - 1)
            if red[inside].sum() > 5:
                break
            ink = grey[inside] < 100
            ys, xs = np.nonzero(ink)
            # The head is heavier than the tail.
            across, down = xs.mean() - (xs.min() + xs.max()) / 2, ys.mean() - (ys.min() + ys.max()) / 2
            step = (np.sign(across), 0) if np.ptp(xs) > np.ptp(ys) else (0, np.sign(down))
            here = (here[0] + int(step[0]), here[1] + int(step[1]))
        assert part["field"][here] == scene.answer
