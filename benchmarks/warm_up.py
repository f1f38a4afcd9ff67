"""RL from a model warmed up by rejection sampling (`openrlhf kimi warmup`) against RL from that model as it was.

    python benchmarks/warm_up.py [--seeds 1 2 3] [--runs DIR] [--out FILE]

The base is the quickstart's model after its SFT, which works out half of its answers. It samples 8 responses to each
of 512 problems; the right ones that are worked out, at most two of a problem, are the warm-up set of a light SFT. Both
models are then trained by RL on other problems. The base gets as many more responses in RL as the warm-up set took
to sample, so that the curves can be compared at equal responses generated in all, or in RL alone. A finished run is
not run again. Writes FILE and, beside it, the curves as an SVG.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import matplotlib
from ablations import curve, warmed_up
from common import RESULTS, machine, openrlhf, progress, spread, write_json

from kimi_plugins.quickstart.run import CONFIGS, REWARD, StepFailed

PROBLEMS, N = 512, 8  # sampled for the warm-up set
WORKED_OUT = 12  # tokens: answers given at once are shorter
BATCH, K = 32, 8
STEPS = 24
MORE = PROBLEMS * N // (BATCH * K)  # iterations that take as many responses as the warm-up set
EVERY = 4  # iterations between evaluations


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, default=Path("runs/warm_up"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=RESULTS / "warm_up.json")
    args = parser.parse_args()

    found = machine()
    try:
        runs = {seed: run(seed, args.runs.resolve()) for seed in args.seeds}
    except (StepFailed, subprocess.CalledProcessError) as failure:
        print(f"warm_up: a run failed: {failure}", file=sys.stderr)
        return 1
    settings = {"problems": PROBLEMS, "n": N, "batch": BATCH, "k": K, "steps": STEPS, "more_steps_of_base": MORE}
    results = {"settings": settings, "summary": summarize(list(runs.values())), "runs": runs}
    write_json(args.out, {"machine": found, "seeds": args.seeds} | results)
    draw(list(runs.values()), args.out.with_suffix(".svg"))
    return 0


def draw(runs: list[dict], path: Path) -> None:
    """Held-out pass@1, median and range of the seeds, over RL iterations and over all responses generated."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    for name, sampled in (("base", 0), ("warmed_up", PROBLEMS * N)):
        points = list(zip(*(run[name] for run in runs), strict=True))  # by evaluation, of all seeds
        values = [[point["pass_at_1"] for point in seeds] for seeds in points]
        steps = [seeds[0]["step"] for seeds in points]
        for panel, x in zip(axes, (steps, [sampled + step * BATCH * K for step in steps]), strict=True):
            panel.plot(x, [median(seeds) for seeds in values], marker=".", label=name.replace("_", " "))
            panel.fill_between(x, [min(seeds) for seeds in values], [max(seeds) for seeds in values], alpha=0.15)
    axes[0].set(xlabel="RL iterations", ylabel="held-out pass@1", ylim=(0, 1))
    axes[1].set(xlabel="responses generated in all, warm-up set included")
    axes[1].legend()
    figure.tight_layout()
    figure.savefig(path)


def summarize(runs: list[dict]) -> dict:
    """Held-out pass@1 of both after as many RL iterations, and after as many responses generated in all."""

    def of(name: str, step: int) -> list[float]:
        return [point["pass_at_1"] for run in runs for point in run[name] if point["step"] == step]

    return {
        "before_rl": {"base": spread(of("base", 0)), "warmed_up": spread(of("warmed_up", 0))},
        "same_rl": {"base": spread(of("base", STEPS)), "warmed_up": spread(of("warmed_up", STEPS))},
        "same_responses": {"base": spread(of("base", STEPS + MORE)), "warmed_up": spread(of("warmed_up", STEPS))},
    }


def run(seed: int, runs: Path) -> dict:
    """What the warm-up set became, and the curves of both models."""
    directory = runs / f"seed-{seed}"
    start = warmed_up("additions", seed, runs)
    rows = (start / "train.jsonl").read_text().splitlines(keepends=True)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sampled.jsonl").write_text("".join(rows[:PROBLEMS]))
    (directory / "train.jsonl").write_text("".join(rows[PROBLEMS:]))
    model = _warm_up(start / "warm_up", directory, seed)
    return {
        "set": json.loads((directory / "set" / "summary.json").read_text()),
        "base": _train("base", start / "warm_up", STEPS + MORE, start, directory, seed),
        "warmed_up": _train("warmed_up", model, STEPS, start, directory, seed),
    }


def _warm_up(base: Path, directory: Path, seed: int) -> Path:
    model = directory / "warmed_up_model"
    if not (model / "tokenizer.json").exists():  # written last
        progress(f"warm-up set and SFT, seed {seed}")
        words = ["--model", base, "--out", directory / "set", "--as-is", "--n", N, "--keep", 2, "--seed", seed]
        words += ["--min-tokens", WORKED_OUT, "--max-new-tokens", 160, "--similarity", 1]
        with (directory / "set.log").open("w") as log:
            command = [
                sys.executable,
                "-m",
                "openrlhf.cli.main",
                "kimi",
                "warmup",
                directory / "sampled.jsonl",
                *words,
            ]
            subprocess.run(list(map(str, command)), check=True, stdout=log, stderr=log)
        flags = {
            "model.model_name_or_path": base,
            "data.dataset": directory / "set" / "warm_up.jsonl",
            "train.max_epochs": 2,
            "train.seed": seed,
            "adam.lr": 3e-4,
            "ckpt.output_dir": model,
            "ckpt.path": directory / "sft_checkpoints",
        }
        openrlhf("sft", CONFIGS / "quickstart_sft.yaml", flags, directory / "sft.log")
    return model


def _train(name: str, model: Path, steps: int, start: Path, directory: Path, seed: int) -> list[dict]:
    path = directory / name
    done = path / "curve.json"
    if not done.exists():
        progress(f"RL, {name}, seed {seed}")
        shutil.rmtree(path, ignore_errors=True)
        flags = {
            "train.seed": seed,
            "actor.model_name_or_path": model,
            "actor.lr_scheduler": "constant",  # the runs are not equally long
            "data.prompt_dataset": directory / "train.jsonl",
            "data.max_samples": steps * BATCH,
            "eval.dataset": start / "held_out.jsonl",
            "eval.steps": EVERY,
            "reward.remote_url": REWARD,
            "ckpt.path": path,
            "ckpt.output_dir": path / "model",
        }
        openrlhf("train", CONFIGS / "quickstart_cpu.yaml", flags, path / "log.txt", plugins="kimi")
        done.write_text(json.dumps(curve(path)["points"]) + "\n")
    return json.loads(done.read_text())


if __name__ == "__main__":
    sys.exit(main())
