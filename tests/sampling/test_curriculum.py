import math

import numpy as np
import pytest

from kimi_plugins.sampling.curriculum import difficulties, easy_to_hard, window

DEFAULTS = {"curriculum_steps": 100, "stages": 4, "hard_from": 24, "hard_share": 0.5}


@pytest.mark.parametrize(
    "schedule, step, expected",
    [
        ("none", 1, (0, 1000)),
        ("stages", 1, (0, 250)),
        ("stages", 25, (0, 250)),
        ("stages", 26, (0, 500)),
        ("stages", 76, (0, 1000)),
        ("stages", 10_000, (0, 1000)),
        ("continuous", 1, (0, 250)),
        ("continuous", 51, (0, 625)),
        ("continuous", 101, (0, 1000)),
        ("continuous", 10_000, (0, 1000)),
        ("hard_after", 23, (0, 1000)),
        ("hard_after", 24, (500, 1000)),
    ],
)
def test_the_window_at_a_step(schedule, step, expected):
    assert window(step, 1000, schedule=schedule, **DEFAULTS) == expected


@pytest.mark.parametrize("schedule", ["none", "stages", "continuous", "hard_after"])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_window_is_never_empty(schedule, n):
    for step in range(1, 130):
        low, high = window(step, n, schedule=schedule, **DEFAULTS)
        assert 0 <= low < high <= n


def test_an_unknown_schedule():
    with pytest.raises(ValueError, match="choose one of none, stages"):
        window(1, 10, schedule="random", **DEFAULTS)


def test_order_from_easy_to_hard_and_ties_by_lot():
    difficulty = np.array([3.0, 1.0, 2.0, 1.0, 2.0] * 20)
    order = easy_to_hard(difficulty, seed=1)
    assert sorted(order.tolist()) == list(range(100))
    assert np.all(np.diff(difficulty[order]) >= 0)
    assert order[:40].tolist() != sorted(order[:40].tolist())
    assert np.array_equal(order, easy_to_hard(difficulty, seed=1))
    assert not np.array_equal(order, easy_to_hard(difficulty, seed=2))


def test_a_pass_rate_is_an_easiness():
    assert difficulties([0.1, "0.9", 1], "rate", harder="lower").tolist() == [-0.1, -0.9, -1.0]
    assert difficulties([1, "5", 2.5], "grade", harder="higher").tolist() == [1.0, 5.0, 2.5]


def test_a_grade_label_holds_one_number():
    labels = ["Level 5", "grade 2.5", "level-1", "7th grade"]
    assert difficulties(labels, "level", harder="higher").tolist() == [5.0, 2.5, 1.0, 7.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "hard", "grades 5 to 6", "", [1]])
def test_what_is_no_difficulty_is_named_with_its_row(value):
    with pytest.raises(ValueError, match="column 'level', row 2: .* is not a difficulty"):
        difficulties([1, value, 3], "level", harder="higher")


@pytest.mark.parametrize("values", [[2, 2, 2], []])
def test_a_column_without_an_order(values):
    with pytest.raises(ValueError, match="equally difficult"):
        difficulties(values, "level", harder="higher")
