"""RL with responses as long as the context, on the whole stack: killed in the middle, resumed, and measured.

Partial rollouts: a response grows by a segment an iteration, a sixteenth of the context. Every process of the run is
killed when a quarter of a long response is written, and `--resume` goes on.
"""

import json
import re
import subprocess
import time
from pathlib import Path
from statistics import fmean

import long_model
import psutil
from common import command, progress

from kimi_plugins import run_log

SEGMENTS = 16  # of a response of full length
PROMPT = long_model.LETTERS["start"]
BATCH, K = 2, 2
SEED = 338  # of the first 32 responses with it, four are long: in the groups 2, 3, 9 and 16
REWARD = """
def reward_func(queries, prompts, labels):
    response = queries[0][len(prompts[0]):]
    reward = sum(map(response.count, "abcdef012345")) / max(1, len(response))
    return {"rewards": reward, "scores": reward, "extra_logs": {}}
"""
PHASES = ("generation", "make_experience", "ppo_train", "broadcast")


class Watched:
    """An `openrlhf train` and the peak memory of all processes that ever descended from it."""

    def __init__(self, words: list[str], log: Path) -> None:
        with log.open("w") as file:
            self.process = subprocess.Popen(words, stdout=file, stderr=file)
        self.log = log
        self.seen: set[psutil.Process] = set()
        self.peaks: dict[int, tuple[str, float]] = {}  # process → name, MiB

    def look(self) -> bool:
        """Note who is there and how much memory they have had; whether the run still runs."""
        if running := self.process.poll() is None:
            parent = psutil.Process(self.process.pid)
            self.seen.update((parent, *parent.children(recursive=True)))
        for process in self.seen:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                name = re.search(r"ray::(\w+)", process.cmdline()[0])
                title = name[1] if name else "driver" if process.pid == self.process.pid else process.name()
            except (OSError, psutil.Error, IndexError):  # it has ended
                continue
            if (peak := re.search(r"VmHWM:\s+(\d+) kB", status)) is not None:
                self.peaks[process.pid] = title, int(peak[1]) / 1024
        return running

    def kill(self) -> None:
        """What a power cut does."""
        for process in self.seen:
            if process.is_running():
                process.kill()
        self.process.wait()
        psutil.wait_procs(self.seen, timeout=60)

    def memory(self) -> dict[str, float]:
        """Peak MiB by kind of process, of the largest of a kind."""
        largest: dict[str, float] = {}
        for name, mib in self.peaks.values():
            largest[name] = max(mib, largest.get(name, 0.0))
        return {name: round(mib) for name, mib in sorted(largest.items(), key=lambda pair: -pair[1])}


def flags(directory: Path, context: int, prompts: int) -> dict:
    segment = context // SEGMENTS
    return {
        "actor.model_name_or_path": directory / "model",
        "actor.num_gpus_per_node": 1,
        "actor.adam.lr": 1e-8,  # what earlier policies wrote has their log-probs, which are no part of the gap
        "actor.lr_scheduler": "constant",
        "actor.lr_warmup_ratio": 0,
        "algo.advantage.estimator": "dr_grpo",
        "algo.advantage.is_correction_level": "token",
        "algo.kl.init_coef": 0,
        "ckpt.output_dir": directory / "out",
        "ckpt.path": directory / "ckpt",
        "ckpt.save_steps": 1,
        "data.label_key": "label",
        "data.max_len": context,
        "data.max_samples": prompts,
        "data.prompt_dataset": directory / "prompts.jsonl",
        "ds.attn_implementation": "sdpa",
        "ds.packing_samples": True,
        "ds.param_dtype": "fp32",
        "ds.zero_stage": 0,
        "kimi.length.weight": 0,
        "kimi.log.groups": BATCH,
        "kimi.rollout.max_age": 2 * SEGMENTS,
        "kimi.rollout.segment_tokens": segment,
        "kimi.sampling.priority": "uniform",
        "reward.remote_url": directory / "reward.py",
        "rollout.batch_size": BATCH,
        "rollout.max_new_tokens": context - 2,
        "rollout.micro_batch_size": 1,
        "rollout.min_new_tokens": 0,
        "rollout.n_samples_per_prompt": K,
        "train.batch_size": K,
        "train.colocate_all": True,
        "train.full_determinism_enable": True,  # tokens by trajectory and place: how many are long does not vary
        "train.micro_batch_size": 1,
        "train.seed": SEED,
        "vllm.enforce_eager": True,
        "vllm.num_engines": 1,
        "vllm.sync_backend": "gloo",
    }


