"""Partial against whole rollouts on the real stack, on response lengths with a long tail; and the simulator beside.

    python benchmarks/partial_rollout.py [--seeds 1 2 3] [--parts speed accuracy] [--runs DIR] [--out FILE]

The quickstart's warmed-up model learns to write about log-normally many tokens that do no work after its answer. From
it two runs of each seed train on the same problems, one with whole rollouts, one with partial ones (kimi-rollout).
speed: at a learning rate of next to nothing, because any other lets the lengths of the tail wander, by a factor of two
within a run, and step times with them. accuracy: at the quickstart's, where times are not compared. Then the engine's
speeds are measured alone, and the simulator (`openrlhf kimi simulate`) predicts the runs of `speed` from them. A
finished run is not run again: stop and go on as you like.
"""

import argparse
import asyncio
import itertools
import json
import math
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import NormalDist, fmean, median

import numpy as np
from common import RESULTS, machine, openrlhf, progress, spread, write_json

from kimi_plugins import run_log
from kimi_plugins.quickstart.arithmetic import ANSWER_OPEN, EOS, generate_problems, prompt, solution
from kimi_plugins.quickstart.run import CONFIGS, REWARD, make_inputs, warm_up
from kimi_plugins.simulate import lengths
from kimi_plugins.simulate.engine import Speed
from kimi_plugins.simulate.schedules import Job, partial, synchronous

# Of the tokens after the answer. With the answer and its working, p99/mean of the demonstrations is 8.7.
MEDIAN, SIGMA = 12, 1.5
CONTEXT = 1104
LEVELS = "0123456789"
DEMONSTRATIONS = 4000
BATCH, K = 8, 8
STEPS = {"speed": 28, "accuracy": 40}
PARTS = {
    "speed": {"actor.adam.lr": 1e-8, "eval.n_samples_per_prompt": 1, "eval.steps": -1},
    "accuracy": {"eval.n_samples_per_prompt": 16, "eval.steps": STEPS["accuracy"]},  # before and after
}
SEGMENT, IN_FLIGHT = 128, 2.0
VARIANTS = {
    "whole": {},
    "partial": {
        "kimi.rollout.segment_tokens": SEGMENT,
        "kimi.rollout.in_flight": IN_FLIGHT,
        "kimi.rollout.repetition_tokens": 0,  # the tail is made of repetitions
    },
}
# Requests at which the engine's decode speed is measured, and tokens of each: only long ones are left among few.
CONCURRENT = {1: 512, 4: 512, 16: 256, 64: 64, 128: 64, 256: 64}
REPEATS = 3
SETTLED = 6  # steps until the buffer is full


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--runs", type=Path, default=Path("runs/partial_rollout"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=RESULTS / "partial_rollout.json")
    args = parser.parse_args()

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
        measured = {part: [run(part, seed, runs) for seed in args.seeds] for part in args.parts}
        if "speed" in args.parts:
            speed = engine_speed(_warmed_up(runs), runs)
            results |= {"speed": summarize_speed(measured["speed"]), "engine": speed}
            known = [
                lengths.measured(runs / "speed" / "whole" / f"seed-{seed}" / run_log.ROLLOUTS) for seed in args.seeds
            ]
            results["simulated"] = [
                simulate(one, speed, tokens) for one, tokens in zip(measured["speed"], known, strict=True)
            ]
        if "accuracy" in args.parts:
            results["accuracy"] = summarize_accuracy(measured["accuracy"])
    except subprocess.CalledProcessError as failure:
        print(f"partial_rollout: a run failed: {failure}", file=sys.stderr)
        return 1
    write_json(args.out, {"machine": found, "seeds": args.seeds} | results)
    return 0


def summarize_speed(measured: list[dict]) -> dict:
    """Of both variants over the seeds, and the ratios partial / whole within a seed."""
    rates = ("groups_per_second", "trained_tokens_per_second")
    names = (*rates, "step_seconds", "mean_tokens", "p99_over_mean", "staleness_mean")
    summary = {
        variant: {name: spread([runs[variant][name] for runs in measured]) for name in names} for variant in VARIANTS
    }
    for name in rates:
        ratios = [runs["partial"][name] / runs["whole"][name] for runs in measured]
        summary[f"{name}_ratio"] = spread(ratios)
        progress(f"{name}: partial / whole {min(ratios):.2f} to {max(ratios):.2f}")
    return summary


def summarize_accuracy(measured: list[dict]) -> dict:
    """Held-out pass@1 of both variants over the seeds, after as many trained groups, and partial − whole."""
    summary = {
        variant: {
            name: spread([runs[variant][name] for runs in measured])
            for name in ("pass_at_1_before", "pass_at_1_after")
        }
        for variant in VARIANTS
    }
    differences = [runs["partial"]["pass_at_1_after"] - runs["whole"]["pass_at_1_after"] for runs in measured]
    return summary | {"difference": spread(differences)}


# The runs


def run(part: str, seed: int, runs: Path) -> dict:
    return {variant: _run(part, variant, seed, runs / part / variant / f"seed-{seed}", runs) for variant in VARIANTS}


