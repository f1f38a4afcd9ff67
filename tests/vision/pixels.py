"""What can be read off a picture without knowing how it was drawn."""

import numpy as np

from kimi_plugins.vision.synthetic.drawing import COLOURS


def near(image, colour, tolerance=60):
    """Mask [H, W] of the pixels of about this colour, a name or RGB."""
    rgb = np.array(COLOURS.get(colour, colour) if isinstance(colour, str) else colour)
    return np.abs(np.asarray(image, dtype=int) - rgb).sum(axis=-1) < tolerance


def components(mask, least=12):
    """Masks of the connected parts (4 neighbours) of a mask with at least so many pixels."""
    left, found = mask.copy(), []
    while left.any():
        start = tuple(np.argwhere(left)[0])
        part, queue = np.zeros_like(mask), [start]
        left[start] = False
        while queue:
            y, x = queue.pop()
            part[y, x] = True
            for b, a in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= b < mask.shape[0] and 0 <= a < mask.shape[1] and left[b, a]:
                    left[b, a] = False
                    queue.append((b, a))
        if part.sum() >= least:
            found.append(part)
    return found


def centroid(mask):
    """(x, y)."""
    ys, xs = np.nonzero(mask)
    return xs.mean() + 0.5, ys.mean() + 0.5


def shape_of(mask):
    """The name of a shape by how it fills its box, and how the upper half compares to the lower one."""
    ys, xs = np.nonzero(mask)
    box = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    fill, half = box.mean(), box.shape[0] // 2
    if fill > 0.92:
        return "square"
    if fill > 0.7:
        return "circle"
    if fill < 0.44:
        return "star"
    return "triangle" if box[:half].sum() < 0.6 * box[half:].sum() else "diamond"


def coloured_shapes(image):
    """[(colour, shape, (x, y))]"""
    return [(c, shape_of(part), centroid(part)) for c in COLOURS for part in components(near(image, c))]
