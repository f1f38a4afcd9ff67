"""What benchmarks/word_problems.py makes of the figures of its seeds."""

import pytest


@pytest.fixture
def word_problems(benchmark):
    return benchmark("word_problems")


def seed(number, **accuracy):
    first = next(iter(accuracy.values()))
    models = [
        {"name": name, "pass_at_1": value, "points_over_first": 100 * (value - first)}
        for name, value in accuracy.items()
    ]
    return {"seed": number, "models": models, "seconds": {"rl": 60 * number}}


def test_the_seeds_are_summed_up_by_what_each_of_them_has(word_problems):
    one = seed(1, warm_up=0.25, rl=0.5, sft_longer=0.375, sft_same_time=0.25)
    other = seed(2, warm_up=0.125, rl=0.25, sft_longer=0.25)
    assert word_problems.points(one) == {"rl": 25.0, "sft_longer": 12.5, "sft_same_time": 0.0}
    found = word_problems.aggregate([one, other])
    assert found["points_over_warm_up"] == {
        "rl": {"median": 18.75, "min": 12.5, "max": 25.0, "all": [25.0, 12.5]},
        "sft_longer": {"median": 12.5, "min": 12.5, "max": 12.5, "all": [12.5, 12.5]},
    }
    assert list(found["pass_at_1"]) == ["warm_up", "rl", "sft_longer"]
    assert found["seconds"]["rl"]["all"] == [60, 120]
    assert found["runs"] == [one, other]
