"""Vision data: scenes, rendered texts and checked images a second, on one core.

python benchmarks/vision_data.py [--images 300] [--repeats 5] [--out FILE]
"""

import argparse
import io
import sys
import time
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from common import RESULTS, machine, progress, spread, write_json
from PIL import Image

from kimi_plugins.data.images import prepare
from kimi_plugins.vision.mixture import Mixture, Source
from kimi_plugins.vision.synthetic import TASKS, generate
from kimi_plugins.vision.text_render import render, sample_style

LIMITS = Mixture(sources=(Source("any", files=("any",)),)).limits
WORDS = (
    "a train leaves the station with some passengers and at each stop half of them get off while others get on".split()
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=224, help="pixels of a scene's side")
    parser.add_argument("--out", type=Path, default=RESULTS / "vision_data.json")
    args = parser.parse_args()
    found = machine()
    scenes = {task: spread(_speeds(task, partial(_scene, task, args.size), args)) for task in TASKS}
    others = {
        "60 words": _text,
        "60 words, two formulas": partial(_text, formulas=True),
        "photograph of 1 M pixels, kept": partial(_photograph, _jpeg(1152, 864)),
        "photograph of 3 M pixels, scaled": partial(_photograph, _jpeg(2048, 1536)),
    }
    args.images = max(1, args.images // 10)
    result = {
        "size": args.size,
        "scenes_per_second": scenes,
        "others_per_second": {name: spread(_speeds(name, make, args)) for name, make in others.items()},
    }
    write_json(args.out, {"machine": found} | result)
    return 0


def _scene(task: str, size: int, index: int) -> None:
    generate(task, seed=0, index=index, difficulty=(index % 11) / 10, size=size)


def _text(index: int, formulas: bool = False) -> None:
    rng = Random(index)
    words = rng.choices(WORDS, k=60)
    if formulas:
        words[10] = rf"$\frac{{{index}}}{{x^2+{index}}}$"
        words[40] = rf"$\sqrt{{y_{{{index}}}}}$"
    render(" ".join(words), sample_style(rng, width=512), most_pixels=LIMITS.most, seed=index)


def _jpeg(width: int, height: int) -> bytes:
    """Smooth colours with grain, about as hard to decode as a photograph."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = np.asarray(coarse, dtype=int) + rng.integers(-12, 12, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _photograph(data: bytes, index: int) -> None:
    prepare(data, LIMITS)


def _speeds(name: str, make, args) -> list[float]:
    """Calls of make(index) per second of this process's own time, so that other work on the core does not count."""
    make(0)  # fonts are loaded
    speeds = []
    for repeat in range(args.repeats):
        began = time.process_time()
        for index in range(args.images):
            make(repeat * args.images + index)
        speeds.append(round(args.images / (time.process_time() - began), 1))
    progress(f"{name}: {speeds[-1]} a second")
    return speeds


if __name__ == "__main__":
    sys.exit(main())
