"""What benchmarks/off_policy.py chooses and reports, by hand on curves that are made up."""

import math

import pytest


@pytest.fixture
def off_policy(benchmark):
    return benchmark("off_policy")


def result(scores, *, form="rest", number=0.0, rate=1e-3, steps=16, start="fifth", seed=1):
    points = [{"tokens": 1000 * at, "pass_at_1": score, "drift": 1.0} for at, score in enumerate(scores)]
    job = {"form": form, "number": number, "learning_rate": rate, "steps": steps, "start": start, "seed": seed}
    job["iterations"] = 16
    return {"job": job, "points": points, "pass_at_8": 0.5}


def test_tokens_to_a_target_lie_between_the_points(off_policy):
    assert off_policy.tokens_to(result([0.2, 0.4, 0.8]), 0.5) == pytest.approx(1250)
    assert math.isinf(off_policy.tokens_to(result([0.2, 0.4]), 0.5))


def test_the_area_is_the_mean_under_the_curve(off_policy):
    assert off_policy.area(result([0.0, 0.4, 0.4])) == pytest.approx((0.2 + 0.4) / 2)


def test_a_run_that_loses_a_tenth_has_collapsed(off_policy):
    assert off_policy.collapsed(result([0.2, 0.6, 0.3, 0.3]))
    assert not off_policy.collapsed(result([0.2, 0.6, 0.58, 0.6]))


def test_settings_with_more_seeds_come_before_better_ones(off_policy):
    once = result([0.2, 0.9, 0.9], rate=3e-3)
    twice = [result([0.2, 0.5, 0.5], seed=seed) for seed in (1, 2)]
    assert off_policy.best_settings([once])[16, "fifth", 16, "rest"] == (0.0, 3e-3)
    assert off_policy.best_settings([once, *twice])[16, "fifth", 16, "rest"] == (0.0, 1e-3)
    assert [row["seeds"] for row in off_policy.summary([once, *twice])] == [[1, 2]]


def test_settings_can_come_from_another_regime(off_policy):
    results = [result([0.2, 0.5]), result([0.2, 0.3], rate=3e-3)]
    jobs = off_policy.confirm_jobs(["rest"], 64, "twentieth", [1, 2], results, (16, "fifth"), 96)
    assert [(job.steps, job.start, job.seed, job.learning_rate, job.iterations) for job in jobs] == [
        (64, "twentieth", 1, 1e-3, 96),
        (64, "twentieth", 2, 1e-3, 96),
    ]
    with pytest.raises(SystemExit, match="rest with 64 steps from twentieth"):
        off_policy.confirm_jobs(["rest"], 64, "twentieth", [1], results, None)


def test_the_search_tries_each_form_at_its_own_numbers(off_policy):
    jobs = off_policy.search_jobs(["mirror_descent", "dr_grpo", "rest"], 16, "fifth", 1, [1e-3], [0.1])
    assert [(job.form, job.number) for job in jobs] == [
        ("mirror_descent", 0.1),
        *(("dr_grpo", width) for width in off_policy.CLIP),
        ("rest", 0.0),
    ]
