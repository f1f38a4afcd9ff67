"""The command `openrlhf kimi …`. What a subcommand needs is imported when it runs."""

import argparse
import sys
from pathlib import Path

from kimi_plugins.rewards.grade_code import add_grade_code
from kimi_plugins.rewards.make_cases import add_test_cases
from kimi_plugins.simulate import cli as simulate


def add_commands(parser: argparse.ArgumentParser) -> None:
    parser.description = "The Kimi k1.5 recipe's own commands."
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    quickstart = commands.add_parser(
        "quickstart",
        help="warm up a small model and train it by RL on this machine",
        description="Make a 1 M parameter model, warm it up on long-CoT additions (openrlhf sft), train it by RL with "
        "the mirror-descent policy (openrlhf train --plugins kimi), and print the scores on held-out problems before "
        "and after.",
    )
    quickstart.add_argument("--seed", type=int, default=1, help="of data, model and training; default 1")
    quickstart.add_argument(
        "--out", type=Path, default=None, help="where everything goes; default runs/quickstart/seed-SEED"
    )
    quickstart.set_defaults(func=_quickstart)

    report = commands.add_parser(
        "report",
        help="write one HTML page about a run from its log",
        description="Write one self-contained HTML page (no network, opens from the disk) from metrics.jsonl and "
        "rollouts.jsonl, which kimi-log writes: accuracy and response length, outcomes, success rates over prompts, "
        "policy drift, log-prob gap, time per phase, and a browser of sampled rollouts.",
    )
    report.add_argument("run", type=Path, metavar="RUN", help="the run's directory, its ckpt.path")
    report.add_argument("--out", type=Path, default=None, help="the page; default RUN/report.html")
    report.set_defaults(func=_report)

    simulate.add_command(commands)
    grade = commands.add_parser("grade", help="grade responses in a file", description="Grade responses in a file.")
    kinds = grade.add_subparsers(metavar="KIND", required=True)
    add_grade_code(kinds)

    add_test_cases(commands)
    _add_grade(commands)


def _add_grade(commands) -> None:
    from kimi_plugins import options

    grade = commands.add_parser("grade", help="grade a file of responses", description="Grade a file of responses.")
    kinds = grade.add_subparsers(metavar="KIND", required=True)
    math = kinds.add_parser(
        "math",
        help="mathematical answers, by rules",
        description="Grade the final answer of every response in a JSONL file, as the reward of a run would be. A row "
        'is an object such as {"response": "… so \\\\boxed{1/2}", "answer": "0.5"}. The output has the same rows with '
        "correct (true, false, or null where the grader failed) and reason; it appears only once it is whole. Exit "
        "code 2: the input is not as it should be; 1: the grader failed too often. The rules are in docs/rewards.md.",
    )
    defaults = options.MathGrader()
    math.add_argument("file", type=Path, metavar="FILE", help="JSONL")
    math.add_argument("--out", type=Path, default=None, help="default: FILE with the suffix .graded.jsonl")
    math.add_argument("--response-column", default="response", help="default: response")
    math.add_argument("--answer-column", default=None, help="the right answers; default: answer, or else label")
    for name, kind in (("answer_pattern", str), ("timeout", float), ("memory_mib", int), ("slots", int)):
        flag = "--" + name.replace("_", "-")
        math.add_argument(
            flag, type=kind, default=getattr(defaults, name), help=options.describe(options.MathGrader, name)
        )
    limit = options.Rewards().failure_limit
    math.add_argument(
        "--failure-limit", type=float, default=limit, help=f"share of grades that may fail; default: {limit}"
    )
    math.set_defaults(func=_grade_math)


def _grade_math(args: argparse.Namespace) -> int:
    from kimi_plugins.rewards.grade_file import grade_file

    return grade_file(args)


def _quickstart(args: argparse.Namespace) -> int:
    from kimi_plugins.quickstart.run import run

    return run(args.out or Path("runs/quickstart") / f"seed-{args.seed}", args.seed)


def _report(args: argparse.Namespace) -> int:
    from kimi_plugins.report.page import write_report

    try:
        print(write_report(args.run, args.out))
    except (FileNotFoundError, ValueError) as error:
        print(f"openrlhf kimi report: error: {error}", file=sys.stderr)
        return 2
    return 0
