"""The command `openrlhf kimi doctor`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from kimi_plugins.cli.command import add_command


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "doctor",
        run,
        help="what of this machine would make a run fail, and the fix",
        description="Look at versions, devices, memory, disk, ports, Ray and sandbox, and print what would make a run "
        "fail, with its fix. Writes 64 MiB into the run directory to try the disk, and removes them. Exit code 1: "
        "there is a problem; warnings alone do not count.",
        example="doctor --dir runs/first",
        unfinished=lambda args: "nothing was changed",
    )
    parser.add_argument("--dir", type=Path, default=Path("."), help="where runs will write; default: here")
    parser.add_argument("--json", action="store_true", help="print a list of check, level, found, fix")


def run(args: argparse.Namespace) -> int:
    """1 if a run would fail, else 0."""
    from kimi_plugins.doctor import checks, facts

    findings = facts.findings(args.dir)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print("\n".join(checks.report(findings)))
    return int(any(finding.level == checks.PROBLEM for finding in findings))
