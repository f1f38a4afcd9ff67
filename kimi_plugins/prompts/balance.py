"""As many prompts as the given shares of a column allow, drawn at random (k1.5 §2.1 balances disciplines)."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kimi_plugins.prompts.pipeline import rows_of

REST = "*"  # all values that are not named


def parse_shares(texts: list[str]) -> dict[str, float]:
    """From `algebra=0.4`; * is all other values together. Shares are relative to their sum.

    Raises:
        ValueError: one is not of this form, or not a number above 0.
    """
    shares: dict[str, float] = {}
    for text in texts:
        name, separator, value = text.rpartition("=")
        try:
            share = float(value)
        except ValueError:
            share = 0.0
        if not separator or not name or not 0 < share < float("inf"):
            raise ValueError(f"--shares {text}: write VALUE=SHARE with a share above 0, as algebra=0.4 or *=0.2")
        if name in shares:
            raise ValueError(f"--shares {text}: {name} has a share already")
        shares[name] = share
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def quotas(available: Counter, shares: dict[str, float]) -> dict[str, int]:
    """How many prompts of each value to keep: the most for which none has fewer than its share.

    Raises:
        ValueError: a value with a share has no prompt.
    """
    if missing := [name for name in shares if not available[name]]:
        raise ValueError(
            f"--shares: no prompt has the value {', '.join(missing)}; there are "
            f"{', '.join(f'{name} ({count})' for name, count in available.most_common(12))}"
        )
    total = min(available[name] / share for name, share in shares.items())
    return {name: min(available[name], max(1, round(total * share))) for name, share in shares.items()}


def balanced(previous: Path, column: str, shares: dict[str, float], seed: int) -> Iterator[tuple[dict, str | None]]:
    """Keeps a random choice of prompts; in memory are 2 bytes and a random order of one value a row.

    Raises:
        ValueError: see quotas.
    """
    names = [*shares] + ([] if REST in shares else [None])
    code_of = {name: code for code, name in enumerate(names)}
    rest = code_of.get(REST, len(names) - 1)
    codes = np.fromiter((code_of.get(str(row.get(column)), rest) for row in rows_of(previous)), dtype=np.int16)
    counts = np.bincount(codes, minlength=len(names))
    available = Counter({name: int(count) for name, count in zip(names, counts, strict=True) if name is not None})
    keep = np.zeros(len(codes), dtype=bool)
    generator = np.random.default_rng(seed)
    for name, quota in quotas(available, shares).items():
        rows = np.flatnonzero(codes == code_of[name])
        keep[generator.choice(rows, quota, replace=False)] = True
    for row, chosen in zip(rows_of(previous), keep, strict=True):
        value = row.get(column)
        if chosen:
            yield row, None
        elif str(value) in shares or REST in shares:
            yield row, f"above its share: {column} is {value}"
        else:
            yield row, f"no share: {column} is {value}"
