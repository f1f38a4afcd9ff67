"""Response lengths to simulate with: measured ones, or a log-normal distribution."""

import json
from pathlib import Path

import numpy as np


def log_normal(rng: np.random.Generator, size: int, *, mean: float, p99_over_mean: float, longest: int) -> np.ndarray:
    """[size] tokens, cut at `longest`.

    Args:
        mean, p99_over_mean: of the distribution before it is cut.

    Raises:
        ValueError: no log-normal distribution has that p99/mean: it lies between 1 and 15.
    """
    z = 2.3263  # the 99 % quantile of the normal distribution
    # p99/mean = exp(z σ − σ²/2): the smaller of the two solutions for σ.
    discriminant = z * z - 2 * np.log(p99_over_mean) if p99_over_mean > 0 else -1
    if discriminant < 0 or p99_over_mean <= 1:
        raise ValueError(f"p99/mean is {p99_over_mean}: for a log-normal distribution it lies between 1 and 15")
    sigma = z - np.sqrt(discriminant)
    lengths = rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, size)
    return np.clip(np.round(lengths), 1, longest)


def measured(path: str | Path) -> np.ndarray:
    """[n] tokens from a run's rollouts.jsonl, or from a text file with a number a line.

    Raises:
        ValueError: no length in it, or one that is not a number ≥ 1.
    """
    lengths = []
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: {error}; give a number of tokens a line") from error
        if isinstance(entry, dict):
            lengths += [r["tokens"] for sample in entry["samples"] for r in sample["responses"]]
        else:
            lengths.append(entry)
    if not lengths or min(lengths) < 1:
        raise ValueError(f"{path}: no response lengths ≥ 1 in it")
    return np.array(lengths, float)
