"""The held-out pass@1 curve of a run: results.json and curve.svg from its metrics.jsonl.

python plot.py runs/smollm2_word_problems/rl --held-out 160 --out examples/smollm2_word_problems
"""

import argparse
import json
import math
from pathlib import Path

from kimi_plugins import run_log

TRAIN_FIGURES = {
    "reward": "rollout/reward_mean",
    "zero_advantage_share": "kimi/zero_advantage_share",
    "kl": "kimi/kl_mean",
    "logprob_gap_abs": "kimi/logprob_gap_abs",
    "seconds": "timing/step_total",
}


def standard_error(pass1: float, pass2: float, problems: int) -> float:
    """Standard error of pass@1 over problems drawn at random, each answered twice.

    A problem's mean is 0, 1/2 or 1; pass1 and pass2 (either answer right) tell how often each occurs.
    """
    both, one = 2 * pass1 - pass2, 2 * (pass2 - pass1)
    variance = both + one / 4 - pass1**2
    return math.sqrt(max(0.0, variance) / (problems - 1))


def results(directory: Path, problems: int) -> dict:
    """The figures of metrics.jsonl that the README quotes."""
    evaluations = [
        {
            "step": record["step"],
            "pass1": record["eval_default_pass1"],
            "standard_error": standard_error(record["eval_default_pass1"], record["eval_default_pass2"], problems),
            "pass2": record["eval_default_pass2"],
            "response_tokens": record["eval_default_response_length_mean"],
            "cut_off": record["eval_truncated_rate"],
        }
        for record in run_log.read(directory, "eval")
    ]
    steps = [
        {"step": record["step"], **{name: record[key] for name, key in TRAIN_FIGURES.items()}}
        for record in run_log.read(directory, "train")
    ]
    return {"held_out_problems": problems, "samples_per_problem": 2, "evaluations": evaluations, "steps": steps}


def draw(figures: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    evaluations, steps = figures["evaluations"], figures["steps"]
    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.plot([row["step"] for row in steps], [row["reward"] for row in steps], color="0.75", label="training reward")
    axes.errorbar(
        [row["step"] for row in evaluations],
        [row["pass1"] for row in evaluations],
        yerr=[row["standard_error"] for row in evaluations],
        marker="o",
        capsize=3,
        label="held-out pass@1 ± standard error",
    )
    axes.set(xlabel="RL step", ylabel="share of right answers", ylim=(0, None))
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="directory with metrics.jsonl (ckpt.path)")
    parser.add_argument("--held-out", type=int, required=True, help="number of held-out problems")
    parser.add_argument("--out", type=Path, default=Path(), help="where results.json and curve.svg go")
    args = parser.parse_args()
    figures = results(args.run, args.held_out)
    (args.out / "results.json").write_text(json.dumps(figures, indent=1) + "\n")
    draw(figures, args.out / "curve.svg")
    for row in figures["evaluations"]:
        print(f"step {row['step']:3}  pass@1 {row['pass1']:.3f} ± {row['standard_error']:.3f}")


if __name__ == "__main__":
    main()
