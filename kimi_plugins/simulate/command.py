"""`openrlhf kimi simulate`: the three schedules on a described engine, as a table, JSON and a page."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial as given

import numpy as np

from kimi_plugins.data.files import replacing
from kimi_plugins.progress import progress
from kimi_plugins.simulate import lengths, page
from kimi_plugins.simulate.engine import Speed
from kimi_plugins.simulate.schedules import Job, Result, asynchronous, partial, synchronous

SETTLED = 0.25  # share of the steps, at the start, that no figure counts: the buffer fills up
SHARES = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # of the longest response: budgets to choose from
TRAIN_SHARES = (0.25, 0.375, 0.5)  # of the devices: asynchronous training gets the one that suits it best
NEAR_BEST = 0.97  # share of the best rate at which a larger budget, with fewer prefills, is the better one


def run(args: argparse.Namespace) -> int:
    try:
        draw, longest = _lengths(args)
        job = _job(args, draw)
    except (OSError, ValueError) as error:
        print(f"openrlhf kimi simulate: error: {error}", file=sys.stderr)
        return 2
    budgets = None
    if args.segment_tokens is None:
        budgets = scan(job, longest, args)
        args.segment_tokens = recommend(budgets)
    rows = [row for engines in args.engines for row in compare(job, engines, args)]
    result = {"segment_tokens": args.segment_tokens, "budgets": budgets, "rows": rows}
    args.out.mkdir(parents=True, exist_ok=True)
    with replacing(args.out / "simulation.json") as partial:
        partial.write_text(json.dumps(result, indent=2) + "\n")
    page.write(args.out / "simulation.html", result)
    print(table(rows))
    if budgets:
        print(f"recommended: kimi.rollout.segment_tokens {args.segment_tokens}")
    print(f"{args.out / 'simulation.json'}, {args.out / 'simulation.html'}")
    return 0


def _lengths(args: argparse.Namespace) -> tuple[Callable[[np.random.Generator, int], np.ndarray], float]:
    """What draws response lengths, and the longest there is, tokens."""
    if args.lengths:
        known = lengths.measured(args.lengths)
        return lambda rng, size: rng.choice(known, size), float(known.max())
    draw = given(lengths.log_normal, mean=args.mean, p99_over_mean=args.p99_over_mean, longest=args.longest)
    draw(np.random.default_rng(0), 1)  # raises what is wrong with the distribution
    return draw, args.longest


def _job(args: argparse.Namespace, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Job:
    """The job with one engine; raises ValueError naming the option that is wrong."""
    for name in ("prompts_per_engine", "k", "prompt_tokens", "train_rate", "in_flight", "steps"):
        if getattr(args, name) <= 0:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}: it must be > 0")
    if min(args.engines) < 2:
        raise ValueError(f"--engines is {min(args.engines)}: asynchronous training needs at least 2")
    if args.train_share is not None and not 0 < args.train_share < 1:
        raise ValueError(f"--train-share is {args.train_share}: it must be between 0 and 1")
    if args.sync_seconds < 0 or args.max_staleness < 0:
        raise ValueError("--sync-seconds and --max-staleness must not be negative")
    if args.segment_tokens is not None and args.segment_tokens < 1:
        raise ValueError(f"--segment-tokens is {args.segment_tokens}: it must be at least 1")
    try:
        described = json.loads(args.engine.read_text())
        speed = Speed([tuple(point) for point in described["decode"]], described["prefill"], described["max_running"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"--engine {args.engine}: {error!r}; see --help for what it must hold") from error
    return Job(
        speed=speed,
        engines=1,
        batch=args.prompts_per_engine,
        k=args.k,
        prompt_tokens=args.prompt_tokens,
        train_rate=args.train_rate,
        sync_seconds=args.sync_seconds,
        lengths=draw,
    )


def scan(job: Job, longest: float, args: argparse.Namespace) -> list[dict]:
    """What each budget gives on the smallest number of engines."""
    fleet = _fleet(job, min(args.engines))
    rows = []
    for share in progress(SHARES, desc="budgets", unit="budget"):
        budget = max(1, round(share * longest))
        result = partial(fleet, args.steps, args.seed, segment_tokens=budget, in_flight=args.in_flight)
        rows.append({"segment_tokens": budget} | figures(result, fleet))
    return rows


def recommend(budgets: list[dict]) -> int:
    """The largest budget about as fast as the fastest: fewer cuts, fewer prefills."""
    best = max(row["groups_per_second"] for row in budgets)
    return max(row["segment_tokens"] for row in budgets if row["groups_per_second"] >= NEAR_BEST * best)


def compare(job: Job, engines: int, args: argparse.Namespace) -> Iterator[dict]:
    """The three schedules on one number of engines, each with its rate over that of synchronous rollouts."""
    fleet = _fleet(job, engines)
    shares = TRAIN_SHARES if args.train_share is None else (args.train_share,)
    schedules = {
        "synchronous": lambda: synchronous(fleet, args.steps, args.seed),
        "partial": lambda: partial(
            fleet, args.steps, args.seed, segment_tokens=args.segment_tokens, in_flight=args.in_flight
        ),
        "asynchronous": lambda: min(
            (
                asynchronous(fleet, args.steps, args.seed, train_share=share, max_staleness=args.max_staleness)
                for share in shares
            ),
            key=lambda result: sum(result.step_seconds),
        ),
    }
    first = None
    for name, schedule in progress(schedules.items(), desc=f"{engines} engines", unit="schedule"):
        row = figures(schedule(), fleet)
        first = first or row["groups_per_second"]
        yield {"engines": engines, "schedule": name} | row | {"speed_up": row["groups_per_second"] / first}


def _fleet(job: Job, engines: int) -> Job:
    return replace(job, engines=engines, batch=job.batch * engines)


def figures(result: Result, job: Job) -> dict[str, float]:
    """Means over the steps after the buffer has filled."""
    start = int(SETTLED * len(result.step_seconds))
    seconds = result.step_seconds[start:]
    return {
        "step_seconds": float(np.mean(seconds)),
        "generation_seconds": float(np.mean(result.generation_seconds[start:])),
        "groups_per_second": job.batch * len(seconds) / sum(seconds),
        "utilisation": result.utilisation,
        "staleness": float(np.mean(result.staleness[start:])),
    }


def table(rows: list[dict]) -> str:
    lines = [
        f"{'engines':>7} {'schedule':<13}{'s a step':>9}{'groups/s':>10}{'faster':>8}{'utilised':>10}{'stale':>7}"
    ]
    for row in rows:
        lines.append(
            f"{row['engines']:>7} {row['schedule']:<13}{row['step_seconds']:>9.1f}{row['groups_per_second']:>10.3f}"
            f"{row['speed_up']:>7.2f}x{row['utilisation']:>10.0%}{row['staleness']:>7.2f}"
        )
    return "\n".join(["", *lines, "", "simulated; faster: groups a second over synchronous; stale: iterations"])
