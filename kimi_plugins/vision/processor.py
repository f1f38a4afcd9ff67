"""What a prompt with images costs, as the model's own processor counts it."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

from kimi_plugins.data.images import Limits
from kimi_plugins.data.values import PLACEHOLDER, BadRow

IMAGE_TOKENS = 1280  # of one image at most, if nothing else is asked for


_MEDIA_TOKENS = ("image_token", "video_token", "vision_start_token", "vision_end_token", "boi_token", "eoi_token")


class ModelProcessor:
    """A vision model's processor, loaded from a directory or the hub.

    grid: pixels a side of what one token stands for, to multiples of which sides are rounded.
    special: the tokens that mean something to the model itself and may not stand in a prompt's text.
    """

    def __init__(self, model: str) -> None:
        from transformers import AutoProcessor

        try:
            self._processor = AutoProcessor.from_pretrained(model, trust_remote_code=True)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"model {model!r}: its processor cannot be loaded: {str(error).splitlines()[0]}"
            ) from error
        images = getattr(self._processor, "image_processor", None)
        if images is None or not hasattr(self._processor, "_get_num_multimodal_tokens"):
            raise ValueError(
                f"model {model!r}: it has no processor of images that counts its tokens; name a vision model"
            )
        self.grid = int(getattr(images, "patch_size", 1) or 1) * int(getattr(images, "merge_size", 1) or 1)
        size = dict(getattr(images, "size", None) or {})
        self.least_pixels: int | None = size.get("shortest_edge") if self.grid > 1 else None
        self.most_pixels: int | None = size.get("longest_edge") if self.grid > 1 else None
        tokens = self._processor.tokenizer.added_tokens_decoder.values()
        own = {str(token) for name in _MEDIA_TOKENS if (token := getattr(self._processor, name, None)) is not None}
        self.special = (own | {token.content for token in tokens if token.special}) - {PLACEHOLDER}
        self.image_tokens = lru_cache(maxsize=4096)(self._image_tokens)

    def _image_tokens(self, width: int, height: int) -> int:
        return int(self._processor._get_num_multimodal_tokens(image_sizes=[(height, width)])["num_image_tokens"][0])

    def prompt_tokens(self, messages: list[dict[str, str]], sizes: list[tuple[int, int]]) -> int:
        """Tokens of a prompt under the model's chat template with images of these (width, height)."""
        chat = [{**message, "content": _parts(message["content"])} for message in messages]
        text = self._processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        words = len(self._processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        # The template has one token for each image.
        return words + sum(self.image_tokens(*size) - 1 for size in sizes)

    def token_within(self, text: str) -> str | None:
        """A special token that a text holds, or None."""
        return next((token for token in sorted(self.special) if token in text), None)


@lru_cache(maxsize=2)
def loaded(model: str) -> ModelProcessor:
    """Raises ValueError: no such model, or one without images."""
    return ModelProcessor(model)


def _parts(text: str) -> Any:
    """As OpenRLHF hands messages to the template."""
    if PLACEHOLDER not in text:
        return text
    content: list[dict[str, str]] = []
    for number, part in enumerate(text.split(PLACEHOLDER)):
        if number:
            content.append({"type": "image"})
        if part:
            content.append({"type": "text", "text": part})
    return content


def limits_of(model: str, limits: Limits, image_tokens: int | None) -> Limits:
    """Limits on images in the model's own tokens, of which one image may have image_tokens."""
    found = loaded(model)
    cell = found.grid**2
    most = (image_tokens or IMAGE_TOKENS) * cell if found.grid > 1 else limits.most
    most = min(most, found.most_pixels or most)
    least = min(max(limits.least, found.least_pixels or 1), most)
    return replace(limits, least=least, most=most, grid=found.grid)


def check_prompt(
    messages: list[dict[str, str]], sizes: list[tuple[int, int]], model: str, prompt_tokens: int | None
) -> None:
    """Raises BadRow: a special token of the model's in the text, or a prompt of more tokens than it may have."""
    found = loaded(model)
    for message in messages:
        if token := found.token_within(message["content"]):
            raise BadRow(f"the text holds {token!r}, a special token of the model's")
    if prompt_tokens is None:
        return
    total = found.prompt_tokens(messages, sizes)
    if total > prompt_tokens:
        images = sum(found.image_tokens(*size) for size in sizes)
        raise BadRow(f"has {total} tokens, {images} of them for images, and may have {prompt_tokens}")
