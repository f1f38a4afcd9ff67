"""The command `openrlhf kimi judge-data`."""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from kimi_plugins.cli.command import exit_code
from kimi_plugins.data.files import replacing

COLUMNS = ("question", "reference", "response", "correct", "reasoning")


def add_parser(commands) -> None:
    """Add the parser of `judge-data` to those of `openrlhf kimi`."""
    parser = commands.add_parser(
        "judge-data",
        help="make training sets for judges from graded samples",
        description="Make the training sets of both judges (k1.5 §2.3.5) from graded samples: rows of question, "
        "reference, response, correct, and perhaps a teacher's reasoning; JSON lines, CSV, Parquet or Arrow. Writes "
        "cot.jsonl (input, output), classic.jsonl (chosen, rejected: a right and a wrong case), and summary.json to "
        "DIR, and prints the training commands. docs/judges.md has the details. Exit code 2: bad input.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="as docs/data.md says")
    parser.add_argument("--split", default="train", help="of data sets in splits; default: train")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    for name in COLUMNS:
        parser.add_argument(f"--{name}-column", default=name, help=f"default: {name}")
    parser.add_argument(
        "--answer-pattern", default=None, help="regular expression of the final answer; default: the last \\boxed{…}"
    )
    parser.add_argument(
        "--injected", type=float, default=0.1, help="share of the wrong cases that claim to be right; default: 0.1"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """0 when the sets are there, 2 for bad input, 130 for Ctrl-C."""
    return exit_code(
        "judge-data", lambda: print(report(make(args), args.out)), interrupted=f"; {args.out} is as it was"
    )


def make(args: argparse.Namespace) -> dict:
    """Write the sets; returns the summary. Raises ValueError or OSError for input that cannot be used."""
    from kimi_plugins.data import containers
    from kimi_plugins.grading.extraction import compiled
    from kimi_plugins.grading.judge import data

    if not 0 <= args.injected <= 1:
        raise ValueError(f"--injected {args.injected}: it is a share, from 0 to 1")
    if args.answer_pattern is not None:
        compiled(args.answer_pattern)
    columns = {name: getattr(args, f"{name}_column") for name in COLUMNS}
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    known: dict[str, None] = {}
    bad: list[str] = []

    def samples() -> Iterator[data.Sample]:
        for row in chain.from_iterable(containers.rows(name, args.split) for name in args.files):
            counts["read"] += 1
            problem = row.problem
            if problem is None and not isinstance(row.value, dict):
                problem = f"{type(row.value).__name__} instead of an object"
            if problem is not None:
                dropped["unreadable"] += 1
                bad.append(f"{row.file} row {row.number}: {problem}")
                continue
            known.update(dict.fromkeys(row.value))
            try:
                found = data.sample(
                    {
                        name: containers.value_at(row.value, name)
                        for name in columns.values()
                        if containers.has_column(row.value, name)
                    },
                    columns,
                    args.answer_pattern,
                )
            except data.Dropped as error:
                dropped[str(error)] += 1
                continue
            yield found

    kept, surplus = data.balanced(samples(), args.injected, args.seed)
    if not kept:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in (dropped + surplus).most_common(3))
        raise ValueError(
            f"no case is left of {counts['read']} rows: {reasons or 'the files are empty'}; their columns are "
            f"{', '.join(known) or 'none'}"
        )
    summary = {
        "rows": counts["read"],
        "cases": len(kept),
        "origin": dict(Counter(found.origin for found in kept)),
        "dropped": dict((dropped + surplus).most_common()),
        "unreadable": bad[:100],
        "columns": columns,
        "seed": args.seed,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    for name, rows in (
        ("cot", data.cot_rows(kept, args.seed)),
        ("classic", data.classic_rows(kept, args.seed)),
    ):
        with replacing(args.out / f"{name}.jsonl") as partial, partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with replacing(args.out / "summary.json") as partial:
        partial.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return summary


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
