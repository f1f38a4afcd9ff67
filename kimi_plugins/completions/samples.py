"""The sampling that commands share: n graded responses to each prompt, kept in a file."""

import argparse
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from kimi_plugins.cli import sampling as cli
from kimi_plugins.completions.grading import Graded, graded
from kimi_plugins.completions.prompts import Prompt
from kimi_plugins.completions.resume import resumed
from kimi_plugins.completions.types import Completion, Request

T = TypeVar("T")
Asked = tuple[T, str, Request]  # an item, its right answer, and what is asked for it


def graded_samples(
    args: argparse.Namespace,
    file: Path,
    pool,
    ask: Callable[[Iterable[Prompt]], Iterator[Asked]] | None = None,
    title: str | None = None,
    engines: Callable[..., AbstractContextManager] | None = None,
    **settings,
) -> Iterator[tuple[T, list[Graded]]]:
    """Every prompt of the data with its n responses and their verdicts, in their order, with a progress bar.

    Engines start only if `file` lacks responses.

    Args:
        args: of completions.cli's flags, and apply_chat_template.
        file: JSON lines of the responses; what is there is not sampled again.
        pool: grading.workers.Pool.
        ask: what is asked for the prompts and given back with the responses; default: the prompts as they are.
        title: of the progress bar.
        engines: makes the engines; default: completions.cli.engines.
        settings: what the responses depend on beside args.

    Raises:
        ValueError: a row of the data is not as it should be, or the file was made from others.
    """
    from tqdm import tqdm

    ask = ask or (lambda prompts: as_they_are(prompts, args.apply_chat_template))
    total = images = 0
    for _, _, request in ask(cli.prompts(args)):  # everything is checked before an engine starts
        total += 1
        images = max(images, len(request.images))
    answered = resumed(
        file,
        (request for _, _, request in ask(cli.prompts(args))),
        cli.settings(args) | {"chat": args.apply_chat_template} | settings,
        when_needed(lambda: (engines or cli.engines)(args, images=images), cli.sampling(args)),
    )
    both = zip(ask(cli.prompts(args)), answered, strict=True)
    shown = tqdm(both, total=total, unit="prompt", desc=title, disable=None)
    yield from graded(((item, answer, completions) for (item, answer, _), (_, completions) in shown), pool)


def as_they_are(prompts: Iterable[Prompt], chat: bool) -> Iterator[Asked]:
    return ((prompt, prompt.answer, as_asked(prompt.request, chat)) for prompt in prompts)


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
