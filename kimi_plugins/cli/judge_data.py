"""The command `openrlhf kimi judge-data`."""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from kimi_plugins.cli.command import add_command
from kimi_plugins.data.files import json_lines, replacing

COLUMNS = ("question", "reference", "response", "correct", "reasoning")


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "judge-data",
        run,
        help="make training sets for judges from graded samples",
        description="Make the training sets of both judges (k1.5 §2.3.5) from graded samples: rows of question, "
        "reference, response, correct, and perhaps a teacher's reasoning; JSON lines, CSV, Parquet or Arrow. Writes "
        "cot.jsonl (input, output), classic.jsonl (chosen, rejected: a right and a wrong case), and summary.json to "
        "DIR, and prints the training commands. docs/judges.md has the details. Exit code 2: invalid input.",
        example="judge-data samples.jsonl --reference-column answer --out judge",
        unfinished=lambda args: f"{args.out} is as it was",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="data set of graded samples, see docs/data.md")
    parser.add_argument("--split", default="train", help="split of a data set that has several; default: train")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write to")
    for name in COLUMNS:
        parser.add_argument(f"--{name}-column", default=name, help=f"column of the {name}; default: {name}")
    parser.add_argument(
        "--answer-pattern", help="regular expression of the final answer; default: the last \\boxed{…}"
    )
    parser.add_argument(
        "--injected", type=float, default=0.1, help="share of the wrong cases that claim to be right; default: 0.1"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed; default: 0")


def run(args: argparse.Namespace) -> None:
    from kimi_plugins.grading.extraction import compiled
    from kimi_plugins.grading.judge.data import balanced, classic_rows, cot_rows

    if not 0 <= args.injected <= 1:
        raise ValueError(f"--injected {args.injected}: it is a share, from 0 to 1")
    if args.answer_pattern is not None:
        compiled(args.answer_pattern)
    columns = {name: getattr(args, f"{name}_column") for name in COLUMNS}
    samples = Samples(args.files, args.split, columns, args.answer_pattern)
    kept, surplus = balanced(samples, args.injected, args.seed)
    dropped = samples.dropped + surplus
    if not kept:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in dropped.most_common(3))
        raise ValueError(
            f"no case is left of {samples.read} rows: {reasons or 'the files are empty'}; their columns are "
            f"{', '.join(samples.known) or 'none'}"
        )
    summary = {
        "rows": samples.read,
        "cases": len(kept),
        "origin": dict(Counter(found.origin for found in kept)),
        "dropped": dict(dropped.most_common()),
        "unreadable": samples.unreadable[:100],
        "columns": columns,
        "seed": args.seed,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("cot", cot_rows), ("classic", classic_rows)):
        with json_lines(args.out / f"{name}.jsonl") as write:
            for row in rows(kept, args.seed):
                write(row)
    with replacing(args.out / "summary.json") as partial:
        partial.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(report(summary, args.out))


class Samples:
    """The samples of files, counted as they are read.

    read: rows. dropped: rows of no use to a judge, by reason. unreadable: a line for each malformed row. known: the
    columns met.
    """

    def __init__(self, files: list[str], split: str, columns: dict[str, str], pattern: str | None) -> None:
        self._files, self._split, self._columns, self._pattern = files, split, columns, pattern
        self.read = 0
        self.dropped: Counter[str] = Counter()
        self.unreadable: list[str] = []
        self.known: dict[str, None] = {}

    def __iter__(self) -> Iterator:
        from kimi_plugins.data import containers
        from kimi_plugins.grading.judge.data import Dropped, sample

        for row in chain.from_iterable(containers.rows(name, self._split) for name in self._files):
            self.read += 1
            problem = row.problem
            if problem is None and not isinstance(row.value, dict):
                problem = f"{type(row.value).__name__} instead of an object"
            if problem is not None:
                self.dropped["unreadable"] += 1
                self.unreadable.append(f"{row.file} row {row.number}: {problem}")
                continue
            self.known.update(dict.fromkeys(row.value))
            names = [name for name in self._columns.values() if containers.has_column(row.value, name)]
            try:
                values = {name: containers.value_at(row.value, name) for name in names}
                yield sample(values, self._columns, self._pattern)
            except Dropped as error:
                self.dropped[str(error)] += 1


def report(summary: dict, out: Path) -> str:
    lines = [f"{summary['rows']} rows, {summary['cases']} cases, half of them right; {out}"]
    lines += [f"  {count:7} {origin}" for origin, count in summary["origin"].items()]
    lines += [f"dropped {count} ×: {reason}" for reason, count in summary["dropped"].items()]
    lines += summary["unreadable"][:5]
    lines += ["", "Train the judge that reasons, and the classic one:", *training_commands(out)]
    return "\n".join(lines)


def training_commands(out: Path) -> list[str]:
    """The commands that train both judges on a machine with GPUs; MODEL is the base."""
    return [
        f"  openrlhf sft --model.model_name_or_path MODEL --data.dataset {out / 'cot.jsonl'} --data.input_key input "
        f"--data.output_key output --data.apply_chat_template --data.max_len 4096 --ckpt.output_dir {out / 'cot'}",
        f"  openrlhf rm --model.model_name_or_path MODEL --data.dataset {out / 'classic.jsonl'} "
        f"--model.loss_type pointwise --data.max_len 4096 --ckpt.output_dir {out / 'classic'}",
    ]
