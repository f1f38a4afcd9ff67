"""What the recipe's parts do on the quickstart's task: mirror descent, its negatives, sampling, the length reward.

    python benchmarks/ablations.py [--seeds 1 2 3] [--variants NAME ...] [--runs DIR] [--out FILE]

Every variant starts from the same warmed-up model of a seed, sees the same problems and generates the same number of
responses. Problems come three times each, so that success rates can be known. The length reward's variants start from
a model whose demonstrations write right lines again and again: words that do no work. A finished run is not run
again: stop and go on as you like, also variant by variant. Needs nothing but the project's environment.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean

from common import RESULTS, machine, openrlhf, progress, spread, write_json

from kimi_plugins import run_log
from kimi_plugins.quickstart.run import CONFIGS, REWARD, StepFailed, make_inputs, warm_up

STEPS = 48
BATCH = {"rollout.batch_size": 32, "data.max_samples": 512, "train.num_episodes": 3, "eval.steps": 8}
TARGET = 0.7  # held-out pass@1 that the tokens are counted to
LAST = 8  # steps at the end of a run whose training metrics are averaged
REWRITTEN = {"additions": 0.0, "wordy": 0.5}  # by task: chance that a demonstration writes a right line again

OPENRLHF = {"task": "additions", "plugins": "kimi-log"}
DEFAULTS = {"task": "additions", "plugins": "kimi"}
KIMI = DEFAULTS | {"kimi.policy.baseline_scale": 1, "kimi.policy.optimizer_reset": "all"}  # the report's
NO_RESET = KIMI | {"kimi.policy.optimizer_reset": "none"}
NO_BASELINE = DEFAULTS | {"kimi.policy.baseline": "none"}
HARDER = {"kimi.sampling.curriculum_steps": STEPS // 2, "kimi.sampling.hard_from": STEPS // 2}
LENGTH = KIMI | {"task": "wordy", "kimi.length.weight": 0.2}
MANY_STEPS = {  # 16 optimizer steps an iteration, half the iterations
    "train.batch_size": 16,
    "train.micro_batch_size": 16,
    "data.max_samples": 256,
    "eval.steps": 4,
}
VARIANTS = {
    "mirror_descent": KIMI,
    "mirror_descent_no_reset": NO_RESET,
    "rest": NO_BASELINE | {"kimi.policy.optimizer_reset": "all"},
    "half_baseline_no_reset": DEFAULTS,
    "no_baseline_no_reset": NO_BASELINE,
    "grpo": OPENRLHF | {"algo.advantage.estimator": "group_norm"},
    "dr_grpo": OPENRLHF,
    "curriculum_stages": KIMI | HARDER | {"kimi.sampling.curriculum": "stages"},
    "curriculum_hard_after": KIMI | HARDER | {"kimi.sampling.curriculum": "hard_after"},
    "prioritized_failure": KIMI | {"kimi.sampling.priority": "failure"},
    "prioritized_gradient": KIMI | {"kimi.sampling.priority": "gradient"},
    "length_off": LENGTH | {"kimi.length.weight": 0},
    "length_at_once": LENGTH | {"kimi.length.warm_up_steps": 0},
    "length_after_warm_up": LENGTH | {"kimi.length.warm_up_steps": STEPS // 2},
    "length_at_once_wrong_spared": LENGTH | {"kimi.length.warm_up_steps": 0, "kimi.length.wrong": "spare"},
    "many_steps_half_baseline": DEFAULTS | MANY_STEPS,
    "many_steps_no_baseline": NO_BASELINE | MANY_STEPS,
    # Without a baseline and almost without the square: the log-likelihood of the right responses.
    "many_steps_rest": NO_BASELINE | MANY_STEPS | {"kimi.policy.tau": 0.001},
    "many_steps_gspo": OPENRLHF
    | MANY_STEPS
    | {
        "algo.advantage.estimator": "group_norm",
        "actor.policy_loss_type": "gspo",
        "actor.eps_clip": 0.02,  # as in off_policy.py
    },
    "many_steps_report": KIMI | MANY_STEPS,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=RESULTS / "ablations.json")
    args = parser.parse_args()

    found = machine()
    results = json.loads(args.out.read_text())["variants"] if args.out.exists() else {}
    try:
        for name in args.variants:
            results[name] = summarize([run(name, seed, args.runs.resolve()) for seed in args.seeds])
            ordered = {known: results[known] for known in VARIANTS if known in results}
            write_json(args.out, {"machine": found, "seeds": args.seeds, "target": TARGET, "variants": ordered})
    except (StepFailed, subprocess.CalledProcessError) as failure:
        print(f"ablations: a run failed: {failure}", file=sys.stderr)
        return 1
    return 0


def run(variant: str, seed: int, runs: Path) -> dict:
    """One run's learning curve and its last steps' lengths of right and of wrong responses."""
    directory = runs / variant / f"seed-{seed}"
    done = directory / "curve.json"
    if not done.exists():
        start = warmed_up(VARIANTS[variant]["task"], seed, runs)
        progress(f"{variant}, seed {seed}")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        _train(variant, seed, start, directory)
        done.write_text(json.dumps(curve(directory)) + "\n")
    return json.loads(done.read_text())


def warmed_up(task: str, seed: int, runs: Path) -> Path:
    """The directory with data and warmed-up model of a task, made if they are not there."""
    start = runs / "warm_ups" / task / f"seed-{seed}"
    make_inputs(start, seed, rewritten=REWRITTEN[task])
    warm_up(start, seed)
    return start


def _train(variant: str, seed: int, start: Path, directory: Path) -> None:
    flags = BATCH | VARIANTS[variant]
    del flags["task"]
    plugins = flags.pop("plugins")
    config = CONFIGS / "quickstart_cpu.yaml"
    if plugins == "kimi-log":  # the file's kimi.* flags are unknown without the plugins that add them
        config = _without_kimi(config, directory)
    flags |= {
        "train.seed": seed,
        "actor.model_name_or_path": start / "warm_up",
        "data.prompt_dataset": start / "train.jsonl",
        "eval.dataset": start / "held_out.jsonl",
        "reward.remote_url": REWARD,
        "ckpt.path": directory,
        "ckpt.output_dir": directory / "model",
    }
    openrlhf("train", config, flags, directory / "log.txt", plugins)


def _without_kimi(config: Path, directory: Path) -> Path:
    import yaml

    settings = yaml.safe_load(config.read_text())
    del settings["kimi"]
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def curve(directory: Path) -> dict:
    """points: step, generated tokens so far, held-out pass@1 and response tokens; correct_length, wrong_length."""
    records = run_log.read(directory, "train")
    tokens, total = {0: 0}, 0
    for record in records:
        total += round(record["rollout/response_length_mean"] * record["rollout/num_samples"])
        tokens[record["step"]] = total
    points = [
        {
            "step": record["step"],
            "generated_tokens": tokens[record["step"]],
            "pass_at_1": record["eval_default_pass1"],
            "response_tokens": record["eval_response_length_mean"],
        }
        for record in run_log.read(directory, "eval")
    ]
    lengths = {
        name: [record[key] for record in records[-LAST:] if key in record]
        for name in ("correct_length", "wrong_length")
        for key in (f"kimi/{name}_mean",)
    }
    return {"points": points} | {name: fmean(values) if values else None for name, values in lengths.items()}


def tokens_to(target: float, points: list[dict]) -> float | None:
    """Generated tokens at which the curve first reaches `target`, linear between evaluations; None if it does not."""
    before = points[0]
    for point in points:
        if point["pass_at_1"] >= target:
            rise = point["pass_at_1"] - before["pass_at_1"]
            share = (target - before["pass_at_1"]) / rise if rise > 0 else 1.0
            return before["generated_tokens"] + share * (point["generated_tokens"] - before["generated_tokens"])
        before = point
    return None


def summarize(curves: list[dict]) -> dict:
    reached = [tokens_to(TARGET, curve["points"]) for curve in curves]
    summary = {
        "pass_at_1": spread([curve["points"][-1]["pass_at_1"] for curve in curves]),
        "response_tokens": spread([curve["points"][-1]["response_tokens"] for curve in curves]),
        "tokens_to_target": None if None in reached else spread(reached),
        "seeds_that_reach_it": len(reached) - reached.count(None),
    }
    for name in ("correct_length", "wrong_length"):
        if all(curve[name] is not None for curve in curves):
            summary[name] = spread([curve[name] for curve in curves])
    return summary | {"curves": [curve["points"] for curve in curves]}


if __name__ == "__main__":
    sys.exit(main())
