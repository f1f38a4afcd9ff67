"""Vision data: scenes, rendered texts and checked images a second; how many prompts are drawn as images, and how well
Tesseract reads them; what a second core brings.

python benchmarks/vision_data.py [--images 300] [--repeats 5] [--out FILE]
    [--texts NAME=FILE.jsonl ...] [--read 60]   prompts drawn; Tesseract's errors (Debian: tesseract-ocr, ...-chi-sim)
    [--two-cores 400]                           vision-prepare of so many rows by one process and by two; wall time
    [--only texts|speeds|two-cores]             the others are kept as they stand in FILE
"""

import argparse
import io
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from common import RESULTS, machine, progress, spread, write_json
from PIL import Image, ImageOps

from kimi_plugins.data.images import prepare
from kimi_plugins.vision.mixture import Mixture, Source
from kimi_plugins.vision.synthetic import TASKS, generate
from kimi_plugins.vision.text_render import Rendered, Unrenderable, render, sample_style

LIMITS = Mixture(sources=(Source("any", files=("any",)),)).limits
WORDS = (
    "a train leaves the station with some passengers and at each stop half of them get off while others get on".split()
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=224, help="pixels of a scene's side")
    parser.add_argument("--texts", nargs="*", default=[], metavar="NAME=FILE", help="prompts to be drawn as images")
    parser.add_argument("--read", type=int, default=60, help="of each file, prompts that Tesseract reads")
    parser.add_argument("--two-cores", type=int, default=400, help="rows of the comparison of one process with two")
    parser.add_argument("--only", choices=("speeds", "texts", "two-cores"))
    parser.add_argument("--out", type=Path, default=RESULTS / "vision_data.json")
    args = parser.parse_args()
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    if args.only in (None, "speeds"):
        result |= {"machine": machine(), "size": args.size} | _all_speeds(args)
    if args.only in (None, "texts"):
        files = dict(name.split("=", 1) for name in args.texts)
        sets = {name: _prompts(Path(file)) for name, file in files.items()} | {"Chinese, own": _chinese(200)}
        result["texts"] = {name: _drawn(name, prompts, args.read) for name, prompts in sets.items()}
        result["texts_read_by"] = _reader()
    if args.only in (None, "two-cores"):
        result["two_cores"] = {"machine": machine()} | _two_cores(args.two_cores, args.repeats)
    write_json(args.out, result)
    return 0


def _all_speeds(args) -> dict:
    scenes = {
        task: spread(_speeds(task, partial(_scene, task, args.size), args.images, args.repeats)) for task in TASKS
    }
    others = {
        "60 words": _text,
        "60 words, two formulas": partial(_text, formulas=True),
        "photograph of 1 M pixels, kept": partial(_photograph, _jpeg(1152, 864)),
        "photograph of 3 M pixels, scaled": partial(_photograph, _jpeg(2048, 1536)),
    }
    few = max(1, args.images // 10)
    return {
        "scenes_per_second": scenes,
        "others_per_second": {name: spread(_speeds(name, make, few, args.repeats)) for name, make in others.items()},
    }


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


def _speeds(name: str, make, images: int, repeats: int) -> list[float]:
    """Calls of make(index) per second of this process's own time, so that other work on the core does not count."""
    make(0)  # fonts are loaded
    speeds = []
    for repeat in range(repeats):
        began = time.process_time()
        for index in range(images):
            make(repeat * images + index)
        speeds.append(round(images / (time.process_time() - began), 1))
    progress(f"{name}: {speeds[-1]} a second")
    return speeds


# Texts -------------------------------------------------------------------------------------------------------------


def _prompts(path: Path) -> list[str]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [next(row[key] for key in ("problem", "question", "prompt", "input") if key in row) for row in rows]


_PEOPLE, _THINGS = ("小明", "小红", "李老师", "王阿姨", "张叔叔"), ("苹果", "铅笔", "练习本", "气球", "邮票", "糖果")
_STORIES = (
    "{a}有{n}个{t}，{b}的{t}比{a}多{m}个，两人一共有多少个{t}？",
    "商店里每盒{t}卖{n}元，{a}买了{m}盒，付了{k}元，应找回多少元？",
    "{a}从家步行到学校要走{n}分钟，每分钟走{m}米。如果骑自行车，每分钟行{k}米，需要多少分钟？",
    "一块长方形菜地，长{n}米，宽{m}米。{a}沿着四周围上篱笆，篱笆的长度是多少？面积又是多少平方米？",
    "{a}把{n}个{t}平均分给{m}位同学，还剩下几个？请写出计算过程。",
    "某工厂计划生产零件{k}个，前{m}天每天生产{n}个，剩下的由{a}在五天内完成，平均每天要生产多少个？",
    "甲、乙两车同时从相距{k}千米的两地相向而行，甲车每小时行{n}千米，乙车每小时行{m}千米，几小时后相遇？",
    "已知函数的图象经过点（{m}，{n}），且与直线平行，求该函数的解析式，并说明理由。",
)


def _chinese(count: int) -> list[str]:
    rng = Random(1)
    stories = []
    for number in range(count):
        a, b = rng.sample(_PEOPLE, 2)
        n, m = rng.randint(12, 99), rng.randint(3, 60)
        values = {"a": a, "b": b, "t": rng.choice(_THINGS), "n": n, "m": m, "k": n * m + rng.randint(5, 90)}
        stories.append(_STORIES[number % len(_STORIES)].format(**values))
    return stories


def _drawn(name: str, prompts: list[str], read: int) -> dict:
    """How many are drawn, and the share of letters that Tesseract reads wrong in some; formulas are blanked."""
    rng = Random(0)
    drawn: list[tuple[Rendered, float]] = []
    for number, prompt in enumerate(prompts):
        style = sample_style(rng, width=512)
        try:
            drawn.append((render(prompt, style, most_pixels=LIMITS.most, seed=number), style.skew))
        except Unrenderable as error:
            progress(f"{name} {number}: {error}")
    found: dict = {"prompts": len(prompts), "drawn": len(drawn)}
    if _reader() is None:
        return found
    sample = random.Random(1).sample(drawn, min(read, len(drawn)))
    language = "chi_sim" if "Chinese" in name else "eng"
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        pairs = list(pool.map(lambda page: _read(*page, language), sample))
    for kind, keep in {"ocr_error": lambda _: True, "ocr_error_of_letters_and_digits": str.isalnum}.items():
        kept = [("".join(filter(keep, a)), "".join(filter(keep, b))) for a, b in pairs]
        letters, errors = sum(len(a) for a, _ in kept), [_distance(a, b) for a, b in kept]
        shares = [error / max(1, len(a)) for error, (a, _) in zip(errors, kept, strict=True)]
        median = round(statistics.median(shares), 4)
        found[kind] = {"letters": letters, "share": round(sum(errors) / letters, 4), "median_of_prompts": median}
    found |= {"read": len(sample)}
    progress(f"{name}: {found}")
    return found


def _reader() -> str | None:
    """Name and version, or None where it is not installed."""
    if shutil.which("tesseract") is None:
        return None
    return subprocess.run(["tesseract", "--version"], capture_output=True, check=True, text=True).stdout.split("\n")[0]


_FORMULA = re.compile(r"\$.+\$|\\\(.+\\\)|\\\[.+\\\]|\\begin.+", re.DOTALL)
_ALIKE = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "—": "-", "–": "-", "‐": "-", "−": "-"})


