"""What is asked of the engines, and what comes back."""

from dataclasses import dataclass
from typing import NamedTuple


class Request(NamedTuple):
    """One prompt.

    key: names it in its file; its samples are seeded by it, whichever engine draws them.
    prompt: text as it stands, or chat messages, which the model's chat template renders.
    images: paths, one for each placeholder in the prompt.
    """

    key: str
    prompt: str | list[dict]
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sampling:
    """How a prompt is answered.

    n: completions of each prompt.
    choices: the completion is one of these texts.
    json_schema: the completion is JSON of this schema.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 1024
    seed: int = 0
    choices: tuple[str, ...] = ()
    json_schema: dict | None = None

    def __post_init__(self) -> None:
        for name, fine, rule in (
            ("n", self.n >= 1, "≥ 1"),
            ("temperature", self.temperature >= 0, "≥ 0"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("max_new_tokens", self.max_new_tokens >= 1, "≥ 1"),
        ):
            if not fine:
                raise ValueError(f"{name} is {getattr(self, name)}: must be {rule}")
        if self.choices and self.json_schema:
            raise ValueError("choices and json_schema are both set: a completion can be held to one of them")


@dataclass(frozen=True)
class EngineOptions:
    """Which engines answer.

    model: directory or name on the hub.
    engines: how many, each with tensor_parallel_size GPUs.
    max_len: tokens of prompt and completion; default: the model's context.
    gpu_memory_utilization: share of a GPU's memory; on the CPU, of the machine's.
    """

    model: str
    engines: int = 1
    tensor_parallel_size: int = 1
    max_len: int | None = None
    gpu_memory_utilization: float | None = None


class Completion(NamedTuple):
    """text: without special tokens. tokens: their number. finish: stop, or length if it was cut."""

    text: str
    tokens: int
    finish: str
