"""The command `openrlhf kimi …`: one module a command.

A module has add_parser(commands), which adds its parser to argparse's subparsers. All of them are imported for the
list of commands, so what a command needs to run is imported when it runs.
"""

import argparse
from importlib import import_module

COMMANDS = (
    "kimi_plugins.cli.doctor",
    "kimi_plugins.cli.quickstart",
    "kimi_plugins.cli.report",
    "kimi_plugins.cli.warmup",
    "kimi_plugins.cli.curate",
    "kimi_plugins.cli.merge",
    "kimi_plugins.cli.shortest",
    "kimi_plugins.cli.pairs",
    "kimi_plugins.cli.pick_checkpoint",
    "kimi_plugins.cli.frontier",
    "kimi_plugins.cli.grade",
    "kimi_plugins.cli.test_cases",
    "kimi_plugins.cli.code_problems",
    "kimi_plugins.cli.sandbox_serve",
    "kimi_plugins.cli.judge_data",
    "kimi_plugins.cli.judge_serve",
    "kimi_plugins.cli.vision_prepare",
    "kimi_plugins.cli.vision_preview",
    "kimi_plugins.cli.migrate",
)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add every command to the parser of `openrlhf kimi`."""
    parser.description = "The Kimi k1.5 recipe's own commands."
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        import_module(module).add_parser(commands)
