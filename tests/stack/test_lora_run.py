"""A run with LoRA adapters that gets SIGTERM twice, and goes on in between."""

import pytest
from openrlhf.utils import checkpoint
from peft import PeftModel
from real_runs import START_UP, flags
from transformers import AutoModelForCausalLM

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1500)]

STEPS = 3
REWARD = """
def reward_func(queries, prompts, labels):
    response = queries[0][len(prompts[0]):]
    reward = float(response.count(labels[0][-1]) >= 2)
    return {"rewards": reward, "scores": reward, "extra_logs": {}}
"""


def settings(tmp_path, model):
    (tmp_path / "reward.py").write_text(REWARD)
    return flags(
        tmp_path,
        model,
        ds__lora__rank=4,
        actor__adam__lr=1e-2,
        ckpt__disable_ds=None,
        ckpt__save_hf=True,
        ckpt__save_on_sigterm=True,
        train__num_episodes=1000,
    )


def test_adapters_reach_the_engine_and_survive_sigterm(tmp_path, models, start):
    words = settings(tmp_path, models / "untied")
    run = start(words, plugins="kimi")
    run.wait_for(lambda: len(run.steps()) >= STEPS, START_UP)
    run.process.terminate()
    assert run.process.wait(timeout=START_UP) == 143, run.tail()
    before = run.steps()
    last = before[-1]["step"]
    assert checkpoint.find_whole_of_run(str(run.checkpoints)) == f"global_step{last}"
    assert run.orphans() == []

    resumed = start([*words, "--resume"], plugins="kimi")
    resumed.wait_for(lambda: len(resumed.steps()) > last, START_UP)
    resumed.process.terminate()
    assert resumed.process.wait(timeout=START_UP) == 143, resumed.tail()
    assert resumed.orphans() == []

    steps = resumed.steps()
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    # What the engine samples from is the policy, after every sync and after the resume.
    assert max(step["kimi/logprob_gap_abs"] for step in steps) < 1e-4
    assert min(step["actor_grad_norm"] for step in steps) > 0

    base = AutoModelForCausalLM.from_pretrained(models / "untied")
    PeftModel.from_pretrained(base, run.checkpoints / f"global_step{last}_hf").merge_and_unload()
    moved = AutoModelForCausalLM.from_pretrained(models / "untied").state_dict()
    assert max((weight - moved[name]).abs().max() for name, weight in base.state_dict().items()) > 1e-3
