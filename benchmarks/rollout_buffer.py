"""What the buffer of partial rollouts takes: memory, and a checkpoint of it.

    python benchmarks/rollout_buffer.py [--trajectories 10000] [--tokens 32768] [--out FILE]

Fills a buffer in segments of 4,096 tokens, as a run does, and saves and loads its state with torch as the checkpoint
does. Peak memory is that of the process.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from common import RESULTS, machine, progress, write_json

from kimi_plugins.rollout.buffer import Buffer, Group, Trajectory

SEGMENT, K = 4096, 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=10_000)
    parser.add_argument("--tokens", type=int, default=32_768, help="of each")
    parser.add_argument("--out", type=Path, default=RESULTS / "rollout_buffer.json")
    args = parser.parse_args()
    found, process = machine(), psutil.Process()

    before = process.memory_info().rss
    began = time.perf_counter()
    buffer = fill(args.trajectories, args.tokens)
    filled = time.perf_counter() - began
    held = process.memory_info().rss - before
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:
        path = Path(directory, "state.pt")
        began = time.perf_counter()
        torch.save(buffer.state_dict(), path)
        os.sync()
        saved = time.perf_counter() - began
        size = path.stat().st_size
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        expected = [trajectory.tokens[-1] for trajectory in buffer.trajectories()]
        del buffer
        began = time.perf_counter()
        loaded = Buffer()
        loaded.load_state_dict(torch.load(path, weights_only=False))
        read = time.perf_counter() - began
    assert [trajectory.tokens[-1] for trajectory in loaded.trajectories()] == expected
    result = {
        "trajectories": args.trajectories,
        "tokens": args.tokens,
        "reported_bytes": loaded.nbytes(),
        "resident_bytes": held,
        "peak_bytes_while_saving": peak,
        "file_bytes": size,
        "seconds": {"fill": filled, "save": saved, "load": read},
    }
    write_json(args.out, {"machine": found} | result)
    progress(f"{held / 2**30:.2f} GiB held, {size / 2**30:.2f} GiB on disk, saved in {saved:.1f} s")
    return 0


def fill(trajectories: int, tokens: int) -> Buffer:
    rng, buffer = np.random.default_rng(0), Buffer()
    for index in range(trajectories // K):
        group = Group(index, "prompt", "label", None, 0, [Trajectory() for _ in range(K)])
        for trajectory in group.trajectories:
            for version, start in enumerate(range(0, tokens, SEGMENT)):
                n = min(SEGMENT, tokens - start)
                trajectory.extend(rng.integers(0, 150_000, n), -rng.random(n), version)
        buffer.add(group)
    return buffer


if __name__ == "__main__":
    sys.exit(main())