def run(context: int, prompts: int, directory: Path) -> dict:
    """Train on `prompts` prompts with a context of `context` tokens in a new directory; what was seen, for JSON.

    Raises:
        RuntimeError: the run failed or never held a response to be killed in the middle of.
    """
    directory.mkdir(parents=True)
    long_model.build(directory / "model", context)
    row = json.dumps({"input": PROMPT, "label": "1"}) + "\n"
    (directory / "prompts.jsonl").write_text(prompts * row)
    (directory / "reward.py").write_text(REWARD)
    words = command("train", flags(directory, context, prompts), plugins="kimi")

    began = time.monotonic()
    first = Watched(words, directory / "log.txt")
    while not _in_the_middle(directory, context):
        if not first.look():
            raise RuntimeError(f"the run ended before it could be killed; see {first.log}")
        time.sleep(1)
    first.kill()
    killed_after = len(run_log.read(directory / "ckpt", "train"))
    progress(f"killed after step {killed_after}")

    second = Watched([*words, "--resume"], directory / "resumed.txt")
    shown = killed_after
    while second.look():
        if len(steps := run_log.read(directory / "ckpt", "train")) > shown:
            shown = len(steps)
            progress(f"step {shown}: {steps[-1]['timing/step_total']:.0f} s")
        time.sleep(1)
    if second.process.returncode != 0:
        raise RuntimeError(f"the resumed run ended with {second.process.returncode}; see {second.log}")
    memory = first.memory()
    for name, mib in second.memory().items():
        memory[name] = max(mib, memory.get(name, 0))
    measured = {"seconds": time.monotonic() - began, "killed_after": killed_after, "peak_mib": memory}
    return {"context": context, "segment_tokens": context // SEGMENTS, "prompts": prompts} | measured | seen(directory)


def _in_the_middle(directory: Path, context: int) -> bool:
    """Whether a quarter of a long response is in the checkpoint: the buffer takes 8 bytes a token."""
    steps = run_log.read(directory / "ckpt", "train")
    return len(steps) > 1 and steps[-1].get("kimi/held_mib", 0) * 2**20 / 8 >= context / 4


def seen(directory: Path) -> dict:
    """What the logs of a finished run say."""
    steps = run_log.read(directory / "ckpt", "train")
    responses = [
        response | {"step": record["step"]}
        for record in run_log.read_rollouts(directory / "ckpt")
        for sample in record["samples"]
        for response in sample["responses"]
    ]
    looped = [response for response in responses if response["text"].endswith("zzzz")]
    others = [response for response in responses if response not in looped]
    return {
        "steps": len(steps),
        "responses": len(responses),
        "tokens": sum(response["tokens"] for response in responses),
        "longest": max(response["tokens"] for response in responses),
        "cut_by_length": sum(response["truncated"] for response in others),
        "loops": {"ended": len(looped), "longest": max((response["tokens"] for response in looped), default=0)},
        "phases_seconds": {name: sum(step[f"timing/{name}"] for step in steps) for name in PHASES},
        "most_segments": max(step["kimi/segments_mean"] for step in steps),
        "gap": gaps([(response["tokens"], response["gap"]) for response in others]),
    }


def gaps(measured: list[tuple[int, float]]) -> list[dict]:
    """The log-prob gap at the end of responses (nats a token) by their length, each class 8 times the one before.

    measured: (tokens, gap) of each response. Loops have none: their tokens are certain.
    """
    found, low = [], 1
    while low <= max(tokens for tokens, _ in measured):
        inside = [gap for tokens, gap in measured if low <= tokens < 8 * low]
        if inside:
            found.append({"tokens": [low, 8 * low - 1], "responses": len(inside), "mean": fmean(inside)})
        low *= 8
    return found
