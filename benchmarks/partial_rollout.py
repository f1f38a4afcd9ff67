"""Partial against whole rollouts on the real stack, on response lengths with a long tail.

    python benchmarks/partial_rollout.py [--seeds 1 2 3] [--parts speed accuracy] [--variants whole partial overlap]
        [--steps N] [--runs DIR] [--out FILE]

The quickstart's warmed-up model learns to write about log-normally many tokens that do no work after its answer. From
it runs of each seed train on the same problems: with whole rollouts, with partial ones (kimi-rollout), and with those
written during the updates (kimi.rollout.overlap).
speed: at a learning rate of next to nothing, because any other lets the lengths of the tail wander, by a factor of two
within a run, and step times with them. accuracy: at the quickstart's, where times are not compared. A finished run is
not run again: stop and go on as you like.
"""

import argparse
import itertools
import json
import math
import random
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist, fmean, median

import numpy as np
from common import RESULTS, machine, openrlhf, progress, spread, write_json

from kimi_plugins import run_log
from kimi_plugins.quickstart.arithmetic import ANSWER_OPEN, EOS, generate_problems, prompt, solution
from kimi_plugins.quickstart.run import CONFIGS, REWARD, make_inputs, warm_up

# Of the tokens after the answer. With the answer and its working, p99/mean of the demonstrations is 8.7.
MEDIAN, SIGMA = 12, 1.5
CONTEXT = 1104
LEVELS = "0123456789"
DEMONSTRATIONS = 4000
BATCH, K = 8, 8
STEPS = {"speed": 28, "accuracy": 40}
PARTS = {
    "speed": {"actor.adam.lr": 1e-8, "eval.n_samples_per_prompt": 1, "eval.steps": -1},
    "accuracy": {"eval.n_samples_per_prompt": 16},  # before and after
}
SEGMENT, IN_FLIGHT = 128, 2.0
PARTIAL = {
    "kimi.rollout.segment_tokens": SEGMENT,
    "kimi.rollout.in_flight": IN_FLIGHT,
    "kimi.rollout.max_age": -(-CONTEXT // SEGMENT),  # so that no response is cut because it is old
    "kimi.rollout.repetition_tokens": 0,  # the tail is made of repetitions
}
VARIANTS = {"whole": {}, "partial": PARTIAL, "overlap": PARTIAL | {"kimi.rollout.overlap": True}}
PHASES = ("generation", "make_experience", "ppo_train", "broadcast")
SETTLED = 6  # steps until the buffer is full


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="compared with the first"
    )
    parser.add_argument("--steps", type=int, help=f"of a run, more than {2 * SETTLED}; default {STEPS}")
    parser.add_argument("--runs", type=Path, default=Path("runs/partial_rollout"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=RESULTS / "partial_rollout.json")
    args = parser.parse_args()

    if args.steps is not None and args.steps <= 2 * SETTLED:
        parser.error(f"--steps {args.steps}: the first and last {SETTLED} are left out; give more than {2 * SETTLED}")

    found, runs = machine(), args.runs.resolve()
    settings = {
        "median": MEDIAN,
        "sigma": SIGMA,
        "batch": BATCH,
        "k": K,
        "segment_tokens": SEGMENT,
        "in_flight": IN_FLIGHT,
    }
    results = {"settings": settings}
    try:
        measured = {
            part: [
                {name: _run(part, name, seed, args.steps or STEPS[part], runs) for name in args.variants}
                for seed in args.seeds
            ]
            for part in args.parts
        }
        if "speed" in args.parts:
            results["speed"] = summarize_speed(measured["speed"])
        if "accuracy" in args.parts:
            results["accuracy"] = summarize_accuracy(measured["accuracy"])
    except subprocess.CalledProcessError as failure:
        print(f"partial_rollout: a run failed: {failure}", file=sys.stderr)
        return 1
    write_json(args.out, {"machine": found, "seeds": args.seeds} | results)
    return 0


def summarize_speed(measured: list[dict]) -> dict:
    """Of the variants over the seeds, and their ratios to the first one within a seed."""
    rates = ("groups_per_second", "trained_tokens_per_second")
    names = (*rates, "step_seconds", "mean_tokens", "p99_over_mean", "staleness_mean")
    first, *others = measured[0]
    summary = {
        variant: {name: spread([runs[variant][name] for runs in measured]) for name in names}
        for variant in measured[0]
    }
    for variant in measured[0]:
        summary[variant]["phase_seconds"] = {
            phase: spread([runs[variant]["phases"][phase] for runs in measured]) for phase in PHASES
        }
    for variant, name in itertools.product(others, rates):
        ratios = [runs[variant][name] / runs[first][name] for runs in measured]
        summary[variant][f"{name}_ratio"] = spread(ratios)
        progress(f"{name}: {variant} / {first} {min(ratios):.2f} to {max(ratios):.2f}")
    return summary


def summarize_accuracy(measured: list[dict]) -> dict:
    """Held-out pass@1 of the variants over the seeds, after as many trained groups, and that less the first one's."""
    first, *others = measured[0]
    summary = {
        variant: {
            name: spread([runs[variant][name] for runs in measured])
            for name in ("pass_at_1_before", "pass_at_1_after")
        }
        for variant in measured[0]
    }
    for variant in others:
        differences = [runs[variant]["pass_at_1_after"] - runs[first]["pass_at_1_after"] for runs in measured]
        summary[variant]["difference"] = spread(differences)
    return summary


# The runs


def _run(part: str, variant: str, seed: int, steps: int, runs: Path) -> dict:
    directory = runs / part / variant / f"seed-{seed}-steps-{steps}"
    done = directory / "measured.json"
    if not done.exists():
        start = _warmed_up(runs)
        progress(f"{part}, {variant}, seed {seed}")
        shutil.rmtree(directory, ignore_errors=True)
        flags = {
            "train.seed": seed,
            "actor.model_name_or_path": start / "long_tail",
            "data.prompt_dataset": start / "train.jsonl",
            "data.max_len": CONTEXT,
            "data.max_samples": BATCH * steps,
            "rollout.max_new_tokens": CONTEXT - 32,
            "rollout.batch_size": BATCH,
            "rollout.n_samples_per_prompt": K,
            "rollout.micro_batch_size": BATCH * K,
            "train.micro_batch_size": 32,
            "train.batch_size": 32,  # two optimizer steps an iteration
            "eval.dataset": start / "held_out.jsonl",
            "kimi.log.groups": BATCH,
            "reward.remote_url": REWARD,
            "ckpt.path": directory,
            "ckpt.output_dir": directory / "model",
        }
        flags |= {"eval.steps": steps} | PARTS[part] | VARIANTS[variant]
        openrlhf("train", CONFIGS / "quickstart_cpu.yaml", flags, directory / "log.txt", plugins="kimi")
        done.write_text(json.dumps(_measured(directory)) + "\n")
    return json.loads(done.read_text())


def _measured(directory: Path) -> dict:
    """End to end, from the first generation on: filling the buffer at the start and emptying it at the end count."""
    steps, evals = run_log.read(directory, "train"), run_log.read(directory, "eval")
    samples = [sample for record in run_log.read_rollouts(directory) for sample in record["samples"]]
    tokens = np.array([response["tokens"] for sample in samples for response in sample["responses"]], float)
    seconds = sum(step["timing/step_total"] for step in steps)
    middle = steps[SETTLED:-SETTLED]
    return {
        "groups_per_second": len(tokens) / K / seconds,
        "trained_tokens_per_second": float(tokens.sum()) / seconds,
        "step_seconds": median(step["timing/step_total"] for step in middle),
        "phases": {name: median(step[f"timing/{name}"] for step in middle) for name in PHASES},
        "steps": len(steps),
        "pass_at_1_before": evals[0]["eval_default_pass1"] if evals else None,
        "pass_at_1_after": evals[-1]["eval_default_pass1"] if evals else None,
        "mean_tokens": float(tokens.mean()),
        "p99_over_mean": float(np.quantile(tokens, 0.99) / tokens.mean()),
        "longest": float(tokens.max()),
        "staleness_mean": fmean(step.get("kimi/staleness_mean", 0.0) for step in middle),
    }


def _warmed_up(runs: Path) -> Path:
    """The directory with data and warmed-up model, made if they are not there."""
    start = runs / "warm_up"
    make_inputs(start, seed=1)
    warm_up(start, seed=1)
    if not (start / "long_tail" / "tokenizer.json").exists():  # written last
        progress("the warmed-up model learns the long tail")
        _allow_context(start / "warm_up" / "config.json")
        _write_demonstrations(start / "long_tail.jsonl")
        flags = {
            "model.model_name_or_path": start / "warm_up",
            "data.dataset": start / "long_tail.jsonl",
            "data.max_len": CONTEXT,
            "data.max_samples": DEMONSTRATIONS,
            "adam.lr": 1e-3,
            "ckpt.output_dir": start / "long_tail",
            "ckpt.path": start / "long_tail_checkpoints",
        }
        openrlhf("sft", CONFIGS / "quickstart_sft.yaml", flags, start / "long_tail.log")
    return start


def _allow_context(config: Path) -> None:
    """Rotary positions have no weights: a longer context is a number in the configuration."""
    settings = json.loads(config.read_text()) | {"max_position_embeddings": CONTEXT}
    config.write_text(json.dumps(settings, indent=2) + "\n")


def _write_demonstrations(path: Path) -> None:
    """Worked additions, of which the warm-up has seen the problems, with the tail after the answer."""
    rng = random.Random(1)
    problems = itertools.cycle(generate_problems(4000, seed=1))
    with path.open("w") as file:
        for _ in range(DEMONSTRATIONS):
            a, b = next(problems)
            while (worked := solution(a, b, rng)).startswith(ANSWER_OPEN):
                pass  # half of the solutions are not worked out
            row = {"input": prompt(a, b), "output": worked.removesuffix(EOS) + tail(rng) + EOS}
            file.write(json.dumps(row) + "\n")


def tail(rng: random.Random) -> str:
    """Digits, about log-normally many: digit j stands for about 2^j of them, and is followed by itself, by the next
    one, or by the end. Which comes depends on the last digit alone, so that the smallest model learns it."""
    survival = [1 - NormalDist().cdf((j * math.log(2) - math.log(MEDIAN)) / SIGMA) for j in range(len(LEVELS) + 1)]
    text = ""
    for j, digit in enumerate(LEVELS):
        text += digit
        while rng.random() < 1 - 2.0**-j:
            text += digit
        if rng.random() > survival[j + 1] / survival[j]:
            break
    return text[: CONTEXT - 64]


if __name__ == "__main__":
    sys.exit(main())
