"""The command `openrlhf kimi code-problems`."""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kimi_plugins.cli.command import add_command
from kimi_plugins.cli.rows import without_particulars
from kimi_plugins.data.files import json_lines

NAMED_ROWS = 3  # of each reason for a refusal
INSTRUCTION = "\n\nEnd your answer with the whole program in one fenced block tagged python."


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "code-problems",
        run,
        help="read code problems of public data sets for the code reward",
        description="Convert code problems for the code reward: APPS, TACO, verl, LiveCodeBench, CodeContests, "
        "open-r1/codeforces, MBPP, HumanEval, LeetCodeDataset, Kattis packages, QuixBugs. What cannot be expressed as "
        "test cases (interaction, special judges) is counted and refused. docs/sandbox.md has the table of formats. "
        "Exit code 2: invalid input, or no problem is left.",
        example="code-problems apps.jsonl --out cases.jsonl --prompts train.jsonl",
        unfinished=lambda args: f"{args.out} is not written",
    )
    parser.add_argument("file", metavar="FILE", help="a data set as docs/data.md says, or a directory of packages")
    parser.add_argument(
        "--format", default="auto", help="name of the format; default: by the columns of the first row"
    )
    parser.add_argument("--split", default="train", help="split of a data set that has several; default: train")
    parser.add_argument("--out", type=Path, required=True, metavar="CASES", help="JSONL of the problems to write")
    parser.add_argument("--prompts", type=Path, help="also write JSONL of prompt and label (CASES#ID) to train on")


def run(args: argparse.Namespace) -> None:
    from kimi_plugins.grading.programs import Problem

    refused: dict[str, list[str]] = {}
    kept: Counter[str] = Counter()
    seen: set[str] = set()
    prompts = []
    with json_lines(args.out) as write:
        for kind, name, problem in problems(args.file, args.format, args.split):
            try:
                if isinstance(problem, ValueError):
                    raise problem
                Problem.parse(problem)
                if problem["id"] in seen:
                    raise ValueError("its id is there twice")
            except ValueError as error:
                refused.setdefault(without_particulars(str(error)), []).append(f"{name}: {error}")
                continue
            seen.add(problem["id"])
            kept[kind] += 1
            write(problem)
            if problem.get("statement"):
                label = f"{args.out.resolve()}#{problem['id']}"
                prompts.append({"prompt": problem["statement"] + INSTRUCTION, "label": label})
        lines = [f"{sum(map(len, refused.values()))} refused"]
        for reason, rows in sorted(refused.items(), key=lambda item: -len(item[1])):
            lines.append(f"{len(rows):8}  {reason}")
            lines += [f"{'':10}{row[:200]}" for row in rows[:NAMED_ROWS]]
        if not kept:
            raise ValueError(
                f"no problem of {args.file} can be used: " + ("; ".join(lines[1:4]).strip() or "it holds no rows")
            )
    if args.prompts is not None:
        with json_lines(args.prompts) as write:
            for row in prompts:
                write(row)
    print(", ".join(f"{count} problems in the format {kind}" for kind, count in kept.items()))
    print("\n".join(lines))
    print(args.out)


def problems(file: str, format: str, split: str) -> Iterator[tuple[str, str, dict | ValueError]]:
    """Format, name of the row, and the problem or why there is none.

    Raises:
        ValueError: the format is unknown, or the file is not of it.
    """
    from kimi_plugins.grading import code_problems

    known = (*code_problems.FORMATS, *code_problems.DIRECTORIES)
    if format not in (*known, "auto"):
        raise ValueError(f"--format {format}: choose {', '.join(known)}")
    path = Path(file)
    packages = format == "auto" and path.is_dir() and any(code_problems.directory_items(path))
    if not packages and format not in code_problems.DIRECTORIES:
        yield from _of_rows(file, format, split)
        return
    if not path.is_dir():
        raise ValueError(f"{path} is not a directory, which the format {format} needs")
    for kind, item in code_problems.directory_items(path):
        if format in ("auto", kind):
            yield kind, str(item), _guarded(code_problems.DIRECTORIES[kind], item)


def _of_rows(file: str, format: str, split: str) -> Iterator[tuple[str, str, dict | ValueError]]:
    from kimi_plugins.data import containers
    from kimi_plugins.grading import code_problems

    for row in containers.rows(file, split):
        name = f"{row.file} row {row.number}"
        if row.problem is not None or not isinstance(row.value, dict):
            yield format, name, ValueError(row.problem or "not an object")
            continue
        if format == "auto":
            format = code_problems.detected(row.value)
        problem = _guarded(code_problems.FORMATS[format][0], row.value)
        if isinstance(problem, dict):
            head = {"id": code_problems.id_of(row.value, row.number)}
            if statement := code_problems.statement_of(row.value):
                head["statement"] = statement
            problem = head | problem
        yield format, name, problem


def _guarded(convert, item) -> dict | ValueError:
    try:
        return convert(item)
    except ValueError as error:
        return error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        return ValueError(f"the row is not of this format ({type(error).__name__}: {error})")
