"""Partial against whole rollouts on the real stack, on response lengths with a long tail; and the simulator beside.

    python benchmarks/partial_rollout.py [--seeds 1 2 3] [--runs DIR] [--out FILE]

A 1 M parameter model is warmed up to answer additions after a log-normal number of tokens that do no work. From it two
runs of each seed train on the same problems, one with whole rollouts, one with partial ones (kimi-rollout). Then the
engine's speeds are measured alone, and the simulator (`openrlhf kimi simulate`) predicts both runs from them. A
finished run is not run again: stop and go on as you like.
"""

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, median

import numpy as np
from common import RESULTS, machine, openrlhf, progress, spread, write_json

from kimi_plugins import run_log
from kimi_plugins.quickstart.arithmetic import ANSWER_CLOSE, ANSWER_OPEN, CHECK_OK, EOS, generate_problems, prompt
from kimi_plugins.quickstart.run import CONFIGS, REWARD
from kimi_plugins.simulate import lengths
from kimi_plugins.simulate.engine import Speed
from kimi_plugins.simulate.schedules import Job, partial, synchronous

TAIL = {"mean": 40, "p99_over_mean": 7, "longest": 1000}  # tokens before the answer
CONTEXT = 1056
DEMONSTRATIONS, TRAIN, HELD_OUT = 24_000, 1024, 200  # problems
BATCH, K = 32, 8
SEGMENT, IN_FLIGHT = 96, 2.0
VARIANTS = {
    "whole": {},
    "partial": {"kimi.rollout.segment_tokens": SEGMENT, "kimi.rollout.in_flight": IN_FLIGHT},
}
CONCURRENT = (1, 4, 16, 64, 128, 256)  # requests at which the engine's decode speed is measured
REPEATS = 3
SETTLED = 6  # steps until the buffer is full


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, default=Path("runs/partial_rollout"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=RESULTS / "partial_rollout.json")
    args = parser.parse_args()

    found, runs = machine(), args.runs.resolve()
    try:
        measured = {seed: {name: run(name, seed, runs) for name in VARIANTS} for seed in args.seeds}
        speed = engine_speed(_warmed_up(runs), runs)
    except subprocess.CalledProcessError as failure:
        print(f"partial_rollout: a run failed: {failure}", file=sys.stderr)
        return 1
    settings = {"tail": TAIL, "batch": BATCH, "k": K, "segment_tokens": SEGMENT, "in_flight": IN_FLIGHT}
    simulated = {seed: simulate(measured[seed], speed) for seed in args.seeds}
    results = {"settings": settings, "runs": summarize(measured), "engine": speed, "simulated": simulated}
    write_json(args.out, {"machine": found, "seeds": args.seeds} | results)
    return 0


def summarize(measured: dict[int, dict]) -> dict:
    """Of both variants over the seeds, and the ratios partial / whole within a seed."""
    names = ("groups_per_second", "trained_tokens_per_second", "step_seconds", "pass_at_1_after", "pass_at_1_before")
    summary = {
        variant: {name: spread([runs[variant][name] for runs in measured.values()]) for name in names}
        | {"response_tokens_p99_over_mean": spread([runs[variant]["p99_over_mean"] for runs in measured.values()])}
        for variant in VARIANTS
    }
    for name in ("groups_per_second", "trained_tokens_per_second"):
        ratios = [runs["partial"][name] / runs["whole"][name] for runs in measured.values()]
        summary[f"{name}_ratio"] = spread(ratios)
        progress(f"{name}: partial / whole {min(ratios):.2f} to {max(ratios):.2f}")
    return summary


# The runs


def run(variant: str, seed: int, runs: Path) -> dict:
    directory = runs / variant / f"seed-{seed}"
    done = directory / "measured.json"
    if not done.exists():
        start = _warmed_up(runs)
        progress(f"{variant}, seed {seed}")
        shutil.rmtree(directory, ignore_errors=True)
        flags = VARIANTS[variant] | {
            "train.seed": seed,
            "actor.model_name_or_path": start / "warm_up",
            "data.prompt_dataset": start / "train.jsonl",
            "data.max_len": CONTEXT,
            "data.max_samples": TRAIN,
            "rollout.max_new_tokens": TAIL["longest"] + 16,
            "rollout.batch_size": BATCH,
            "rollout.n_samples_per_prompt": K,
            "rollout.micro_batch_size": 8,  # without packing, a micro-batch is as long as its longest response
            "train.micro_batch_size": 8,
            "eval.dataset": start / "held_out.jsonl",
            "eval.steps": 1000,  # before and after
            "kimi.log.groups": BATCH,
            "reward.remote_url": REWARD,
            "ckpt.path": directory,
            "ckpt.output_dir": directory / "model",
        }
        openrlhf("train", CONFIGS / "quickstart_cpu.yaml", flags, directory / "log.txt", plugins="kimi")
        done.write_text(json.dumps(_measured(directory)) + "\n")
    return json.loads(done.read_text())


