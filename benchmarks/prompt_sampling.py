"""Drawing prompts by success rate: draws per second, bytes a prompt, and what the rules spend on hopeless prompts.

python benchmarks/prompt_sampling.py [--prompts 10000000] [--repeats 5] [--out FILE]
"""

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import RESULTS, machine, progress, spread, write_json

from kimi_plugins import options
from kimi_plugins.sampling.sampler import PromptSampler

BATCH_SIZES = (128, 1024)
SUCCESS = {"never tried": math.nan, "half solved": 0.5, "all solved": 1.0}  # mean weight 1, 0.55, the minimum 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=10_000_000)
    parser.add_argument("--draws", type=int, default=200_000, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "prompt_sampling.json")
    args = parser.parse_args()
    found = machine()
    speeds = [
        {"batch_size": size, "prompts": name, "draws_per_second": spread(_speeds(args, size, success))}
        for size in BATCH_SIZES
        for name, success in SUCCESS.items()
    ]
    sampler = _sampler(args.prompts, 128)
    held = sampler.rates.success.nbytes + sampler.rates.seen.nbytes + sampler.order.nbytes
    result = {
        "speeds": speeds,
        "bytes_per_prompt": held / args.prompts,
        "with_signal_share": {rule: spread(_signal_shares(rule, args.repeats)) for rule in ("failure", "gradient")},
    }
    write_json(args.out, {"machine": found, "prompts": args.prompts} | result)
    return 0


def _sampler(n: int, batch_size: int, seed: int = 0, **changed) -> PromptSampler:
    chosen = replace(options.Sampling(), curriculum="continuous", **changed)
    return PromptSampler(n, batch_size=batch_size, seed=seed, options=chosen, order=np.arange(n, dtype=np.int32))


def _speeds(args, batch_size: int, success: float) -> list[float]:
    """Draws, each followed by an update, per second."""
    sampler = _sampler(args.prompts, batch_size)
    sampler.rates.success[:] = success
    speeds = []
    for _ in range(args.repeats):
        draws = iter(sampler)
        began = time.perf_counter()
        for _ in range(args.draws):
            sampler.observe(next(draws), 1.0)
        speeds.append(round(args.draws / (time.perf_counter() - began)))
    progress(f"batch {batch_size}, success {success}: {speeds[-1]} draws with updates a second")
    return speeds


def _signal_shares(rule: str, seeds: int) -> list[float]:
    """Share of the drawn groups (k = 8) with unequal rewards: 2,000 prompts, 30 % of them out of reach.

    The others have success rates spread over (0, 1). 300 steps of 32 prompts under a policy that does not change.
    """
    shares = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        rates = np.where(rng.random(2000) < 0.3, 0.0, rng.random(2000))
        sampler = PromptSampler(2000, batch_size=32, seed=seed, options=replace(options.Sampling(), priority=rule))
        mixed = 0
        for _ in range(300):
            for row in (next_row for _, next_row in zip(range(32), sampler, strict=False)):
                right = rng.binomial(8, rates[row])
                mixed += 0 < right < 8
                sampler.observe(row, right / 8)
        shares.append(mixed / (300 * 32))
    progress(f"{rule}: {shares}")
    return shares


if __name__ == "__main__":
    sys.exit(main())
