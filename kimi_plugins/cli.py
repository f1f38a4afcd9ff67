"""The command `openrlhf kimi …`. What a subcommand needs is imported when it runs."""

import argparse
import sys
from pathlib import Path

from kimi_plugins.long2short import cli as long2short
from kimi_plugins.prompts.curate import add_curate
from kimi_plugins.prompts.warm_up_command import add_warm_up
from kimi_plugins.rewards.grade_code import add_grade_code
from kimi_plugins.rewards.grade_math import add_grade_math
from kimi_plugins.rewards.judge.make_data import add_judge_data
from kimi_plugins.rewards.judge.serve import add_judge_serve
from kimi_plugins.rewards.make_cases import add_test_cases
from kimi_plugins.simulate import cli as simulate
from kimi_plugins.vision.prepare import add_vision_prepare
from kimi_plugins.vision.preview import add_vision_preview


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
    add_warm_up(commands)
    add_curate(commands)
    long2short.add_commands(commands)

    grade = commands.add_parser("grade", help="grade a file of responses", description="Grade a file of responses.")
    kinds = grade.add_subparsers(metavar="KIND", required=True)
    add_grade_math(kinds)
    add_grade_code(kinds)
    add_test_cases(commands)
    add_judge_data(commands)
    add_judge_serve(commands)
    add_vision_prepare(commands)
    add_vision_preview(commands)


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
