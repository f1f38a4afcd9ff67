"""A run killed in the middle goes on exactly where its newest whole checkpoint stands."""

import os
import re
import subprocess
import time
from collections import defaultdict
from functools import cache
from pathlib import Path

import psutil
import pytest
import torch
from openrlhf.utils import checkpoint
from real_runs import START_UP, flags
from transformers import AutoModelForCausalLM, AutoTokenizer

from kimi_plugins import run_log

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

STEPS = 8
NOT_COMPARED = ("time", "timing/")  # all else is equal to the last digit


def settings(tmp_path, model, name):
    """Responses of at most 32 tokens in segments of 8, written during the updates: there are always unfinished ones in
    the checkpoint, and the next budget has been granted."""
    return flags(
        tmp_path,
        model,
        train__full_determinism_enable=True,
        data__max_samples=16 * STEPS,
        ckpt__disable_ds=None,
        ckpt__save_steps=1,
        ckpt__save_hf=True,
        ckpt__path=tmp_path / name,
        ckpt__output_dir=tmp_path / f"{name}_model",
        kimi__length__warm_up_steps=2,
        kimi__sampling__half_life=3,
        kimi__rollout__segment_tokens=8,
        kimi__rollout__overlap=True,
        actor__adam__lr=1e-3,
        actor__lr_scheduler="cosine_with_min_lr",
    )


def comparable(record):
    return {key: value for key, value in record.items() if not key.startswith(NOT_COMPARED)}


def gaps_of_what_is_held(saved: Path, initial: Path) -> dict[int, tuple[float, float]]:
    """Of the tokens that the responses held in a checkpoint have, by the version of the policy that wrote them.

    Each as (largest |log-prob when written − log-prob under that version's saved model|, mean of the same under the
    version before).
    """
    state = torch.load(saved / "mp_rank_00_model_states.pt", weights_only=False)["samples_generator_state_dict"]
    run, tokenizer = saved.parent.parent, AutoTokenizer.from_pretrained(initial)

    @cache
    def model(version: int):
        return AutoModelForCausalLM.from_pretrained(run / f"global_step{version}_hf" if version else initial)

    def log_probs(version: int, prompt: list[int], response: torch.Tensor) -> torch.Tensor:
        tokens = torch.cat([torch.tensor(prompt), response.long()])  # [P + R]
        with torch.no_grad():
            logits = model(version)(tokens[None, :-1]).logits[0, len(prompt) - 1 :]  # [R, V]
        return logits.log_softmax(-1).gather(-1, tokens[len(prompt) :, None])[:, 0]

    right, before = defaultdict(list), defaultdict(list)
    for group in state["buffer"]["groups"]:
        prompt = tokenizer(group["prompt"], add_special_tokens=False)["input_ids"]
        for held in group["trajectories"]:
            start = 0
            for version, count in held["segments"]:
                part, start = slice(start, start + count), start + count
                for gaps, other in ((right, version), (before, max(0, version - 1))):
                    expected = log_probs(other, prompt, held["tokens"][:start])[part]
                    gaps[version].append((held["log_probs"][part] - expected).abs())
    return {v: (torch.cat(right[v]).max().item(), torch.cat(before[v]).mean().item()) for v in sorted(right)}


def in_the_middle_of_a_save(actor: Path) -> None:
    """Return as soon as a checkpoint is being written, which takes tens of milliseconds; after 20 s in any case."""
    deadline = time.monotonic() + 20
    while not list(actor.glob("*.partial")) and time.monotonic() < deadline:
        time.sleep(0.001)


def test_a_killed_run_resumes_exactly_and_never_from_a_broken_checkpoint(tmp_path, models, start):
    """What the resumed run does again is what the killed one had logged."""
    words = settings(tmp_path, models / "tied", "run")
    killed = start(words, plugins="kimi")
    killed.wait_for(lambda: len(killed.steps()) >= 5, START_UP)
    actor = tmp_path / "run" / "_actor"
    in_the_middle_of_a_save(actor)
    writers = [killed.process_of(name) for name in ("PPOTrainer", "PolicyModelActor")]
    killed.process.kill()  # the driver: nothing tells the others
    assert psutil.wait_procs(writers, timeout=30)[1] == []
    expected, expected_rollouts = killed.steps(), list(run_log.read_rollouts(tmp_path / "run"))

    saved = sorted((path for path in actor.glob("global_step*[0-9]")), key=lambda path: int(path.name[11:]))
    gaps = gaps_of_what_is_held(saved[-1], models / "tied")
    print("log-prob gaps by version: under the version, under the one before", gaps)
    newest = int(saved[-1].name[11:])
    assert max(gaps) == newest - 1  # during the update to `newest`, and nothing after it
    assert max(gap for gap, _ in gaps.values()) < 1e-4
    assert min(gap for version, (_, gap) in gaps.items() if version) > 1e-3

    for path in saved[-2:]:
        os.truncate(path / "mp_rank_00_model_states.pt", 1000)
    (actor / "global_step99.partial").mkdir()  # what a save that was killed leaves

    resumed = start([*words, "--resume"], plugins="kimi")
    assert resumed.process.wait(timeout=START_UP) == 0, resumed.tail()
    log = resumed.log.read_text(errors="replace")
    assert f"{saved[-1].name} cannot be used: mp_rank_00_model_states.pt has 1000 of" in log
    steps = resumed.steps()
    assert len(steps) == STEPS
    assert list(map(comparable, steps))[: len(expected)] == list(map(comparable, expected))
    again = [record for record in steps[: len(expected)] if record not in expected]  # their times are others
    assert len(again) >= 2
    assert min(record["kimi/staleness_mean"] for record in steps[1:]) >= 1 > steps[0]["kimi/staleness_mean"]
    assert 0 < sum(record["kimi/length_reward_mean"] != 0 for record in steps) < STEPS
    assert list(run_log.read_rollouts(tmp_path / "run"))[: len(expected_rollouts)] == expected_rollouts
    assert not list(actor.glob("*.partial"))
    # Two agents of Ray's end about a minute after the driver.
    assert psutil.wait_procs(killed.descendants, timeout=120)[1] == []

    for path in actor.glob("global_step*"):
        os.truncate(path / "mp_rank_00_model_states.pt", 1000)
    refused = start([*words, "--resume"], plugins="kimi")
    assert refused.process.wait(timeout=60) == 2
    assert "no whole checkpoint" in refused.tail(3)


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for one checkpoint and a half."""
    directory = tmp_path / "disk"
    directory.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=22m", "tmpfs", directory]).returncode:
        pytest.skip("mounting a small disk needs root")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def test_a_full_disk_ends_a_run_without_plugins_and_costs_no_checkpoint(tmp_path, models, start, small_disk):
    """No plugin named: OpenRLHF's own GRPO, and no metric or file of ours."""
    saved = {"ckpt__disable_ds": None, "ckpt__save_steps": 1, "ckpt__path": small_disk}
    run = start(flags(tmp_path, models / "tied", algo__advantage__estimator="group_norm", **saved))
    assert run.process.wait(timeout=START_UP) == 1
    assert "global_step2 could not be saved in" in run.tail(2) and "MB left" in run.tail(2), run.tail()
    assert checkpoint.find_whole_of_run(str(small_disk)) == "global_step1"
    assert not re.search(r"(?<![\w/])kimi/", run.log.read_text(errors="replace"))
    assert not (small_disk / run_log.FILE_NAME).exists()
    assert run.orphans() == []
