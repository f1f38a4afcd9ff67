"""What the length reward does to lengths and accuracy, from a start of more than half right (k1.5 §2.3.3).

    python benchmarks/length_reward.py [--seeds 1 2 3] [--runs DIR] [--out FILE]

Sums of two numbers of two digits, worked out as in the quickstart, in a plain torch loop. The start of a seed was
shown right lines written again and again, words that do no work, and then learned without the length reward until more
than half of its responses were right. From there on every variant trains on the same prompts. A run that was done is
not done again.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from statistics import fmean

import torch
from common import RESULTS, as_they_end, machine, progress, spread, write_json
from off_policy import FORMS, GROUPS, WARM_UP_RATE, K, advantages_of, loss_of, problems_of
from plain_loop import Decoder, evaluate, generate, kept, prompts_of, update, verdicts, warm_up
from torch import Tensor

from kimi_plugins.length.reward import length_rewards, weight_at

REWRITTEN = 0.5  # chance that a demonstration writes a right line again, and then again
SHOWN = 0.2  # share of right answers at which the supervised warm-up stops
START = 0.6  # and at which the length reward may begin
ITERATIONS, EVERY = 32, 4
STEPS, TAU, LEARNING_RATE = 4, 0.1, 3e-4
FORM = FORMS["mirror_descent_half_baseline"]  # the defaults
WEIGHT = 0.2
VARIANTS = {
    "off": {"weight": 0.0},
    "at_once": {},
    "after_warm_up": {"warm_up_steps": ITERATIONS // 2},
    "at_once_wrong_spared": {"wrong": "spare"},
}


def train(model: Decoder, optimizer, problems: list, generator: torch.Generator, weight: float, wrong: str) -> int:
    """An iteration on these problems; returns the number of generated tokens."""
    repeated = [problem for problem in problems for _ in range(K)]
    prompts, pads = prompts_of(repeated)
    tokens, mask = generate(model, prompts, pads, generator)
    scores, lengths = (values.view(-1, K) for values in (verdicts(tokens, repeated), mask.sum(dim=-1)))
    graded = torch.ones_like(scores, dtype=torch.bool)
    rewards = scores + weight * length_rewards(lengths, scores, graded, wrong=wrong)
    advantages = advantages_of(FORM, rewards, TAU).flatten()  # [B]
    update(model, optimizer, loss_of(FORM, TAU), tokens, pads, mask, advantages, STEPS, generator)
    return int(mask.sum())


def measured(model: Decoder, problems: list) -> dict:
    """Held-out pass@1 at temperature 1, and tokens of all responses, of the right and of the wrong ones."""
    tokens, mask = generate(model, *prompts_of(problems), torch.Generator().manual_seed(0))
    right, lengths = verdicts(tokens, problems).bool(), mask.sum(dim=-1).float()
    return {
        "pass_at_1": right.float().mean().item(),
        "tokens": lengths.mean().item(),
        "right_tokens": _mean(lengths[right]),
        "wrong_tokens": _mean(lengths[~right]),
    }


def _mean(values: Tensor) -> float | None:
    return values.mean().item() if len(values) else None


def started(seed: int, runs: Path) -> Decoder:
    """The model that all variants of a seed start from."""

    def learn(model: Decoder) -> None:
        rng, (shown, training, _) = random.Random(seed), problems_of(seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=WARM_UP_RATE, betas=(0.9, 0.98))

        def right(step: int) -> float:
            return fmean(evaluate(model, training, step))

        warm_up(model, optimizer, shown, rng, lambda step: right(step) >= SHOWN, rewritten=REWRITTEN)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        generator = torch.Generator().manual_seed(seed)
        while right(0) < START:
            train(model, optimizer, rng.sample(shown, GROUPS), generator, 0.0, "penalise")

    torch.manual_seed(seed)
    return kept(Decoder(), runs / f"start-{seed}.pt", learn)


def run(variant: str, seed: int, runs: Path) -> dict:
    torch.set_num_threads(1)
    model, (_, training, held_out) = started(seed, runs), problems_of(seed)
    chosen = {"weight": WEIGHT, "warm_up_steps": 0, "wrong": "penalise"} | VARIANTS[variant]
    order, passes = random.Random(seed), GROUPS * ITERATIONS // len(training)
    stream = [problem for _ in range(passes) for problem in order.sample(training, len(training))]
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    generator, generated = torch.Generator().manual_seed(seed), 0
    points = [{"iteration": 0, "generated_tokens": 0} | measured(model, held_out)]
    for iteration in range(1, ITERATIONS + 1):
        problems = stream[(iteration - 1) * GROUPS : iteration * GROUPS]
        weight = weight_at(iteration, weight=chosen["weight"], warm_up_steps=chosen["warm_up_steps"], ramp_steps=0)
        generated += train(model, optimizer, problems, generator, weight, chosen["wrong"])
        if iteration % EVERY == 0:
            points.append({"iteration": iteration, "generated_tokens": generated} | measured(model, held_out))
    return {"variant": variant, "seed": seed, "points": points}


def _done(variant: str, seed: int, runs: Path) -> dict:
    path = runs / f"{variant}-{seed}.json"
    if not path.exists():
        path.write_text(json.dumps(run(variant, seed, runs)) + "\n")
    return json.loads(path.read_text())


def final(points: list[dict], name: str) -> float:
    """The mean of the last two points."""
    return fmean(point[name] for point in points[-2:])


def summary(runs: list[dict], off: list[dict]) -> dict:
    """Of the seeds of one variant, and against the same seed without the length reward. By seed in "all"."""
    names = ("pass_at_1", "tokens", "right_tokens", "wrong_tokens")
    pairs = [(one["points"], other["points"]) for one, other in zip(runs, off, strict=True)]
    return {name: spread([final(points, name) for points, _ in pairs]) for name in names} | {
        "points_gained": spread([100 * (final(a, "pass_at_1") - final(b, "pass_at_1")) for a, b in pairs]),
        "share_of_tokens": spread([final(a, "tokens") / final(b, "tokens") for a, b in pairs]),
    }


def plot(results: dict[str, list[dict]], path: Path) -> None:
    """Pass@1 and tokens a response over the iterations, a line for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    lines = {}
    for number, (variant, runs) in enumerate(results.items()):
        for one in runs:
            x = [point["iteration"] for point in one["points"]]
            for axis, name in zip(axes, ("pass_at_1", "tokens"), strict=True):
                (lines[variant],) = axis.plot(x, [p[name] for p in one["points"]], color=f"C{number}", linewidth=1)
    for axis, label in zip(axes, ("held-out pass@1", "tokens a response"), strict=True):
        axis.set_xlabel("iteration")
        axis.set_ylabel(label)
    figure.legend(lines.values(), [name.replace("_", " ") for name in lines], fontsize=8, loc="outside right upper")
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/length_reward"))
    parser.add_argument("--out", type=Path, default=RESULTS / "length_reward.json")
    args = parser.parse_args()

    found = machine()
    for seed in args.seeds:
        started(seed, args.runs)
    jobs = [(variant, seed, args.runs) for seed in args.seeds for variant in VARIANTS]
    results: dict[str, list[dict]] = {variant: [] for variant in VARIANTS}
    for number, one in enumerate(as_they_end(_done, jobs, args.workers), 1):
        results[one["variant"]].append(one)
        ends = f"{final(one['points'], 'pass_at_1'):.2f}, {final(one['points'], 'tokens'):.1f} tokens"
        progress(f"{number}/{len(jobs)} {one['variant']}, seed {one['seed']}: {ends}")
    for runs in results.values():
        runs.sort(key=lambda one: one["seed"])
    conditions = {"rewritten": REWRITTEN, "start": START, "iterations": ITERATIONS, "weight": WEIGHT}
    conditions |= {"groups": GROUPS, "responses": K, "steps": STEPS, "tau": TAU, "learning_rate": LEARNING_RATE}
    rows = {variant: summary(runs, results["off"]) for variant, runs in results.items()}
    write_json(args.out, {"machine": found, "conditions": conditions, "variants": rows, "runs": results})
    plot(results, args.out.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
