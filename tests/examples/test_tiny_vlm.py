"""The counting task of the tiny VLM: what is drawn, written and worked out is the same scene."""

import importlib.util
import json
import random
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny_vlm"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


squares, reward = load("squares"), load("reward")


def seen(image):
    """The scene, from the pixels: a cell has a square if anything in it is bright."""
    cells = range(squares.SIDE)
    corners = [[(squares.CELL * column, squares.CELL * row) for column in cells] for row in cells]
    boxes = [[(x, y, x + squares.CELL, y + squares.CELL) for x, y in row] for row in corners]
    return [[max(high for _, high in image.crop(box).getextrema()) >= 130 for box in row] for row in boxes]


def test_image_text_and_solution_show_the_scene():
    rng = random.Random(5)
    counts = set()
    for _ in range(200):
        scene = squares.scene(rng)
        assert seen(squares.drawn(scene, rng)) == scene
        assert [[cell == "#" for cell in line] for line in squares.written(scene).splitlines()] == scene
        terms, total = squares.worked(scene).split("=")
        assert sum(map(int, terms.split("+"))) == int(total) == squares.count(scene)
        counts.add(squares.count(scene))
    assert counts == set(range(1, squares.LARGEST + 1))


def test_rows_are_what_openrlhf_reads(tmp_path):
    rows = json.loads(json.dumps(list(squares.rows(40, 3, tmp_path))))
    assert {row["datasource"] for row in rows} == {"image", "text"}
    for row in rows:
        [message] = row["input"]
        assert message["content"].count("<image>") == len(row["images"]) == (row["datasource"] == "image")
        assert all(Path(path).is_file() for path in row["images"])
    assert rows == json.loads(json.dumps(list(squares.rows(40, 3, tmp_path))))


@pytest.mark.parametrize(
    "response, right, worked",
    [("6<eos>", 1, 0), ("2+0+1+3=6<eos>", 1, 1), ("2+0+1+3=7<eos>", 0, 1), ("6", 0, 0), ("<eos>", 0, 0)],
)
def test_reward(response, right, worked):
    graded = reward.reward_func(["p:" + response], ["p:"], ["6"])
    assert graded["rewards"].tolist() == graded["scores"].tolist() == [right]
    assert graded["extra_logs"]["worked"].tolist() == [worked]


def test_a_query_that_does_not_begin_with_its_prompt():
    with pytest.raises(ValueError, match="does not begin"):
        reward.reward_func(["q:6<eos>"], ["p:"], ["6"])