def _measured(directory: Path) -> dict:
    """End to end, from the first generation on: filling the buffer at the start and emptying it at the end count."""
    steps, evals = run_log.read(directory, "train"), run_log.read(directory, "eval")
    tokens = _response_lengths(directory)
    seconds = sum(step["timing/step_total"] for step in steps)
    middle = steps[SETTLED:-SETTLED]
    phases = ("generation", "make_experience", "ppo_train", "broadcast")
    return {
        "groups_per_second": len(tokens) / K / seconds,
        "trained_tokens_per_second": float(tokens.sum()) / seconds,
        "step_seconds": median(step["timing/step_total"] for step in middle),
        "phases": {name: median(step[f"timing/{name}"] for step in middle) for name in phases},
        "steps": len(steps),
        "pass_at_1_before": evals[0]["eval_default_pass1"],
        "pass_at_1_after": evals[-1]["eval_default_pass1"],
        "mean_tokens": float(tokens.mean()),
        "p99_over_mean": float(np.quantile(tokens, 0.99) / tokens.mean()),
        "longest": float(tokens.max()),
        "staleness_mean": fmean(step.get("kimi/staleness_mean", 0.0) for step in middle),
    }


def _response_lengths(directory: Path) -> np.ndarray:
    return lengths.measured(directory / run_log.ROLLOUTS)


def _warmed_up(runs: Path) -> Path:
    """The directory with data and warmed-up model, made if they are not there."""
    start = runs / "warm_up"
    if not (start / "warm_up" / "tokenizer.json").exists():  # written last
        progress("data, model and warm-up")
        start.mkdir(parents=True, exist_ok=True)
        _write_data(start)
        from kimi_plugins.quickstart.model import build_model

        build_model(start / "base", seed=1, context=CONTEXT)
        flags = {
            "model.model_name_or_path": start / "base",
            "data.dataset": start / "sft.jsonl",
            "data.max_len": CONTEXT,
            "data.max_samples": DEMONSTRATIONS,
            "train.micro_batch_size": 8,
            "ckpt.output_dir": start / "warm_up",
            "ckpt.path": start / "warm_up_checkpoints",
        }
        openrlhf("sft", CONFIGS / "quickstart_sft.yaml", flags, start / "warm_up.log")
    return start


def _write_data(directory: Path) -> None:
    shown = DEMONSTRATIONS // 8
    problems = generate_problems(shown + TRAIN + HELD_OUT, seed=1)
    fillers = lengths.log_normal(np.random.default_rng(1), DEMONSTRATIONS, **TAIL).astype(int).tolist()
    demonstrated = random.Random(1).sample(problems[:shown] * 8, DEMONSTRATIONS)
    rows = {
        "sft": [
            {"input": prompt(a, b), "output": f"{n * CHECK_OK}{ANSWER_OPEN}{a + b}{ANSWER_CLOSE}{EOS}"}
            for (a, b), n in zip(demonstrated, fillers, strict=True)
        ],
        "train": [{"input": prompt(a, b), "label": str(a + b)} for a, b in problems[shown : shown + TRAIN]],
        "held_out": [{"input": prompt(a, b), "label": str(a + b)} for a, b in problems[shown + TRAIN :]],
    }
    for name, part in rows.items():
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


# The engine alone


def engine_speed(start: Path, runs: Path) -> dict:
    """Median of REPEATS: tokens a second of n requests together, and of prefill."""
    done = runs / "engine.json"
    if not done.exists():
        progress("the engine's speeds")
        done.write_text(json.dumps(_measure_engine(start / "warm_up")) + "\n")
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
        dtype="bfloat16",
        enforce_eager=True,
        max_model_len=CONTEXT,
        gpu_memory_utilization=0.1,
        num_gpus=1,
    )
    try:
        decode = [
            (n, median(ray.get(engine.run.remote(decode_rate, n=n, tokens=64)) for _ in range(REPEATS + 1)))
            for n in CONCURRENT
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


def simulate(measured: dict, speed: dict) -> dict:
    """Predicted and measured seconds a step. Training and sync are taken from the run with whole rollouts."""
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
        lengths=lambda rng, size: lengths.log_normal(rng, size, **TAIL) + 8,
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
