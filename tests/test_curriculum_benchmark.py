"""What benchmarks/curriculum.py draws and reports."""

import pytest


@pytest.fixture
def curriculum(benchmark):
    return benchmark("curriculum")


def test_each_part_has_its_levels_in_order_and_shares_nothing_above_the_easiest(curriculum):
    parts = curriculum.problems_of(seed=3)
    for part, size in zip(parts, (curriculum.WARM_UP, curriculum.TRAINING, curriculum.HELD_OUT), strict=True):
        digits = [len(str(a)) for a, _ in part]
        assert digits == [level for level in curriculum.LEVELS for _ in range(size)]
        assert all(len(str(a)) == len(str(b)) for a, b in part)
    harder = [{problem for problem in part if problem[0] > 9} for part in parts]
    assert sum(map(len, harder)) == len(set.union(*harder))
    assert curriculum.problems_of(seed=3) == parts != curriculum.problems_of(seed=4)


def test_means_and_tokens_by_level(curriculum):
    assert curriculum.by_level([1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]) == [0.5, 0.0, 1.0, 0.0]
    scores = [[0.4, 0.0], [0.8, 0.2], [0.9, 0.6], [1.0, 0.4]]
    points = [{"tokens": 1000 * at, "pass_at_1": score} for at, score in enumerate(scores)]
    assert curriculum.tokens_to(0.5, points, -1) == 2000
    assert curriculum.tokens_to(0.7, points, -1) is None
    assert curriculum.final(points) == pytest.approx([0.95, 0.5])


def test_every_variant_draws_thirty_prompts_for_each_problem(curriculum):
    assert curriculum.GROUPS * curriculum.ITERATIONS == 30 * curriculum.TRAINING * len(curriculum.LEVELS)
