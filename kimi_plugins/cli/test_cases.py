"""The command `openrlhf kimi test-cases`."""

import argparse
from pathlib import Path

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
    parser.add_argument("--workers", type=int, default=None, help="programs at a time; default one a core")
    for name, kind, text in (
        ("cases", int, "inputs a problem"),
        ("submissions", int, "references a problem"),
        ("agree", float, "share of the references that must agree on a case's output"),
        ("passing", float, "share of the references that must pass all valid cases"),
        ("valid", int, "valid cases a problem must have"),
        ("disputed", float, "share of the cases on which references disagree from which on it has a special judge"),
    ):
        parser.add_argument(f"--{name}", type=kind, default=None, help=text)


def run(args: argparse.Namespace) -> None:
    from kimi_plugins.grading import test_cases
    from kimi_plugins.sandbox.pool import Sandbox

    names = ("cases", "submissions", "agree", "passing", "valid", "disputed")
    chosen = {name: value for name in names if (value := getattr(args, name)) is not None}
    thresholds = test_cases.Thresholds(**chosen)
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
