"""Merging two checkpoints against copying them.

    python benchmarks/merge.py [--megabytes 500] [--repeats 5] [--out FILE]

Makes two bfloat16 checkpoints in shards in a temporary directory, which is removed after. A repeat copies the first,
copies the second, and merges both; copies and merges end when the files are on the disk (fsync). Peak memory is that
of a process that only merges, beyond what it held before.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from common import RESULTS, machine, progress, spread, write_json
from transformers import Qwen3Config, Qwen3ForCausalLM

from kimi_plugins.long2short import merge
from kimi_plugins.quickstart.model import build_tokenizer

HIDDEN, VOCABULARY, SHARD = 1024, 32_000, "200MB"
LAYER_MEGABYTES = 25.2  # of a layer below in bfloat16
PEAK = """
import sys
from functools import partial
from pathlib import Path
from kimi_plugins.long2short import merge

def status(key):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) * 1024

Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
before = status("VmRSS")
average = partial(merge.average, weight=0.5)
merge.merge_checkpoints([Path(sys.argv[1]), Path(sys.argv[2])], Path(sys.argv[3]), average, in_blocks=True)
print(status("VmHWM") - before)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500, help="of a checkpoint, about")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "merge.json")
    args = parser.parse_args()
    found = machine()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="merge-benchmark-") as name:
        directory = Path(name)
        for seed, checkpoint in enumerate(("a", "b")):
            make(directory / checkpoint, args.megabytes, seed)
        size = sum(file.stat().st_size for file in (directory / "a").glob("*.safetensors"))
        rows = [repeat(directory) for _ in range(args.repeats + 1)][1:]  # the first fills the page cache
        memory = peak(directory)
    result = {
        "bytes_of_a_checkpoint": size,
        "seconds": {key: spread([row[key] for row in rows]) for key in rows[0]},
        "merge_over_copying_both": spread([row["merge"] / (row["copy_a"] + row["copy_b"]) for row in rows]),
        "merge_over_copying_one": spread([row["merge"] / row["copy_a"] for row in rows]),
        "peak_bytes": memory,
    }
    write_json(args.out, {"machine": found} | result)
    progress(json.dumps({key: result[key]["median"] for key in result if key.startswith("merge")}))
    return 0


def make(directory: Path, megabytes: int, seed: int) -> None:
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=3 * HIDDEN,
        num_hidden_layers=max(1, round((megabytes - VOCABULARY * HIDDEN * 2 / 1e6) / LAYER_MEGABYTES)),
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=64,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(directory, max_shard_size=SHARD)
    build_tokenizer().save_pretrained(directory)


def repeat(directory: Path) -> dict[str, float]:
    """Seconds of each."""
    average = partial(merge.average, weight=0.5)
    both = [directory / "a", directory / "b"]
    tasks = {
        "copy_a": lambda out: copy(both[0], out),
        "copy_b": lambda out: copy(both[1], out),
        "merge": lambda out: merge.merge_checkpoints(both, out, average, in_blocks=True),
    }
    seconds = {}
    for name, task in tasks.items():
        began = time.perf_counter()
        task(directory / "out")
        seconds[name] = time.perf_counter() - began
        shutil.rmtree(directory / "out")
    return seconds


def copy(source: Path, out: Path) -> None:
    shutil.copytree(source, out)
    for file in out.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def peak(directory: Path) -> int:
    """Bytes resident at most in a merge, beyond those before it."""
    words = [str(directory / name) for name in ("a", "b", "out")]
    done = subprocess.run([sys.executable, "-c", PEAK, *words], check=True, capture_output=True, text=True)
    return int(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
