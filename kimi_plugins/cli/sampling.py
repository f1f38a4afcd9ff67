"""The flags of commands that sample from a model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kimi_plugins.completions.types import EngineOptions, Sampling

if TYPE_CHECKING:  # its readers are imported when they are needed
    from kimi_plugins.completions.prompts import Prompt
    from kimi_plugins.completions.samples import Sampler


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
        "--max-len",
        type=int,
        default=None,
        help="most tokens of prompt and response together; default: the model's context",
    )
    group.add_argument(
        "--gpu-memory-utilization",
        type=float,
        default=None,
        help="share of a GPU's memory for an engine (on the CPU: of the machine's); default: 0.9 (0.1)",
    )
    group.add_argument("--n", type=int, default=n, help=f"responses to each prompt; default: {n}")
    group.add_argument(
        "--max-new-tokens",
        type=int,
        default=max_new_tokens,
        help=f"most tokens of a response; default: {max_new_tokens}",
    )
    group.add_argument(
        "--temperature", type=float, default=temperature, help=f"sampling temperature; default: {temperature}"
    )
    group.add_argument("--top-p", type=float, default=1.0, help="nucleus of the sampling, a share; default: 1")
    group.add_argument("--seed", type=int, default=0, help="random seed of the sampling; default: 0")


def add_prompt_arguments(parser: argparse.ArgumentParser, *, flag: str | None = None) -> None:
    """Add the file of prompts with their answers, and the names of its columns; flag: of the file, if it needs one."""
    required: dict[str, Any] = {"required": True} if flag else {}
    parser.add_argument(
        flag or "data",
        type=Path,
        metavar="DATA",
        help="prompts with answers: a file, directory, glob or name on the hub, see docs/data.md",
        **required,
    )
    parser.add_argument("--split", default="train", help="split of a data set that has several; default: train")
    parser.add_argument("--input-key", help="column of the prompts, text or messages; default: recognised")
    parser.add_argument("--label-key", help="column of the right answers; default: recognised")
    parser.add_argument("--image-key", help="column of the images; default: recognised")
    parser.add_argument("--format", default="auto", help="shape of the rows, see docs/data.md; default: recognised")


def add_grading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how prompts are asked and answers are found."""
    add = parser.add_argument
    add("--apply-chat-template", action="store_true", help="ask prompts that are text as a user's message")
    add(
        "--answer-pattern",
        help="regular expression of the final answer, its first group or the rest of the line after it, e.g. '####'; "
        "default: the last \\boxed{…}",
    )


def sampler(args: argparse.Namespace) -> Sampler:
    """What the flags of prompts, engines and sampling describe."""
    from kimi_plugins.completions.samples import Sampler

    return Sampler(prompts(args), engines(args), sampling(args), args.apply_chat_template)


def prompts(args: argparse.Namespace) -> Callable[[], Iterator[Prompt]]:
    """A function that reads the prompts from the start each time it is called."""
    from kimi_plugins.completions.prompts import read_prompts

    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:
            said.add(line)
            print(line, file=sys.stderr)

    return partial(
        read_prompts,
        args.data,
        split=args.split,
        say=say,
        input_key=args.input_key,
        label_key=args.label_key,
        image_key=args.image_key,
        format=args.format,
    )


def engines(args: argparse.Namespace) -> EngineOptions:
    return EngineOptions(
        args.model,
        engines=args.engines,
        tensor_parallel_size=args.tensor_parallel_size,
        max_len=args.max_len,
        gpu_memory_utilization=args.gpu_memory_utilization,
    )


def sampling(args: argparse.Namespace) -> Sampling:
    return Sampling(
        n=args.n,
        temperature=args.temperature,
        top_p=args.top_p,
        max_new_tokens=args.max_new_tokens,
        seed=args.seed,
    )
