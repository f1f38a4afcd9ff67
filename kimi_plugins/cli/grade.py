"""The commands `openrlhf kimi grade math|code`."""

from kimi_plugins.cli import grade_code, grade_math


def add_parser(commands) -> None:
    """Add the commands to argparse's subparsers."""
    parser = commands.add_parser("grade", help="grade a file of responses", description="Grade a file of responses.")
    kinds = parser.add_subparsers(metavar="KIND", required=True)
    grade_math.add_parser(kinds)
    grade_code.add_parser(kinds)