def _read(rendered: Rendered, skew: float, language: str) -> tuple[str, str]:
    """(what there is to read, what Tesseract reads), without spaces; turned upright, and without a window's title."""
    pixels = np.asarray(rendered.image).copy()
    words = []
    for piece in rendered.pieces:
        if _FORMULA.fullmatch(piece.text):
            x0, y0, x1, y1 = (int(edge) for edge in piece.box)
            pixels[y0 : y1 + 1, x0 : x1 + 1] = np.median(pixels[y0 : y1 + 1, x0 : x1 + 1], axis=(0, 1))
        else:
            words.append(piece.text)
    top = int(min(piece.box[1] for piece in rendered.pieces))
    grey = Image.fromarray(pixels[max(0, top - 8) :]).convert("L")
    grey = ImageOps.invert(grey) if np.asarray(grey).mean() < 128 else grey  # Tesseract is made for dark letters
    grey = grey.rotate(skew, Image.Resampling.BICUBIC, fillcolor=int(np.median(np.asarray(grey))))
    buffer = io.BytesIO()
    grey.resize((2 * grey.width, 2 * grey.height), Image.Resampling.LANCZOS).save(buffer, "PNG")
    command = ["tesseract", "stdin", "stdout", "-l", language, "--psm", "6"]
    text = subprocess.run(
        command, input=buffer.getvalue(), capture_output=True, check=True, env={**os.environ, "OMP_THREAD_LIMIT": "1"}
    ).stdout.decode()
    return _letters("".join(words)), _letters(text)


def _letters(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).translate(_ALIKE).split())


def _distance(a: str, b: str) -> int:
    """Levenshtein's."""
    codes = np.array([ord(letter) for letter in b], dtype=np.int64)
    steps = np.arange(len(b) + 1)
    row = steps.copy()
    for letter in a:
        best = np.minimum(row[1:] + 1, row[:-1] + (codes != ord(letter)))
        row = np.minimum.accumulate(np.concatenate([[row[0] + 1], best]) - steps) + steps
    return int(row[-1])


# Two cores ---------------------------------------------------------------------------------------------------------


def _two_cores(rows: int, repeats: int) -> dict:
    """Seconds of vision-prepare by one process and by two, in turn, and how many times as fast the two are."""
    from kimi_plugins.vision.prepare import prepare as prepare_set

    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "words.jsonl"
        rng = Random(0)
        lines = [{"question": " ".join(rng.choices(WORDS, k=60)), "answer": number} for number in range(rows)]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        mixture = Mixture(sources=(Source("words", files=(str(file),), render=True),))
        for repeat in range(repeats):
            for workers, taken in seconds.items():
                began = time.perf_counter()
                prepare_set(mixture, Path(folder) / f"{repeat}-{workers}", workers=workers)
                taken.append(time.perf_counter() - began)
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {"rows": rows, "seconds": {name: spread(taken) for name, taken in seconds.items()}, "ratio": spread(ratios)}


if __name__ == "__main__":
    sys.exit(main())
