"""Memory and speed of `openrlhf kimi curate` on made rows, and how many planted duplicates it finds.

python benchmarks/curate_scale.py [--rows 250000 1000000] [--stages dedup,…] [--workers 2] [--out FILE]

A row is a question of 20 to 60 words of 20,000 with a number. One row in twenty repeats an earlier one, one in twenty
an earlier one of 40 words or more with a word changed (Jaccard similarity of trigrams 0.86 to 0.91). Memory is the
proportional set size of the command and all its processes, looked at every 0.2 s; from two sizes follows what a row
adds. Speed is by the clock and by CPU time, which other work on the machine does not change much.

The removal of duplicates is the only stage that holds something of every row, so its index is also filled with made
keys of --keys rows, one in twenty a copy of another's, and its peak resident set is what the kernel says.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
from common import RESULTS, machine, progress, write_json

from kimi_plugins.prompts.duplicates import BANDS, PERMUTATIONS, Index, Keys

STAGES = "dedup,decontaminate,exclude,tag,balance"
EVALS = 5000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[250_000, 1_000_000])
    parser.add_argument("--stages", default=STAGES)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keys", type=int, default=10_000_000, help="0: without")
    parser.add_argument("--dir", type=Path, default=None, help="for the files, some 4 GB a million rows")
    parser.add_argument("--out", type=Path, default=RESULTS / "curate_scale.json")
    args = parser.parse_args()
    result = {"machine": machine(), "workers": args.workers, "runs": []}
    for rows in args.rows:
        with tempfile.TemporaryDirectory(dir=args.dir) as name:
            result["runs"].append(measure(Path(name), rows, args.stages, args.workers))
        progress(json.dumps(result["runs"][-1]))
    if len(args.rows) > 1:
        small, large = result["runs"][0], result["runs"][-1]
        added = (large["peak_mib"] - small["peak_mib"]) * 2**20 / (large["rows"] - small["rows"])
        result["bytes_a_row"] = round(added, 1)
        result["extrapolated_mib_of_10_M_rows"] = round(large["peak_mib"] + added * (1e7 - large["rows"]) / 2**20)
    if args.keys:
        with tempfile.TemporaryDirectory(dir=args.dir) as name, get_context("spawn").Pool(1) as pool:
            result["index"] = pool.apply(index_of_keys, (Path(name), args.keys))
        progress(json.dumps(result["index"]))
    result["machine"]["load_average_at_the_end"] = machine()["load_average"]
    write_json(args.out, result)
    return 0


def make(path: Path, rows: int, seed: int) -> dict:
    """Write the rows; returns the numbers of those planted, by kind."""
    rng = random.Random(seed)
    words = [f"w{''.join(rng.choices('abcdefghij', k=6))}" for _ in range(20_000)]
    recent: list[list[str]] = []
    planted: dict = {"same": [], "near": []}
    with path.open("w") as file:
        for number in range(1, rows + 1):
            draw = rng.random() if len(recent) == 1000 else 1.0
            if draw < 0.05:
                text = rng.choice(recent)
                planted["same"].append(number)
            elif draw < 0.1:
                text = list(rng.choice([one for one in rng.choices(recent, k=20) if len(one) > 40]))
                places = [place for place in range(1, len(text)) if not text[place].isdigit()]
                text[rng.choice(places)] = rng.choice(words)  # the number and the answer stay
                planted["near"].append(number)
            else:
                text = rng.choices(words, k=rng.randrange(20, 61))
                text.insert(rng.randrange(len(text)), str(rng.randrange(1000)))
                if len(recent) < 1000:
                    recent.append(text)
                else:
                    recent[rng.randrange(1000)] = text
            row = {"question": " ".join(text) + "?", "answer": str(sum(map(len, text[:1])))}
            file.write(json.dumps(row) + "\n")
    return planted


def measure(directory: Path, rows: int, stages: str, workers: int) -> dict:
    planted = make(directory / "rows.jsonl", rows, seed=1)
    make(directory / "evals.jsonl", EVALS, seed=2)
    command = [sys.executable, "-m", "openrlhf.cli.main", "kimi", "curate", directory / "rows.jsonl"]
    command += ["--eval", directory / "evals.jsonl", "--out", directory / "out", "--workers", workers]
    command += ["--stages", stages, "--shares", "other=1"]
    began = time.monotonic()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    peaks, cpu_seconds = watched(process)
    seconds = time.monotonic() - began
    if process.returncode:
        raise RuntimeError(f"curate ended with {process.returncode}")
    report = json.loads((directory / "out/report.json").read_text())
    assert report["kept"] + report["rejected"] == report["read"] == rows
    with (directory / "out/stages/dedup.rejects.jsonl").open() as file:
        found = {json.loads(line)["row"] for line in file}
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "peak_mib": round(peaks["all"]),
        "peak_mib_of_the_main_process": round(peaks["main"]),
        "planted": {
            kind: {"rows": len(numbers), "found": len(found.intersection(numbers))}
            for kind, numbers in planted.items()
        },
        "others_dropped_by_dedup": len(found.difference(*planted.values())),
        "stages": {
            one["stage"]: {"rows": one["read"], "seconds": one["seconds"], "rows_per_second": _rate(one)}
            for one in report["stages"]
        },
        "disk_mib": round(sum(path.stat().st_size for path in (directory / "out").rglob("*")) / 2**20),
    }


def index_of_keys(directory: Path, rows: int) -> dict:
    """Runs in a process of its own."""
    generator, step = np.random.default_rng(1), 100_000
    planted = 0

    def chunks():
        nonlocal planted
        for start in range(0, rows, step):
            size = min(step, rows - start)
            exact = generator.integers(1 << 63, size=size, dtype=np.uint64)
            bands = generator.integers(1 << 32, size=(BANDS, size), dtype=np.uint32)
            signature = generator.integers(256, size=(size, PERMUTATIONS), dtype=np.uint8)
            copies = generator.choice(np.arange(size // 2, size), size // 20, replace=False)
            sources = generator.integers(size // 2, size=len(copies))
            bands[:, copies], signature[copies] = bands[:, sources], signature[sources]
            planted += len(copies)
            yield Keys(exact, exact, exact, bands, signature)

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before, began, used = peak(), time.monotonic(), time.process_time()
    starts = array("q", bytes(8 * rows))  # as repeats.removed() keeps them beside the index
    with Index(directory / "index") as index:
        index.fill(chunks())
        disk = sum(path.stat().st_size for path in index.directory.iterdir())
        filled = time.process_time()
        contradicting = index.contradicting()
        found = sum(twin is not None for twin in index.twins(0.8))
    assert not contradicting
    return {
        "rows": len(starts),
        "peak_mib": round(peak()),
        "peak_mib_before": round(before),
        "bytes_a_row": round((peak() - before) * 2**20 / rows, 1),
        "disk_bytes_a_row": round(disk / rows, 1),
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds_to_find_twins": round(time.process_time() - filled, 1),
        "cpu_seconds_to_fill": round(filled - used, 1),
        "planted": planted,
        "found": found,
    }


def watched(process: subprocess.Popen) -> tuple[dict[str, float], float]:
    """Peak memory in MiB until it ends, and CPU seconds; of its children too, which the kernel does not add up."""
    peaks, used = {"all": 0.0, "main": 0.0}, {}
    main = psutil.Process(process.pid)
    while process.poll() is None:
        sizes = []
        try:
            for one in (main, *main.children(recursive=True)):
                sizes.append(one.memory_full_info().pss / 2**20)
                used[one.pid] = sum(one.cpu_times()[:2])
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            pass  # one that has just ended
        if sizes:
            peaks = {"all": max(peaks["all"], sum(sizes)), "main": max(peaks["main"], sizes[0])}
        time.sleep(0.2)
    return peaks, sum(used.values())


def _rate(summary: dict) -> int:
    return round(summary["read"] / max(summary["seconds"], 1e-3))


if __name__ == "__main__":
    raise SystemExit(main())
