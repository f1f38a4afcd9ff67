"""Which loss learns from few generated tokens when many optimizer steps are made on one batch of rollouts.

    python benchmarks/off_policy.py search --steps 16 [--forms NAME ...] [--rates 1e-3] [--taus 0.1 1]
    python benchmarks/off_policy.py confirm --seeds 1 2 3 --steps 4 16 64 [--start twentieth] --like 16 fifth
    python benchmarks/off_policy.py report [--out FILE]         # JSON and figure of all that was run

Sums of two numbers of two digits, worked out as in the quickstart, with the loss functions of the plugins and of
OpenRLHF in a plain torch loop: a run takes some ten seconds of one core. `search` runs one seed of each form at all
settings that it is given, by default three learning rates times three values of the one number it has (τ, or the width
of its clipping); `confirm` runs each form at its best settings, of the same regime or of another. A run that was done
is not done again.
"""

import argparse
import hashlib
import itertools
import json
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

import torch
from common import RESULTS, as_they_end, machine, progress, spread, write_json
from plain_loop import Decoder, evaluate, generate, prompts_of, update, verdicts, warm_up
from torch import Tensor

from kimi_plugins.policy.advantages import group_advantages, linked_advantages, success_scale
from kimi_plugins.policy.mirror_descent import MirrorDescentLoss
from kimi_plugins.policy.optimizer_reset import reset_optimizer

GROUPS, K = 32, 8  # prompts an iteration, responses a prompt
ITERATIONS = 16  # unless others are asked for
TRAINING = 256  # problems; each comes twice in 16 iterations
HELD_OUT = 512
EVERY = 4  # iterations from one evaluation to the next
STARTS = {"twentieth": 0.05, "fifth": 0.2}  # share of right answers at which the supervised warm-up stops
WARM_UP_RATE = 5e-3
TARGET = 0.7  # held-out pass@1 that tokens are counted to
LEARNING_RATES = (1e-3, 3e-4, 3e-3)  # in the order in which the search tries them
TAUS = (0.01, 0.1, 1.0)
COLLAPSE = 0.1  # below the best point so far, at the end


# The forms


@dataclass(frozen=True)
class Form:
    """One way to train. number: the values of its own hyperparameter, [0] if it has none."""

    baseline: str = "mean"
    scale: str = "1"  # of the baseline above the lowest reward: a number, or the success rate of group or batch
    loss: str = "k1.5"  # k1.5, k2.5, ppo, gspo or plain
    number: tuple[float, ...] = TAUS
    length_normalization: bool = False
    normalized: bool = False  # advantages divided by their group's standard deviation
    reset: bool = False


CLIP = (0.05, 0.2, 0.8)
FORMS = {
    "mirror_descent": Form(),
    "mirror_descent_reset": Form(reset=True),
    "mirror_descent_half_baseline": Form(scale="0.5"),
    "mirror_descent_lowest_baseline": Form(scale="0"),
    "mirror_descent_rising_baseline": Form(scale="batch"),
    "mirror_descent_no_baseline": Form(baseline="none"),
    "mirror_descent_log_z": Form(baseline="log_z"),
    "openkimi_pmd_mean": Form(baseline="leave_one_out", length_normalization=True),
    "openkimi_rising_baseline": Form(scale="batch", length_normalization=True),
    "k2.5": Form(loss="k2.5"),
    "dr_grpo": Form(loss="ppo", number=CLIP),
    "dr_grpo_unclipped": Form(loss="plain", number=(0.0,)),
    "group_norm": Form(loss="ppo", number=CLIP, normalized=True),
    "gspo": Form(loss="gspo", number=(0.002, 0.02, 0.2), normalized=True),
    "rest": Form(baseline="none", loss="plain", number=(0.0,)),
}
OURS = [name for name, form in FORMS.items() if form.loss in ("k1.5", "k2.5")]


def advantages_of(form: Form, rewards: Tensor, tau: float) -> Tensor:
    """[P, k] of the verdicts [P, k]."""
    if form.scale in ("group", "batch"):
        linked = [[number] for number in range(len(rewards))]
        scale = success_scale(rewards, torch.ones_like(rewards, dtype=torch.bool), linked, over=form.scale)
        return linked_advantages(rewards, linked, baseline=form.baseline, tau=tau, scale=scale)
    found = group_advantages(rewards, baseline=form.baseline, tau=tau, scale=float(form.scale))
    return found / (rewards.std(dim=-1, keepdim=True) + 1e-9) if form.normalized else found  # as OpenRLHF does


