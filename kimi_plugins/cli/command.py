"""How a command of `openrlhf kimi` is added, and how each of them ends."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable
from functools import partial

from kimi_plugins.errors import Failed, Unavailable

WIDEST = 110  # columns of a description
GOES_ON = "the same command goes on from here"


def add_command(
    commands,
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    *,
    help: str,
    description: str,
    example: str,
    unfinished: Callable[[argparse.Namespace], str] = lambda args: GOES_ON,
) -> argparse.ArgumentParser:
    """Add a command to argparse's subparsers; returns its parser.

    Args:
        name: with the names of the commands above it, as in "grade math".
        run: does the work; the exit code if it is not 0. It raises what exit_code() reads.
        example: the words of a call after `openrlhf kimi`.
        unfinished: what is said of the results when the command fails or is interrupted.
    """
    width = min(WIDEST, shutil.get_terminal_size().columns - 2)
    parser = commands.add_parser(
        name.split()[-1],
        help=help,
        description=textwrap.fill(description, width),
        epilog=f"example:\n  openrlhf kimi {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(func=partial(exit_code, f"openrlhf kimi {name}", run, unfinished))
    return parser


def exit_code(
    command: str,
    run: Callable[[argparse.Namespace], int | None],
    unfinished: Callable[[argparse.Namespace], str],
    args: argparse.Namespace,
) -> int:
    """Run a command: its own exit code or 0, 2 for invalid input or a machine that cannot do it, 1 for work that
    failed, 130 for Ctrl-C. A dead engine ends in 1."""
    try:
        return run(args) or 0
    except (OSError, ValueError, Unavailable) as error:
        print(f"{command}: error: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"{command}: error: {error}; {unfinished(args)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{command}: interrupted; {unfinished(args)}", file=sys.stderr)
        return 130
