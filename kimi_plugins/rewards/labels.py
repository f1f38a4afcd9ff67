"""The label of a row with what grades it, on its way through the run to the reward function and the metrics.

Plain data, for a label is pickled, saved with the buffer of partial rollouts and sent to servers.
"""

from typing import NamedTuple

KEYS = ("kimi.kind", "kimi.source", "kimi.label")


class Tagged(NamedTuple):
    """kind: what grades the row. source: its data source, None if it has none. label: the reference answer."""

    kind: str
    source: str | None
    label: object

    def as_dict(self) -> dict:
        return dict(zip(KEYS, self, strict=True))


def read(label: object) -> Tagged | None:
    """What as_dict made; None for any other label."""
    if isinstance(label, dict) and tuple(label) == KEYS:
        return Tagged(*label.values())
    return None


def plain(label: object) -> object:
    """The label as it is in the data."""
    tagged = read(label)
    return label if tagged is None else tagged.label
