"""The commands of k1.5 §2.4; light, because every `openrlhf kimi` command imports it."""

import argparse
from functools import partial
from pathlib import Path

from kimi_plugins.cli import sampling as cli
from kimi_plugins.cli.command import exit_code


def add_parser(commands) -> None:
    """Add merge, shortest, pairs, pick-checkpoint and frontier to argparse's subparsers."""
    _add_merge(commands)
    _add_shortest(commands)
    _add_pairs(commands)
    _add_pick_checkpoint(commands)
    _add_frontier(commands)


def _add_merge(commands) -> None:
    parser = commands.add_parser(
        "merge",
        help="merge two checkpoints into one: a long thinker and a short one (§2.4)",
        description="Write the weighted average of two checkpoints of one architecture (k1.5 §2.4: plain average), or "
        "their SLERP or TIES merge, in float32 from tensor to tensor. What does not fit is said before anything is "
        "written, and OUT appears when it is whole. Configuration and tokenizer are the first checkpoint's.",
    )
    add = parser.add_argument
    add("checkpoints", type=Path, nargs=2, metavar="CHECKPOINT", help="directories with safetensors")
    add("--out", type=Path, required=True, help="directory to make")
    add("--weight", type=float, default=0.5, help="of the second checkpoint, from 0 to 1; default: 0.5, as §2.4")
    add("--method", choices=("average", "slerp", "ties"), default="average", help="default: average, as §2.4")
    add("--base", type=Path, help="ties: what both were fine-tuned from")
    add(
        "--density",
        type=float,
        default=0.2,
        help="ties: share of the numbers of each change that is kept, the largest; default: 0.2, as its paper",
    )
    add("--scale", type=float, default=1.0, help="ties: of the merged change; default: 1")
    add("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16", help="default: bfloat16")
    parser.set_defaults(func=partial(_run, "merge", _merge))


def _add_shortest(commands) -> None:
    parser = commands.add_parser(
        "shortest",
        help="shortest rejection sampling: rows for `openrlhf sft` (§2.4)",
        description="Sample n responses to each prompt, grade their answers, and write the shortest right one as a "
        "row for `openrlhf sft` (--data.input_key input --data.output_key output). The responses are kept and "
        "shared with `openrlhf kimi pairs`. An interrupted command goes on where it stood; OUT appears when it is "
        "whole.",
    )
    _add_sampling(parser)
    add = parser.add_argument
    add("--ties", choices=("first", "random", "all"), default="first", help="of equally short ones; default: first")
    add("--weight-key", help="column of whole numbers: how often a prompt's row is written; default: once")
    parser.set_defaults(func=partial(_run, "shortest", _shortest))


def _add_pairs(commands) -> None:
    parser = commands.add_parser(
        "pairs",
        help="preference pairs for `openrlhf dpo`: shortest right before longer (§2.4)",
        description="Sample n responses to each prompt, grade their answers, and write pairs for `openrlhf dpo` "
        "(--data.prompt_key prompt): the shortest right response before each that is wrong and longer, or right and "
        "RATIO times as long. The responses are kept and shared with `openrlhf kimi shortest`; an interrupted command "
        "goes on where it stood. OUT appears when it is whole.",
    )
    _add_sampling(parser)
    parser.add_argument("--ratio", type=float, default=1.5, help="see above; default: 1.5, as §2.4")
    parser.set_defaults(func=partial(_run, "pairs", _pairs))


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    cli.add_prompt_arguments(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="JSONL to write")
    add("--completions", type=Path, help="where responses are kept; default: completions.jsonl beside OUT")
    add("--min-tokens", type=int, default=0, help="right responses shorter than this are not taken; default: 0")
    _add_grading(parser)
    cli.add_engine_arguments(parser, max_new_tokens=8192, temperature=1.0, n=8)


