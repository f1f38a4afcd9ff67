"""Vision data: scenes, rendered texts and checked images a second, on one core.

python benchmarks/vision_data.py [--images 300] [--repeats 5] [--out FILE]
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from common import RESULTS, machine, progress, spread, write_json

from kimi_plugins.vision.synthetic import TASKS, generate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=224, help="pixels of a scene's side")
    parser.add_argument("--out", type=Path, default=RESULTS / "vision_data.json")
    args = parser.parse_args()
    found = machine()
    speeds = {task: spread(_speeds(partial(_scene, task, args.size), args)) for task in TASKS}
    write_json(args.out, {"machine": found, "size": args.size, "images": args.images, "scenes_per_second": speeds})
    return 0


def _scene(task: str, size: int, index: int) -> None:
    generate(task, seed=0, index=index, difficulty=(index % 11) / 10, size=size)


def _speeds(make, args) -> list[float]:
    """Calls of make(index) per second of this process's own time, so that other work on the core does not count."""
    make(0)  # fonts are loaded
    speeds = []
    for repeat in range(args.repeats):
        began = time.process_time()
        for index in range(args.images):
            make(repeat * args.images + index)
        speeds.append(round(args.images / (time.process_time() - began), 1))
    progress(f"{make.args[0] if make.args else make.func.__name__}: {speeds[-1]} a second")
    return speeds


if __name__ == "__main__":
    sys.exit(main())
