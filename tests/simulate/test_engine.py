"""The event-driven engine against one that is stepped in small slices of time."""

import random

import pytest

from kimi_plugins.simulate.engine import Engine, Speed

SPEED = Speed([(1, 10), (4, 32), (8, 40)], prefill=100, max_running=6)


def in_small_slices(arrivals, slice_seconds=1e-3):
    """{request: when it ended}; arrivals: (when, prompt, tokens, request)."""
    now, running, waiting, ends, arrivals = 0.0, {}, [], {}, sorted(arrivals)
    blocked = 0.0  # until then prefill holds everything up
    while arrivals or running or waiting:
        while arrivals and arrivals[0][0] <= now:
            waiting.append(arrivals.pop(0))
        while waiting and len(running) < SPEED.max_running:
            _, prompt, tokens, request = waiting.pop(0)
            blocked = max(blocked, now) + prompt / SPEED.prefill
            running[request] = tokens
        if running and now >= blocked:
            each = SPEED.decode_rate(len(running)) / len(running) * slice_seconds
            for request in list(running):
                running[request] -= each
                if running[request] <= 0:
                    del running[request]
                    ends[request] = now
        now += slice_seconds
    return ends


def _pop(engine, ends):
    end, request = engine.pop()
    ends[request] = end


@pytest.mark.parametrize("seed", range(5))
def test_against_small_slices(seed):
    rng = random.Random(seed)
    arrivals = [(rng.uniform(0, 5), rng.randint(0, 20), rng.randint(1, 60), n) for n in range(25)]
    engine, ends = Engine(SPEED), {}
    for when, prompt, tokens, request in sorted(arrivals):
        while engine.next_event() is not None and engine.next_event() <= when:
            _pop(engine, ends)
        engine.submit(when, prompt, tokens, request)
    while engine.next_event() is not None:
        _pop(engine, ends)
    expected = in_small_slices(arrivals)
    assert ends.keys() == expected.keys()
    for request, end in expected.items():
        # Of two that end in one slice, the second here waits for the prefill of who follows the first: ≤ 0.2 s.
        assert ends[request] == pytest.approx(end, rel=0.01, abs=0.2)
    assert engine.generated == pytest.approx(sum(tokens for _, _, tokens, _ in arrivals))
    assert len(engine) == 0


@pytest.mark.parametrize("running, rate", [(1, 10), (2, 10 + 22 / 3), (4, 32), (6, 36), (8, 40), (100, 40)])
def test_decode_rate_between_and_beyond_the_points(running, rate):
    assert SPEED.decode_rate(running) == pytest.approx(rate)
    assert Speed([(4, 32)], 1, 1).decode_rate(2) == 16


@pytest.mark.parametrize(
    "decode, prefill, max_running",
    [([], 1, 1), ([(0, 5)], 1, 1), ([(2, 5), (1, 6)], 1, 1), ([(1, 0)], 1, 1), ([(1, 5)], 0, 1), ([(1, 5)], 1, 0)],
)
def test_speeds_that_make_no_sense(decode, prefill, max_running):
    with pytest.raises(ValueError):
        Speed(decode, prefill, max_running)
