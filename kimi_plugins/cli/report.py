"""The command `openrlhf kimi report`."""

import argparse
import sys
from pathlib import Path

from kimi_plugins.cli.command import add_command


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "report",
        run,
        help="write one HTML page about a run from its log",
        description="Write one self-contained HTML page (no network, opens from the disk) from metrics.jsonl and "
        "rollouts.jsonl, which kimi-log writes: accuracy and response length, outcomes, success rates over prompts, "
        "policy drift, log-prob gap, time per phase, a browser of sampled rollouts, and where the run leaves what is "
        "known to work, with what to change.",
        example="report runs/first",
        unfinished=lambda args: "no page was written",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's directory, its ckpt.path")
    parser.add_argument("--out", type=Path, default=None, help="file of the page; default: RUN/report.html")


def run(args: argparse.Namespace) -> None:
    """Write the page; warnings go to the standard error, too."""
    from kimi_plugins import run_log
    from kimi_plugins.report.page import write_report
    from kimi_plugins.report.warnings import findings

    print(write_report(args.run, args.out))
    for finding in findings(run_log.read(args.run, "train")):
        print(f"openrlhf kimi report: warning: {finding.found} {finding.change}", file=sys.stderr)
