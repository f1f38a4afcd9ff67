"""The command `openrlhf kimi curate`."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from kimi_plugins import options
from kimi_plugins.cli import sampling
from kimi_plugins.cli.command import add_command
from kimi_plugins.prompts.curate import STAGES, Settings


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    defaults = options.Curation()
    parser = add_command(
        commands,
        "curate",
        run,
        help="make a prompt set for RL from raw problems",
        description="Make a prompt set for RL (k1.5 §2.1): normalise, remove duplicates and what is in evaluation "
        "sets, exclude multiple choice, true/false and proofs, check that answers can be graded, measure the "
        "difficulty, drop what can be guessed, tag, balance. Writes DIR/prompts.jsonl, DIR/rejects.jsonl with stage "
        "and reason of every other row, DIR/report.json and report.html. A stage that was done with the same settings "
        "is not done again. Exit code 2: invalid input or options; 130: interrupted. Rules and "
        "figures: docs/prompts.md.",
        example="curate raw.jsonl --eval MATH-500.jsonl --model Qwen/Qwen2.5-7B-Instruct --out prompts",
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="IN",
        help="file, directory, glob, saved data set, or NAME[:CONFIG] of one on the hub; see docs/data.md",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="directory; made if it is not there")
    add("--split", default="train", help="split of a data set that has several; default: train")
    add("--format", default="auto", help="shape of the inputs' rows, see docs/data.md; default: recognised")
    add(
        "--map",
        nargs="+",
        action="extend",
        default=[],
        metavar="COLUMN=THEIRS",
        help="which column of the inputs is question, answer, source, domain, discipline, difficulty, image or "
        "choices: question=problem; question=Body+Question joins two; several for one column are tried in turn",
    )
    add(
        "--answer-pattern",
        help="regular expression of the answer within the answer column, its first group or the rest of the line "
        "after it, e.g. '####'; default, and where it is not found: the whole column",
    )
    add(
        "--stages",
        metavar="STAGE,…",
        help=f"of {', '.join(STAGES)}; normalise is always done. Default: all, but difficulty and guess with --model, "
        "decontaminate with --eval and balance with --shares",
    )
    add(
        "--eval",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="evaluation sets, read as the inputs are",
    )
    options.add_flags(parser, options.Curation, ("similarity", "containment", "trivial", "guesses", "guess_tokens"))
    add("--tag-by", choices=("rules", "model"), default="rules", help="how disciplines are found; default: rules")
    add(
        "--shares",
        nargs="+",
        action="extend",
        default=[],
        metavar="VALUE=SHARE",
        help="shares of the values of --balance-by, * for all others: algebra=0.4 geometry=0.4 *=0.2",
    )
    add("--balance-by", default="discipline", metavar="COLUMN", help="column that is balanced; default: discipline")
    add("--solve-template", help="text with {question} that the model is asked for the difficulty")
    add("--guess-template", help="text with {question} that the model is asked for guesses")
    add("--no-chat", dest="chat", action="store_false", help="ask prompts as text, without the model's chat template")
    add(
        "--response-pattern",
        help="regular expression of the final answer in the model's responses; default: the last \\boxed{…}",
    )
    options.add_flags(parser, options.MathGrader, ("timeout", "memory_mib"))
    add("--workers", type=int, default=len(os.sched_getaffinity(0)), help="parallel processes; default: one a core")
    sampling.add_engine_arguments(
        parser, max_new_tokens=1024, temperature=defaults.temperature, n=defaults.samples, required=False
    )


def run(args: argparse.Namespace) -> None:
    from kimi_plugins.prompts.curate import curate

    report = curate(settings(args))
    print(f"{report['kept']:,} prompts of {report['read']:,} rows: {args.out / 'prompts.jsonl'}")
    for one in report["stages"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in list(one["reasons"].items())[:5])
        print(f"  {one['stage']:<14}{one['kept']:>12,}  {reasons}")
    if not report["kept"]:
        raise ValueError(f"0 prompts are left of {report['read']:,} rows; {args.out / 'rejects.jsonl'} says why")


def settings(args: argparse.Namespace) -> Settings:
    """What the flags say.

    Raises:
        ValueError: they contradict each other or are out of range.
    """
    responses = sampling.sampling(args)
    return Settings(
        inputs=args.inputs,
        out=args.out,
        split=args.split,
        format=args.format,
        columns=args.map,
        answer_pattern=args.answer_pattern,
        stages=args.stages,
        evals=args.eval,
        similarity=args.similarity,
        containment=args.containment,
        responses=responses,
        guesses=replace(responses, n=args.guesses, max_new_tokens=args.guess_tokens),
        trivial=args.trivial,
        tag_by=args.tag_by,
        shares=args.shares,
        balance_by=args.balance_by,
        seed=args.seed,
        solve_template=args.solve_template,
        guess_template=args.guess_template,
        chat=args.chat,
        response_pattern=args.response_pattern,
        timeout=args.timeout,
        memory_mib=args.memory_mib,
        workers=args.workers,
        engines=sampling.engines(args) if args.model else None,
    )
