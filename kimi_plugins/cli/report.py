"""The command `openrlhf kimi report`."""

import argparse
import sys
from pathlib import Path

from kimi_plugins.cli.command import exit_code


def add_parser(commands) -> None:
    """Add the parser of `report` to those of `openrlhf kimi`."""
    parser = commands.add_parser(
        "report",
        help="write one HTML page about a run from its log",
        description="Write one self-contained HTML page (no network, opens from the disk) from metrics.jsonl and "
        "rollouts.jsonl, which kimi-log writes: accuracy and response length, outcomes, success rates over prompts, "
        "policy drift, log-prob gap, time per phase, a browser of sampled rollouts, and where the run leaves what is "
        "known to work, with what to change.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's directory, its ckpt.path")
    parser.add_argument("--out", type=Path, default=None, help="the page; default RUN/report.html")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """0 when the page is written, 2 for a run without a log. Warnings go to the standard error, too."""
    return exit_code("report", lambda: _report(args))


def _report(args: argparse.Namespace) -> None:
    from kimi_plugins import run_log
    from kimi_plugins.report.page import write_report
    from kimi_plugins.report.warnings import findings

    print(write_report(args.run, args.out))
    for finding in findings(run_log.read(args.run, "train")):
        print(f"openrlhf kimi report: warning: {finding.found} {finding.change}", file=sys.stderr)
