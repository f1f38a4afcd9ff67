"""The command `openrlhf kimi pick-checkpoint`."""

import argparse
from functools import partial
from pathlib import Path

from kimi_plugins.cli.command import exit_code


def add_parser(commands) -> None:
    """Add the parser of `pick-checkpoint` to those of `openrlhf kimi`."""
    parser = commands.add_parser(
        "pick-checkpoint",
        help="the checkpoint of a run to start the second RL phase from (§2.4)",
        description="Of the evaluated steps of a run whose model was saved (ckpt.save_hf), choose the one of fewest "
        "tokens among those at most POINTS less accurate than the best, and say why. The last line is its directory.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's directory, its ckpt.path")
    parser.add_argument(
        "--within",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="points of accuracy (of 100) that fewer tokens may cost; default: 1, ours",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    return exit_code("pick-checkpoint", partial(pick_checkpoint, args))


def pick_checkpoint(args: argparse.Namespace) -> None:
    if not args.within >= 0:
        raise ValueError(f"--within is {args.within}: it must be ≥ 0")
    from kimi_plugins.long2short.pick import pick

    directory, reason = pick(args.run, args.within)
    print(f"{reason}\n{directory}")
