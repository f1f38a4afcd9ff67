"""Which prompts are drawn, where the hardest are not solved at first and come many times (k1.5 §2.3.4, figure 9).

    python benchmarks/curriculum.py [--seeds 1 2 3] [--variants NAME ...] [--runs DIR] [--out FILE]

Sums of two numbers of one to four digits, a level each, worked out as in the quickstart, learned by mirror descent in
a plain torch loop, with the sampler of the plugins. Every variant starts from the same model of a seed and draws the
same number of prompts: thirty for each problem. A run that was done is not done again.
"""

import argparse
import itertools
import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from common import RESULTS, as_they_end, machine, progress, spread, write_json
from off_policy import FORMS, GROUPS, WARM_UP_RATE, K, advantages_of, loss_of
from plain_loop import ROOM, Decoder, Problem, evaluate, generate, kept, prompts_of, update, verdicts, warm_up

from kimi_plugins import options
from kimi_plugins.sampling import curriculum
from kimi_plugins.sampling.sampler import PromptSampler

LEVELS = (1, 2, 3, 4)  # digits of either number
CONTEXT = 2 * LEVELS[-1] + 2 + ROOM
WARM_UP, TRAINING, HELD_OUT = 2000, 64, 81  # problems of each level
PASSES = 30
ITERATIONS = PASSES * TRAINING * len(LEVELS) // GROUPS
EVERY = 15  # iterations from one evaluation to the next
STEPS, TAU, LEARNING_RATE = 4, 0.1, 3e-4  # of mirror_descent in off_policy.json; optimizer steps an iteration
SECOND = 0.15  # share of the second level at which the supervised warm-up stops
TARGET = 0.2  # held-out pass@1 of the second level that tokens are counted to; chosen after the runs
HALF = ITERATIONS // 2

VARIANTS = {
    "uniform": {"priority": "uniform"},
    "failure": {"priority": "failure"},
    "gradient": {"priority": "gradient"},
    "stages": {"priority": "uniform", "curriculum": "stages", "curriculum_steps": HALF},
    "hard_after": {"priority": "uniform", "curriculum": "hard_after", "hard_from": HALF},
    "stages_gradient": {"priority": "gradient", "curriculum": "stages", "curriculum_steps": HALF},
}


def problems_of(seed: int) -> tuple[list[Problem], list[Problem], list[Problem]]:
    """Problems of the warm-up, of training and held out, each from the easiest level to the hardest.

    No two are alike but of the easiest level, which has 81: those held out are seen in training, too.
    """
    rng, parts = random.Random(seed), ([], [], [])
    for digits in LEVELS:
        low, high = 10 ** (digits - 1), 10**digits
        sizes = (WARM_UP, TRAINING, HELD_OUT)
        if digits == 1:
            everything = [(a, b) for a in range(1, 10) for b in range(1, 10)]
            drawn = [rng.choices(everything, k=WARM_UP), rng.sample(everything, TRAINING), everything]
        else:
            found: dict[Problem, None] = {}
            while len(found) < sum(sizes):
                found[tuple(sorted(rng.randrange(low, high) for _ in range(2)))] = None
            ends = itertools.accumulate(sizes, initial=0)
            drawn = [list(found)[start:end] for start, end in itertools.pairwise(ends)]
        for part, problems in zip(parts, drawn, strict=True):
            part.extend(problems)
    return parts


def by_level(values: list[float]) -> list[float]:
    """The mean of each level."""
    size = len(values) // len(LEVELS)
    return [fmean(values[start : start + size]) for start in range(0, len(values), size)]


def solved(model: Decoder, problems: list[Problem], seed: int) -> list[float]:
    """Share solved of each level, at temperature 1."""
    return by_level(evaluate(model, problems, seed))


def warmed_up(seed: int, runs: Path) -> Decoder:
    """The model that all variants of a seed start from."""

    def train(model: Decoder) -> None:
        rng, (problems, training, _) = random.Random(seed), problems_of(seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=WARM_UP_RATE, betas=(0.9, 0.98))
        warm_up(model, optimizer, problems, rng, lambda step: solved(model, training, step)[1] >= SECOND)

    torch.manual_seed(seed)
    return kept(Decoder(context=CONTEXT), runs / f"start-{seed}.pt", train)


