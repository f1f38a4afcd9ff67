"""Memory and time of the log probs of one long response: from the logits of all tokens, and in chunks.

A decoder of one layer with the vocabulary of a 7 B model (151,936), one forward and backward pass of OpenRLHF's Actor
with gradient checkpointing, each path and length in a fresh process, in turn. Memory is the peak above what the loaded
model takes. Lengths that the file of results has already are kept, so that they can be measured one at a time. Where
the logits of all tokens do not fit the machine, their memory is the straight line through the two longest lengths that
did.

With --run, a run of RL instead, on the whole stack: see long_run.py.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import long_run
import psutil
from common import RESULTS, machine, progress, spread, write_json

VOCABULARY = 151_936
PATHS = ("whole", "chunks")
MIB_A_TOKEN = 3.1 * VOCABULARY * 4 / 2**20  # of whole logits, where only one length is measured: 3.1 float32 tensors


def measure(path: str, tokens: int, chunk: int, hidden: int, dtype: str) -> dict:
    """Peak memory (MiB above the loaded model) and seconds of a pass, in this process."""
    import torch
    from openrlhf.models.actor import Actor
    from openrlhf.models.log_probs import ChunkedHead
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=hidden // 2,
        max_position_embeddings=tokens,
        attn_implementation="sdpa",
        use_cache=False,
    )
    actor = Actor(Qwen3ForCausalLM(config).to(getattr(torch, dtype)))
    actor.packing_samples = False
    actor.train()
    actor.gradient_checkpointing_enable()  # as the recipes for long contexts have it
    actor.chunked_head = ChunkedHead(actor.model, chunk) if path == "chunks" else None
    sequences = torch.randint(VOCABULARY, (1, tokens))
    mask = torch.ones_like(sequences)
    loaded = psutil.Process().memory_info().rss
    began, worked = time.monotonic(), time.process_time()
    log_probs = actor(sequences, mask[:, 1:], attention_mask=mask)
    log_probs.sum().square().backward()  # all that mirror descent needs of a response is its sum
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "mib": (peak - loaded) / 2**20,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "log_prob": log_probs.sum().item(),
    }


def in_fresh_process(path: str, tokens: int, args) -> dict:
    words = [
        "--measure",
        path,
        "--tokens",
        tokens,
        "--chunk",
        args.chunk,
        "--hidden",
        args.hidden,
        "--dtype",
        args.dtype,
    ]
    done = subprocess.run([sys.executable, __file__, *map(str, words)], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    progress(f"{path}, {tokens} tokens: {result['mib']:.0f} MiB, {result['cpu_seconds']:.1f} s of CPU")
    return result


def by_arithmetic(rows: list[dict], tokens: int) -> float:
    """MiB of the whole logits of so many tokens: the straight line through the two longest lengths measured."""
    measured = [(row["tokens"], row["whole"]["mib"]["median"]) for row in rows if not row["whole_by_arithmetic"]]
    if len(measured) < 2:
        long, more = measured[0] if measured else (0, 0.0)
        return more + MIB_A_TOKEN * (tokens - long)
    (short, less), (long, more) = sorted(measured)[-2:]
    return more + (more - less) / (long - short) * (tokens - long)


def measured_row(tokens: int, whole_mib: float, args) -> dict:
    """Both paths at one length, in turn; of chunks alone where whole logits, of about whole_mib, do not fit."""
    fits = 1.1 * whole_mib * 2**20 < psutil.virtual_memory().available
    paths = PATHS if fits else ("chunks",)
    runs = [{path: in_fresh_process(path, tokens, args) for path in paths} for _ in range(args.repeats)]
    row: dict = {"tokens": tokens, "whole_by_arithmetic": not fits, "load_average": round(os.getloadavg()[0], 1)}
    for path in paths:
        row[path] = {key: spread([run[path][key] for run in runs]) for key in ("mib", "seconds", "cpu_seconds")}
    if fits:
        for key in ("seconds", "cpu_seconds"):
            row[f"{key}_ratio"] = spread([run["chunks"][key] / run["whole"][key] for run in runs])
        row["log_prob_difference"] = max(abs(run["chunks"]["log_prob"] / run["whole"]["log_prob"] - 1) for run in runs)
        row["times_less"] = spread([run["whole"]["mib"] / run["chunks"]["mib"] for run in runs])["median"]
    return row


def with_row(rows: list[dict], row: dict) -> list[dict]:
    """The rows by length with a new one, what is arithmetic in them renewed."""
    rows = [*(one for one in rows if one["tokens"] != row["tokens"]), row]
    for one in rows:
        if one["whole_by_arithmetic"]:
            one["whole"] = {"mib": by_arithmetic(rows, one["tokens"])}
            one["times_less"] = one["whole"]["mib"] / one["chunks"]["mib"]["median"]
    return sorted(rows, key=lambda one: one["tokens"])


def rows_in(out: Path, settings: dict) -> list[dict]:
    """Of the file of results, if it is there and has the same settings."""
    before = json.loads(out.read_text()) if out.exists() else {}
    return before["rows"] if before.get("settings") == settings else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 8192, 32768, 131072])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=512, help="ds.logits_chunk_size")
    parser.add_argument("--hidden", type=int, default=128, help="hidden size of the model")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=Path, help="default: long_context.json or long_run.json in benchmarks/results")
    parser.add_argument("--measure", choices=PATHS, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, metavar="DIR", help="a run of RL, in this new directory")
    parser.add_argument("--context", type=int, default=131072, help="of the run, tokens; 16384 takes minutes")
    parser.add_argument("--prompts", type=int, default=24, help="of the run, with 2 responses each")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.tokens[0], args.chunk, args.hidden, args.dtype)))
        return 0
    found = {"machine": machine()}
    if args.run:
        try:
            found["run"] = long_run.run(args.context, args.prompts, args.run.resolve())
        except RuntimeError as error:
            print(f"long_context: {error}", file=sys.stderr)
            return 1
        write_json(args.out or RESULTS / "long_run.json", found)
        return 0

    out = args.out or RESULTS / "long_context.json"
    settings = {name: getattr(args, name) for name in ("chunk", "hidden", "dtype")} | {"vocabulary": VOCABULARY}
    for tokens in sorted(args.tokens):
        row = measured_row(tokens, by_arithmetic(rows_in(out, settings), tokens), args)
        rows = with_row(rows_in(out, settings), row)  # read again: others may measure other lengths meanwhile
        write_json(out, found | {"settings": settings, "rows": rows})
        less = next(one["times_less"] for one in rows if one["tokens"] == tokens)
        progress(f"{tokens} tokens: {less:.1f} × less{' (by arithmetic)' if row['whole_by_arithmetic'] else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
