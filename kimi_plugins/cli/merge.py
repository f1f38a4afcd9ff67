"""The command `openrlhf kimi merge`."""

import argparse
from functools import partial
from pathlib import Path

from kimi_plugins.cli.command import exit_code


def add_parser(commands) -> None:
    """Add the parser of `merge` to those of `openrlhf kimi`."""
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
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    return exit_code("merge", partial(merge, args))


def merge(args: argparse.Namespace) -> None:
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
