"""The learning curves of results/ablations.json as results/ablations.svg, and its table as Markdown on stdout.

Median of the seeds, and their range.

python benchmarks/plot_ablations.py
"""

import argparse
import json
from pathlib import Path
from statistics import median

import matplotlib
from common import RESULTS

PANELS = {
    "Loss": ("mirror_descent", "mirror_descent_no_reset", "rest", "grpo", "dr_grpo"),
    "Baseline": ("mirror_descent_no_reset", "half_baseline_no_reset", "no_baseline_no_reset", "dr_grpo"),
    "Sampling": ("mirror_descent", "curriculum_stages", "curriculum_hard_after"),
    "Priorities": ("mirror_descent", "prioritized_failure", "prioritized_gradient"),
    "Length reward": ("length_off", "length_at_once", "length_after_warm_up", "length_at_once_wrong_spared"),
}


def draw(variants: dict, path: Path) -> None:
    """A row of held-out pass@1 and a row of response tokens over the generated tokens, a column for each panel."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(PANELS), figsize=(4 * len(PANELS), 7), sharex="col")
    for column, (title, names) in enumerate(PANELS.items()):
        for name in filter(variants.__contains__, names):
            for row, key in enumerate(("pass_at_1", "response_tokens")):
                _curve(axes[row][column], variants[name]["curves"], key, name)
        axes[0][column].set(title=title, ylim=(0, 1))
        axes[1][column].set(xlabel="generated tokens, thousands", ylim=(0, None))
        axes[1][column].legend(fontsize="small")
    axes[0][0].set_ylabel("held-out pass@1")
    axes[1][0].set_ylabel("held-out response tokens")
    figure.tight_layout()
    figure.savefig(path)


def _curve(axes, curves: list[list[dict]], key: str, label: str) -> None:
    points = list(zip(*curves, strict=True))  # by evaluation, of all seeds
    tokens = [median(point["generated_tokens"] for point in seeds) / 1000 for seeds in points]
    values = [[point[key] for point in seeds] for seeds in points]
    axes.plot(tokens, [median(seeds) for seeds in values], marker=".", label=label.replace("_", " "))
    axes.fill_between(tokens, [min(seeds) for seeds in values], [max(seeds) for seeds in values], alpha=0.15)


def table(variants: dict, target: float) -> str:
    rows = [
        f"| variant | held-out pass@1 at the end, % | tokens a response | thousand tokens to {target:.0%} |",
        "|---|---|---|---|",
    ]
    for name, found in variants.items():
        reached = found["tokens_to_target"]
        cells = [_spread(found["pass_at_1"], 100), _spread(found["response_tokens"])]
        cells.append("not reached" if reached is None else _spread(reached, 1e-3, 0))
        rows.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _spread(found: dict, scale: float = 1.0, digits: int = 1) -> str:
    middle, low, high = (f"{found[name] * scale:.{digits}f}" for name in ("median", "min", "max"))
    return f"{middle} ({low}–{high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "ablations.json")
    args = parser.parse_args()
    results = json.loads(args.results.read_text())
    draw(results["variants"], args.results.with_suffix(".svg"))
    print(table(results["variants"], results["target"]))


if __name__ == "__main__":
    main()
