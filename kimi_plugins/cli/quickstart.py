"""The command `openrlhf kimi quickstart`."""

import argparse
from pathlib import Path

from kimi_plugins.cli.command import add_command


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "quickstart",
        run,
        help="warm up a small model and train it by RL on this machine",
        description="Make a 1 M parameter model, warm it up on long-CoT additions (openrlhf sft), train it by RL with "
        "the mirror-descent policy (openrlhf train --plugins kimi), and print the scores on held-out problems before "
        "and after.",
        example="quickstart --seed 2",
    )
    parser.add_argument("--seed", type=int, default=1, help="random seed of data, model and training; default: 1")
    parser.add_argument(
        "--out", type=Path, default=None, help="directory that everything goes to; default: runs/quickstart/seed-SEED"
    )


def run(args: argparse.Namespace) -> int:
    """The exit code of the quickstart."""
    from kimi_plugins.quickstart import run as quickstart

    return quickstart.run(args.out or Path("runs/quickstart") / f"seed-{args.seed}", args.seed)
