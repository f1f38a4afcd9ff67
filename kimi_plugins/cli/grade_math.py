"""The command `openrlhf kimi grade math`: a JSONL file of responses graded as a run would."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kimi_plugins import options
from kimi_plugins.cli.command import add_command
from kimi_plugins.cli.rows import objects
from kimi_plugins.data.files import json_lines
from kimi_plugins.progress import progress


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "grade math",
        run,
        help="mathematical answers, by rules",
        description="Grade the final answer of every response in a JSONL file, as the reward of a run would be. A row "
        'is an object such as {"response": "… so \\\\boxed{1/2}", "answer": "0.5"}. The output has the same rows with '
        "correct (true, false, or null where the grader failed), kind and reason; it appears only once it is whole. "
        "Exit code 2: invalid input; 1: the grader failed too often. The rules are in docs/rewards.md.",
        example="grade math responses.jsonl --answer-column solution",
        unfinished=lambda args: f"{_out(args)} is not written",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="JSONL, or as docs/data.md says")
    parser.add_argument("--out", type=Path, help="file to write; default: FILE with the suffix .graded.jsonl")
    parser.add_argument("--response-column", default="response", help="column of the responses; default: response")
    parser.add_argument("--answer-column", help="column of the right answers; default: answer, or else label")
    options.add_flags(parser, options.MathGrader, ("answer_pattern", "timeout", "memory_mib", "workers"))
    options.add_flags(parser, options.Rewards, ("failure_limit",))


def _out(args: argparse.Namespace) -> Path:
    return args.out or args.file.with_suffix(".graded.jsonl")


def run(args: argparse.Namespace) -> None:
    from kimi_plugins.grading.failures import Failures
    from kimi_plugins.grading.workers import Pool

    out, columns = _out(args), Columns(args.response_column, args.answer_column)
    count = sum(1 for _ in read_rows(args.file, columns))  # everything is checked before anything is graded
    if out.exists() and out.samefile(args.file):
        raise ValueError(f"--out {out}: is the input; name another file")
    verdicts: Counter[bool | None] = Counter()
    failures, began = Failures(), time.monotonic()
    with (
        Pool(args.workers, timeout=args.timeout, memory_mib=args.memory_mib, pattern=args.answer_pattern) as pool,
        json_lines(out) as write,
        progress(total=count, unit="response") as bar,
    ):
        graded = pool.grade_all((response, reference) for _, response, reference in read_rows(args.file, columns))
        for (row, _, _), verdict in zip(read_rows(args.file, columns), graded, strict=True):
            write(row | {"correct": verdict.correct, "kind": verdict.kind, "reason": verdict.reason})
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


@dataclass(frozen=True)
class Columns:
    """Names of the columns: of the responses, and of the right answers; None for answer, or else label."""

    response: str
    answer: str | None


def read_rows(path: Path, columns: Columns) -> Iterator[tuple[dict, str, str]]:
    """(row, response, reference) of every row.

    Raises:
        ValueError: names the file, the row, what is wrong and the fix.
    """
    from kimi_plugins.data.containers import has_column, value_at
    from kimi_plugins.grading.math import labels

    answers = [columns.answer] if columns.answer else ["answer", "label"]
    for where, row in objects(path):
        column = next((name for name in answers if has_column(row, name)), None)
        if column is None:
            raise ValueError(
                f"{where}: no column {' or '.join(answers)}; name the right answers' with --answer-column, of "
                f"{', '.join(row) or 'none'}"
            )
        response, reference = value_at(row, columns.response), value_at(row, column)
        if not isinstance(response, str):
            raise ValueError(f"{where}: {columns.response} is not text; name the responses' with --response-column")
        shown = json.dumps(reference)
        if isinstance(reference, bool) or not isinstance(reference, str | int | float):
            raise ValueError(f"{where}: {column} is {shown[:40]}, not text or a number; see --answer-column")
        if (fault := labels.fault(str(reference))) is not None:
            raise ValueError(
                f"{where}: {column} {shown[:60]} cannot be an answer: {fault}; correct it, remove the row or name "
                "another column with --answer-column"
            )
        yield row, response, str(reference)
