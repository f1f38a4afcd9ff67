"""The command `openrlhf kimi test-cases`."""

import argparse
from dataclasses import fields
from pathlib import Path

from kimi_plugins import options
from kimi_plugins.cli.command import add_command
from kimi_plugins.data.files import json_lines
from kimi_plugins.progress import progress


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "test-cases",
        run,
        help="make test cases for code problems",
        description="Make test cases for code problems (k1.5 §2.3.5): a generator a problem makes inputs, reference "
        "submissions answer them, what enough of them agree on is the output, and problems whose references do not "
        "pass are dropped. Writes JSONL that the code reward reads. Goes on where an earlier run was stopped. "
        "docs/sandbox.md has the formats.",
        example="test-cases problems.jsonl --generators generators --out cases.jsonl",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="JSONL of problems with id and submissions")
    parser.add_argument("--generators", type=Path, required=True, help="directory of one Python file a problem, ID.py")
    parser.add_argument("--out", type=Path, required=True, help="JSONL of the problems that are kept")
    parser.add_argument("--workers", type=int, default=None, help="programs at a time; default: one a core")
    options.add_flags(parser, options.Thresholds, [entry.name for entry in fields(options.Thresholds)])


def run(args: argparse.Namespace) -> None:
    from kimi_plugins.grading import test_cases
    from kimi_plugins.sandbox.pool import Sandbox

    thresholds = options.values(options.Thresholds, args)
    if not args.generators.is_dir():
        raise ValueError(f"--generators: {args.generators} is not a directory")
    problems = test_cases.read_problems(args.file)
    finished = test_cases.Journal(args.out.with_name(args.out.name + ".journal"))
    with Sandbox(args.workers) as sandbox, progress(total=len(problems), unit="problem") as bar:
        outcomes = test_cases.make_all(problems, args.generators, thresholds, finished, sandbox, bar.update)
    with json_lines(args.out) as write:
        for outcome in outcomes:
            if outcome.row is not None:
                write(outcome.row)
    print(test_cases.funnel(outcomes))
    print(args.out)
