"""Images as they come, made safe and alike: RGB, upright, still, whole, within a budget of pixels.

What cannot be used raises BadImage, whose message is the reason; nothing is guessed at or repaired.
"""

import base64
import binascii
import io
import re
import struct
import urllib.error
import urllib.request
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

# Any of these may come out of Pillow's decoders when bytes are broken.
_DECODING = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    struct.error,
    zlib.error,
)
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]{256,}={0,2}\s*")
_PHOTOS = ("JPEG", "MPO", "WEBP", "AVIF")  # lossy: as PNG they would be many times larger
TIMEOUT = 30  # seconds for a URL
MOST_BYTES = 100 << 20  # of one file or download


class BadImage(ValueError):
    """An image that cannot be used; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What an image may have, in pixels of area.

    least, most: the model's budget; what is smaller or larger is scaled, its proportions kept.
    source: more than that is not decoded at all.
    aspect: longer side by shorter one; above it the model's processor refuses the image.
    """

    least: int
    most: int
    source: int
    aspect: float = 100.0


def read_bytes(reference, folder: Path, *, allow_urls: bool) -> bytes | Image.Image:
    """The encoded image behind a reference, or the PIL image itself.

    Args:
        reference: a path (relative to folder), bytes, a PIL image, base64 or a data: URI, an http(s) URL, or
            Hugging Face's {"bytes", "path"}.

    Raises:
        BadImage: there is nothing to read.
    """
    if isinstance(reference, Image.Image):
        return reference
    if isinstance(reference, Mapping):
        data, path = reference.get("bytes"), reference.get("path")
        if data is None and path is None:
            raise BadImage("neither 'bytes' nor 'path' in it")
        reference = path if data is None else data
    if isinstance(reference, bytes | bytearray):
        return bytes(reference)
    if not isinstance(reference, str):
        raise BadImage(f"is a {type(reference).__name__}, not a path, bytes or an image")
    if reference.startswith("data:"):
        return _decoded(reference.partition(",")[2])
    if reference.startswith(("http://", "https://")):
        if not allow_urls:
            raise BadImage("is a URL, and --allow-urls is not set")
        return _downloaded(reference)
    if _BASE64.fullmatch(reference):
        return _decoded(reference)
    return _file(folder / reference)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error as error:
        raise BadImage(f"is not valid base64 ({error})") from error


def _downloaded(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            data = answer.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise BadImage(f"cannot be downloaded: {error}") from error
    if len(data) > MOST_BYTES:
        raise BadImage(f"has more than {MOST_BYTES >> 20} MiB")
    return data


def _file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadImage(f"has more than {MOST_BYTES >> 20} MiB")
        if not path.is_file():
            raise BadImage("is no file")  # a pipe would never end
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadImage("there is no such file") from error
    except (OSError, ValueError) as error:
        raise BadImage(f"cannot be read: {error}") from error


def prepare(source: bytes | Image.Image, limits: Limits) -> tuple[bytes, str]:
    """The image as a file's contents, and its suffix: the bytes themselves if nothing had to change.

    Raises:
        BadImage: unreadable, truncated, empty, animated, too large to decode, or too long and thin.
    """
    image = source if isinstance(source, Image.Image) else _opened(source)
    width, height = image.size
    if width * height > limits.source:
        raise BadImage(f"has {width} × {height} pixels, more than {limits.source:,} are not decoded")
    if max(width, height) > limits.aspect * min(width, height):
        raise BadImage(f"is {width} × {height}: one side is more than {limits.aspect:g} times the other")
    # A photograph of a phone may hold a second picture; what is animated has no single meaning.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise BadImage(f"has {image.n_frames} frames; give the one that is meant")
    kind = image.format
    result = fitted(_upright_rgb(image), limits)
    if result is image and isinstance(source, bytes) and kind in ("JPEG", "PNG"):
        return source, ".jpg" if kind == "JPEG" else ".png"
    buffer = io.BytesIO()
    if kind in _PHOTOS:
        result.save(buffer, "JPEG", quality=95, subsampling=0)
        return buffer.getvalue(), ".jpg"
    result.save(buffer, "PNG")
    return buffer.getvalue(), ".png"


def _opened(data: bytes) -> Image.Image:
    """With its header read only: the size is known before anything is decoded."""
    if not data:
        raise BadImage("is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limits are ours
            return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise BadImage(f"is too large to decode: {error}") from error
    except _DECODING as error:
        raise BadImage("is no image that Pillow can read") from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Decoded; turned as its EXIF says; on white where it is transparent; the same object if nothing changed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            if image.getexif().get(0x0112, 1) != 1:
                image = ImageOps.exif_transpose(image)
            return _rgb(image)
    except Image.DecompressionBombError as error:
        raise BadImage(f"is too large to decode: {error}") from error
    except _DECODING as error:
        raise BadImage(f"is broken or truncated ({error})") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("P", "RGB", "L") and "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    if image.mode.startswith("I"):  # 16 bits a grey value
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode == "F":
        raise BadImage("has floating-point pixels, whose range is not known")
    return image if image.mode == "RGB" else image.convert("RGB")


def fitted(image: Image.Image, limits: Limits) -> Image.Image:
    """Scaled into the budget of pixels; the same object if it is within."""
    area = image.width * image.height
    if limits.least <= area <= limits.most:
        return image
    # Rounding up what must grow and down what must shrink keeps the result within the budget.
    grow = area < limits.least
    scale = ((limits.least if grow else limits.most) / area) ** 0.5
    width, height = (max(1, int(scale * side) + grow) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
