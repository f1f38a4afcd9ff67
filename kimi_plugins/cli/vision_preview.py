"""The command `openrlhf kimi vision-preview`."""

import argparse
import tempfile
from pathlib import Path

from kimi_plugins.cli.command import INVALID, exit_code


def add_parser(commands) -> None:
    """Add the parser of `vision-preview` to those of `openrlhf kimi`."""
    parser = commands.add_parser(
        "vision-preview",
        help="write a contact sheet of a mixture",
        description="Write one self-contained HTML page (no network) with the first prompts of every source: images, "
        "question, answer, facts, and what was rejected. Nothing else is written.",
    )
    parser.add_argument("inputs", nargs="+", metavar="MIXTURE", help="as for vision-prepare, or its DIR/prompts.jsonl")
    parser.add_argument("--out", type=Path, required=True, metavar="PAGE.html", help="the page")
    parser.add_argument("--per-source", type=int, default=12, help="prompts a source; default 12")
    parser.add_argument("--allow-urls", action="store_true", help="download images whose reference is a URL")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """0 when it is written, 2 for bad input, 130 for Ctrl-C."""
    from kimi_plugins.vision.rows import TooManyRejects

    return exit_code(
        "vision-preview",
        lambda: _preview(args),
        invalid=(*INVALID, TooManyRejects),
        interrupted=f"; {args.out} is not written",
    )


def _preview(args: argparse.Namespace) -> None:
    from kimi_plugins.vision.preview import first_rows, write_page

    if args.per_source < 1:
        raise ValueError(f"--per-source is {args.per_source}: it must be ≥ 1")
    with tempfile.TemporaryDirectory() as folder:
        rows, rejects = first_rows(args.inputs, args.per_source, Path(folder), allow_urls=args.allow_urls)
        write_page(args.out, " ".join(args.inputs), rows, rejects)
    print(args.out)
