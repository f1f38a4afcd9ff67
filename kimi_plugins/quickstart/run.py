"""The quickstart: data and model, warm-up by `openrlhf sft`, RL by `openrlhf train --plugins kimi`, the scores."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from kimi_plugins import CONFIGS, run_log
from kimi_plugins.progress import progress
from kimi_plugins.quickstart.arithmetic import write_dataset

REWARD = Path(__file__).with_name("reward.py")  # a path: importing it would import torch
SUMMARY = "summary.json"
POLL_SECONDS = 0.5


class StepFailed(Exception):
    """A step ended with an error; args: its exit code and the path of its log."""


def run(out: Path, seed: int) -> int:
    """Run the quickstart in `out`; an earlier run's warm-up there is used again. Returns the exit code."""
    out = out.resolve()
    with alone(out) as first:
        if not first:
            print(
                f"quickstart: another one is running in {out}; wait for it, or give --out DIRECTORY", file=sys.stderr
            )
            return 2
        return _run(out, seed)


@contextmanager
def alone(out: Path) -> Iterator[bool]:
    """Whether no other process is within this function for `out`; the next one may be as soon as this one ends."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _run(out: Path, seed: int) -> int:
    seconds: dict[str, float] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the step in progress is ended, too
    try:
        with _timed(seconds, "data_and_model"):
            make_inputs(out, seed)
        with _timed(seconds, "warm_up"):
            warm_up(out, seed)
        with _timed(seconds, "rl"):
            began = _train(out, seed)
    except StepFailed as failure:
        code, log = failure.args
        print("\n".join(log.read_text(errors="replace").splitlines()[-15:]), file=sys.stderr)
        print(f"quickstart: that step failed with exit code {code}; its whole log is {log}", file=sys.stderr)
        return code
    evaluations = run_log.read(out / "rl", "eval")
    seconds["rl_start_up"] = evaluations[0]["time"] - began  # until the first rollouts were graded
    summary = summarize(evaluations, seed, seconds)
    (out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    print(report(summary, out))
    return 0


def summarize(evaluations: list[dict], seed: int, seconds: dict[str, float]) -> dict:
    """Scores before (step 0) and after RL from the evaluation records, held-out pass@1 in [0, 1]."""
    first, last = (
        {
            "step": record["step"],
            "pass_at_1": record["eval_default_pass1"],
            "response_tokens": record["eval_response_length_mean"],
        }
        for record in (evaluations[0], evaluations[-1])
    )
    rounded = {name: round(value, 1) for name, value in seconds.items()}
    return {"seed": seed, "before": first, "after": last, "seconds": rounded}


def report(summary: dict, out: Path) -> str:
    rows = [
        f"  {when:7} {summary[when]['pass_at_1']:7.1%}   {summary[when]['response_tokens']:6.1f}"
        for when in ("before", "after")
    ]
    gain = 100 * (summary["after"]["pass_at_1"] - summary["before"]["pass_at_1"])
    times = ", ".join(f"{name.replace('_', ' ')} {value:.0f} s" for name, value in summary["seconds"].items())
    return "\n".join(
        [
            "",
            "  held-out pass@1   mean response tokens",
            *rows,
            f"  gain {gain:+.1f} points in {summary['after']['step']} RL steps",
            f"  {times}",
            f"  model {out / 'rl_model'}, every step's metrics {out / 'rl' / run_log.FILE_NAME}",
        ]
    )


def make_inputs(out: Path, seed: int, *, rewritten: float = 0.0) -> None:
    """The data (see write_dataset) and a randomly initialised model in `out`, if they are not there yet.

    Raises:
        StepFailed
    """
    if (out / "base" / "tokenizer.json").exists():
        return
    print("data and model ...", flush=True)
    write_dataset(out, seed, rewritten=rewritten)
    # Not in a process that only prints progress: torch takes seconds to import.
    make = f"from kimi_plugins.quickstart.model import build_model; build_model({str(out / 'base')!r}, {seed})"
    _call([sys.executable, "-c", make], out / "model.log")


def warm_up(out: Path, seed: int) -> None:
    """Supervised fine-tuning of make_inputs' model by `openrlhf sft`, into out/warm_up, if it is not there yet.

    Raises:
        StepFailed
    """
    if (out / "warm_up" / "tokenizer.json").exists():  # written last
        return
    words = ["--config", str(CONFIGS / "quickstart_sft.yaml"), "--train.seed", str(seed)]
    words += ["--model.model_name_or_path", str(out / "base"), "--data.dataset", str(out / "sft.jsonl")]
    words += ["--ckpt.output_dir", str(out / "warm_up"), "--ckpt.path", str(out / "warm_up_checkpoints")]
    bar = progress(desc="warm-up (openrlhf sft)", bar_format="{desc} {elapsed}")
    with bar:
        _call([sys.executable, "-m", "openrlhf.cli.main", "sft", *words], out / "warm_up.log", bar.refresh)


def _train(out: Path, seed: int) -> float:
    """Returns when it began, in Unix seconds."""
    config = yaml.safe_load((CONFIGS / "quickstart_cpu.yaml").read_text())
    shutil.rmtree(out / "rl", ignore_errors=True)  # of an earlier run: its log would be continued
    words = ["--plugins", "kimi", "--config", str(CONFIGS / "quickstart_cpu.yaml"), "--train.seed", str(seed)]
    words += ["--actor.model_name_or_path", str(out / "warm_up"), "--data.prompt_dataset", str(out / "train.jsonl")]
    words += ["--eval.dataset", str(out / "held_out.jsonl"), "--reward.remote_url", str(REWARD)]
    words += ["--ckpt.path", str(out / "rl"), "--ckpt.output_dir", str(out / "rl_model")]
    steps = config["data"]["max_samples"] * config["train"].get("num_episodes", 1) // config["rollout"]["batch_size"]
    began = time.time()
    with progress(desc="RL (openrlhf train --plugins kimi)", total=steps, unit="step") as bar:

        def show():
            records = run_log.read(out / "rl", "train")
            bar.update(len(records) - bar.n)
            if records:
                bar.set_postfix(reward=f"{records[-1]['reward']:.2f}", tokens=f"{records[-1]['response_length']:.0f}")
            else:
                bar.refresh()

        _call([sys.executable, "-m", "openrlhf.cli.main", "train", *words], out / "train.log", show)
    return began


def _call(command: list[str], log: Path, show=lambda: None) -> None:
    """Run a command with its output in `log`, calling show() now and then; raises StepFailed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // 2)  # as `openrlhf train` gives its processes
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)} | os.environ
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                show()
        except KeyboardInterrupt:
            process.wait()  # it got the signal too, and ends what it started
            raise
        except SystemExit:  # a SIGTERM, which it did not get
            process.terminate()
            process.wait()
            raise
    if process.returncode != 0:
        raise StepFailed(process.returncode, log)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[name] = time.monotonic() - began
