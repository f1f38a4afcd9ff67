"""Every `kimi.*` option: its type, its one default and where it comes from.

The report (arXiv 2501.12599) discloses no value of τ, k, learning rate or batch; "ours" marks what was chosen here.
"""

import argparse
from dataclasses import Field, dataclass, field, fields


def option(default, text: str, choices: tuple | None = None):
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class Policy:
    """k1.5 §2.3.2, online policy mirror descent."""

    tau: float = option(0.1, "τ, weight of the KL to the policy that sampled, in reward per nat (§2.3.2; value ours)")
    baseline: str = option(
        "mean", "the group's baseline: mean reward r̄, or log_z = τ log mean exp(r/τ) (§2.3.2)", ("mean", "log_z")
    )
    log_ratio: str = option(
        "sequence", "squared: the log ratio of the whole sequence (§2.3.2), or of each token", ("sequence", "token")
    )
    max_log_ratio: float = option(
        100.0, "nats beyond which the square goes on linearly, which bounds the gradient (ours)"
    )
    optimizer_reset: bool = option(True, "clear the optimizer's moments and steps before each iteration (§2.3.2)")


SECTIONS = {"policy": Policy}


def add_arguments(parser: argparse.ArgumentParser, section: str) -> None:
    """Add the flags `--kimi.<section>.<name>` of one section of SECTIONS."""
    for entry in fields(SECTIONS[section]):
        parser.add_argument(f"--kimi.{section}.{entry.name}", **_argparse_kwargs(entry))


def _argparse_kwargs(entry: Field) -> dict:
    kwargs = {"default": entry.default, "help": entry.metadata["help"]}
    if entry.type is bool:
        return kwargs | {"action": argparse.BooleanOptionalAction}
    return kwargs | {"type": entry.type, "choices": entry.metadata["choices"]}
