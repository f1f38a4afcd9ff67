"""Images of a prompt and the marks in its text that stand for them."""

import re
from typing import Any

from kimi_plugins.data.values import PLACEHOLDER, BadRow, asks

# Forms of placeholder that data sets use; a number is that of the image.
_PLACEHOLDERS = re.compile(
    r"<\|?(?:image|img|picture|pic|figure)(?:[ _-]?(\d+))?\|?>(?!\s*</)|\[(?:image|img)(?:[ _-]?(\d+))?\](?!\()"
    r"|<(?:image_?here|image_?placeholder|image_?token|start_of_image|imageplaceholder)>",
    re.IGNORECASE,
)
# Marks of images that no shape here fills, and control tokens of chat templates, which a text would smuggle in.
_FOREIGN = re.compile(
    r"<img\s[^>]*>|!\[[^\]\n]*\]\([^)\n]*\)|\\includegraphics\b|<(?:image_pad|video_pad|vision_start|vision_end|"
    r"im_start|im_end|image_soft_token|media_start|media_end|media_pad|media_content|eot_id|start_header_id|endoftext|"
    r"IMG_CONTEXT|video|audio|start_of_turn|end_of_turn|end_of_image|end_of_utterance|fake_token_around_image)>|"
    r"<\|(?!(?:image|img|picture|pic|figure)(?:[ _-]?\d+)?\|>)[^\W\d]\w{2,60}\|>|<｜[^｜<>\n]{1,60}｜>",
    re.IGNORECASE,
)


def placed(
    messages: list[dict[str, str]], inline: list[Any], columns: dict[int, Any]
) -> tuple[list[dict[str, str]], list[Any]]:
    """Messages with one PLACEHOLDER for each image, and the images in that order.

    inline: images that were within the messages. columns: {number from 1: image} of columns.

    Raises:
        BadRow: placeholders and images do not match.
    """
    for message in messages:
        if found := _FOREIGN.search(message["content"]):
            raise BadRow(f"the text has {found[0][:40]!r}, which stands for an image or a chat template's token")
    if inline and list(columns.values()) == inline:
        columns = {}
    if inline and columns:
        raise BadRow("has images both in its messages and in a column")
    images = dict(enumerate(inline, 1)) if inline else columns
    marks = [match for message in messages for match in _PLACEHOLDERS.finditer(message["content"])]
    numbers = [next((int(group) for group in match.groups() if group), None) for match in marks]
    if images and not marks:
        first = next((message for message in messages if asks(message)), None)
        if first is None:
            raise BadRow("has images and no message of the user to put them into")
        first["content"] = PLACEHOLDER * len(images) + first["content"]
        return messages, [images[number] for number in sorted(images)]
    if any(number is not None for number in numbers):
        if None in numbers or not set(images) or {n for n in numbers if n is not None} != set(images):
            wanted = ", ".join(match[0] for match in marks)
            raise BadRow(f"has {wanted} and {len(images)} images; they do not match")
        order = [images[number] for number in numbers if number is not None]
    else:
        if len(marks) != len(images):
            raise BadRow(f"has {len(marks)} × {PLACEHOLDER} and {len(images)} images")
        order = [images[number] for number in sorted(images)]
    replaced = [
        {**message, "content": _PLACEHOLDERS.sub(PLACEHOLDER, message["content"])} if marks else message
        for message in messages
    ]
    return replaced, order


_IMAGE_SUFFIX = re.compile(r"[^\n]{1,400}\.(?:png|jpe?g|webp|gif|bmp|tiff?)", re.IGNORECASE)
_IMAGE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def holds_image(value: Any, name: str = "") -> bool:
    """Whether a value is an image or a list with one: encoded, an object of one, or a path in a column of images."""
    if isinstance(value, list):
        return any(holds_image(item, name) for item in value[:4])
    if isinstance(value, dict):
        return isinstance(value.get("bytes"), bytes) and value["bytes"].startswith(_IMAGE_MAGIC)
    if isinstance(value, bytes):
        return value.startswith(_IMAGE_MAGIC)
    if not isinstance(value, str) or len(value) > 400:
        return isinstance(value, str) and value.startswith("data:image/")
    named = re.search(r"image|img|picture|photo|figure|file_?name", name, re.IGNORECASE)
    return bool(named and _IMAGE_SUFFIX.fullmatch(value)) or value.startswith("data:image/")
