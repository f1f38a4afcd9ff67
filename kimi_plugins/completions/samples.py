"""The sampling that commands share: n graded responses to each prompt, kept in a file."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kimi_plugins.completions.grading import Graded, graded
from kimi_plugins.completions.identity import model_files
from kimi_plugins.completions.prompts import Prompt
from kimi_plugins.completions.resume import resumed
from kimi_plugins.completions.types import Completion, EngineOptions, Request, Sampling
from kimi_plugins.progress import progress

Asked = tuple[Any, str, Request]  # an item, its right answer, and what is asked for it


@dataclass(frozen=True)
class Sampler:
    """What responses are drawn from, and how.

    prompts: reads them from the start each time it is called. chat: prompts that are text are a user's message.
    """

    prompts: Callable[[], Iterator[Prompt]]
    engines: EngineOptions
    sampling: Sampling
    chat: bool

    def settings(self) -> dict:
        """What the responses depend on beside the prompts; JSON."""
        settings = {"model": self.engines.model, "files of the model": model_files(self.engines.model)}
        return settings | {"max_len": self.engines.max_len, "chat": self.chat} | asdict(self.sampling)


def start_engines(options: EngineOptions, *, images: int) -> AbstractContextManager:
    """The engines of the options, started when the `with` block is entered; images: most images in a prompt."""
    from kimi_plugins.completions.engines import Engines

    return Engines(options, images=images)


def graded_samples(
    sampler: Sampler,
    file: Path,
    pool,
    ask: Callable[[Iterable[Prompt]], Iterator[Asked]] | None = None,
    title: str | None = None,
    engines: Callable[..., AbstractContextManager] | None = None,
    **settings,
) -> Iterator[tuple[Any, list[Graded]]]:
    """Every prompt of the data with its n responses and their verdicts, in their order, with a progress bar.

    Engines start only if `file` lacks responses.

    Args:
        file: JSON lines of the responses; prompts that are answered there are not sampled again.
        pool: grading.workers.Pool.
        ask: what is asked for the prompts and given back with the responses; default: the prompts as they are.
        title: of the progress bar.
        engines: makes the engines from EngineOptions and the most images in a prompt; default: start_engines.
        settings: what the responses depend on beside the sampler.

    Raises:
        ValueError: a row of the data is invalid, or the file's responses were made otherwise.
    """
    ask = ask or (lambda prompts: as_they_are(prompts, sampler.chat))
    total = images = 0
    for _, _, request in ask(sampler.prompts()):  # everything is checked before an engine starts
        total += 1
        images = max(images, len(request.images))
    answered = resumed(
        file,
        (request for _, _, request in ask(sampler.prompts())),
        sampler.settings() | settings,
        when_needed(lambda: (engines or start_engines)(sampler.engines, images=images), sampler.sampling),
    )
    both = zip(ask(sampler.prompts()), answered, strict=True)
    shown = progress(both, total=total, unit="prompt", desc=title)
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
