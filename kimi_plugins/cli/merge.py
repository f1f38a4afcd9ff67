"""The command `openrlhf kimi merge`."""

import argparse
from functools import partial
from pathlib import Path

from kimi_plugins.cli.command import add_command
from kimi_plugins.progress import progress

FROM_BASE = ("task_arithmetic", "ties", "dare_linear", "dare_ties")
METHODS = ("average", "slerp", *FROM_BASE)


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "merge",
        run,
        help="merge two checkpoints into one: a long thinker and a short one (§2.4)",
        description="Write the weighted average of two checkpoints of one architecture (k1.5 §2.4: plain average), "
        "or their merge by SLERP, task arithmetic, TIES or DARE as mergekit defines them, in float32 from tensor to "
        "tensor. What does not fit is said before anything is written, and OUT appears when it is whole. The "
        "configuration is the first checkpoint's, and so is the tokenizer without --tokenizer.",
        example="merge runs/long/model runs/short/model --out merged",
        unfinished=lambda args: f"{args.out} is not written",
    )
    add = parser.add_argument
    add("checkpoints", type=Path, nargs=2, metavar="CHECKPOINT", help="directories with safetensors")
    add("--out", type=Path, required=True, help="directory to write; must not be there yet")
    add(
        "--weight", type=float, default=0.5, help="weight of the second checkpoint, from 0 to 1; default: 0.5, as §2.4"
    )
    add("--method", choices=METHODS, default="average", help="how weights are combined; default: average, as §2.4")
    add("--base", type=Path, help=f"model that both were fine-tuned from, for {', '.join(FROM_BASE)}")
    add(
        "--density",
        type=float,
        default=0.2,
        help="share of the numbers of each change that is kept, with ties the largest, with dare_… any; default: 0.2",
    )
    add("--scale", type=float, default=1.0, help="factor of the merged change from --base; default: 1")
    add("--seed", type=int, default=0, help="random seed of what dare_… keeps; default: 0")
    add(
        "--tokenizer",
        choices=("first", "second", "union"),
        default=None,
        help="whose tokens the model has, where the tokenizers differ; embeddings are merged token by token",
    )
    add(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        default="bfloat16",
        help="of the weights written; default: bfloat16",
    )


def run(args: argparse.Namespace) -> None:
    if not 0 <= args.weight <= 1:
        raise ValueError(f"--weight is {args.weight}: it must be from 0 (the first checkpoint) to 1 (the second)")
    if not 0 < args.density <= 1:
        raise ValueError(f"--density is {args.density}: it must be in (0, 1]")
    if (args.method in FROM_BASE) != (args.base is not None):
        raise ValueError(f"--base goes with {', '.join(FROM_BASE)}, which need it: what both were fine-tuned from")
    import torch

    from kimi_plugins.long2short import merge

    random = torch.Generator().manual_seed(args.seed)
    dare = partial(merge.dare, weight=args.weight, density=args.density, scale=args.scale, generator=random)
    combine = {
        "average": partial(merge.average, weight=args.weight),
        "slerp": partial(merge.slerp, weight=args.weight),
        "task_arithmetic": partial(merge.task_arithmetic, weight=args.weight, scale=args.scale),
        "ties": partial(merge.ties, weight=args.weight, density=args.density, scale=args.scale),
        "dare_linear": partial(dare, elect=False),
        "dare_ties": partial(dare, elect=True),
    }[args.method]
    with progress(unit="B", unit_scale=True, desc="merge") as bar:
        merged = merge.merge_checkpoints(
            [*args.checkpoints, *([args.base] if args.base else [])],
            args.out,
            combine,
            dtype=args.dtype,
            in_blocks=args.method in ("average", "task_arithmetic"),
            tokenizer=args.tokenizer,
            advance=bar.update,
        )
    for note in merged.notes:
        print(note)
    print(f"{merged.tensors} tensors, {merged.bytes / 1e6:.1f} MB; {args.out}")
