"""Partial rollouts in whole runs: resume, and engines that die, cost nothing but the segment."""

import shutil
from collections import Counter

import pytest
from real_runs import START_UP, flags

from kimi_plugins import run_log
from kimi_plugins.quickstart.model import build_model

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

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
        actor__adam__lr=1e-9,
        **changed,
    )


def responses(run) -> list[tuple[str, str]]:
    """(prompt, text) of everything a run has trained on."""
    return [
        (sample["prompt"], response["text"])
        for record in run_log.read_rollouts(run.checkpoints)
        for sample in record["samples"]
        for response in sample["responses"]
    ]


MURDEROUS_REWARD = """
# The reward function runs in the engine's process, while other responses are still being written.
import os, pathlib, shutil, signal, psutil

here = pathlib.Path(__file__).parent

def first(name):
    try:
        os.close(os.open(here / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    # What an engine starts from is not what the run has learnt.
    os.replace(shutil.copy(here / "other" / "model.safetensors", here), here / "model" / "model.safetensors")
    return True

def reward_func(queries, prompts, labels):
    with (here / "graded").open("a") as file:
        file.write(".")
    graded = (here / "graded").stat().st_size
    if graded >= 100 and first("core"):
        for child in psutil.Process().children(recursive=True):
            child.kill()
    if graded >= 200 and first("process"):
        os.kill(os.getpid(), signal.SIGKILL)
    reward = float(queries[0].count(labels[0][-1]) >= 2)
    return {"rewards": reward, "scores": reward, "extra_logs": {}}
"""


def test_a_dead_engine_core_and_a_dead_engine_process_cost_a_segment_each(tmp_path, models, start):
    (tmp_path / "murderous.py").write_text(MURDEROUS_REWARD)
    shutil.copytree(models / "tied", tmp_path / "model")
    build_model(tmp_path / "other", seed=1)
    changed = {"vllm__max_restarts": 2, "reward__remote_url": tmp_path / "murderous.py"}
    words = settings(tmp_path, tmp_path / "model", "run", **changed)
    run = start(words, plugins="kimi-policy,kimi-rollout,kimi-log")
    run.wait_for(lambda: len(run.steps()) >= PROMPTS // BATCH, 2 * START_UP)
    assert run.process.wait(timeout=START_UP) == 0, run.tail()

    assert run.log.read_text(errors="replace").count("A vLLM engine died") == 2
    steps = run.steps()
    assert [step["rollout/num_samples"] for step in steps] == [BATCH * K] * (PROMPTS // BATCH)
    assert max(step["kimi/segments_mean"] for step in steps) > 1
    assert max(step["kimi/logprob_gap_abs"] for step in steps) < 0.01  # weights synced before it served again
    counts = Counter(prompt for prompt, _ in responses(run))
    assert len(counts) == PROMPTS and set(counts.values()) == {K}
    assert run.orphans() == []