def loss_of(form: Form, number: float):
    """The loss, called as OpenRLHF calls its PolicyLoss."""
    if form.loss in ("k1.5", "k2.5"):
        token = form.loss == "k2.5"
        return MirrorDescentLoss(
            tau=number,
            max_log_ratio=100.0,
            log_ratio="token" if token else "sequence",
            token_level_loss=token,
            form=form.loss,
            length_normalization=form.length_normalization,
        )
    from openrlhf.models.loss import PolicyLoss  # seconds to import

    width = number or 1e6  # "plain": nothing is clipped
    kind = "gspo" if form.loss == "gspo" else "ppo"
    return PolicyLoss(clip_eps_low=min(width, 1.0), clip_eps_high=width, policy_loss_type=kind)


# Runs


@dataclass(frozen=True)
class Job:
    form: str
    number: float
    learning_rate: float
    steps: int  # optimizer steps an iteration
    start: str
    seed: int
    iterations: int = ITERATIONS

    def path(self, runs: Path) -> Path:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return runs / f"{self.form}-{digest}.json"


def problems_of(seed: int) -> tuple[list, list, list]:
    """Problems of the warm-up, of training and held out: sums of two numbers of two digits, no two alike."""
    found = [(a, b) for a in range(10, 100) for b in range(a, 100)]
    random.Random(seed).shuffle(found)
    return found[:2000], found[2000 : 2000 + TRAINING], found[-HELD_OUT:]


def warmed_up(start: str, seed: int, runs: Path) -> Decoder:
    """The model at one of STARTS; those of a seed are made in one go, once."""
    model, path = Decoder(), runs / f"start-{start}-{seed}.pt"
    if not path.exists():
        runs.mkdir(parents=True, exist_ok=True)
        _warm_up(seed, runs)
    model.load_state_dict(torch.load(path))
    return model


def _warm_up(seed: int, runs: Path) -> None:
    torch.manual_seed(seed)
    model, rng, (problems, training, _) = Decoder(), random.Random(seed), problems_of(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=WARM_UP_RATE, betas=(0.9, 0.98))
    for start, share in STARTS.items():
        warm_up(
            model, optimizer, problems, rng, lambda step, share=share: fmean(evaluate(model, training, step)) >= share
        )
        torch.save(model.state_dict(), runs / f"start-{start}-{seed}.pt")


def run(job: Job, runs: Path) -> dict:
    """Train, and return the job with its curve: generated tokens, held-out pass@1, drift, by iteration."""
    torch.set_num_threads(1)
    began = time.process_time()
    form, model = FORMS[job.form], warmed_up(job.start, job.seed, runs)
    _, training, held_out = problems_of(job.seed)
    order, passes = random.Random(job.seed), GROUPS * job.iterations // TRAINING
    stream = [problem for _ in range(passes) for problem in order.sample(training, len(training))]
    generator = torch.Generator().manual_seed(job.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=job.learning_rate)
    loss_function = loss_of(form, job.number)
    generated = 0
    points = [{"iteration": 0, "tokens": 0, "pass_at_1": fmean(evaluate(model, held_out, 0)), "drift": 0.0}]
    drift: list[float] = []  # mean |Δ| of each iteration since the last point, nats
    for iteration in range(job.iterations):
        chosen = stream[iteration * GROUPS : (iteration + 1) * GROUPS]
        repeated = [problem for problem in chosen for _ in range(K)]
        prompts, pads = prompts_of(repeated)
        tokens, mask = generate(model, prompts, pads, generator)
        generated += int(mask.sum())
        rewards = verdicts(tokens, repeated).view(GROUPS, K)
        advantages = advantages_of(form, rewards, job.number or 1.0).flatten()  # [B]
        if form.reset:
            reset_optimizer(optimizer)
        drift.append(update(model, optimizer, loss_function, tokens, pads, mask, advantages, job.steps, generator))
        if (iteration + 1) % EVERY == 0:
            score = fmean(evaluate(model, held_out, 0))
            points.append({"iteration": iteration + 1, "tokens": generated, "pass_at_1": score, "drift": fmean(drift)})
            drift = []
    eight = evaluate(model, held_out[: HELD_OUT // 4], 1, samples=8)
    found = {"pass_at_8": fmean(float(share > 0) for share in eight), "cpu_seconds": time.process_time() - began}
    return {"job": asdict(job), "points": points} | found


def _done(job: Job, runs: Path) -> dict:
    path = job.path(runs)
    if not path.exists():
        result = run(job, runs)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result) + "\n")
    return json.loads(path.read_text())