def run(variant: str, seed: int, runs: Path) -> dict:
    """Train, and return the curve: generated tokens and held-out pass@1 of each level, by iteration."""
    torch.set_num_threads(1)
    began = time.process_time()
    model, (_, training, held_out) = warmed_up(seed, runs), problems_of(seed)
    level = np.repeat(np.arange(len(LEVELS)), TRAINING)
    chosen = replace(options.Sampling(), **VARIANTS[variant])
    order = curriculum.easy_to_hard(level, seed) if chosen.curriculum != "none" else None
    sampler = PromptSampler(len(training), batch_size=GROUPS, seed=seed, options=chosen, order=order)
    rows = (row for _ in range(PASSES) for row in sampler)
    form, loss_function = FORMS["mirror_descent"], loss_of(FORMS["mirror_descent"], TAU)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    drawn, with_gradient, tokens_so_far = np.zeros(len(LEVELS), int), 0, 0
    points = [{"iteration": 0, "tokens": 0, "pass_at_1": solved(model, held_out, 0)}]
    for iteration in range(1, ITERATIONS + 1):
        batch = [next(rows) for _ in range(GROUPS)]
        repeated = [training[row] for row in batch for _ in range(K)]
        prompts, pads = prompts_of(repeated)
        tokens, mask = generate(model, prompts, pads, generator)
        rewards = verdicts(tokens, repeated).view(GROUPS, K)
        for row, success in zip(batch, rewards.mean(dim=1).tolist(), strict=True):
            sampler.observe(row, success)
        drawn += np.bincount(level[batch], minlength=len(LEVELS))
        with_gradient += int((rewards.std(dim=1) > 0).sum())
        tokens_so_far += int(mask.sum())
        advantages = advantages_of(form, rewards, TAU).flatten()  # [B]
        update(model, optimizer, loss_function, tokens, pads, mask, advantages, STEPS, generator)
        if iteration % EVERY == 0:
            points.append({"iteration": iteration, "tokens": tokens_so_far, "pass_at_1": solved(model, held_out, 0)})
    return {
        "variant": variant,
        "seed": seed,
        "points": points,
        "drawn_by_level": drawn.tolist(),
        "groups_with_gradient": with_gradient / (GROUPS * ITERATIONS),
        "cpu_seconds": time.process_time() - began,
    }


def _done(variant: str, seed: int, runs: Path) -> dict:
    path = runs / f"{variant}-{seed}.json"
    if not path.exists():
        path.write_text(json.dumps(run(variant, seed, runs)) + "\n")
    return json.loads(path.read_text())


def tokens_to(target: float, points: list[dict], level: int) -> float | None:
    """Generated tokens at the first point at which a level is solved as often as the target; None: never."""
    return next((point["tokens"] for point in points if point["pass_at_1"][level] >= target), None)


def final(points: list[dict]) -> list[float]:
    """Held-out pass@1 of each level, the mean of the last two points."""
    return [fmean(pair) for pair in zip(*(point["pass_at_1"] for point in points[-2:]), strict=True)]


def summary(runs: list[dict]) -> dict:
    """Of the seeds of one variant."""
    ends = [final(one["points"]) for one in runs]
    return {
        "start_by_level": [
            spread(list(values)) for values in zip(*(one["points"][0]["pass_at_1"] for one in runs), strict=True)
        ],
        "final_by_level": [spread(list(values)) for values in zip(*ends, strict=True)],
        "final": spread([fmean(levels) for levels in ends]),
        "tokens": spread([one["points"][-1]["tokens"] for one in runs]),
        "tokens_to_target": [tokens_to(TARGET, one["points"], level=1) for one in runs],  # by seed
        "groups_with_gradient": spread([one["groups_with_gradient"] for one in runs]),
        "drawn_by_level": np.mean([one["drawn_by_level"] for one in runs], axis=0).tolist(),
    }


def plot(results: dict[str, list[dict]], path: Path) -> None:
    """Held-out pass@1 over generated tokens: a panel a level, a line for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(LEVELS), figsize=(3.2 * len(LEVELS), 3.5), sharey=True, layout="constrained")
    lines = {}
    for level, axis in enumerate(axes):
        for number, (variant, runs) in enumerate(results.items()):
            for one in runs:
                x = [point["tokens"] / 1000 for point in one["points"]]
                y = [point["pass_at_1"][level] for point in one["points"]]
                (lines[variant],) = axis.plot(x, y, color=f"C{number}", linewidth=1)
        axis.set_title(f"digits: {LEVELS[level]}", fontsize=9)
        axis.set_xlabel("generated tokens, thousands")
    axes[0].set_ylabel("held-out pass@1")
    figure.legend(lines.values(), [name.replace("_", " ") for name in lines], fontsize=8, loc="outside right upper")
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/curriculum"))
    parser.add_argument("--out", type=Path, default=RESULTS / "curriculum.json")
    args = parser.parse_args()

    found = machine()
    args.runs.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        warmed_up(seed, args.runs)
    jobs = [(variant, seed, args.runs) for seed in args.seeds for variant in args.variants]
    results: dict[str, list[dict]] = {variant: [] for variant in args.variants}
    for number, one in enumerate(as_they_end(_done, jobs, args.workers), 1):
        results[one["variant"]].append(one)
        ends = ", ".join(f"{value:.2f}" for value in final(one["points"]))
        progress(f"{number}/{len(jobs)} {one['variant']}, seed {one['seed']}: {ends}")
    for runs in results.values():
        runs.sort(key=lambda one: one["seed"])
    conditions = {"levels": LEVELS, "training": TRAINING, "held_out": HELD_OUT, "passes": PASSES, "responses": K}
    conditions |= {
        "iterations": ITERATIONS,
        "steps": STEPS,
        "tau": TAU,
        "learning_rate": LEARNING_RATE,
        "target": TARGET,
    }
    rows = {variant: summary(runs) for variant, runs in results.items()}
    write_json(args.out, {"machine": found, "conditions": conditions, "variants": rows, "runs": results})
    plot(results, args.out.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