def _run(part: str, variant: str, seed: int, directory: Path, runs: Path) -> dict:
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
            "data.max_samples": BATCH * STEPS[part],
            "rollout.max_new_tokens": CONTEXT - 32,
            "rollout.batch_size": BATCH,
            "rollout.n_samples_per_prompt": K,
            "rollout.micro_batch_size": 4,  # without packing, a micro-batch is as long as its longest response
            "train.micro_batch_size": 4,
            "train.batch_size": 32,  # two optimizer steps an iteration
            "eval.dataset": start / "held_out.jsonl",
            "kimi.log.groups": BATCH,
            "reward.remote_url": REWARD,
            "ckpt.path": directory,
            "ckpt.output_dir": directory / "model",
        }
        flags |= PARTS[part] | VARIANTS[variant]
        openrlhf("train", CONFIGS / "quickstart_cpu.yaml", flags, directory / "log.txt", plugins="kimi")
        done.write_text(json.dumps(_measured(directory)) + "\n")
    return json.loads(done.read_text())


def _measured(directory: Path) -> dict:
    """End to end, from the first generation on: filling the buffer at the start and emptying it at the end count."""
    steps, evals = run_log.read(directory, "train"), run_log.read(directory, "eval")
    tokens = lengths.measured(directory / run_log.ROLLOUTS)
    seconds = sum(step["timing/step_total"] for step in steps)
    middle = steps[SETTLED:-SETTLED]
    phases = ("generation", "make_experience", "ppo_train", "broadcast")
    return {
        "groups_per_second": len(tokens) / K / seconds,
        "trained_tokens_per_second": float(tokens.sum()) / seconds,
        "step_seconds": median(step["timing/step_total"] for step in middle),
        "phases": {name: median(step[f"timing/{name}"] for step in middle) for name in phases},
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
            "train.micro_batch_size": 8,
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


# The engine alone


def engine_speed(start: Path, runs: Path) -> dict:
    """Median of REPEATS: tokens a second of n requests together, and of prefill."""
    done = runs / "engine.json"
    if not done.exists():
        progress("the engine's speeds")
        done.write_text(json.dumps(_measure_engine(start / "long_tail")) + "\n")
    return json.loads(done.read_text())


def _measure_engine(model: Path) -> dict:
    import ray
    from openrlhf.cli.train_ppo_ray import cpu_env_vars, local_cluster
    from openrlhf.trainer.ray.vllm_engine import RolloutRayActor

    ray.init(runtime_env={"env_vars": cpu_env_vars() | {"PYTHONPATH": str(Path(__file__).parent)}}, **local_cluster())
    engine = RolloutRayActor.options(num_cpus=1, num_gpus=1).remote(
        model=str(model),
        remote_rm_url=str(REWARD),
        worker_extension_cls="openrlhf.trainer.ray.vllm_worker_wrap.WorkerWrap",
        distributed_executor_backend="uni",
        dtype="float32",
        enforce_eager=True,
        max_model_len=CONTEXT,
        gpu_memory_utilization=0.1,
        num_gpus=1,
    )
    try:
        decode = [
            (n, median(ray.get(engine.run.remote(decode_rate, n=n, tokens=tokens)) for _ in range(REPEATS + 1)))
            for n, tokens in CONCURRENT.items()
        ]
        prefill = median(ray.get(engine.run.remote(prefill_rate, n=16, tokens=512)) for _ in range(REPEATS + 1))
    finally:
        ray.shutdown()
    return {"decode": decode, "prefill": prefill, "max_running": max(CONCURRENT)}


async def decode_rate(engine, n: int, tokens: int) -> float:
    """Tokens a second of n requests that each write as many, in the engine's process."""
    return n * tokens / await _seconds(engine, n, prompt_tokens=8, tokens=tokens)


async def prefill_rate(engine, n: int, tokens: int) -> float:
    return n * tokens / await _seconds(engine, n, prompt_tokens=tokens, tokens=1)


async def _seconds(engine, n: int, prompt_tokens: int, tokens: int) -> float:
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=tokens, min_tokens=tokens, ignore_eos=True, temperature=1.0, logprobs=1)
    began = time.perf_counter()
    prompts = [[4 + random.randrange(10) for _ in range(prompt_tokens)] for _ in range(n)]
    await asyncio.gather(*(engine.generate(prompt, params) for prompt in prompts))
    return time.perf_counter() - began


# The simulator


def simulate(measured: dict, speed: dict, known: np.ndarray) -> dict:
    """Predicted and measured seconds a step; known: [n] response lengths.

    Seconds of training and sync are those of the run with whole rollouts.
    """
    whole = measured["whole"]
    tokens = BATCH * K * whole["mean_tokens"]
    training = whole["phases"]["make_experience"] + whole["phases"]["ppo_train"]
    job = Job(
        speed=Speed(**speed),
        engines=1,
        batch=BATCH,
        k=K,
        prompt_tokens=9,
        train_rate=tokens / training,
        sync_seconds=whole["phases"]["broadcast"],
        lengths=lambda rng, size: rng.choice(known, size),
    )
    predicted = {
        "whole": synchronous(job, 60),
        "partial": partial(job, 60, segment_tokens=SEGMENT, in_flight=IN_FLIGHT),
    }
    rows = {}
    for variant, result in predicted.items():
        step, generation = median(result.step_seconds[SETTLED:]), median(result.generation_seconds[SETTLED:])
        of_run = measured[variant]
        rows[variant] = {
            "step_seconds": step,
            "generation_seconds": generation,
            "measured_step_seconds": of_run["step_seconds"],
            "measured_generation_seconds": of_run["phases"]["generation"],
            "error": step / of_run["step_seconds"] - 1,
        }
    return rows


if __name__ == "__main__":
    sys.exit(main())
