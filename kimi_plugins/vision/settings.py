"""What prompts with images need of the configuration and of the data files."""

import os
from collections.abc import Iterator
from itertools import islice

from kimi_plugins.data.image_rows import PLACEHOLDER
from kimi_plugins.data.readers import READERS
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
    """Rows of local files whose images and placeholders do not match, are too many, or are not there."""
    sets = (("data.prompt_dataset", args.data.prompt_dataset), ("eval.dataset", args.eval.dataset))
    return [
        problem
        for option, spec in sets
        for path in map(str.strip, (spec or "").split(","))
        if os.path.splitext(path)[1] in READERS and os.path.isfile(path)
        for problem in _file_problems(option, path, args.data)
    ]


def _file_problems(option: str, path: str, data) -> Iterator[str]:
    bad: dict[str, list[int]] = {}
    columns = [data.input_key, data.image_key]
    try:
        for number, row, problem in islice(READERS[os.path.splitext(path)[1]](path, columns), data.max_samples):
            if problem is None and isinstance(row, dict):  # what is wrong otherwise is kimi-preflight's
                for found in _row_problems(row, data):
                    bad.setdefault(found, []).append(number)
    except (OSError, ValueError):
        return
    for problem, rows in bad.items():
        named = ", ".join(map(str, rows[:NAMED_ROWS]))
        more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
        yield f"{option}: {path} row{'s' if len(rows) > 1 else ''} {named}{more}: {problem}"


def _row_problems(row: dict, data) -> Iterator[str]:
    images = row.get(data.image_key) or []
    images = images if isinstance(images, list) else [images]
    found = _placeholders(row.get(data.input_key))
    if images and data.max_images_per_prompt == 0:
        yield f"has images in {data.image_key!r}; set data.max_images_per_prompt to the most a prompt has"
        return
    if len(images) > data.max_images_per_prompt:
        yield f"has {len(images)} images; raise data.max_images_per_prompt ({data.max_images_per_prompt}) to that"
    if data.max_images_per_prompt and found != len(images):
        yield (
            f"has {found} × {PLACEHOLDER} and {len(images)} images; make them match (openrlhf kimi vision-prepare "
            "does, or rejects the row)"
        )
    if any(
        isinstance(image, str) and len(image) < 4096 and "://" not in image and _missing(image) for image in images
    ):
        yield "has an image that is no file; run openrlhf kimi vision-prepare, whose paths are absolute"


def _missing(path: str) -> bool:
    return not path.startswith("data:") and not os.path.isfile(path)


def _placeholders(prompt: object) -> int:
    if isinstance(prompt, str):
        return prompt.count(PLACEHOLDER)
    if not isinstance(prompt, list):
        return 0
    contents = [message.get("content") for message in prompt if isinstance(message, dict)]
    inline = sum(
        isinstance(part, dict) and part.get("type") == "image"
        for content in contents
        if isinstance(content, list)
        for part in content
    )
    return inline + sum(content.count(PLACEHOLDER) for content in contents if isinstance(content, str))
