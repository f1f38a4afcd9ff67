"""Start real `openrlhf train` runs on a tiny model, and watch them."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil

from kimi_plugins import run_log

REWARD = """
def reward_func(queries, prompts, labels):
    # Dense enough to move any policy: does the response hold more of the label's last digit than of others?
    response = queries[0][len(prompts[0]):]
    reward = float(response.count(labels[0][-1]) >= 2)
    return {"rewards": reward, "scores": reward, "extra_logs": {}}
"""

START_UP = 360  # seconds to the first steps, on a slow machine that is busy with another test


def write_prompts(directory: Path, rows: int) -> None:
    with (directory / "prompts.jsonl").open("w") as file:
        for n in range(rows):
            a, b = 10 + n % 90, 10 + n // 90
            file.write(json.dumps({"input": f"{a}+{b}=\n", "label": str(a + b)}) + "\n")
    (directory / "reward.py").write_text(REWARD)


def flags(directory: Path, model: Path, **changed) -> list[str]:
    """A CPU run on the prompts and the reward of `directory`.

    changed: `__` in a key stands for the dot; None leaves a flag out.
    """
    values = {
        "actor.model_name_or_path": model,
        "actor.num_gpus_per_node": 1,
        "actor.lr_scheduler": "constant",
        "actor.lr_warmup_ratio": 0,
        "data.prompt_dataset": directory / "prompts.jsonl",
        "data.label_key": "label",
        "data.max_len": 96,
        "reward.remote_url": directory / "reward.py",
        "vllm.num_engines": 1,
        "vllm.sync_backend": "gloo",
        "vllm.enforce_eager": True,
        "train.colocate_all": True,
        "train.batch_size": 64,
        "train.micro_batch_size": 32,
        "algo.kl.init_coef": 0,
        "algo.advantage.estimator": "dr_grpo",
        "algo.advantage.is_correction_level": "token",
        "rollout.n_samples_per_prompt": 4,
        "rollout.batch_size": 16,
        "rollout.micro_batch_size": 64,
        "rollout.max_new_tokens": 32,
        "rollout.min_new_tokens": 0,
        "ds.attn_implementation": "sdpa",
        "ds.param_dtype": "fp32",
        "ds.zero_stage": 0,
        "ckpt.disable_ds": True,
        "ckpt.output_dir": directory / "out",
        "ckpt.path": directory / "ckpt",
    } | {key.replace("__", "."): value for key, value in changed.items()}
    words = []
    for key, value in values.items():
        if value is not None:
            words += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    return words


class Run:
    """One `openrlhf train` process, its log and all processes that ever descended from it."""

    def __init__(self, directory: Path, words: list[str], plugins: str = "") -> None:
        self.checkpoints = Path(words[words.index("--ckpt.path") + 1])
        self.log = directory / "log.txt"
        command = [sys.executable, "-m", "openrlhf.cli.main", "train", *(["--plugins", plugins] if plugins else [])]
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        self.compiled = directory / "inductor"  # where torch puts what it compiles
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(self.compiled)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *words], stdout=log, stderr=log, cwd=directory, env=environment, start_new_session=True
            )
        self.descendants: set[psutil.Process] = set()

    def wait_for(self, condition, timeout: float):
        """The first true value of condition(); fails when the run ends or `timeout` seconds pass before."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert self.process.poll() is None, f"the run ended:\n{self.tail()}"
            assert time.monotonic() < deadline, f"timed out:\n{self.tail()}"
            self.descendants.update(psutil.Process(self.process.pid).children(recursive=True))
            time.sleep(0.2)
        return value

    def steps(self) -> list[dict]:
        """Training records so far; needs the plugin kimi-log."""
        return run_log.read(self.checkpoints, "train")

    def process_of(self, name: str) -> psutil.Process:
        """The process that was the last to log as `(name pid=…)`."""
        return psutil.Process(int(re.findall(rf"\({name} pid=(\d+)\)", self.log.read_text(errors="replace"))[-1]))

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def orphans(self) -> list[psutil.Process]:
        """Descendants that have outlived the run by 5 seconds."""
        return psutil.wait_procs(self.descendants, timeout=5)[1]

    def kill(self) -> None:
        """What a power cut does: SIGKILL to every process of the run."""
        for process in [psutil.Process(self.process.pid), *self.descendants]:
            if process.is_running():
                process.kill()
        self.process.wait(timeout=30)
        psutil.wait_procs(self.descendants, timeout=30)

    def end(self) -> None:
        """Kill whatever is left, so that a failed test leaves nothing behind."""
        for process in {*self.descendants, psutil.Process(self.process.pid)} if self.process.poll() is None else ():
            if process.is_running():
                process.kill()
        for process in self.orphans():
            process.kill()
        self.process.wait(timeout=30)