def _add_grading(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--apply-chat-template", action="store_true", help="prompts that are text are a user's message")
    add("--answer-pattern", help="see `openrlhf kimi grade math`; default: \\boxed{…}")


def _add_pick_checkpoint(commands) -> None:
    parser = commands.add_parser(
        "pick-checkpoint",
        help="the checkpoint of a run to start the second RL phase from (§2.4)",
        description="Of the evaluated steps of a run whose model was saved (ckpt.save_hf), choose the one of fewest "
        "tokens among those at most POINTS less accurate than the best, and say why. The last line is its directory.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's directory, its ckpt.path")
    parser.add_argument(
        "--within",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="points of accuracy (of 100) that fewer tokens may cost; default: 1, ours",
    )
    parser.set_defaults(func=partial(_run, "pick-checkpoint", _pick_checkpoint))


def _add_frontier(commands) -> None:
    parser = commands.add_parser(
        "frontier",
        help="accuracy over tokens of several models, with intervals and the Pareto front",
        description="Sample n responses of every model to the same prompts with the same seeds, and write pass@1 and "
        "mean tokens with 95 %% intervals (bootstrap over prompts) and the Pareto front as OUT/frontier.json, .png "
        "and .html. The others are compared with the first model. An interrupted command goes on where it stood.",
    )
    # argparse would take the prompts for a model: they need a flag here.
    parser.add_argument("models", nargs="+", metavar="MODEL", help="directory or name on the hub, or NAME=MODEL")
    cli.add_prompt_arguments(parser, flag="--data")
    parser.add_argument("--out", type=Path, required=True, help="directory")
    _add_grading(parser)
    cli.add_engine_arguments(parser, max_new_tokens=8192, temperature=1.0, n=4, model=False)
    parser.set_defaults(func=partial(_run, "frontier", _frontier))


def _run(name: str, command, args: argparse.Namespace) -> int:
    return exit_code(name, lambda: command(args))


def _shortest(args: argparse.Namespace) -> None:
    from kimi_plugins.long2short import data_sets

    data_sets.run(
        args,
        data_sets.shortest_rows,
        ties=args.ties,
        min_tokens=args.min_tokens,
        seed=args.seed,
        weight_key=args.weight_key,
    )


def _pairs(args: argparse.Namespace) -> None:
    if not args.ratio > 1:
        raise ValueError(f"--ratio is {args.ratio}: it must be > 1")
    from kimi_plugins.long2short import data_sets

    data_sets.run(args, data_sets.pair_rows, ratio=args.ratio, min_tokens=args.min_tokens)


def _pick_checkpoint(args: argparse.Namespace) -> None:
    if not args.within >= 0:
        raise ValueError(f"--within is {args.within}: it must be ≥ 0")
    from kimi_plugins.long2short.pick import pick

    directory, reason = pick(args.run, args.within)
    print(f"{reason}\n{directory}")


def _frontier(args: argparse.Namespace) -> None:
    from kimi_plugins.long2short import frontier

    frontier.run(args)


def _merge(args: argparse.Namespace) -> None:
    if not 0 <= args.weight <= 1:
        raise ValueError(f"--weight is {args.weight}: it must be from 0 (the first checkpoint) to 1 (the second)")
    if not 0 < args.density <= 1:
        raise ValueError(f"--density is {args.density}: it must be in (0, 1]")
    if (args.method == "ties") != (args.base is not None):
        raise ValueError("--base goes with --method ties, and ties needs it: what both were fine-tuned from")
    from tqdm import tqdm

    from kimi_plugins.long2short import merge

    combine = {
        "average": partial(merge.average, weight=args.weight),
        "slerp": partial(merge.slerp, weight=args.weight),
        "ties": partial(merge.ties, weight=args.weight, density=args.density, scale=args.scale),
    }[args.method]
    with tqdm(unit="B", unit_scale=True, desc="merge", disable=None) as bar:
        merged = merge.merge_checkpoints(
            [*args.checkpoints, *([args.base] if args.base else [])],
            args.out,
            combine,
            dtype=args.dtype,
            in_blocks=args.method == "average",
            advance=bar.update,
        )
    for note in merged.notes:
        print(note)
    print(f"{merged.tensors} tensors, {merged.bytes / 1e6:.1f} MB; {args.out}")
