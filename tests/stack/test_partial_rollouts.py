"""Partial rollouts in whole runs: resume, and engines that die, cost nothing but the segment."""

from collections import Counter

import pytest
from real_runs import flags

from kimi_plugins import run_log

pytestmark = [pytest.mark.stack, pytest.mark.timeout(500)]

START_UP = 180
PROMPTS, BATCH, K = 96, 16, 4


def settings(tmp_path, model, name, **changed):
    """Responses of at most 32 tokens in segments of 8."""
    return flags(
        tmp_path,
        model,
        kimi__rollout__segment_tokens=8,
        kimi__log__groups=BATCH,
        data__max_samples=PROMPTS,
        ckpt__path=tmp_path / name,
        ckpt__output_dir=tmp_path / f"{name}_model",
        actor__adam__lr=1e-3,
        **changed,
    )


def responses(run) -> list[tuple[str, str]]:
    """(prompt, text) of everything a run has trained on."""
    return [
        (group["prompt"], response["text"])
        for record in run_log.read_rollouts(run.checkpoints)
        for group in record["groups"]
        for response in group["responses"]
    ]


def test_a_dead_engine_core_and_a_dead_engine_process_cost_a_segment_each(tmp_path, models, start):
    run = start(settings(tmp_path, models / "tied", "run", vllm__max_restarts=2), plugins="kimi")
    for step, victim in ((1, "EngineCore"), (3, "RolloutRayActor")):
        run.wait_for(lambda step=step: len(run.steps()) >= step, START_UP)
        run.process_of(victim).kill()
    assert run.process.wait(timeout=START_UP) == 0, run.tail()

    assert run.log.read_text(errors="replace").count("A vLLM engine died") >= 1
    steps = run.steps()
    assert [step["rollout/num_samples"] for step in steps] == [BATCH * K] * (PROMPTS // BATCH)
    assert max(step["kimi/segments_mean"] for step in steps) > 1
    assert max(step["kimi/logprob_gap_abs"] for step in steps) < 0.05  # weights synced before it served again
    counts = Counter(prompt for prompt, _ in responses(run))
    assert len(counts) == PROMPTS and set(counts.values()) == {K}
    assert run.orphans() == []
