"""The command `openrlhf kimi frontier`."""

import argparse
from pathlib import Path

from kimi_plugins.cli import sampling
from kimi_plugins.cli.command import add_command


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "frontier",
        run,
        help="accuracy over tokens of several models, with intervals and the Pareto front",
        description="Sample n responses of every model to the same prompts with the same seeds, and write pass@1 and "
        "mean tokens with 95 % intervals (bootstrap over prompts) and the Pareto front as OUT/frontier.json, .png "
        "and .html. The others are compared with the first model. An interrupted command goes on where it stood.",
        example="frontier long=runs/long/model short=runs/short/model --data held_out.jsonl --out frontier",
    )
    # argparse would take the prompts for a model: they need a flag here.
    parser.add_argument("models", nargs="+", metavar="MODEL", help="directory or name on the hub, or NAME=MODEL")
    sampling.add_prompt_arguments(parser, flag="--data")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write to")
    sampling.add_grading_arguments(parser)
    sampling.add_engine_arguments(parser, max_new_tokens=8192, temperature=1.0, n=4, model=False)


def run(args: argparse.Namespace) -> None:
    from kimi_plugins.long2short import frontier

    models = frontier.named(args.models)
    args.model = models[0][1]
    rows = frontier.make(models, sampling.sampler(args), args.out, pattern=args.answer_pattern)
    print(f"{frontier.table(rows)}\n" + ", ".join(str(args.out / name) for name in frontier.WRITTEN))