def run_all(jobs: list[Job], runs: Path, workers: int) -> list[dict]:
    """The results of the jobs, those done before taken up, in no order."""
    for start, seed in {(job.start, job.seed) for job in jobs}:
        warmed_up(start, seed, runs)
    results = []
    for number, result in enumerate(as_they_end(_done, [(job, runs) for job in jobs], workers), 1):
        results.append(result)
        job, score = result["job"], final(result)
        progress(f"{number}/{len(jobs)} {job['form']} {job['number']:g} lr {job['learning_rate']:g}: {score:.3f}")
    return results


# Results


def final(result: dict) -> float:
    """Held-out pass@1, the mean of the last two points."""
    return fmean(point["pass_at_1"] for point in result["points"][-2:])


def area(result: dict) -> float:
    """Mean held-out pass@1 over the generated tokens, by the trapezium rule: what the search chooses by."""
    pairs = itertools.pairwise(result["points"])
    total = sum((b["tokens"] - a["tokens"]) * (a["pass_at_1"] + b["pass_at_1"]) / 2 for a, b in pairs)
    return total / result["points"][-1]["tokens"]


def tokens_to(result: dict, target: float) -> float:
    """Generated tokens at which the held-out pass@1 is first at the target, between the points; inf if never."""
    for a, b in itertools.pairwise(result["points"]):
        if b["pass_at_1"] >= target > a["pass_at_1"]:
            share = (target - a["pass_at_1"]) / (b["pass_at_1"] - a["pass_at_1"])
            return a["tokens"] + share * (b["tokens"] - a["tokens"])
    return math.inf


def collapsed(result: dict) -> bool:
    return final(result) < max(point["pass_at_1"] for point in result["points"]) - COLLAPSE


def search_jobs(
    forms: list[str],
    steps: int,
    start: str,
    seed: int,
    rates: list[float],
    taus: list[float],
    iterations: int = ITERATIONS,
) -> list[Job]:
    return [
        Job(name, number, rate, steps, start, seed, iterations)
        for rate in rates
        for name in forms
        for number in FORMS[name].number
        if number in taus or FORMS[name].number != TAUS
    ]


def confirm_jobs(
    forms: list[str],
    steps: int,
    start: str,
    seeds: list[int],
    results: list[dict],
    like: tuple[int, str] | None,
    iterations: int = ITERATIONS,
) -> list[Job]:
    """like: (optimizer steps, start) of the search, of 16 iterations, to take settings from; None: this regime's own.

    Raises:
        SystemExit: a form that was not run there.
    """
    source, settings = (*like, ITERATIONS) if like else (steps, start, iterations), best_settings(results)
    if missing := [name for name in forms if (*source, name) not in settings]:
        raise SystemExit(f"search first: {', '.join(missing)} with {source[0]} steps from {source[1]}")
    return [Job(name, *settings[*source, name], steps, start, seed, iterations) for name in forms for seed in seeds]


def load(runs: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(runs.glob("*.json"))]


REGIME = ("steps", "start", "iterations")


def best_settings(results: list[dict]) -> dict[tuple[int, str, int, str], tuple[float, float]]:
    """{(*REGIME, form): (number, learning rate)}: run with most seeds, and of those of the largest area."""
    found: dict[tuple[int, str, int, str], dict[tuple[float, float], list[float]]] = {}
    for result in results:
        job = result["job"]
        tried = found.setdefault((*(job[key] for key in REGIME), job["form"]), {})
        tried.setdefault((job["number"], job["learning_rate"]), []).append(area(result))
    return {
        key: max(tried, key=lambda setting, tried=tried: (len(tried[setting]), fmean(tried[setting])))
        for key, tried in found.items()
    }


def runs_of(chosen: dict, results: list[dict]) -> list[dict]:
    """Those with the settings of `chosen`, by seed."""
    keys = (*REGIME, "form", "number", "learning_rate")
    found = [one for one in results if all(one["job"][key] == chosen[key] for key in keys)]
    return sorted(found, key=lambda one: one["job"]["seed"])


def summary(results: list[dict]) -> list[dict]:
    """A row for each regime and form at its best settings, over all seeds that were run with them."""
    rows = []
    for (*values, form), (number, rate) in sorted(best_settings(results).items()):
        regime = dict(zip(REGIME, values, strict=True)) | {"form": form}
        chosen = regime | {"number": number, "learning_rate": rate}
        of_form = runs_of(chosen, results)
        reached = [tokens_to(one, TARGET) for one in of_form]
        tried = [one for one in results if {key: one["job"][key] for key in regime} == regime]
        rows.append(
            chosen
            | {
                "seeds": [one["job"]["seed"] for one in of_form],
                "final": spread([final(one) for one in of_form]),
                "area": spread([area(one) for one in of_form]),
                "pass_at_8": spread([one["pass_at_8"] for one in of_form]),
                "tokens_to_target": [tokens if math.isfinite(tokens) else None for tokens in reached],  # by seed
                "drift": median(fmean(point["drift"] for point in one["points"][1:]) for one in of_form),
                "collapsed": sum(map(collapsed, of_form)),
                "collapsed_in_search": sum(map(collapsed, tried)) / len(tried),
                "settings_tried": len({(one["job"]["number"], one["job"]["learning_rate"]) for one in tried}),
            }
        )
    return rows


