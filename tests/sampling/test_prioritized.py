"""Draws against the exact distribution, weights against the formulas."""

import math

import numpy as np
import pytest

from kimi_plugins.sampling.prioritized import SuccessRates, draw, next_linked, whole_sets

# The 99.9 % quantile of the chi-square distribution by degrees of freedom.
CHI_SQUARE = {4: 18.47, 5: 20.52, 7: 24.32}


def assert_drawn_from(counts, expected):
    statistic = ((np.array(counts) - expected) ** 2 / expected).sum()
    assert statistic < CHI_SQUARE[len(expected) - 1]


def rates(success):
    known = SuccessRates(len(success), ema_decay=0.0)
    for row, value in enumerate(success):
        if value is not None:
            known.observe(row, value, step=1)
    return known


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule, formula",
    [("uniform", lambda s: 1.0), ("failure", lambda s: 1 - s), ("gradient", lambda s: 4 * s * (1 - s))],
)
def test_the_distribution_is_exact(rule, formula):
    success = [0.0, 0.125, 0.5, 0.875, 1.0, None, 0.3, 0.9]
    known, min_weight = rates(success), 0.05
    weights = np.array([min_weight + (1 - min_weight) * (1.0 if s is None else formula(s)) for s in success])

    def weigh(rows):
        return known.weights(rows, 1, rule=rule, min_weight=min_weight, half_life=math.inf)

    np.testing.assert_allclose(weigh(np.arange(8)), weights, rtol=1e-6)
    for low, high in ((0, 8), (2, 7)):
        rng = np.random.default_rng(5)
        counts = np.bincount([draw(rng, low, high, 1, weigh)[0] for _ in range(20_000)], minlength=8)
        expected = weights[low:high] / weights[low:high].sum() * 20_000
        assert counts.sum() == counts[low:high].sum()
        assert_drawn_from(counts[low:high], expected)


def test_one_after_the_other_without_replacement():
    """The second of two draws follows the weights of those left."""
    weights = np.array([1.0, 0.5, 0.25])
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    expected = [weights[i] / 1.75 * weights[j] / (1.75 - weights[i]) for i, j in pairs]
    rng = np.random.default_rng(3)
    drawn = [tuple(draw(rng, 0, 3, 2, lambda rows: weights[rows])) for _ in range(20_000)]
    counts = [drawn.count(pair) for pair in pairs]
    assert sum(counts) == 20_000
    assert_drawn_from(counts, np.array(expected) * 20_000)


def test_more_than_there_are():
    drawn = draw(np.random.default_rng(0), 10, 13, 8, lambda rows: np.full(len(rows), 0.1))
    assert sorted(drawn[:3]) == sorted(drawn[3:6]) == [10, 11, 12]
    assert len(set(drawn[6:])) == 2


def test_success_rates_are_moving_averages_and_the_first_one_sets_them():
    known = SuccessRates(2, ema_decay=0.75)
    known.observe(1, 0.5, step=3)
    assert known.success[1] == 0.5 and np.isnan(known.success[0])
    known.observe(1, 1.0, step=9)
    assert known.success[1] == 0.75 * 0.5 + 0.25 * 1.0
    assert known.seen.tolist() == [0, 9]


def test_what_is_known_is_forgotten_with_age():
    known = rates([1.0, 0.0])
    rows = np.array([0, 1])
    weights = [known.weights(rows, step, rule="failure", min_weight=0.1, half_life=10)[0] for step in (1, 11, 21)]
    np.testing.assert_allclose(weights, [0.1, 0.1 + 0.9 * 0.5, 0.1 + 0.9 * 0.75])
    assert known.weights(rows, 21, rule="failure", min_weight=0.1, half_life=10)[1] == 1.0


@pytest.mark.parametrize("success", [0.0, 1.0])
def test_none_starves_when_all_are_solved_or_none(success):
    known = rates([success] * 50)
    for rule in ("failure", "gradient"):
        rng = np.random.default_rng(0)
        drawn = [
            place
            for _ in range(100)
            for place in draw(
                rng,
                0,
                50,
                10,
                lambda rows, rule=rule: known.weights(rows, 1, rule=rule, min_weight=0.1, half_life=math.inf),
            )
        ]
        assert np.bincount(drawn, minlength=50).min() > 5


@pytest.mark.parametrize("success", [-0.1, 1.1, math.nan])
def test_a_success_rate_that_is_none(success):
    with pytest.raises(ValueError, match="prompt 1 has the success rate"):
        SuccessRates(2, ema_decay=0.5).observe(1, success, step=1)


def test_an_unknown_rule():
    with pytest.raises(ValueError, match="choose one of uniform, failure, gradient"):
        rates([0.5]).weights(np.array([0]), 1, rule="hardest", min_weight=0.1, half_life=1)


def test_bytes_a_prompt():
    known = SuccessRates(100_000, ema_decay=0.5)
    assert known.success.nbytes + known.seen.nbytes == 8 * 100_000


def test_every_row_names_the_next_with_its_value():
    linked = next_linked(["a", None, "b", "a", None, "a", "b", "c"])
    assert linked.tolist() == [3, 1, 6, 5, 4, 0, 2, 7]


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([0, 4, 2, 6], [0, 1, 4, 5]),  # a drawn row brings what is linked to it
        ([1, 0, 4, 2], [1, 0, 4, 5]),
        ([8, 0, 9, 2], [8, 0, 1, 9]),  # 8 and 9 have none
        ([8, 0, 2, 4], [8, 0, 1, 0]),  # no two fit into the last place: one comes again
        ([0, 0, 0, 0], [0, 1, 0, 1]),  # fewer rows than places
    ],
)
def test_rows_come_with_those_linked_to_them(rows, expected):
    linked = next_linked([n // 2 if n < 8 else None for n in range(10)])
    assert whole_sets(rows, linked, 4) == expected
