"""Images as they come, made safe and alike: RGB, upright, still, whole, within a budget of pixels.

What cannot be used raises BadImage, whose message is the reason and holds nothing of the image; nothing is guessed at
or repaired.
"""

import asyncio
import base64
import io
import re
import stat
import urllib.parse
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE as _BITS
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION as _PHOTOMETRIC
from PIL.TiffImagePlugin import PLANAR_CONFIGURATION as _PLANES
from PIL.TiffImagePlugin import SAMPLEFORMAT as _SAMPLE_FORMAT
from PIL.TiffImagePlugin import TiffImageFile

# The formats of which Pillow's decoders run no other program: it hands PostScript, for one, to Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
_PHOTOS = ("JPEG", "MPO", "WEBP", "AVIF", "HEIF")  # lossy: as PNG they would be many times larger
_BASE64 = re.compile(r"[A-Za-z0-9+/_-][A-Za-z0-9+/_\s-]*={0,2}\s*")
_DATA_URI = re.compile(r"\s*data:(?P<head>[^,]*)(?:,(?P<text>.*))?", re.IGNORECASE | re.DOTALL)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_ENCODED_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "SUkq", "TU0AK")  # PNG, JPEG, GIF, WebP, TIFF in base64
_TURNS = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TIMEOUT = 30.0  # seconds for a URL, from the look-up of its host to the last byte
MOST_BYTES = 100 << 20  # of one file or download


class BadImage(ValueError):
    """An image that cannot be used; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What an image may have, in pixels of area.

    least, most: the model's budget; what is smaller or larger is scaled, its proportions kept.
    source: more than that is not decoded at all.
    aspect: longer side by shorter one; above it the model's processor refuses the image.
    grid: the processor rounds sides to multiples of that many pixels; after that, too, an image has `most` at most.
    """

    least: int
    most: int
    source: int
    aspect: float = 100.0
    grid: int = 1

    def rounded_area(self, width: int, height: int) -> int:
        """Pixels after the model's processor has rounded the sides."""
        cells = [max(1, round(side / self.grid)) for side in (width, height)]
        return cells[0] * cells[1] * self.grid**2


@cache
def accepted_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are decoded; with HEIC where the package pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return FORMATS
    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def read_bytes(reference: object, folder: Path, *, allow_urls: bool) -> bytes | Image.Image:
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
    if isinstance(reference, bytes | bytearray | memoryview):
        return bytes(reference)
    if not isinstance(reference, str):
        raise BadImage(f"is a {type(reference).__name__}, not a path, bytes or an image")
    if uri := _DATA_URI.fullmatch(reference):
        data = urllib.parse.unquote_to_bytes(uri["text"] or "")
        return _decoded(data) if uri["head"].lower().replace(" ", "").endswith(";base64") else data
    if is_url(reference):
        if not allow_urls:
            raise BadImage("is a URL, and --allow-urls is not set")
        return _downloaded(reference)
    if _is_base64(reference):
        return _decoded(reference.encode())
    return _file(local_path(reference, folder))


def local_path(reference: str, folder: Path) -> Path:
    """The file that a path or a file: URI names. A percent sign in a URI stands for itself where such a file exists.

    Raises:
        BadImage: an address that is neither a file's nor http(s).
    """
    rest = reference
    if reference[:5].lower() == "file:":
        rest = reference[5:].removeprefix("//")
        if rest.lower().startswith("localhost/"):
            rest = rest[len("localhost") :]
    elif scheme := _SCHEME.match(reference):
        raise BadImage(f"is an address ({scheme[1]}://) of a kind that is not read; give a file or http(s)")
    path = folder / rest
    if rest == reference or "%" not in rest or _is_file(path):
        return path
    return folder / urllib.parse.unquote(rest)


def file_named(reference: str, folder: Path) -> Path | None:
    """The file that a text names, or None if there is none."""
    try:
        path = local_path(reference, folder)
    except BadImage:
        return None
    return path if _is_file(path) else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def is_encoded(reference: str) -> bool:
    """Whether a text is an image itself: a data: URI or base64."""
    return bool(_DATA_URI.fullmatch(reference)) or _is_base64(reference)


def shown(reference: object) -> str:
    """How a message names a reference: a path or URL, shortened; "" for what holds, or may hold, the image itself."""
    if not isinstance(reference, str) or is_encoded(reference):
        return ""
    # A file's name has a suffix, while base64 has no dot: what is long and has none might be broken data.
    if len(reference) > 40 and not is_url(reference) and ("base64" in reference or "." not in reference[-10:]):
        return ""
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in reference)
    return name if len(name) <= 80 else f"{name[:77]}..."


