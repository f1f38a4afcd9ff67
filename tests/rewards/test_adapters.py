"""The graders outside of OpenRLHF: verl's and TRL's signatures, what importing them costs, and TRL itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kimi_plugins.rewards.adapters import compute_score, trl_reward

ROOT = Path(__file__).parents[2]


def test_verls_compute_score():
    sources = {"openai/gsm8k": "math"}
    found = [compute_score("openai/gsm8k", answer, "18", sources=sources) for answer in (r"\boxed{18}", r"\boxed{26}")]
    assert found == [
        {"score": 1.0, "acc": 1.0, "grader_failed": 0.0},
        {"score": 0.0, "acc": 0.0, "grader_failed": 0.0},
    ]
    assert compute_score("other", "yes", "yes", {"index": 3}, kind="exact")["score"] == 1.0
    assert compute_score("other", r"\boxed{1}", None, kind="math")["grader_failed"] == 1.0
    with pytest.raises(ValueError, match="the data source 'other' has no kind; add it to sources"):
        compute_score("other", "yes", "yes", sources=sources)
    with pytest.raises(ValueError, match="'maths' is not a kind"):
        compute_score("other", "yes", "yes", kind="maths")


def test_a_reward_function_of_trl():
    reward = trl_reward(sources={"gsm8k": "math", "words": "exact"})
    prompts = ["2+2?"] * 3 + [[{"role": "user", "content": "Yes?"}]] * 2 + ["3?"]
    completions = [r"\boxed{4}", r"\boxed{5}", r"\boxed{4}", *[[{"role": "assistant", "content": "yes"}]] * 2, "3"]
    sources = ["gsm8k"] * 3 + ["words"] * 2 + ["gsm8k"]
    labels = ["4", "4", None, "yes", "no", " "]
    found = reward(
        prompts=prompts, completions=completions, label=labels, datasource=sources, completion_ids=[[1]] * 6
    )
    assert found == [1.0, 0.0, 0.5, 1.0, 0.0, None]
    kinds = reward(prompts=["?"], completions=["a"], label=["a"], kind=["exact"], datasource=["gsm8k"])
    assert kinds == [1.0]
    with pytest.raises(ValueError, match="no column 'label'"):
        reward(prompts=["?"], completions=["a"], answer=["a"])


def test_importing_the_graders_is_cheap():
    """Against an interpreter that imports nothing: modules and memory, not seconds, which depend on the machine."""
    code = (
        "import resource, sys\n{}\n"
        "heavy = {{'torch', 'openrlhf', 'ray', 'vllm', 'sympy', 'openai', 'numpy'}}\n"
        "names = sorted(heavy & set(sys.modules))\n"
        "print(names, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    line = "from kimi_plugins.grading import Grader, Pool, Problem, Verdict, final_answers, judge_program; Grader()"
    found = []
    for text in ("", line):
        run = [sys.executable, "-S", "-c", code.format(text)]
        done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
        names, mib = done.stdout.rsplit(maxsplit=1)
        assert names == "[]"
        found.append(int(mib))
    assert found[1] - found[0] < 30, found


TRAINING = """
import json, sys
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer
from kimi_plugins.quickstart.model import build_model
from kimi_plugins.rewards.adapters import trl_reward

folder = sys.argv[1]
build_model(folder + "/model", seed=0)
rows = [{"prompt": f"{n}+10=\\n", "label": "[0-9]", "datasource": "digits"} for n in range(10, 18)]
seen = []
reward = trl_reward(sources={"digits": "regex"})

def kimi_reward(**columns):
    seen.append(reward(**columns))
    return seen[-1]

config = GRPOConfig(
    output_dir=folder, max_steps=2, per_device_train_batch_size=8, num_generations=4, max_completion_length=4,
    use_cpu=True, report_to=[], logging_steps=1, save_strategy="no", beta=0.0, bf16=False, learning_rate=1e-3,
)
tokenizer = AutoTokenizer.from_pretrained(folder + "/model")
model = AutoModelForCausalLM.from_pretrained(folder + "/model")
before = [parameter.detach().clone() for parameter in model.parameters()]
trainer = GRPOTrainer(
    model=model, reward_funcs=kimi_reward, args=config, processing_class=tokenizer,
    train_dataset=Dataset.from_list(rows),
)
trainer.train()
changed = any((a != b).any().item() for a, b in zip(before, trainer.model.parameters()))
rewards = [log["reward"] for log in trainer.state.log_history if "reward" in log]
print(json.dumps({"seen": seen, "rewards": rewards, "changed": changed}))
"""


@pytest.mark.slow
def test_two_training_steps_of_trl(tmp_path):
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(tmp_path),
    }
    command = [sys.executable, "-c", TRAINING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [len(rewards) for rewards in found["seen"]] == [8, 8]
    assert found["rewards"] == pytest.approx([sum(rewards) / 8 for rewards in found["seen"]], abs=1e-3)
    assert all(reward in (0.0, 1.0) for rewards in found["seen"] for reward in rewards)
