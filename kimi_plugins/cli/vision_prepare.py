"""The command `openrlhf kimi vision-prepare`."""

import argparse
import os
from pathlib import Path

from kimi_plugins.cli.command import GOES_ON, add_command


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "vision-prepare",
        run,
        help="make a prompt set with images, checked row by row",
        description="Make a prompt set (k1.5 §2.3.5) from files of prompts with images, or from a mixture of such "
        "files, procedural scenes and text rendered as images, which a YAML file describes. Writes DIR/prompts.jsonl "
        "for data.prompt_dataset, the images beside it, and DIR/rejects.jsonl with every row that cannot be used and "
        "why. docs/vision.md has the formats.",
        example="vision-prepare mixture.yaml --model Qwen/Qwen2.5-VL-7B-Instruct --out prompts",
        unfinished=_unfinished,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IN",
        help="MIXTURE.yaml, or files, directories, globs, names on the hub; see docs/data.md",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory that everything goes to")
    parser.add_argument("--split", default="train", help="split of a data set that has several; default: train")
    parser.add_argument("--format", default="auto", help="shape of the rows, see docs/data.md; default: recognised")
    parser.add_argument("--allow-urls", action="store_true", help="download images whose reference is a URL")
    parser.add_argument(
        "--model",
        metavar="DIR",
        help="the model to train, whose processor counts the tokens of images; its own tokens in a text are rejected",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="parallel processes; default: one a core"
    )


def _unfinished(args: argparse.Namespace) -> str:
    from kimi_plugins.vision.prepare import PROMPTS, REJECTS

    return f"{args.out / PROMPTS} is not written, {args.out / REJECTS} says what was rejected; {GOES_ON}"


def run(args: argparse.Namespace) -> None:
    from kimi_plugins.vision.prepare import mixture_of, prepare

    if args.workers < 1:
        raise ValueError(f"--workers is {args.workers}: it must be ≥ 1")
    mixture = mixture_of(args.inputs, args.format, args.split, args.model)
    print(prepare(mixture, args.out, allow_urls=args.allow_urls, workers=args.workers))
