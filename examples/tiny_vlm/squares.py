"""The task of the example: how many squares are there? Asked about an image, or about the same scene in text.

A scene is a grid of 4 x 4 cells with 1 to 9 squares. A response counts each row and adds up, ``2+0+1+3=6``, or guesses
``6`` at a glance. Making the files takes the directory to make them in:

    python squares.py --out runs/tiny_vlm
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw

SIDE, CELL = 4, 16  # cells, pixels
LARGEST = 9
IMAGE_SHARE = 0.5
QUESTION = "how many squares?"
SYMBOLS = [*"0123456789+=#.\n", QUESTION]

Scene = list[list[bool]]  # SIDE rows of SIDE cells: is there a square?


def scene(rng: random.Random) -> Scene:
    taken = set(rng.sample(range(SIDE * SIDE), rng.randint(1, LARGEST)))
    return [[row * SIDE + column in taken for column in range(SIDE)] for row in range(SIDE)]


def count(scene: Scene) -> int:
    return sum(map(sum, scene))


def drawn(scene: Scene, rng: random.Random) -> Image.Image:
    """64 x 64 pixels: bright squares of 6 to 12 pixels on a dark ground, moved about in their cells."""
    image = Image.new("RGB", (SIDE * CELL, SIDE * CELL), tuple(rng.randint(0, 80) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for row, cells in enumerate(scene):
        for column, there in enumerate(cells):
            if there:
                size = rng.randint(6, 12)
                x, y = (CELL * place + rng.randint(1, CELL - size - 1) for place in (column, row))
                colour = tuple(rng.randint(130, 255) for _ in range(3))
                draw.rectangle((x, y, x + size - 1, y + size - 1), fill=colour)
    return image


def written(scene: Scene) -> str:
    return "".join("".join(".#"[there] for there in cells) + "\n" for cells in scene)


def worked(scene: Scene) -> str:
    return "+".join(str(sum(cells)) for cells in scene) + f"={count(scene)}"


def chat(scene: Scene, image: bool) -> list[dict]:
    content = f"<image>{QUESTION}" if image else written(scene) + QUESTION
    return [{"role": "user", "content": content}]


def rows(n: int, seed: int, directory: Path) -> Iterator[dict]:
    """n rows as `openrlhf train` reads them; draws their images into `directory`."""
    rng = random.Random(seed)
    for number in range(n):
        one, image = scene(rng), rng.random() < IMAGE_SHARE
        path = directory / f"{seed}-{number}.png"
        if image:
            drawn(one, rng).save(path)
        source = "image" if image else "text"
        yield {
            "input": chat(one, image),
            "label": str(count(one)),
            "images": [str(path.resolve())] if image else [],
            "datasource": source,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/tiny_vlm"), help="default: %(default)s")
    parser.add_argument("--train", type=int, default=3072, help="scenes to train on; default: %(default)s")
    parser.add_argument("--held-out", type=int, default=400, help="scenes to test on; default: %(default)s")
    args = parser.parse_args()

    images = args.out / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name, n, seed in (("train", args.train, 1), ("held_out", args.held_out, 2)):
        with (args.out / f"{name}.jsonl").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows(n, seed, images))


if __name__ == "__main__":
    main()