def is_url(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def _is_base64(text: str) -> bool:
    length = len(text)
    return (length >= 256 or length >= 24 and text.startswith(_ENCODED_STARTS)) and bool(_BASE64.fullmatch(text))


def _decoded(text: bytes) -> bytes:
    """Bytes of base64 text with or without padding and line breaks, in the standard or the URL-safe alphabet."""
    text = b"".join(text.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise BadImage("is not valid base64") from error


def _downloaded(url: str) -> bytes:
    try:
        return asyncio.run(_fetched(url))
    except BadImage:
        raise
    except TimeoutError as error:
        raise BadImage(f"cannot be downloaded within {TIMEOUT:g} seconds") from error
    except Exception as error:  # whatever an odd URL or server makes the client raise is a reason to reject the image
        raise BadImage(f"cannot be downloaded ({type(error).__name__})") from error


async def _fetched(url: str) -> bytes:
    import aiohttp

    async with (
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            headers={"Accept-Encoding": "identity", "User-Agent": "kimi_plugins"},
            auto_decompress=False,  # a small answer must not become a large one
            trust_env=True,
        ) as session,
        session.get(url) as answer,
    ):
        if answer.status != 200:
            raise BadImage(f"cannot be downloaded: HTTP Error {answer.status}")
        data = bytearray()
        async for chunk in answer.content.iter_chunked(1 << 16):
            data += chunk
            if len(data) > MOST_BYTES:
                raise BadImage(f"has more than {MOST_BYTES >> 20} MiB")
        return bytes(data)


def _file(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("is not a regular file")  # a pipe would never end
        if status.st_size > MOST_BYTES:
            raise BadImage(f"has more than {MOST_BYTES >> 20} MiB")
        with path.open("rb") as file:
            return file.read(status.st_size)  # the files of /proc claim to be empty and may never end
    except BadImage:
        raise
    except FileNotFoundError as error:
        raise BadImage("there is no such file") from error
    except (OSError, ValueError) as error:
        raise BadImage(f"cannot be read ({getattr(error, 'strerror', None) or 'not a file name'})") from error


def prepare(source: bytes | Image.Image, limits: Limits) -> tuple[bytes, str]:
    """The image as a file's contents, and its suffix: the bytes themselves if nothing had to change.

    Raises:
        BadImage: unreadable, truncated, empty, animated, too large to decode, or too long and thin.
    """
    with _rejecting():
        image = source if isinstance(source, Image.Image) else opened(source)
        kind = image.format
        if kind is not None and kind not in (*accepted_formats(), "MPO"):  # a JPEG with a second picture
            raise BadImage(f"is not of an accepted format ({', '.join(accepted_formats())})")
        width, height = image.size
        if not width * height:
            raise BadImage(f"is {width} × {height} pixels")
        if width * height > limits.source:
            raise BadImage(f"has {width} × {height} pixels, more than {limits.source:,} are not decoded")
        if max(width, height) > limits.aspect * min(width, height):
            raise BadImage(f"is {width} × {height}: one side is more than {limits.aspect:g} times the other")
        # A photograph of a phone may hold a second picture; what is animated has no single meaning.
        if getattr(image, "is_animated", False) and kind != "MPO":
            raise BadImage(f"has {getattr(image, 'n_frames', 2)} frames; give the one that is meant")
        if kind in ("JPEG", "MPO") and width * height > limits.most:
            # The decoder itself halves the sides, up to three times, while they are no smaller than what is kept.
            scale = (limits.most / (width * height)) ** 0.5
            image.draft(None, (ceil(width * scale), ceil(height * scale)))
        result = fitted(_upright_rgb(image, source), limits)
        if result is image and isinstance(source, bytes) and kind in ("JPEG", "PNG"):
            return source, ".jpg" if kind == "JPEG" else ".png"
        # The pixels alone: what the source carries beside them (profiles, texts) may itself be broken.
        result, buffer = Image.frombytes("RGB", result.size, result.tobytes()), io.BytesIO()
        if kind in _PHOTOS:
            result.save(buffer, "JPEG", quality=95, subsampling=0)
            return buffer.getvalue(), ".jpg"
        result.save(buffer, "PNG")
        return buffer.getvalue(), ".png"


@contextmanager
def _rejecting() -> Iterator[None]:
    """Turns whatever Pillow raises into BadImage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limits are ours
            yield
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage("is too large to decode") from error
    except Exception as error:  # no list holds all that the decoders raise on broken bytes
        raise BadImage(f"is broken or truncated ({type(error).__name__})") from error


def opened(data: bytes) -> Image.Image:
    """The image of an accepted format with its header read only: the size is known before anything is decoded.

    Raises:
        BadImage: it is empty, or of no accepted format.
    """
    if not data:
        raise BadImage("is empty")
    with _rejecting():
        try:
            return Image.open(io.BytesIO(data), formats=accepted_formats())
        except Image.UnidentifiedImageError as error:
            formats = ", ".join(accepted_formats())
            raise BadImage(f"is not a readable image of an accepted format ({formats})") from error


def _upright_rgb(image: Image.Image, source: bytes | Image.Image) -> Image.Image:
    """Decoded; turned as its EXIF says; on white where it is transparent; the same object if nothing changed."""
    image.load()
    turn = _TURNS.get(image.getexif().get(0x0112, 1))
    result = _rgb(image, source)
    return result if turn is None else result.transpose(turn)


def _rgb(image: Image.Image, source: bytes | Image.Image) -> Image.Image:
    mode, key = image.mode, image.info.get("transparency")
    if mode == "F":
        raise BadImage("has floating-point pixels, whose range is not known")
    _check_samples(image)
    if mode in ("1", "L") or mode.startswith("I"):
        depth = _bits(image, source)
        values = np.asarray(image)
        grey = _grey(values, image, depth)
        if isinstance(key, int):
            # The transparent value is given as stored, while Pillow spreads values of 1 to 7 bits over 0 to 255.
            spread = key * 255 // (2**depth - 1) if depth < 8 else key
            grey = np.where(values * (255 if mode == "1" else 1) == spread, np.uint8(255), grey)
        return Image.fromarray(grey).convert("RGB")
    if mode == "RGB" and isinstance(key, tuple):
        transparent = _transparent_colour(np.asarray(image), key, _bits(image, source), source)
        return Image.fromarray(np.where(transparent[..., None], np.uint8(255), np.asarray(image)))
    if mode == "La":  # premultiplied, which Pillow converts to nothing else
        image = image.convert("LA")
    if mode in ("P", "LA", "PA", "La", "RGBa") and image.has_transparency_data:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_samples(image: Image.Image) -> None:
    """Raises BadImage: a TIFF whose samples Pillow takes for others without a word."""
    if not isinstance(image, TiffImageFile):
        return
    tags = image.tag_v2
    if 2 in tags.get(_SAMPLE_FORMAT, ()) and image.mode not in ("I", "I;16"):
        raise BadImage("has signed pixels, whose range is not known")
    if len(image.getbands()) > 1 and tags.get(_PLANES) == 2 and max(tags.get(_BITS, (1,))) > 8:
        raise BadImage("has more than 8 bits a channel, in planes, which cannot be decoded")


def _bits(image: Image.Image, source: bytes | Image.Image) -> int:
    """Bits of a stored sample."""
    if image.format == "PNG" and isinstance(source, bytes):
        return source[24]  # of the header, which comes first
    if isinstance(image, TiffImageFile):
        return image.tag_v2.get(_BITS, (1,))[0]
    return {"1": 1, "I": 32}.get(image.mode, 16 if image.mode.startswith("I") else 8)


def _grey(values: np.ndarray, image: Image.Image, depth: int) -> np.ndarray:
    """Grey values from 0 to 255, uint8."""
    if image.mode == "1":
        return values.astype(np.uint8) * np.uint8(255)
    if image.mode == "L":
        return values
    if image.mode == "I":  # 32 bits, which hold 8 or 16 bits of grey
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise BadImage("has 32-bit integer pixels outside of 0 to 65,535, whose range is not known")
        # A portable grey map is spread over 16 bits by Pillow.
        depth = 8 if high <= 255 and image.format != "PPM" else 16
    grey = (values.astype(np.uint32) >> (depth - 8)).astype(np.uint8)
    white_is_zero = isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0
    return 255 - grey if white_is_zero else grey


def _transparent_colour(pixels: np.ndarray, key: tuple, depth: int, source: bytes | Image.Image) -> np.ndarray:
    """Where the pixels have the transparent colour, bool. Of 16 bits a sample Pillow keeps the upper eight."""
    if depth != 16:
        return (pixels == np.array(key)).all(axis=-1)
    if not isinstance(source, bytes):
        raise BadImage("has 16 bits a channel and a transparent colour; give it as a file")
    lower = Image.open(io.BytesIO(source), formats=("PNG",))
    lower.tile = [part._replace(args="RGB;16L") for part in lower.tile]
    return ((pixels == np.array(key) >> 8) & (np.asarray(lower) == np.array(key) & 255)).all(axis=-1)


def fitted(image: Image.Image, limits: Limits) -> Image.Image:
    """Scaled into the budget of pixels; the same object if it is within."""
    area = image.width * image.height
    if limits.least <= area and max(area, limits.rounded_area(*image.size)) <= limits.most:
        return image
    # Rounding up what must grow and down what must shrink keeps the result within the budget.
    grow = area < limits.least
    scale = ((limits.least if grow else min(limits.most, area)) / area) ** 0.5
    width, height = (max(1, int(scale * side) + grow) for side in image.size)
    while limits.rounded_area(width, height) > limits.most and max(width, height) > 1:
        scale *= 0.998
        width, height = (max(1, int(scale * side)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
