"""Memory and time of the log probs of one long response: from the logits of all tokens, and in chunks.

A decoder of one layer with the vocabulary of a 7 B model (151,936), one forward and backward pass of OpenRLHF's Actor,
each path and length in a fresh process, in turn. Memory is the peak above what the loaded model takes. Where the
logits of all tokens do not fit the machine, the memory of that path is what it took a token at the longest length that
did, times the tokens.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import psutil
from common import RESULTS, machine, progress, spread, write_json

VOCABULARY = 151_936
PATHS = ("whole", "chunks")
BYTES_A_TOKEN = 6 * VOCABULARY * 4  # of the path by whole logits, before it was measured: six tensors in float32


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 8192, 32768, 131072])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=512, help="ds.logits_chunk_size")
    parser.add_argument("--hidden", type=int, default=128, help="hidden size of the model")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=Path, default=RESULTS / "long_context.json")
    parser.add_argument("--measure", choices=PATHS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.tokens[0], args.chunk, args.hidden, args.dtype)))
        return

    rows, a_token = [], BYTES_A_TOKEN
    for tokens in sorted(args.tokens):
        fits = 1.2 * a_token * tokens < psutil.virtual_memory().available
        repeats = args.repeats if fits else 1
        runs = [
            {path: in_fresh_process(path, tokens, args) for path in PATHS if fits or path == "chunks"}
            for _ in range(repeats)
        ]
        row = {"tokens": tokens, "whole_by_arithmetic": not fits}
        for path in runs[0]:
            row[path] = {key: spread([run[path][key] for run in runs]) for key in ("mib", "seconds", "cpu_seconds")}
        if fits:
            a_token = row["whole"]["mib"]["median"] * 2**20 / tokens
            for key in ("seconds", "cpu_seconds"):
                row[f"{key}_ratio"] = spread([run["chunks"][key] / run["whole"][key] for run in runs])
            row["log_prob_difference"] = max(
                abs(run["chunks"]["log_prob"] / run["whole"]["log_prob"] - 1) for run in runs
            )
        else:
            row["whole"] = {"mib": a_token * tokens / 2**20}
        whole = row["whole"]["mib"]["median"] if fits else row["whole"]["mib"]
        row["times_less"] = whole / median(run["chunks"]["mib"] for run in runs)
        progress(f"{tokens} tokens: {row['times_less']:.1f} × less{'' if fits else ' (by arithmetic)'}")
        rows.append(row)
    settings = {name: getattr(args, name) for name in ("chunk", "hidden", "dtype")} | {"vocabulary": VOCABULARY}
    write_json(args.out, {"machine": machine(), "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
