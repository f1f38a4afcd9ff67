"""Whole runs on real Ray, vLLM and DeepSpeed: what the engine samples from, and how runs end."""

import re
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import failing_sync
import pytest
import ray
from real_engine import start_engine
from real_runs import START_UP, Run, flags, write_prompts

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

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


def param_dtype() -> str:
    from openrlhf.utils.device import computes_bf16

    return "bf16" if computes_bf16() else "fp32"


# In bf16 it takes about 7,000 tokens a step to know the mean gap to a few percent.
SIZES = {"bf16": {"rollout__batch_size": 64, "rollout__micro_batch_size": 256, "train__batch_size": 256}, "fp32": {}}
# Down to the temperature at which gap_of_a_new_engine samples.
FALLING = {"rollout__temperature": 1.6, "kimi__rollout__temperature_end": 1.0}
# The engine core dies in the midst of a weight sync, the actor at any moment; and what the run names.
VICTIMS = {"tied": "EngineDeadError", "untied": "PolicyModelActor"}


@pytest.fixture(scope="module", params=VICTIMS)
def trained(request, models, tmp_path_factory):
    """A run of more than UPDATES updates at a high learning rate and falling temperatures, in which a process died
    then; and how it ended."""
    head = request.param
    directory = tmp_path_factory.mktemp(head)
    write_prompts(directory, rows=1200)
    saved = {"ckpt__save_steps": UPDATES, "ckpt__save_hf": True, "train__num_episodes": 1000}
    dtype = param_dtype()
    falling = FALLING | {"kimi__rollout__temperature_iterations": UPDATES}
    changed = {"actor__adam__lr": 1e-2, "ds__param_dtype": dtype} | SIZES[dtype] | saved | falling
    with pytest.MonkeyPatch.context() as monkeypatch:
        failed = failing_sync.install(directory / "site", monkeypatch, sync=UPDATES + 2, fault="killed")
        plugins = "kimi-failing" if head == "tied" else "kimi"
        run = Run(directory, flags(directory, models / head, **changed), plugins)
    try:
        run.wait_for(lambda: len(run.steps()) > UPDATES, START_UP)
        in_sync = partial(run.wait_for, failed.exists, 60)
        seconds = end_after(run, in_sync if head == "tied" else run.process_of("PolicyModelActor").kill)
        yield SimpleNamespace(head=head, run=run, seconds=seconds, model=run.checkpoints / f"global_step{UPDATES}_hf")
    finally:
        run.end()


def test_a_death_ends_the_run(trained):
    last = trained.run.tail(3)
    assert trained.run.process.returncode == 1, last
    assert VICTIMS[trained.head] in last, last
    assert named_log_exists(last), last
    assert trained.seconds < END
    assert trained.run.orphans() == []


def test_the_engine_samples_from_the_new_weights(trained):
    records = trained.run.steps()[: UPDATES + 1]
    assert max(record["kimi/log_ratio_sq_mean"] for record in records) < 1e4
    temperatures = [record["kimi/temperature"] for record in records]
    assert temperatures == pytest.approx([1.6 - 0.6 * n / (UPDATES - 1) for n in range(UPDATES)] + [1.0])
    signed = [record["vllm_kl"] for record in records]
    assert max(map(abs, signed)) < 0.002, signed
    synced = records[-1]["kimi/logprob_gap_abs"]  # after UPDATES updates
    assert synced <= 1.5 * gap_of_a_new_engine(trained.model)


def test_nothing_is_compiled_for_an_eager_engine(trained):
    assert list(trained.run.compiled.rglob("*")) == []


def gap_of_a_new_engine(model) -> float:
    """Mean |log-prob of the engine − log-prob of the actor's model| of sampled tokens, both loaded from `model`."""
    import torch
    from openrlhf.utils.utils import convert_to_torch_dtype
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = convert_to_torch_dtype(param_dtype())
    tokenizer = AutoTokenizer.from_pretrained(model)
    actor = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation="sdpa")
    params = {"temperature": 1.0, "max_tokens": 32, "min_tokens": 0, "logprobs": 1, "skip_special_tokens": False}
    try:
        engine = start_engine(model, dtype=dtype)
        asked = [
            engine.generate_responses.remote(f"{10 + n}+10=\n", "", params, 96, tokenizer, num_samples=4)
            for n in range(64)
        ]
        responses = [response for group in ray.get(asked) for response in group]
    finally:
        ray.shutdown()
    gaps = []
    for response in responses:
        tokens, [(start, end)] = torch.tensor([response["observation_tokens"]]), response["action_ranges"]
        with torch.no_grad():
            log_probs = actor(tokens).logits[0, start - 1 : end - 1].float().log_softmax(-1)  # [A, V]
        ours = log_probs.gather(-1, tokens[0, start:end, None])[:, 0]
        gaps.append((torch.tensor(response["rollout_log_probs"][start:end]) - ours).abs())
    return float(torch.cat(gaps).mean())


def test_an_engine_that_cannot_start_ends_the_run(tmp_path, models, start):
    run = start(flags(tmp_path, models / "tied", data__max_len=100_000))  # the model's context is far shorter
    assert run.process.wait(timeout=START_UP) == 1
    assert "RolloutRayActor" in run.tail(3) and "could not start" in run.tail(3), run.tail()
    assert "max_model_len" in run.tail(3), run.tail()
    assert run.orphans() == []


def test_a_weight_sync_that_fails_in_an_engine_ends_the_run_with_its_error(tmp_path, models, start, monkeypatch):
    failed = failing_sync.install(tmp_path / "site", monkeypatch, sync=2, fault="raises")
    run = start(flags(tmp_path, models / "tied"), plugins="kimi-failing")
    seconds = end_after(run, partial(run.wait_for, failed.exists, START_UP))
    print(f"from the failure to the end of the run: {seconds:.1f} s")
    assert run.process.returncode == 1
    assert failing_sync.ERROR in run.tail(3) and named_log_exists(run.tail(3)), run.tail()
    assert len(run.steps()) == 1
    assert run.orphans() == []


def test_length_and_sampling_in_openrlhfs_own_grpo_and_ctrl_c(tmp_path, models, start):
    """Two parts of the recipe in someone's GRPO run, and no other; an epoch ends in a smaller batch."""
    run = start(
        flags(
            tmp_path,
            models / "tied",
            algo__advantage__estimator="group_norm",
            data__max_samples=24,  # one batch and a half
            train__num_episodes=1000,
            train__batch_size=32,
            kimi__length__warm_up_steps=2,
            kimi__sampling__priority="gradient",
            ds__param_dtype="bf16",
        ),
        plugins="kimi-length,kimi-sampling,kimi-log",
    )
    run.wait_for(lambda: len(run.steps()) >= 4, START_UP)
    end_after(run, lambda: run.process.send_signal(signal.SIGINT))
    assert run.process.returncode == 130
    assert run.orphans() == []

    steps = run.steps()[:4]
    assert [step["rollout/num_samples"] for step in steps] == [64, 32, 64, 32]
    assert [step["kimi/length_reward_weight"] for step in steps] == [0, 0, 0.2, 0.2]
    assert [step["kimi/length_reward_mean"] == 0 for step in steps] == [True, True, False, False]
    assert all(0 <= step["kimi/unsolved_group_share"] <= 1 for step in steps)
    assert not any("kimi/log_ratio_mean" in step for step in steps)  # the policy is OpenRLHF's
    assert ("no instructions for bfloat16" in run.log.read_text()) == (param_dtype() == "fp32")
