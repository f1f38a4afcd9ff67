"""What prompts with images need of the configuration and of the data files."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from kimi_plugins.data import training
from kimi_plugins.data.store import folder_of
from kimi_plugins.data.values import PLACEHOLDER
from kimi_plugins.grading.extraction import compiled

NAMED_ROWS = 3  # how many bad rows a problem names; the others are counted


def problems(args) -> list[str]:
    return list(_problems(args))


def _problems(args) -> Iterator[str]:
    pattern = args.kimi.vision.answer_pattern
    if pattern is not None:
        try:
            compiled(pattern)
        except ValueError as error:
            yield f"kimi.vision.answer_pattern: {error}"
    if args.data.max_images_per_prompt > 0 and not args.data.apply_chat_template:
        yield (
            f"data.apply_chat_template: not set, but data.max_images_per_prompt is {args.data.max_images_per_prompt}: "
            f"only the template turns {PLACEHOLDER} into the model's own image tokens; set it"
        )


def data_problems(args) -> list[str]:
    """Rows of local data sets with too many images, or with images that do not exist."""
    sets = (
        ("data.prompt_dataset", args.data.prompt_dataset, args.data.prompt_split),
        ("eval.dataset", args.eval.dataset, args.eval.split),
    )
    return [
        problem
        for option, spec, split in sets
        for path in map(str.strip, (spec or "").split(","))
        if os.path.exists(path)
        for problem in _set_problems(option, path, split, args)
    ]


def _set_problems(option: str, path: str, split: str, args) -> Iterator[str]:
    bad: dict[str, list[int]] = {}
    try:
        found = training.opened(path, split, training.Options.of(args))
        for row, prompt, reason in islice(found.prompts(), args.data.max_samples):
            if prompt is not None:
                problems = list(_problems_of(prompt.images, folder_of(row), args.data))
            else:  # what is wrong otherwise is said by kimi-preflight
                problems = [reason] if reason and PLACEHOLDER in reason else []
            for problem in problems:
                bad.setdefault(problem, []).append(row.number)
    except (OSError, ValueError):
        return
    for problem, rows in bad.items():
        named = ", ".join(map(str, rows[:NAMED_ROWS]))
        more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
        yield f"{option}: {path} row{'s' if len(rows) > 1 else ''} {named}{more}: {problem}"


def _problems_of(images: list, folder: Path, data) -> Iterator[str]:
    if images and data.max_images_per_prompt == 0:
        yield f"has images in {data.image_key!r}; set data.max_images_per_prompt to the most a prompt has"
        return
    if len(images) > data.max_images_per_prompt:
        yield f"has {len(images)} images; raise data.max_images_per_prompt ({data.max_images_per_prompt}) to that"
    if any(isinstance(image, str) and len(image) < 4096 and _missing(image, folder) for image in images):
        yield "has an image that does not exist; correct its path, which is relative to the file"


def _missing(path: str, folder: Path) -> bool:
    return (
        not path.startswith(("data:", "http://", "https://")) and not (folder / path.removeprefix("file://")).is_file()
    )
