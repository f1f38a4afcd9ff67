"""The sampling that `shortest`, `pairs` and `frontier` share: n graded responses to each prompt, kept in a file."""

import argparse
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from kimi_plugins.completions import cli
from kimi_plugins.completions.grading import graded
from kimi_plugins.completions.prompts import Prompt
from kimi_plugins.completions.resume import resumed
from kimi_plugins.completions.types import Completion, Request


def graded_samples(args: argparse.Namespace, file: Path, pool, show=lambda prompts, total: prompts):
    """Iterator of (Prompt, its n responses with their verdicts), in the order of the data.

    Engines start only if `file` lacks responses.

    Args:
        args: of completions.cli's flags, and apply_chat_template.
        file: JSON lines of the responses; what is there is not sampled again.
        pool: rewards.workers.Pool.
        show: passes the prompts on, for a progress bar; total: their number.

    Raises:
        ValueError: a row of the data is not as it should be, or the file was made from others.
    """
    total = images = 0
    for prompt in cli.prompts(args):  # everything is checked before an engine starts
        total += 1
        images = max(images, len(prompt.request.images))
    sampling = cli.sampling(args)
    answered = resumed(
        file,
        (as_asked(prompt.request, args.apply_chat_template) for prompt in cli.prompts(args)),
        cli.settings(args) | {"chat": args.apply_chat_template},
        when_needed(lambda: cli.engines(args, images=images), sampling),
    )
    prompts: Iterator[Prompt] = cli.prompts(args)
    both = zip(prompts, answered, strict=True)
    named = ((prompt, prompt.answer, completions) for prompt, (_, completions) in show(both, total))
    yield from graded(named, pool)


def as_asked(request: Request, chat: bool) -> Request:
    """chat: a prompt that is text becomes a user's message."""
    if chat and isinstance(request.prompt, str):
        return request._replace(prompt=[{"role": "user", "content": request.prompt}])
    return request


def when_needed(
    engines: Callable[[], AbstractContextManager], sampling
) -> Callable[[Iterable[Request]], Iterator[list[Completion]]]:
    """complete() for completions.resume, for which engines start with the first request."""

    def complete(requests: Iterable[Request]) -> Iterator[list[Completion]]:
        requests = iter(requests)
        first = next(requests, None)
        if first is None:
            return
        with engines() as started:
            yield from started.complete(itertools.chain([first], requests), sampling)

    return complete


def messages(prompt: str | list[dict], chat: bool) -> bool:
    """Whether the prompt was rendered by the chat template."""
    return chat or not isinstance(prompt, str)


def response(text: str, *, chat: bool, end: str) -> str | list[dict]:
    """A response as the trainers take it: after messages a message, after text the text with the model's end token."""
    return [{"role": "assistant", "content": text}] if chat else text + end
