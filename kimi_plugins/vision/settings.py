"""What prompts with images need of the configuration and of the data files."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from kimi_plugins import options
from kimi_plugins.data.containers import Row
from kimi_plugins.data.images import BadImage, file_named, is_encoded, is_url, opened, read_bytes
from kimi_plugins.data.shapes import Prompt
from kimi_plugins.data.store import folder_of
from kimi_plugins.data.values import PLACEHOLDER
from kimi_plugins.vision.processor import ModelProcessor, loaded


def problems(args) -> list[str]:
    """What is wrong with the options of images, each alone and together."""
    return [*options.invalid(args, "vision"), *_conflicts(args)]


def _conflicts(args) -> Iterator[str]:
    if args.data.max_images_per_prompt > 0 and not args.data.apply_chat_template:
        yield (
            f"data.apply_chat_template: not set, but data.max_images_per_prompt is {args.data.max_images_per_prompt}: "
            f"only the template turns {PLACEHOLDER} into the model's own image tokens; set it"
        )


class Images:
    """A training.RowCheck: prompts with too many images or too many tokens, and images that do not exist."""

    def __init__(self, args) -> None:
        self._args, self._model = args, _processor(args)

    def row(self, option: str, row: Row, prompt: Prompt | None, problem: str | None) -> Iterator[str]:
        if prompt is None:
            if problem and PLACEHOLDER in problem:  # of what else can be wrong with a row, nothing is about images
                yield problem
            return
        problems = list(_problems_of(prompt.images, folder_of(row), self._args.data))
        if self._model is not None and not problems:
            problems = list(_costs(prompt, folder_of(row), self._model, self._args))
        yield from problems

    def end(self) -> Iterator[str]:
        yield from ()


def _problems_of(images: list, folder: Path, data) -> Iterator[str]:
    if images and data.max_images_per_prompt == 0:
        yield f"has images in {data.image_key!r}; set data.max_images_per_prompt to the most a prompt has"
        return
    if len(images) > data.max_images_per_prompt:
        yield f"has {len(images)} images; raise data.max_images_per_prompt ({data.max_images_per_prompt}) to that"
    if any(isinstance(image, str) and _missing(image, folder) for image in images):
        yield "has an image that does not exist; correct its path, which is relative to the file"


def _processor(args) -> ModelProcessor | None:
    """The model's processor, if the run has images; None if it cannot be loaded, which other checks say."""
    if args.data.max_images_per_prompt == 0 or not args.data.apply_chat_template:
        return None
    try:
        return loaded(args.actor.model_name_or_path)
    except (ImportError, ValueError):
        return None


def _costs(prompt: Prompt, folder: Path, model: ModelProcessor, args) -> Iterator[str]:
    """What is wrong with the images' formats, the text's special tokens, or the number of tokens of both."""
    try:
        sizes = [_size(image, folder) for image in prompt.images]
    except BadImage as error:
        yield f"has an image that {error}; remove the row, or make the set by openrlhf kimi vision-prepare"
        return
    if any(model.token_within(message["content"]) for message in prompt.messages):
        yield "the text holds a special token of the model's; remove it"
    if not sizes:
        return  # a long text is cut, or filtered by its length
    # What OpenRLHF leaves of data.max_len for a prompt with images, which it cannot cut.
    room = args.data.max_len - (args.rollout.max_new_tokens or 1)
    tokens = model.prompt_tokens(prompt.messages, sizes)
    if tokens > room:
        yield (
            f"has {tokens} tokens with its images, and data.max_len less rollout.max_new_tokens leaves {room}; raise "
            "data.max_len, or make the set with fewer image_tokens (vision-prepare)"
        )


def _size(image: object, folder: Path) -> tuple[int, int]:
    """(width, height), by the header alone."""
    data = read_bytes(image, folder, allow_urls=False)
    return data.size if isinstance(data, Image.Image) else opened(data).size


def _missing(image: str, folder: Path) -> bool:
    return not (is_encoded(image) or is_url(image) or file_named(image, folder))
