"""The flags of commands that sample from a model."""

import argparse
from dataclasses import asdict
from pathlib import Path

from kimi_plugins.completions.types import Sampling


def add_engine_arguments(
    parser: argparse.ArgumentParser,
    *,
    max_new_tokens: int,
    temperature: float,
    n: int,
    required: bool = True,
    model: bool = True,
) -> None:
    """Add --model and the rest, with the command's own defaults.

    required: whether the command can do nothing without a model. model: whether there is that flag.
    """
    group = parser.add_argument_group("sampling", "from vLLM engines, as a run has them")
    if model:
        group.add_argument("--model", required=required, help="directory of the model, or its name on the hub")
    group.add_argument("--engines", type=int, default=1, help="vLLM engines; default: 1")
    group.add_argument("--tensor-parallel-size", type=int, default=1, help="GPUs of each engine; default: 1")
    group.add_argument(
        "--max-len", type=int, default=None, help="tokens of prompt and response; default: the model's context"
    )
    group.add_argument(
        "--gpu-memory-utilization",
        type=float,
        default=None,
        help="share of a GPU's memory for an engine (on the CPU: of the machine's); default: 0.9 (0.1)",
    )
    group.add_argument("--n", type=int, default=n, help=f"responses to each prompt; default: {n}")
    group.add_argument(
        "--max-new-tokens", type=int, default=max_new_tokens, help=f"of a response; default: {max_new_tokens}"
    )
    group.add_argument("--temperature", type=float, default=temperature, help=f"default: {temperature}")
    group.add_argument("--top-p", type=float, default=1.0, help="default: 1")
    group.add_argument("--seed", type=int, default=0, help="of the sampling; default: 0")


def add_prompt_arguments(parser: argparse.ArgumentParser, *, flag: str | None = None) -> None:
    """Add the file of prompts with their answers, and the names of its columns; flag: of the file, if it needs one."""
    name, required = (flag, {"required": True}) if flag else ("data", {})
    parser.add_argument(
        name, type=Path, metavar="DATA", help="prompts with answers: JSONL, Parquet, CSV or Arrow", **required
    )
    parser.add_argument("--input-key", default="input", help="column of the prompts, text or messages; default: input")
    parser.add_argument("--label-key", default="label", help="column of the right answers; default: label")
    parser.add_argument("--image-key", default="images", help="column of paths of images; default: images")


def prompts(args: argparse.Namespace):
    """Iterator of completions.prompts.Prompt."""
    from kimi_plugins.completions.prompts import read_prompts

    return read_prompts(args.data, input_key=args.input_key, label_key=args.label_key, image_key=args.image_key)


def engines(args: argparse.Namespace, *, images: int = 0):
    """The engines the flags describe, not started; images: most images in a prompt."""
    from kimi_plugins.completions.engines import Engines

    return Engines(
        args.model,
        engines=args.engines,
        tensor_parallel_size=args.tensor_parallel_size,
        max_len=args.max_len,
        gpu_memory_utilization=args.gpu_memory_utilization,
        images=images,
    )


def sampling(args: argparse.Namespace) -> Sampling:
    return Sampling(
        n=args.n,
        temperature=args.temperature,
        top_p=args.top_p,
        max_new_tokens=args.max_new_tokens,
        seed=args.seed,
    )


def settings(args: argparse.Namespace) -> dict:
    """What completions depend on, for completions.resume."""
    return {"model": str(args.model), "data": str(args.data), "max_len": args.max_len} | asdict(sampling(args))
