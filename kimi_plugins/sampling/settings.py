"""What the samplers need of the configuration, and the sampler it asks for (k1.5 §2.3.4)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from openrlhf.utils.logging_utils import init_logger

from kimi_plugins import options
from kimi_plugins.data.containers import Row, value_at
from kimi_plugins.data.shapes import Prompt
from kimi_plugins.sampling import curriculum
from kimi_plugins.sampling.prioritized import next_linked

logger = init_logger(__name__)


def problems(args) -> list[str]:
    """What is wrong with the options of the samplers, each alone and together."""
    return [*options.invalid(args, "sampling"), *_conflicts(args)]


# Options, when they have an effect, and what they lack otherwise.
NEEDS: tuple[tuple[tuple[str, ...], Callable[[options.Sampling], bool], str], ...] = (
    (
        ("min_weight", "half_life"),
        lambda chosen: chosen.priority != "uniform",
        "with kimi.sampling.priority uniform; set another one",
    ),
    (
        ("difficulty_key", "harder"),
        lambda chosen: chosen.curriculum != "none",
        "without a curriculum; set kimi.sampling.curriculum",
    ),
    (
        ("curriculum_steps", "stages"),
        lambda chosen: chosen.curriculum in ("stages", "continuous"),
        "on this kimi.sampling.curriculum; set that to stages or continuous",
    ),
    (
        ("hard_from", "hard_share"),
        lambda chosen: chosen.curriculum == "hard_after",
        "on this kimi.sampling.curriculum; set that to hard_after",
    ),
)


def _conflicts(args) -> Iterator[str]:
    for names, have_effect, why in NEEDS:
        if not have_effect(args.kimi.sampling):
            yield from options.without_effect(args, "sampling", names, why)
    if args.kimi.sampling.priority != "uniform" and args.data.dataloader_num_workers > 0:
        yield (
            f"data.dataloader_num_workers is {args.data.dataloader_num_workers}: workers draw ahead, before success "
            "rates are known; set it to 0, or kimi.sampling.priority to uniform"
        )


class Difficulties:
    """A training.RowCheck: a column of difficulties that the curriculum cannot use."""

    def __init__(self, args) -> None:
        self._sampling = args.kimi.sampling
        self._file = ""
        self._values: list[object] = []

    def row(self, option: str, row: Row, prompt: Prompt | None, problem: str | None) -> Iterator[str]:
        if self._sampling.curriculum != "none" and option == "data.prompt_dataset" and isinstance(row.value, dict):
            self._file = self._file or row.file
            self._values.append(value_at(row.value, self._sampling.difficulty_key))
        yield from ()

    def end(self) -> Iterator[str]:
        if self._values:
            column, harder = self._sampling.difficulty_key, self._sampling.harder
            try:
                curriculum.difficulties(self._values, column, harder=harder)
            except ValueError as error:
                yield f"kimi.sampling.difficulty_key: {self._file}: {error}"


def build_sampler(dataset, args):
    """The PromptSampler of the options, None if they ask for uniform sampling.

    dataset: datasets.Dataset of the prompts, all columns.
    """
    from kimi_plugins.sampling.sampler import PromptSampler

    sampling = args.kimi.sampling
    if sampling.priority == "uniform" and sampling.curriculum == "none" and sampling.linked_key is None:
        return None
    if repeated := duplicates(_prompts(dataset, args.data)):
        logger.warning(
            f"{repeated} of {len(dataset)} prompts stand in data.prompt_dataset more than once: every row is drawn "
            "for itself and has a success rate of its own; remove duplicates if that is not meant"
        )
    order = None
    if sampling.curriculum != "none":
        order = curriculum.easy_to_hard(_difficulties(dataset, sampling), args.train.seed)
    linked = None
    if sampling.linked_key is not None:
        linked = next_linked(_linked(dataset, sampling, args.rollout.batch_size))
    return PromptSampler(
        len(dataset),
        batch_size=args.rollout.batch_size,
        seed=args.train.seed,
        options=sampling,
        order=order,
        linked=linked,
        data_source=dataset,
    )


def _prompts(dataset, data) -> Iterable:
    """The prompts, with their images if they have any: the same question may be asked of many."""
    texts, key = dataset[data.input_key], data.image_key
    return zip(texts, dataset[key], strict=True) if key in dataset.column_names else texts


def duplicates(prompts: Iterable) -> int:
    """Number of rows, beyond the first, whose prompt (text or messages) is that of another; 8 bytes a row."""
    hashes = np.fromiter((hash(str(prompt)) for prompt in prompts), np.int64)
    return len(hashes) - len(np.unique(hashes))


def _difficulties(dataset, sampling):
    column = sampling.difficulty_key
    values = _column(dataset, "difficulty_key", column, ", or set kimi.sampling.curriculum to none")
    return curriculum.difficulties(values, column, harder=sampling.harder)


def _linked(dataset, sampling, batch_size: int) -> list:
    column = sampling.linked_key
    values = list(_column(dataset, "linked_key", column))
    for value, count in Counter(value for value in values if value is not None).most_common(1):
        if count > batch_size:
            raise ValueError(
                f"kimi.sampling.linked_key: {count} rows have the {column} {value!r}, more than come in one batch "
                f"(rollout.batch_size {batch_size}); name a column with fewer equal values, or raise that"
            )
    return values


def _column(dataset, option: str, column: str, otherwise: str = ""):
    if column not in dataset.column_names:
        raise ValueError(
            f"kimi.sampling.{option}: the data set has no column {column!r}, only {', '.join(dataset.column_names)}; "
            f"name one of them{otherwise}"
        )
    return dataset[column]
