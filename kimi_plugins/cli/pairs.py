"""The command `openrlhf kimi pairs`."""

import argparse
from fractions import Fraction
from functools import partial

from kimi_plugins.cli.command import add_command
from kimi_plugins.cli.shortest import add_response_arguments, write


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "pairs",
        run,
        help="preference pairs for `openrlhf dpo`: shortest right before longer (§2.4)",
        description="Sample n responses to each prompt, grade their answers, and write pairs for `openrlhf dpo` "
        "(--data.prompt_key prompt): the shortest right response before each that is wrong and longer, or right and "
        "RATIO times as long. The responses are kept and shared with `openrlhf kimi shortest`; an interrupted command "
        "goes on where it stood. OUT appears when it is whole.",
        example="pairs train.jsonl --model runs/long/model --out pairs.jsonl",
    )
    add_response_arguments(parser)
    parser.add_argument(
        "--ratio",
        type=_ratio,
        default="1.5",
        help="how many times as long a right response is to be rejected, e.g. 1.1 or 11/10; default: 1.5, as §2.4",
    )


def _ratio(text: str) -> Fraction:
    """Exactly the number that is written: 1.1 × 10 tokens are 11."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; write 1.5 or 3/2") from error


def run(args: argparse.Namespace) -> None:
    if not args.ratio > 1:
        raise ValueError(f"--ratio is {args.ratio}: it must be > 1")
    from kimi_plugins.long2short import data_sets

    rows_of = partial(data_sets.pair_rows, ratio=args.ratio, min_tokens=args.min_tokens)
    write(args, rows_of, "dpo", "--data.prompt_key prompt")
