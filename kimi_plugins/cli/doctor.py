"""The command `openrlhf kimi doctor`."""

import argparse
from pathlib import Path


def add_parser(commands) -> None:
    """Add the parser of `doctor` to those of `openrlhf kimi`."""
    parser = commands.add_parser(
        "doctor",
        help="what of this machine would make a run fail, and the fix",
        description="Look at versions, devices, memory, disk, ports, Ray and sandbox, and print what would fail with "
        "its fix. Writes 64 MiB into the run directory and removes them. Exit code 1 if there is a problem; "
        "a warning is none.",
    )
    parser.add_argument("--dir", type=Path, default=Path("."), help="where runs will write; default: here")
    parser.add_argument("--json", action="store_true", help="print a list of check, level, found, fix")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """1 if a run would fail, else 0."""
    import json
    from dataclasses import asdict

    from kimi_plugins.doctor import checks, facts

    findings = facts.findings(args.dir)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print("\n".join(checks.report(findings)))
    return int(any(finding.level == checks.PROBLEM for finding in findings))
