"""The command `openrlhf kimi grade code`."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kimi_plugins.cli.command import INVALID, exit_code
from kimi_plugins.data.files import replacing
from kimi_plugins.progress import progress


def add_parser(subparsers) -> None:
    """Add the parser of `code` to those of `openrlhf kimi grade`."""
    parser = subparsers.add_parser(
        "code",
        help="run programs on test cases in the sandbox",
        description="Grade responses that end with a program: each is run on its test cases in a sandbox. FILE has a "
        "JSON object a line with response (text) and label: a problem as a JSON object, the same as text, or "
        "CASES.jsonl#ID. docs/sandbox.md describes problems. The verdicts go to a JSONL file in the same order.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="JSONL with response and label")
    parser.add_argument("--out", type=Path, default=None, help="the verdicts; default FILE with .verdicts.jsonl")
    parser.add_argument("--workers", type=int, default=None, help="programs at a time; default one a core")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """0 when every row has a verdict, 1 when some could not be graded, 2 for bad input, 130 for Ctrl-C."""
    from kimi_plugins.sandbox.pool import SandboxUnavailable

    def grade() -> int:
        if args.workers is not None and args.workers < 1:
            raise ValueError(f"--workers is {args.workers}: it must be at least 1")
        rows = list(read_rows(args.file))
        return _grade(rows, args.out or args.file.with_suffix(".verdicts.jsonl"), args.workers)

    return exit_code("grade code", grade, invalid=(*INVALID, SandboxUnavailable), interrupted=", nothing was written")


def read_rows(path: Path) -> Iterator[tuple[str, object]]:
    """The response and the problem of every row.

    Raises:
        ValueError: names the file, the row and what is wrong.
        OSError: the file cannot be read.
    """
    from kimi_plugins.data import containers
    from kimi_plugins.grading.programs import Problem, read_label

    empty = True
    for row in containers.rows(str(path)):
        where, value = f"{row.file} row {row.number}", row.value
        if row.problem is not None:
            raise ValueError(f"{where}: {row.problem}")
        if not isinstance(value, dict) or not isinstance(value.get("response"), str) or "label" not in value:
            raise ValueError(f"{where}: it must be an object with response (text) and label")
        try:
            label = value["label"]
            problem = read_label(label) if isinstance(label, str) else Problem.parse(label)
        except (ValueError, OSError) as error:
            raise ValueError(f"{where}: {error}") from error
        empty = False
        yield value["response"], problem
    if empty:
        raise ValueError(f"{path} has no rows")


def _grade(rows: list, out: Path, workers: int | None) -> int:
    from kimi_plugins.grading.programs import judge_all
    from kimi_plugins.sandbox.pool import Sandbox

    reasons: Counter[str] = Counter()
    began, right, failed = time.monotonic(), 0, 0
    with Sandbox(workers) as sandbox, replacing(out) as partial, partial.open("w", encoding="utf-8") as file:
        responses, problems = zip(*rows, strict=True)
        verdicts = judge_all(responses, problems, sandbox)
        for number, verdict in enumerate(progress(verdicts, total=len(rows), unit="response"), 1):
            row = {"row": number, "correct": verdict.correct, "kind": verdict.kind, "reason": verdict.reason}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            right += verdict.correct is True
            failed += verdict.correct is None
            reasons[_kind(verdict.reason)] += 1
    seconds = time.monotonic() - began
    print(f"{len(rows)} responses in {seconds:.1f} s ({len(rows) / seconds:.1f}/s): {right} right, ", end="")
    print(f"{len(rows) - right - failed} wrong, {failed} not graded")
    for reason, count in reasons.most_common():
        print(f"{count:8}  {reason}")
    print(out)
    return 1 if failed else 0


def _kind(reason: str) -> str:
    """A reason without what differs from row to row."""
    if reason.startswith("case "):
        reason = reason.partition(": ")[2]
    return reason.partition(" (")[0].partition(": ")[0]
