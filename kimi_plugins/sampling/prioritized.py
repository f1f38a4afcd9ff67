"""Drawing prompts in proportion to a weight that follows their success rate (k1.5 §2.3.4).

No sum tree: a candidate is drawn uniformly and accepted with the probability of its weight, which lies in
[min_weight, 1]. That is exact, costs at most 1 / min_weight candidates a draw, and an update only stores the rate.
"""

from collections.abc import Iterable
from itertools import cycle, islice

import numpy as np

PRIORITIES = ("uniform", "failure", "gradient")


class SuccessRates:
    """The success rate s_i of each of n prompts over the run: 8 bytes a prompt.

    ema_decay: in [0, 1), the share of the old estimate that a new group keeps.
    """

    def __init__(self, n: int, ema_decay: float) -> None:
        self.ema_decay = ema_decay
        self.success = np.full(n, np.nan, dtype=np.float32)  # NaN: never tried
        self.seen = np.zeros(n, dtype=np.int32)  # the step of the last try

    def observe(self, row: int, success: float, step: int) -> None:
        """Take the mean score of a group into the estimate; the first one sets it.

        Raises:
            ValueError: a success rate outside [0, 1].
        """
        if not 0 <= success <= 1:
            raise ValueError(f"prompt {row} has the success rate {success}: return scores from 0 to 1")
        known = self.success[row]
        self.success[row] = success if np.isnan(known) else self.ema_decay * known + (1 - self.ema_decay) * success
        self.seen[row] = step

    def weights(self, rows: np.ndarray, step: int, *, rule: str, min_weight: float, half_life: float) -> np.ndarray:
        """min_weight + (1 − min_weight) · priority of some prompts, in [min_weight, 1].

        The priority is 1 ("uniform"), 1 − s ("failure", the report's rule), or 4 s (1 − s) ("gradient": the variance
        of the group's rewards, so that prompts never solved are left alone like those always solved). It is 1 for a
        prompt never tried, and goes back to 1 with the steps since the last try, by half every half_life (inf:
        never), because the policy has changed since.

        Raises:
            ValueError: an unknown rule.
        """
        success = self.success[rows].astype(np.float64)
        if rule == "uniform":
            priority = np.ones(len(rows))
        elif rule == "failure":
            priority = 1 - success
        elif rule == "gradient":
            priority = 4 * success * (1 - success)
        else:
            raise ValueError(f"kimi.sampling.priority is {rule!r}; choose one of {', '.join(PRIORITIES)}")
        age = step - self.seen[rows]
        priority = 1 - (1 - priority) * np.exp2(-age / half_life)
        return min_weight + (1 - min_weight) * np.where(np.isnan(success), 1.0, priority)


def draw(rng: np.random.Generator, low: int, high: int, count: int, weights) -> list[int]:
    """`count` positions in [low, high), one after the other in proportion to their weights, none twice.

    If there are fewer positions than that, all of them come once in a random order, and then again.

    Args:
        weights: function from an int array of positions to their weights in (0, 1].
    """
    drawn: list[int] = []
    while count - len(drawn) >= high - low:
        drawn += rng.permutation(np.arange(low, high)).tolist()
    fresh: dict[int, None] = {}  # in the order of drawing
    missing = count - len(drawn)
    while len(fresh) < missing:
        candidates = rng.integers(low, high, size=max(64, 2 * missing))
        accepted = candidates[rng.random(len(candidates)) < weights(candidates)]
        fresh |= dict.fromkeys(accepted.tolist())
    return drawn + list(fresh)[:missing]


def next_linked(values: Iterable) -> np.ndarray:
    """The next row with the same value for each row, int32 [n], the first one after the last; the row itself if no
    other has its value, or if it is None."""
    found: list[int] = []
    first: dict[object, int] = {}
    last: dict[object, int] = {}
    for row, value in enumerate(values):
        found.append(row)
        if value is not None:
            found[last.get(value, row)] = row
            found[row] = first.setdefault(value, row)
            last[value] = row
    return np.array(found, dtype=np.int32)


def whole_sets(rows: Iterable[int], linked: np.ndarray, count: int) -> list[int]:
    """`count` rows in which linked rows are complete and consecutive.

    The sets of linked rows are taken in the order of `rows`, each that fits into what is left. If none fits any more,
    rows of the last set come once more.

    Args:
        linked: of next_linked.
    """
    chosen: dict[int, None] = {}
    last: list[int] = []
    for row in rows:
        members = [row]
        while (following := int(linked[members[-1]])) != row:
            members.append(following)
        if row not in chosen and len(chosen) + len(members) <= count:
            chosen |= dict.fromkeys(members)
            last = members
    return [*chosen, *islice(cycle(last), count - len(chosen))]
