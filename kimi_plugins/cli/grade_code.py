"""The command `openrlhf kimi grade code`."""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kimi_plugins.cli.command import add_command
from kimi_plugins.cli.rows import objects, without_particulars
from kimi_plugins.data.files import json_lines
from kimi_plugins.progress import progress


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "grade code",
        run,
        help="run programs on test cases in the sandbox",
        description="Grade responses that end with a program: each is run on its test cases in a sandbox. FILE has a "
        "JSON object a line with response (text) and label: a problem as a JSON object, the same as text, or "
        "CASES.jsonl#ID. docs/sandbox.md describes problems. The verdicts go to a JSONL file in the same order. "
        "Exit code 1: some responses could not be graded.",
        example="grade code responses.jsonl --workers 4",
        unfinished=lambda args: "nothing was written",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="JSONL with response and label")
    parser.add_argument("--out", type=Path, help="file of the verdicts; default: FILE with the suffix .verdicts.jsonl")
    parser.add_argument("--workers", type=int, help="programs at a time; default: one a core")


def run(args: argparse.Namespace) -> int:
    """0 when every row has a verdict, 1 when some could not be graded."""
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers is {args.workers}: it must be at least 1")
    rows = list(read_rows(args.file))
    return _grade(rows, args.out or args.file.with_suffix(".verdicts.jsonl"), args.workers)


def read_rows(path: Path) -> Iterator[tuple[str, object]]:
    """The response and the problem of every row.

    Raises:
        ValueError: names the file, the row and what is wrong.
        OSError: the file cannot be read.
    """
    from kimi_plugins.grading.programs import Problem, read_label

    for where, row in objects(path):
        if not isinstance(row.get("response"), str) or "label" not in row:
            raise ValueError(f"{where}: it must be an object with response (text) and label")
        try:
            label = row["label"]
            problem = read_label(label) if isinstance(label, str) else Problem.parse(label)
        except (ValueError, OSError) as error:
            raise ValueError(f"{where}: {error}") from error
        yield row["response"], problem


def _grade(rows: list, out: Path, workers: int | None) -> int:
    from kimi_plugins.grading.programs import judge_all
    from kimi_plugins.sandbox.pool import Sandbox

    reasons: Counter[str] = Counter()
    began, right, failed = time.monotonic(), 0, 0
    with Sandbox(workers) as sandbox, json_lines(out) as write:
        responses, problems = zip(*rows, strict=True)
        verdicts = judge_all(responses, problems, sandbox)
        for number, verdict in enumerate(progress(verdicts, total=len(rows), unit="response"), 1):
            write({"row": number, "correct": verdict.correct, "kind": verdict.kind, "reason": verdict.reason})
            right += verdict.correct is True
            failed += verdict.correct is None
            reasons[without_particulars(verdict.reason)] += 1
    seconds = time.monotonic() - began
    print(f"{len(rows)} responses in {seconds:.1f} s ({len(rows) / seconds:.1f}/s): {right} right, ", end="")
    print(f"{len(rows) - right - failed} wrong, {failed} not graded")
    for reason, count in reasons.most_common():
        print(f"{count:8}  {reason}")
    print(out)
    return 1 if failed else 0
