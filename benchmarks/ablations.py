"""What the recipe's parts do on the quickstart's task: mirror descent, its negatives, curriculum, priorities.

    python benchmarks/ablations.py [--seeds 1 2 3] [--variants NAME ...] [--runs DIR] [--out FILE]

Every variant starts from the same warmed-up model of a seed, sees the same prompts and generates the same number of
responses. Prompts come three times each, so that success rates can be known. A finished run is not run again: stop
and go on as you like. Needs nothing but the project's environment.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from common import RESULTS, machine, progress, spread, write_json

from kimi_plugins import run_log
from kimi_plugins.quickstart.run import CONFIGS, REWARD

STEPS = 48
BATCH = {"rollout.batch_size": 32, "data.max_samples": 512, "train.num_episodes": 3, "eval.steps": 8}
TARGET = 0.7  # held-out pass@1 that the tokens are counted to
OPENRLHF = {"plugins": "kimi-log"}
KIMI = {"plugins": "kimi"}
HARDER = {"kimi.sampling.curriculum_steps": STEPS // 2, "kimi.sampling.hard_from": STEPS // 2}
VARIANTS = {
    "mirror_descent": KIMI,
    "rest": KIMI | {"kimi.policy.baseline": "none"},
    "grpo": OPENRLHF | {"algo.advantage.estimator": "group_norm"},
    "dr_grpo": OPENRLHF,
    "curriculum_stages": KIMI | HARDER | {"kimi.sampling.curriculum": "stages"},
    "curriculum_hard_after": KIMI | HARDER | {"kimi.sampling.curriculum": "hard_after"},
    "prioritized_failure": KIMI | {"kimi.sampling.priority": "failure"},
    "prioritized_gradient": KIMI | {"kimi.sampling.priority": "gradient"},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), help="where the runs go")
    parser.add_argument(
        "--warm-ups", type=Path, default=Path("runs/benchmark_quickstart"), help="benchmarks/quickstart.py's runs"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "ablations.json")
    args = parser.parse_args()

    found, results = machine(), {}
    for name in args.variants:
        curves = [run(name, seed, args.warm_ups / f"seed-{seed}", args.runs) for seed in args.seeds]
        results[name] = summarize(curves)
        write_json(args.out, {"machine": found, "seeds": args.seeds, "target": TARGET, "variants": results})
    return 0


def run(variant: str, seed: int, warm_up: Path, runs: Path) -> list[dict]:
    """The learning curve of one run: step, generated tokens so far, held-out pass@1 and response tokens."""
    directory = runs / variant / f"seed-{seed}"
    done = directory / "curve.json"
    if not done.exists():
        if not (warm_up / "warm_up" / "tokenizer.json").exists():
            sys.exit(
                f"ablations: no warmed-up model in {warm_up}: run benchmarks/quickstart.py first, or give --warm-ups"
            )
        progress(f"{variant}, seed {seed}")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        with (directory / "log.txt").open("w") as log:
            subprocess.run(_command(variant, seed, warm_up, directory), check=True, stdout=log, stderr=log)
        done.write_text(json.dumps(_curve(directory)) + "\n")
    return json.loads(done.read_text())


def _command(variant: str, seed: int, warm_up: Path, directory: Path) -> list[str]:
    flags = BATCH | VARIANTS[variant]
    plugins = flags.pop("plugins")
    if plugins == "kimi-log":  # the file's kimi.* flags are unknown without the plugins that add them
        flags["config"] = _without_kimi(directory)
    flags = (
        {"config": CONFIGS / "quickstart_cpu.yaml"}
        | flags
        | {
            "train.seed": seed,
            "actor.model_name_or_path": warm_up / "warm_up",
            "data.prompt_dataset": warm_up / "train.jsonl",
            "eval.dataset": warm_up / "held_out.jsonl",
            "reward.remote_url": REWARD,
            "ckpt.path": directory,
            "ckpt.output_dir": directory / "model",
        }
    )
    words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "openrlhf.cli.main", "train", "--plugins", plugins, *words]


def _without_kimi(directory: Path) -> Path:
    import yaml

    config = yaml.safe_load((CONFIGS / "quickstart_cpu.yaml").read_text())
    del config["kimi"]
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _curve(directory: Path) -> list[dict]:
    tokens, total = {0: 0}, 0
    for record in run_log.read(directory, "train"):
        total += round(record["rollout/response_length_mean"] * record["rollout/num_samples"])
        tokens[record["step"]] = total
    return [
        {
            "step": record["step"],
            "generated_tokens": tokens[record["step"]],
            "pass_at_1": record["eval_default_pass1"],
            "response_tokens": record["eval_response_length_mean"],
        }
        for record in run_log.read(directory, "eval")
    ]


def tokens_to(target: float, curve: list[dict]) -> float | None:
    """Generated tokens at which the curve first reaches `target`, linear between evaluations; None if it does not."""
    before = curve[0]
    for point in curve:
        if point["pass_at_1"] >= target:
            rise = point["pass_at_1"] - before["pass_at_1"]
            share = (target - before["pass_at_1"]) / rise if rise > 0 else 1.0
            return before["generated_tokens"] + share * (point["generated_tokens"] - before["generated_tokens"])
        before = point
    return None


def summarize(curves: list[list[dict]]) -> dict:
    reached = [tokens_to(TARGET, curve) for curve in curves]
    return {
        "pass_at_1": spread([curve[-1]["pass_at_1"] for curve in curves]),
        "response_tokens": spread([curve[-1]["response_tokens"] for curve in curves]),
        "tokens_to_target": None if None in reached else spread(reached),
        "seeds_that_reach_it": len(reached) - reached.count(None),
        "curves": curves,
    }


if __name__ == "__main__":
    sys.exit(main())
