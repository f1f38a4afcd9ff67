"""Whole runs on real Ray, vLLM and DeepSpeed: what the engine samples from, and how runs end."""

import re
import signal
import time
from pathlib import Path

import pytest
from real_runs import flags

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

START_UP = 180  # seconds to the first step, on a machine that is busy with other things
END = 30  # seconds a run may take to end after one of its processes died
UPDATES = 16


def end_after(run, kill) -> float:
    kill()
    began = time.monotonic()
    run.process.wait(timeout=END)
    return time.monotonic() - began


def named_log_exists(text: str) -> bool:
    pattern = Path(re.search(r"Its log: (\S+)", text)[1])
    return bool(list(pattern.parent.glob(pattern.name)))


@pytest.mark.parametrize(
    "head, victim, named",
    [("tied", "EngineCore", "EngineDeadError"), ("untied", "PolicyModelActor", "PolicyModelActor")],
)
def test_the_engine_samples_from_the_new_weights_and_a_death_ends_the_run(
    tmp_path, models, start, head, victim, named
):
    # Enough tokens a step (about 7,000) for the mean gap to be known to a few percent.
    sizes = {"rollout__batch_size": 64, "rollout__micro_batch_size": 256, "train__batch_size": 256}
    saved = {"ckpt__save_steps": UPDATES, "ckpt__save_hf": True}
    prompts = {"data__max_samples": 64 * (UPDATES + 1)}
    run = start(flags(tmp_path, models / head, actor__adam__lr=1e-2, **prompts, **sizes, **saved), plugins="kimi")
    assert run.process.wait(timeout=START_UP + 60) == 0, run.tail()
    records = run.steps()
    assert len(records) == UPDATES + 1
    assert max(record["kimi/log_ratio_sq_mean"] for record in records) < 1e4
    signed = [record["vllm_kl"] for record in records]
    assert max(map(abs, signed)) < 0.002, signed
    synced = records[-1]["kimi/logprob_gap_abs"]  # after UPDATES updates

    # The same weights, loaded by a new engine.
    reloaded = tmp_path / "ckpt" / f"global_step{UPDATES}_hf"
    endless = {"ckpt__path": tmp_path / "fresh", "train__num_episodes": 1000}
    fresh = start(flags(tmp_path, reloaded, **endless, **sizes), plugins="kimi")
    fresh.wait_for(fresh.steps, START_UP)
    assert synced <= 1.5 * fresh.steps()[0]["kimi/logprob_gap_abs"]

    seconds = end_after(fresh, fresh.process_of(victim).kill)
    last = fresh.tail(3)
    assert fresh.process.returncode == 1, last
    assert named in last, last
    assert named_log_exists(last), last
    assert seconds < END
    assert fresh.orphans() == []


def test_ctrl_c_ends_a_run_without_plugins(tmp_path, models, start):
    """No plugin named: OpenRLHF's own GRPO, and no metric or file of ours."""
    run = start(flags(tmp_path, models / "tied", train__num_episodes=1000))
    run.wait_for(lambda: "Global step 2" in run.log.read_text(errors="replace"), START_UP)
    assert not (tmp_path / "ckpt" / "metrics.jsonl").exists()
    assert "kimi/" not in run.log.read_text(errors="replace")

    end_after(run, lambda: run.process.send_signal(signal.SIGINT))
    assert run.process.returncode == 130
    assert run.orphans() == []


def test_an_engine_that_cannot_start_ends_the_run(tmp_path, models, start):
    run = start(flags(tmp_path, models / "tied", data__max_len=100_000))  # the model's context is far shorter
    assert run.process.wait(timeout=START_UP) == 1
    assert "RolloutRayActor" in run.tail(3) and "could not start" in run.tail(3), run.tail()
    assert "max_model_len" in run.tail(3), run.tail()
    assert run.orphans() == []


def test_length_and_sampling_in_openrlhfs_own_grpo(tmp_path, models, start):
    """Two parts of the recipe in someone's GRPO run, and no other; an epoch ends in a smaller batch."""
    run = start(
        flags(
            tmp_path,
            models / "tied",
            algo__advantage__estimator="group_norm",
            data__max_samples=24,  # one batch and a half
            train__num_episodes=2,
            train__batch_size=32,
            kimi__length__warm_up_steps=2,
            kimi__sampling__priority="gradient",
        ),
        plugins="kimi-length,kimi-sampling,kimi-log",
    )
    assert run.process.wait(timeout=START_UP) == 0, run.tail()
    steps = run.steps()
    assert [step["rollout/num_samples"] for step in steps] == [64, 32, 64, 32]
    assert [step["kimi/length_reward_weight"] for step in steps] == [0, 0, 0.2, 0.2]
    assert [step["kimi/length_reward_mean"] == 0 for step in steps] == [True, True, False, False]
    assert all(0 <= step["kimi/unsolved_group_share"] <= 1 for step in steps)
    assert not any("kimi/log_ratio_mean" in step for step in steps)  # the policy is OpenRLHF's
