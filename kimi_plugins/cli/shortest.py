"""The command `openrlhf kimi shortest`."""

import argparse
from functools import partial
from pathlib import Path

from kimi_plugins.cli import sampling
from kimi_plugins.cli.command import add_command


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "shortest",
        run,
        help="shortest rejection sampling: rows for `openrlhf sft` (§2.4)",
        description="Sample n responses to each prompt, grade their answers, and write the shortest right one as a "
        "row for `openrlhf sft` (--data.input_key input --data.output_key output). The responses are kept and "
        "shared with `openrlhf kimi pairs`. An interrupted command goes on where it stood; OUT appears when it is "
        "whole.",
        example="shortest train.jsonl --model runs/long/model --out shortest.jsonl",
    )
    add_response_arguments(parser)
    add = parser.add_argument
    add(
        "--ties",
        choices=("first", "random", "all"),
        default="first",
        help="which of equally short responses to take; default: first",
    )
    add("--weight-key", help="column of whole numbers: how often a prompt's row is written; default: once")


def add_response_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the commands that choose among n graded responses to each prompt."""
    sampling.add_prompt_arguments(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="JSONL file to write")
    add("--completions", type=Path, help="where responses are kept; default: completions.jsonl beside OUT")
    add("--min-tokens", type=int, default=0, help="right responses shorter than this are not taken; default: 0")
    sampling.add_grading_arguments(parser)
    sampling.add_engine_arguments(parser, max_new_tokens=8192, temperature=1.0, n=8)


def run(args: argparse.Namespace) -> None:
    from kimi_plugins.long2short import data_sets

    rows_of = partial(
        data_sets.shortest_rows,
        ties=args.ties,
        min_tokens=args.min_tokens,
        seed=args.seed,
        weight_key=args.weight_key,
    )
    write(args, rows_of, "sft", "--data.input_key input --data.output_key output")


def write(args: argparse.Namespace, rows_of, trainer: str, keys: str) -> None:
    """Write the rows that rows_of makes, and print what they are and the command that trains on them."""
    from kimi_plugins.completions.engines import tokenizer_of
    from kimi_plugins.completions.forms import form_of, note, training_command
    from kimi_plugins.long2short import data_sets

    file = args.completions or args.out.parent / "completions.jsonl"
    form = form_of(tokenizer_of(args.model), args.apply_chat_template)
    summary = data_sets.make(
        sampling.sampler(args),
        rows_of,
        args.out,
        file,
        form=form,
        pattern=args.answer_pattern,
        min_tokens=args.min_tokens,
    )
    print(f"{summary}\n{args.out}; the responses are in {file}")
    if said := note(form, args.model):
        print(said)
    command = training_command(trainer, args.model, args.out, keys, messages=summary.messages, longest=summary.longest)
    print(f"Train on them: {command}")
