"""The command `openrlhf kimi code-problems`."""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kimi_plugins.cli.command import exit_code
from kimi_plugins.data.files import replacing

NAMED_ROWS = 3  # of each reason for a refusal
INSTRUCTION = "\n\nEnd your answer with the whole program in one fenced block tagged python."


def add_parser(commands) -> None:
    """Add the parser of `code-problems` to those of `openrlhf kimi`."""
    parser = commands.add_parser(
        "code-problems",
        help="read code problems of public data sets for the code reward",
        description="Convert code problems for the code reward: APPS, TACO, verl, LiveCodeBench, CodeContests, "
        "open-r1/codeforces, MBPP, HumanEval, LeetCodeDataset, Kattis packages, QuixBugs. What cannot be expressed as "
        "test cases (interaction, special judges) is counted and refused. docs/sandbox.md has the table of formats. "
        "Exit code 2: bad input, or no problem is left.",
    )
    parser.add_argument("file", metavar="FILE", help="a data set as docs/data.md says, or a directory of packages")
    parser.add_argument(
        "--format", default="auto", help="name of the format; default: by the columns of the first row"
    )
    parser.add_argument("--split", default="train", help="of data sets in splits; default: train")
    parser.add_argument("--out", type=Path, required=True, metavar="CASES", help="JSONL of the problems")
    parser.add_argument(
        "--prompts", type=Path, default=None, help="also write JSONL of prompt and label (CASES#ID) to train on"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """0 when the problems are there, 2 for bad input, 130 for Ctrl-C."""
    return exit_code("code-problems", lambda: _convert(args))


def _convert(args: argparse.Namespace) -> None:
    from kimi_plugins.grading.programs import Problem

    refused: dict[str, list[str]] = {}
    kept: Counter[str] = Counter()
    seen: set[str] = set()
    prompts = []
    with replacing(args.out) as partial, partial.open("w", encoding="utf-8") as file:
        for kind, name, problem in _problems(args):
            try:
                if isinstance(problem, ValueError):
                    raise problem
                Problem.parse(problem)
                if problem["id"] in seen:
                    raise ValueError("its id is there twice")
            except ValueError as error:
                refused.setdefault(_kind(str(error)), []).append(f"{name}: {error}")
                continue
            seen.add(problem["id"])
            kept[kind] += 1
            file.write(json.dumps(problem, ensure_ascii=False) + "\n")
            if problem.get("statement"):
                label = f"{args.out.resolve()}#{problem['id']}"
                prompts.append({"prompt": problem["statement"] + INSTRUCTION, "label": label})
        lines = [f"{sum(map(len, refused.values()))} refused"]
        for reason, rows in sorted(refused.items(), key=lambda item: -len(item[1])):
            lines.append(f"{len(rows):8}  {reason}")
            lines += [f"{'':10}{row[:200]}" for row in rows[:NAMED_ROWS]]
        if not kept:
            raise ValueError(f"no problem of {args.file} can be used: " + "; ".join(lines[1:4]).strip())
    if args.prompts is not None:
        with replacing(args.prompts) as partial, partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in prompts)
    print(", ".join(f"{count} problems in the format {kind}" for kind, count in kept.items()))
    print("\n".join(lines))
    print(args.out)


def _problems(args: argparse.Namespace) -> Iterator[tuple[str, str, dict | ValueError]]:
    """Format, name of the row, and the problem or why there is none."""
    from kimi_plugins.data import containers
    from kimi_plugins.grading import code_problems

    chosen = args.format
    known = (*code_problems.FORMATS, *code_problems.DIRECTORIES)
    if chosen not in (*known, "auto"):
        raise ValueError(f"--format {chosen}: choose {', '.join(known)}")
    path = Path(args.file)
    if chosen in code_problems.DIRECTORIES or (
        chosen == "auto" and path.is_dir() and any(code_problems.directory_items(path))
    ):
        if not path.is_dir():
            raise ValueError(f"{path} is not a directory, which the format {chosen} needs")
        for kind, item in code_problems.directory_items(path):
            if chosen in ("auto", kind):
                yield kind, str(item), _guarded(code_problems.DIRECTORIES[kind], item)
        return
    for row in containers.rows(args.file, args.split):
        name = f"{row.file} row {row.number}"
        if row.problem is not None or not isinstance(row.value, dict):
            yield chosen, name, ValueError(row.problem or "not an object")
            continue
        if chosen == "auto":
            chosen = code_problems.detected(row.value)
        problem = _guarded(code_problems.FORMATS[chosen][0], row.value)
        if isinstance(problem, dict):
            head = {"id": code_problems.id_of(row.value, row.number)}
            if statement := code_problems.statement_of(row.value):
                head["statement"] = statement
            problem = head | problem
        yield chosen, name, problem


def _guarded(convert, item) -> dict | ValueError:
    try:
        return convert(item)
    except ValueError as error:
        return error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        return ValueError(f"the row is not of this format ({type(error).__name__}: {error})")


def _kind(reason: str) -> str:
    """A reason without what differs from row to row."""
    for separator in (": the statement", " (", ": "):
        reason = reason.partition(separator)[0]
    return "case" if reason.startswith("case ") else reason
