"""The command `openrlhf kimi pick-checkpoint`."""

import argparse
from pathlib import Path

from kimi_plugins.cli.command import add_command


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "pick-checkpoint",
        run,
        help="the checkpoint of a run to start the second RL phase from (§2.4)",
        description="Of the evaluated steps of a run whose model was saved (ckpt.save_hf), choose the one of fewest "
        "tokens among those at most POINTS less accurate than the best, and say why. The last line is its directory.",
        example="pick-checkpoint runs/first --within 2",
        unfinished=lambda args: "nothing was written",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's directory, its ckpt.path")
    parser.add_argument(
        "--within",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="points of accuracy (of 100) that fewer tokens may cost; default: 1, ours",
    )


def run(args: argparse.Namespace) -> None:
    if not args.within >= 0:
        raise ValueError(f"--within is {args.within}: it must be ≥ 0")
    from kimi_plugins.long2short.pick import pick

    directory, reason = pick(args.run, args.within)
    print(f"{reason}\n{directory}")