def table(rows: list[dict]) -> str:
    """Markdown, a line for each form with several seeds: median (range); the tokens of each seed that gets there."""
    lines = [
        "| start | iterations × steps | form | held-out pass@1 at the end, % | mean over the run, % "
        f"| thousand tokens to {TARGET:.0%} | pass@8, % | drift, nats | collapsed |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        if (seeds := len(row["seeds"])) > 1:
            reached = [tokens / 1000 for tokens in row["tokens_to_target"] if tokens is not None]
            words = [str(round(tokens)) for tokens in sorted(reached)] + ["–"] * (seeds - len(reached))
            cells = [row["start"], f"{row['iterations']} × {row['steps']}", row["form"].replace("_", " ")]
            cells += [_cell(row["final"]), _cell(row["area"]), ", ".join(words), _cell(row["pass_at_8"])]
            cells += [f"{row['drift']:.2f}", f"{row['collapsed']} of {seeds}"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _cell(found: dict) -> str:
    low, middle, high = (100 * found[key] for key in ("min", "median", "max"))
    return f"{middle:.1f} ({low:.1f}–{high:.1f})"


def plot(results: list[dict], path: Path) -> None:
    """Held-out pass@1 over generated tokens: a panel a regime, a line for each seed of the forms that have several."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in summary(results) if len(row["seeds"]) > 1]
    regimes = sorted({tuple(row[key] for key in REGIME) for row in rows}, key=lambda regime: regime[::-1])
    names = [name for name in FORMS if name in {row["form"] for row in rows}]
    figure, axes = plt.subplots(
        1, len(regimes), figsize=(4 * len(regimes), 4), sharey=True, squeeze=False, layout="constrained"
    )
    lines = {}
    for axis, regime in zip(axes[0], regimes, strict=True):
        for row in (row for row in rows if tuple(row[key] for key in REGIME) == regime):
            style = "-" if row["form"] in OURS else "--"
            for one in runs_of(row, results):
                x, y = zip(*((point["tokens"] / 1000, point["pass_at_1"]) for point in one["points"]), strict=True)
                (lines[row["form"]],) = axis.plot(x, y, style, color=f"C{names.index(row['form'])}", linewidth=1)
        steps, start, iterations = regime
        axis.set_title(f"{iterations} iterations of {steps} optimizer steps, start: a {start} right", fontsize=8)
        axis.set_xlabel("generated tokens, thousands")
    axes[0][0].set_ylabel("held-out pass@1")
    figure.legend(lines.values(), lines.keys(), fontsize=7, loc="outside right upper")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("search", "confirm", "report"))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16, 64], help="optimizer steps an iteration")
    parser.add_argument("--start", choices=STARTS, default="fifth", help="share of right answers at the start")
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="the first is that of the search")
    parser.add_argument("--rates", type=float, nargs="+", default=LEARNING_RATES, help="learning rates of the search")
    parser.add_argument("--taus", type=float, nargs="+", default=TAUS, help="of the search")
    parser.add_argument("--like", nargs=2, metavar=("STEPS", "START"), help="confirm: where the settings come from")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/off_policy"))
    parser.add_argument("--out", type=Path, default=RESULTS / "off_policy.json")
    args = parser.parse_args()

    if args.what == "report":
        results = load(args.runs)
        conditions = {
            "groups": GROUPS,
            "responses": K,
            "training_problems": TRAINING,
            "held_out": HELD_OUT,
            "target": TARGET,
            "starts": STARTS,
        }
        rows = summary(results)
        write_json(args.out, {"machine": machine(), "conditions": conditions, "rows": rows, "runs": results})
        print(table(rows))
        plot(results, args.out.with_suffix(".svg"))
        return
    jobs: list[Job] = []
    for steps in args.steps:
        if args.what == "search":
            jobs += search_jobs(args.forms, steps, args.start, args.seeds[0], args.rates, args.taus, args.iterations)
        else:
            like = (int(args.like[0]), args.like[1]) if args.like else None
            done = load(args.runs)
            jobs += confirm_jobs(args.forms, steps, args.start, args.seeds, done, like, args.iterations)
    run_all(jobs, args.runs, args.workers)


if __name__ == "__main__":
    main()
