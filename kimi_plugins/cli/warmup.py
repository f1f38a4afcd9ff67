"""The command `openrlhf kimi warmup`."""

import argparse
import json
from functools import partial
from pathlib import Path

from kimi_plugins.cli import sampling
from kimi_plugins.cli.command import add_command

TEMPLATES = Path(__file__).with_name("warm_up.yaml")


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "warmup",
        run,
        help="make a long-CoT warm-up set by rejection sampling",
        description="Ask a model every problem with several prompt templates (planning, evaluation, reflection, "
        "exploration: k1.5 §2.2), keep only verified responses, and of those long ones that are unlike each other, "
        "and write rows for `openrlhf sft`: the problem as it is, without the template, and the response. An "
        "interrupted command goes on where it stood when it is given again.",
        example="warmup train.jsonl --model Qwen/Qwen2.5-7B-Instruct --apply-chat-template --out warm_up",
    )
    sampling.add_prompt_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="directory to write warm_up.jsonl and the rest to")
    parser.add_argument(
        "--templates",
        type=Path,
        default=TEMPLATES,
        help="YAML file, NAME: text with {question}; default: the four of §2.2",
    )
    parser.add_argument("--as-is", action="store_true", help="ask the prompts as they stand, without a template")
    parser.add_argument("--keep", type=int, default=1, help="most responses kept of a prompt; default: 1")
    parser.add_argument(
        "--min-tokens", type=int, default=0, help="fewest tokens of a response that is kept; default: 0"
    )
    parser.add_argument("--max-tokens", type=int, help="most tokens of a response that is kept; default: any number")
    parser.add_argument(
        "--similarity",
        type=float,
        default=0.8,
        help="share of three-word shingles two kept responses of a prompt may have in common; default: 0.8",
    )
    sampling.add_grading_arguments(parser)
    sampling.add_engine_arguments(parser, max_new_tokens=2048, temperature=1.0, n=4)


def run(args: argparse.Namespace) -> None:
    from kimi_plugins.completions.engines import tokenizer_of
    from kimi_plugins.completions.forms import form_of, note, training_command
    from kimi_plugins.completions.grading import math_pool
    from kimi_plugins.completions.samples import graded_samples
    from kimi_plugins.data.files import replacing
    from kimi_plugins.prompts import warm_up

    templates = {"as_is": warm_up.QUESTION} if args.as_is else warm_up.read_templates(args.templates)
    sampler = sampling.sampler(args)
    form = form_of(tokenizer_of(args.model), args.apply_chat_template)
    args.out.mkdir(parents=True, exist_ok=True)
    with (
        math_pool(args.answer_pattern) as pool,
        replacing(args.out / "warm_up.jsonl") as rows,
        replacing(args.out / "rejects.jsonl") as rejects,
        rows.open("w") as accepted,
        rejects.open("w") as rejected,
    ):
        ask = partial(warm_up.ask, templates=templates, chat=args.apply_chat_template)
        counts = warm_up.write(
            graded_samples(sampler, args.out / "completions.jsonl", pool, ask, templates=templates),
            accepted,
            rejected,
            form=form,
            selection={
                "keep": args.keep,
                "min_tokens": args.min_tokens,
                "max_tokens": args.max_tokens,
                "similarity": args.similarity,
            },
        )
    (args.out / "summary.json").write_text(json.dumps(counts, indent=2) + "\n")
    print(
        f"{counts['prompts']} prompts, {counts['responses']} responses, {counts['right']} right "
        f"({counts['failed']} grades failed); {counts['rows']} rows of {counts['kept']} prompts in "
        f"{args.out / 'warm_up.jsonl'}, the reasons of the others in {args.out / 'rejects.jsonl'}"
    )
    if said := note(form, args.model):
        print(said)
    command = training_command(
        "sft",
        args.model,
        args.out / "warm_up.jsonl",
        "--data.input_key input --data.output_key output",
        messages=bool(counts["messages"]),
        longest=counts["longest"],
    )
    print(f"Train on them: {command}")
