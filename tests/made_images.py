"""Images and rows as data sets have them, made here."""

import io

import numpy as np
from PIL import Image

from kimi_plugins.data.images import Limits

LIMITS = Limits(least=20 * 20, most=100 * 100, source=300 * 300, aspect=20)


def picture(mode="RGB", size=(40, 30)):
    """Left half red, right half blue, as far as the mode has colours."""
    image = Image.new("RGB", size, (220, 0, 0))
    image.paste((0, 0, 220), (size[0] // 2, 0, *size))
    return image if mode == "RGB" else image.convert(mode)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(size=(64, 64), seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
