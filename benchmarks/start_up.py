"""How long a run takes to start: from the command to the first graded rollouts, in seconds and in CPU seconds.

    python benchmarks/start_up.py [--builds NAME="[DIR] [FLAG ...]" ...] [--repeats 3] [--out FILE] [-- FLAG ...]

The quickstart's RL run, with the randomly initialised model and responses of at most 26 tokens (about what the
warmed-up one writes), is ended after its evaluation of the initial policy. --builds names what is compared; without
it: processes that import for themselves (--train.disable_forks) and forks of one that has. DIR holds the package
`openrlhf` of another build, such as the working checkout of the patches at another commit, in place of the installed
one. FLAG: of `openrlhf train`, for the runs of one build or, after --, of all. The builds take turns.
"""

import argparse
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil
from common import RESULTS, machine, progress, spread, write_json

from kimi_plugins import run_log
from kimi_plugins.quickstart.run import CONFIGS, REWARD, make_inputs

POLL_SECONDS = 0.5
LIMIT_SECONDS = 400


def main() -> int:
    own, _, flags = (sys.argv[1:], "", []) if "--" not in sys.argv else _split(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--builds", nargs="+", default=["imports=--train.disable_forks", "forks="], metavar="NAME=…")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/start_up"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=RESULTS / "start_up.json")
    args = parser.parse_args(own)
    builds = {}
    for build in args.builds:
        name, _, rest = build.partition("=")
        words = shlex.split(rest)
        directory = words.pop(0) if words and not words[0].startswith("-") else ""
        if directory and not (Path(directory) / "openrlhf" / "cli").is_dir():
            parser.error(f"--builds {name}={directory}: no package openrlhf there")
        builds[name] = (directory, [*words, *flags])

    found, runs = machine(), args.runs.resolve()
    make_inputs(runs, seed=1)
    measured = {name: [] for name in builds}
    for repeat in range(args.repeats):
        for name in builds if repeat % 2 == 0 else reversed(builds):
            measured[name].append(one := start(*builds[name], runs))
            progress(f"{name}: {one['seconds']:.1f} s, {one['cpu_seconds']:.1f} CPU s, {one['memory_gib']:.2f} GiB")
    summary = {
        name: {key: spread([one[key] for one in repeats]) for key in ("seconds", "cpu_seconds", "memory_gib")}
        | {"processes": repeats[-1]["processes"]}
        for name, repeats in measured.items()
    }
    first, *others = measured
    for name in others:
        for key in ("seconds", "cpu_seconds"):
            ratios = [new[key] / old[key] for new, old in zip(measured[name], measured[first], strict=True)]
            summary[name][f"{key}_ratio"] = spread(ratios)
    write_json(args.out, {"machine": found, "compared": args.builds, "flags": flags, "builds": summary})
    return 0


def _split(words: list[str]) -> tuple[list[str], str, list[str]]:
    at = words.index("--")
    return words[:at], "--", words[at + 1 :]


def start(build: str, flags: list[str], runs: Path) -> dict:
    """Start the run and end it after its first evaluation.

    Returns seconds, cpu_seconds of all its processes, memory_gib (the highest sum of their PSS that was seen), and
    processes: [name, second of its start, CPU seconds], in that order.

    Raises:
        SystemExit: the run failed, or took more than LIMIT_SECONDS.
    """
    out = runs / "rl"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    words = ["--plugins", "kimi", "--config", str(CONFIGS / "quickstart_cpu.yaml"), "--reward.remote_url", str(REWARD)]
    words += ["--actor.model_name_or_path", str(runs / "base"), "--data.prompt_dataset", str(runs / "train.jsonl")]
    words += ["--eval.dataset", str(runs / "held_out.jsonl"), "--ckpt.path", str(out)]
    words += ["--rollout.max_new_tokens", "26", *flags]
    paths = [build, os.environ.get("PYTHONPATH", "")] if build else [os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1"}
    with (runs / "log.txt").open("w") as log:
        began = time.time()
        command = [sys.executable, "-m", "openrlhf.cli.main", "train", *words]
        process = psutil.Popen(command, stdout=log, stderr=log, env=environment)
        seen, memory = {}, 0.0
        try:
            while not (evaluations := run_log.read(out, "eval")):
                if process.poll() is not None or time.time() - began > LIMIT_SECONDS:
                    raise SystemExit(f"start_up: no evaluation after {time.time() - began:.0f} s: {log.name}")
                time.sleep(POLL_SECONDS)
                memory = max(memory, _observe(process, began, seen))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return {
        "seconds": evaluations[0]["time"] - began,
        "cpu_seconds": sum(cpu for _, _, cpu in seen.values()),
        "memory_gib": memory / 2**30,
        "processes": sorted(([*row] for row in seen.values()), key=lambda row: row[1]),
    }


def _observe(process: psutil.Process, began: float, seen: dict[int, tuple]) -> float:
    """Note name, start and CPU seconds of the process and all below it, by pid; returns the bytes they hold."""
    held = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            with one.oneshot():
                cpu, line = one.cpu_times(), one.cmdline()
                name = line[0] if len(line) == 1 else " ".join(word.rsplit("/", 1)[-1] for word in line[:4])
                seen[one.pid] = (name[:60], round(one.create_time() - began, 1), round(cpu.user + cpu.system, 2))
            held += one.memory_full_info().pss
        except (psutil.NoSuchProcess, IndexError):
            continue
    return held


if __name__ == "__main__":
    sys.exit(main())
