"""The help of every command of `openrlhf kimi`: its example is one, and it says how the command ends."""

import argparse
import shlex

import pytest

from kimi_plugins.cli import add_commands
from kimi_plugins.cli.command import add_command
from kimi_plugins.errors import Failed, Unavailable


def parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of all commands without commands below them."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [leaf for action in below for one in action.choices.values() for leaf in parsers(one)] or [parser]


def test_every_example_is_a_call_of_its_command():
    kimi = argparse.ArgumentParser(prog="openrlhf kimi")
    add_commands(kimi)
    found = parsers(kimi)
    assert len(found) == 20
    for parser in found:
        heading, _, example = parser.epilog.partition("\n  ")
        assert heading == "example:" and example.startswith(f"{parser.prog} ")
        assert kimi.parse_args(shlex.split(example.removeprefix("openrlhf kimi"))).func is parser.get_default("func")


@pytest.mark.parametrize(
    "raised, code, said",
    [
        (None, 0, ""),
        (ValueError("no rows"), 2, "openrlhf kimi grade math: error: no rows\n"),
        (FileNotFoundError("no file"), 2, "openrlhf kimi grade math: error: no file\n"),
        (Unavailable("no sandbox"), 2, "openrlhf kimi grade math: error: no sandbox\n"),
        (Failed("the server died"), 1, "openrlhf kimi grade math: error: the server died; out is half full\n"),
        (KeyboardInterrupt(), 130, "openrlhf kimi grade math: interrupted; out is half full\n"),
    ],
)
def test_how_a_command_ends(capsys, raised, code, said):
    def run(args):
        if raised is not None:
            raise raised

    kimi = argparse.ArgumentParser()
    add_command(
        kimi.add_subparsers(),
        "grade math",
        run,
        help="",
        description="",
        example="",
        unfinished=lambda args: f"{args.out} is half full",
    ).add_argument("out")
    args = kimi.parse_args(["math", "out"])
    assert args.func(args) == code
    assert capsys.readouterr().err == said


def test_a_defect_is_not_taken_for_invalid_input():
    kimi = argparse.ArgumentParser()

    def run(args):
        raise KeyError("x")

    add_command(kimi.add_subparsers(), "x", run, help="", description="", example="")
    args = kimi.parse_args(["x"])
    with pytest.raises(KeyError):
        args.func(args)
