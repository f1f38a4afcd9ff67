"""The schedules against closed forms, and against each other."""

import json
from dataclasses import replace
from functools import partial as given

import numpy as np
import pytest

from kimi_plugins.simulate import lengths
from kimi_plugins.simulate.engine import Speed
from kimi_plugins.simulate.schedules import Job, asynchronous, partial, synchronous

LONG_TAIL = given(lengths.log_normal, mean=100, p99_over_mean=6, longest=2000)


def constant(tokens):
    return lambda rng, size: np.full(size, float(tokens))


JOB = Job(
    speed=Speed([(1, 10), (64, 640)], prefill=1e9, max_running=64),  # every request writes 10 tokens a second
    engines=2,
    batch=8,
    k=4,
    prompt_tokens=20,
    train_rate=1000,
    sync_seconds=0.5,
    lengths=constant(50),
)


def test_equal_lengths_in_closed_form():
    result = synchronous(JOB, 5)
    assert result.generation_seconds == pytest.approx([5.0] * 5)
    assert result.step_seconds == pytest.approx([5.0 + 8 * 4 * 50 / 2000 + 0.5] * 5)
    assert result.staleness == [0.0] * 5 and result.trained_tokens == 5 * 8 * 4 * 50
    assert result.utilisation == pytest.approx(16 / 64)
    assert result.groups_per_second(8) == pytest.approx(8 / 6.3)


def test_who_waits_for_a_place_writes_later():
    crowded = replace(JOB, speed=replace(JOB.speed, max_running=8))  # 16 responses an engine: two rounds
    assert synchronous(crowded, 2).generation_seconds == pytest.approx([10.0] * 2)


def test_a_synchronous_step_lasts_as_long_as_its_longest_response():
    job = replace(JOB, lengths=LONG_TAIL)
    result = synchronous(job, 20, seed=3)
    rng = np.random.default_rng(3)
    longest = [max(LONG_TAIL(rng, job.k).max() for _ in range(job.batch)) for _ in range(20)]
    assert result.generation_seconds == pytest.approx([tokens / 10 for tokens in longest])


def test_a_budget_no_response_reaches_makes_whole_rollouts():
    """The first step is the synchronous one; later ones may also write a few prompts ahead."""
    job = replace(JOB, lengths=LONG_TAIL)
    whole = partial(job, 10, segment_tokens=1e6, in_flight=1.0)
    assert whole.step_seconds[0] == pytest.approx(synchronous(job, 1).step_seconds[0])
    assert max(whole.staleness) <= 1


def test_a_partial_step_lasts_at_most_a_few_budgets():
    """With every request equally fast a pass takes as long as its budget; with prompts in flight one pass will do."""
    job = replace(JOB, lengths=LONG_TAIL, batch=32, speed=Speed([(1, 10), (512, 5120)], prefill=1e9, max_running=512))
    result = partial(job, 40, segment_tokens=200, in_flight=3.0)
    passes = np.array(result.generation_seconds[5:]) / (200 / 10)
    assert np.median(passes) == pytest.approx(1.0, abs=0.01) and passes.max() < 3.01
    assert result.groups_per_second(32) > 2 * synchronous(job, 40).groups_per_second(32)
    assert np.mean(result.staleness[10:]) < 1.5  # what was drawn ahead at the start has been used up


def test_asynchronous_training_hides_behind_generation():
    job = replace(JOB, engines=4, lengths=LONG_TAIL)
    result = asynchronous(job, 40, train_share=0.5, max_staleness=2)
    assert result.groups_per_second(8) > synchronous(job, 40).groups_per_second(8)
    # The bound is on how much is drawn ahead, so it holds on average; a long response may be older.
    assert 0 < np.mean(result.staleness[5:]) <= 2 + 1e-9
    strict = asynchronous(job, 40, train_share=0.5, max_staleness=0)
    assert strict.staleness == [0.0] * 40


def test_the_log_normal_distribution_has_the_tail_asked_for():
    drawn = lengths.log_normal(np.random.default_rng(0), 400_000, mean=1000, p99_over_mean=6, longest=10**9)
    assert drawn.mean() == pytest.approx(1000, rel=0.02)
    assert np.quantile(drawn, 0.99) / drawn.mean() == pytest.approx(6, rel=0.03)
    assert lengths.log_normal(np.random.default_rng(0), 1000, mean=50, p99_over_mean=6, longest=60).max() == 60
    for impossible in (0.5, 1.0, 15.5):
        with pytest.raises(ValueError, match="between 1 and 15"):
            lengths.log_normal(np.random.default_rng(0), 1, mean=1, p99_over_mean=impossible, longest=1)


def test_lengths_of_a_run_or_a_list(tmp_path):
    run, plain = tmp_path / "rollouts.jsonl", tmp_path / "lengths.txt"
    samples = [{"responses": [{"tokens": 5}, {"tokens": 7}]}]
    run.write_text(json.dumps({"step": 1, "samples": samples}) + "\n" + json.dumps({"step": 2, "samples": []}) + "\n")
    plain.write_text("12\n30.5\n")
    assert lengths.measured(run).tolist() == [5, 7] and lengths.measured(plain).tolist() == [12, 30.5]
    for text in ("", "0\n", "12\nx\n"):
        plain.write_text(text)
        with pytest.raises(ValueError, match="lengths.txt"):
            lengths.measured(plain)
