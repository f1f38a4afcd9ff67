"""The command `openrlhf kimi vision-preview`."""

import argparse
import tempfile
from pathlib import Path

from kimi_plugins.cli.command import add_command


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "vision-preview",
        run,
        help="write a contact sheet of a mixture",
        description="Write one self-contained HTML page (no network) with the first prompts of every source: images, "
        "question, answer, facts, and what was rejected. Nothing else is written.",
        example="vision-preview mixture.yaml --out preview.html",
        unfinished=lambda args: f"{args.out} is not written",
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="MIXTURE", help="inputs as of vision-prepare, or its DIR/prompts.jsonl"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="PAGE.html", help="file of the page")
    parser.add_argument("--per-source", type=int, default=12, help="prompts shown of each source; default: 12")
    parser.add_argument("--allow-urls", action="store_true", help="download images whose reference is a URL")


def run(args: argparse.Namespace) -> None:
    from kimi_plugins.vision.preview import first_rows, write_page

    if args.per_source < 1:
        raise ValueError(f"--per-source is {args.per_source}: it must be ≥ 1")
    with tempfile.TemporaryDirectory() as folder:
        rows, rejects = first_rows(args.inputs, args.per_source, Path(folder), allow_urls=args.allow_urls)
        write_page(args.out, " ".join(args.inputs), rows, rejects)
    print(args.out)
