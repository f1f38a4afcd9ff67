"""Numbers of the log made ready for a chart: at most a thousand points, and None for what is not finite."""

import math
from operator import itemgetter

POINTS = 1000  # of one line: about the pixels of its panel


def values_of(records: list[dict], key: str) -> tuple[list[int], list[float | None]]:
    """The steps that have the metric and its values; NaN and infinity, which JSON cannot hold, become None."""
    points = [(record["step"], record[key]) for record in records if key in record]
    return [step for step, _ in points], [value if math.isfinite(value) else None for _, value in points]


def thin(values: list[float | None], limit: int = POINTS) -> list[int]:
    """The indices of at most `limit` values: first, last, and the lowest and the highest of equal stretches between.

    Peaks survive, which evenly spaced points would miss. A stretch without any number keeps one gap.
    """
    n = len(values)
    if n <= limit:
        return list(range(n))
    indices = {0, n - 1}
    stretches = limit // 2 - 1
    for i in range(stretches):
        stretch = range(i * n // stretches, (i + 1) * n // stretches)
        known = [(value, index) for index in stretch if (value := values[index]) is not None]
        indices |= {min(known)[1], max(known, key=itemgetter(0))[1]} if known else {stretch[0]}
    return sorted(indices)


def spaced(n: int, limit: int = POINTS) -> list[int]:
    """The indices of at most `limit` of n values, evenly spaced, with the first and the last."""
    if n <= limit:
        return list(range(n))
    return [round(i * (n - 1) / (limit - 1)) for i in range(limit)]


def not_finite(records: list[dict]) -> dict[str, int]:
    """How many values of each metric are NaN or infinite; metrics without any are left out."""
    counts: dict[str, int] = {}
    for record in records:
        for key, value in record.items():
            if isinstance(value, float) and not math.isfinite(value):
                counts[key] = counts.get(key, 0) + 1
    return counts
