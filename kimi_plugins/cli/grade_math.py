"""The command `openrlhf kimi grade math`: a JSONL file of responses graded as a run would."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kimi_plugins import options
from kimi_plugins.cli.command import exit_code
from kimi_plugins.data.files import replacing
from kimi_plugins.grading.failures import Failures, TooManyFailures
from kimi_plugins.grading.math import labels
from kimi_plugins.progress import progress


class BadInput(ValueError):
    """Invalid input; the message names file, row and fix."""


def add_parser(subparsers) -> None:
    """Add the parser of `math` to those of `openrlhf kimi grade`."""
    parser = subparsers.add_parser(
        "math",
        help="mathematical answers, by rules",
        description="Grade the final answer of every response in a JSONL file, as the reward of a run would be. A row "
        'is an object such as {"response": "… so \\\\boxed{1/2}", "answer": "0.5"}. The output has the same rows with '
        "correct (true, false, or null where the grader failed), kind and reason; it appears only once it is whole. "
        "Exit code 2: invalid input; 1: the grader failed too often. The rules are in docs/rewards.md.",
    )
    defaults = options.MathGrader()
    parser.add_argument("file", type=Path, metavar="FILE", help="JSONL, or as docs/data.md says")
    parser.add_argument("--out", type=Path, default=None, help="default: FILE with the suffix .graded.jsonl")
    parser.add_argument("--response-column", default="response", help="default: response")
    parser.add_argument("--answer-column", default=None, help="the right answers; default: answer, or else label")
    for name, kind in (("answer_pattern", str), ("timeout", float), ("memory_mib", int), ("workers", int)):
        flag = "--" + name.replace("_", "-")
        parser.add_argument(
            flag, type=kind, default=getattr(defaults, name), help=options.describe(options.MathGrader, name)
        )
    limit = options.Rewards().failure_limit
    parser.add_argument(
        "--failure-limit", type=float, default=limit, help=f"share of grades that may fail; default: {limit}"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """0 when every row has a verdict, 1 when the grader failed too often, 2 for bad input, 130 for Ctrl-C."""
    out = args.out or args.file.with_suffix(".graded.jsonl")
    unwritten = f"{out} is not written"
    return exit_code(
        "grade math",
        lambda: _grade(args, out),
        failed=TooManyFailures,
        hint=unwritten,
        interrupted=f"; {unwritten}",
    )


def _grade(args, out: Path) -> int:
    from kimi_plugins.grading.workers import Pool

    count = sum(1 for _ in _rows(args))  # everything is checked before anything is graded
    if count == 0:
        raise BadInput(f"{args.file}: no rows")
    if out.exists() and out.samefile(args.file):
        raise BadInput(f"--out {out}: is the input; name another file")
    verdicts: Counter[bool | None] = Counter()
    failures, began = Failures(), time.monotonic()
    with (
        Pool(args.workers, timeout=args.timeout, memory_mib=args.memory_mib, pattern=args.answer_pattern) as pool,
        replacing(out) as partial,
        partial.open("w", encoding="utf-8") as file,
        progress(total=count, unit="response") as bar,
    ):
        graded = pool.grade_all((response, reference) for _, response, reference in _rows(args))
        for (row, _, _), verdict in zip(_rows(args), graded, strict=True):
            file.write(
                json.dumps(row | {"correct": verdict.correct, "kind": verdict.kind, "reason": verdict.reason}) + "\n"
            )
            verdicts[verdict.correct] += 1
            failures.add(verdict)
            failures.check(args.failure_limit)
            bar.update()
    seconds = time.monotonic() - began
    print(
        f"{count} graded in {seconds:.1f} s ({count / seconds:.0f} a second): {verdicts[True]} right, "
        f"{verdicts[False]} wrong, {verdicts[None]} failed; {out}"
    )
    for reason, times in failures.reasons.most_common(5):
        print(f"failed {times} ×: {reason}")
    return 0


def _rows(args) -> Iterator[tuple[dict, str, str]]:
    """(row, response, reference) of every row."""
    from kimi_plugins.data import containers

    for row in containers.rows(str(args.file)):
        where = f"{row.file} row {row.number}"
        if row.problem is not None:
            raise BadInput(f"{where}: {row.problem}")
        yield _row(row.value, where, args)


def _row(row: object, where: str, args) -> tuple[dict, str, str]:
    from kimi_plugins.data.containers import has_column, value_at

    if not isinstance(row, dict):
        raise BadInput(f"{where}: {type(row).__name__} instead of an object")
    columns = [args.answer_column] if args.answer_column else ["answer", "label"]
    column = next((name for name in columns if has_column(row, name)), None)
    if column is None:
        raise BadInput(
            f"{where}: no column {' or '.join(columns)}; name the right answers' with --answer-column, of "
            f"{', '.join(row) or 'none'}"
        )
    response, reference = value_at(row, args.response_column), value_at(row, column)
    if not isinstance(response, str):
        raise BadInput(f"{where}: {args.response_column} is not text; name the responses' with --response-column")
    if isinstance(reference, bool) or not isinstance(reference, str | int | float):
        raise BadInput(f"{where}: {column} is {json.dumps(reference)[:40]}, not text or a number; see --answer-column")
    if (fault := labels.fault(str(reference))) is not None:
        raise BadInput(
            f"{where}: {column} {json.dumps(reference)[:60]} cannot be an answer: {fault}; correct it, remove the row "
            "or name another column with --answer-column"
        )
    return row, response, str(reference)
