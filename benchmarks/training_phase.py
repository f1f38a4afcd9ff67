"""RL's training phase with packed samples and chunked log-probs, beside padded samples and whole logits.

    python benchmarks/training_phase.py [--repeats 5] [--out FILE]

OpenRLHF's Actor and kimi-policy's loss, forward and backward, on made micro-batches of responses: the quickstart's
model on solutions of its problems, and a small model with the vocabulary of a 7 B one (151,936) on lengths with a long
tail. Both ways take turns on the same micro-batches in one process and one thread. What counts is the CPU time of the
process, which other processes disturb less than the wall time; tokens are those of the responses.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import RESULTS, machine, progress, spread, write_json
from openrlhf.models.actor import Actor
from openrlhf.models.log_probs import ChunkedHead
from openrlhf.models.ring_attn_utils import attention_for_packing
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from kimi_plugins.policy.mirror_descent import MirrorDescentLoss
from kimi_plugins.quickstart.arithmetic import generate_problems, prompt, solution
from kimi_plugins.quickstart.model import build_model, build_tokenizer

WAYS = ("padded, whole logits", "packed, chunks")
CHUNK = 512


def quickstart_batches(rng: random.Random, count: int) -> list[list[tuple[int, int]]]:
    """Micro-batches of 64 (prompt's, response's tokens), of 8 responses to each problem, as its configuration has."""
    tokenizer = build_tokenizer()
    lengths = [
        (len(tokenizer(prompt(a, b))["input_ids"]), len(tokenizer(solution(a, b, rng))["input_ids"]))
        for a, b in generate_problems(8 * count, seed=1)
        for _ in range(8)
    ]
    rng.shuffle(lengths)
    return [lengths[start : start + 64] for start in range(0, len(lengths), 64)]


def long_tail_batches(rng: random.Random, count: int) -> list[list[tuple[int, int]]]:
    """Micro-batches of 4, responses log-normally long: 100 tokens in the median, 1,024 at most."""
    return [[(32, min(1024, round(100 * rng.lognormvariate(0, 1)))) for _ in range(4)] for _ in range(count)]


def quickstart_model(attention: str):
    with tempfile.TemporaryDirectory() as directory:
        build_model(Path(directory), seed=0)
        return AutoModelForCausalLM.from_pretrained(directory, attn_implementation=attention, dtype=torch.float32)


def wide_model(attention: str):
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=151_936,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        attn_implementation=attention,
    )
    return Qwen3ForCausalLM(config)


CASES = {"quickstart": (quickstart_model, quickstart_batches, 8), "wide": (wide_model, long_tail_batches, 3)}


def made_actor(build, way: str) -> Actor:
    packed = way == WAYS[1]
    model = build(attention_for_packing("sdpa") if packed else "sdpa")
    model.config.use_cache = False
    actor = Actor(model)
    actor.packing_samples = packed
    actor.chunked_head = ChunkedHead(model, CHUNK) if packed else None
    return actor.train()


def tensors(lengths: list[tuple[int, int]], vocabulary: int) -> tuple[torch.Tensor, ...]:
    """Sequences [B, S], attention mask [B, S] and action mask [B, S − 1], padded to the right."""
    size = max(sum(pair) for pair in lengths)
    sequences = torch.randint(3, vocabulary, (len(lengths), size))
    places = torch.arange(size)
    ends = torch.tensor([sum(pair) for pair in lengths])[:, None]
    starts = torch.tensor([pair[0] for pair in lengths])[:, None]
    attention = (places < ends).long()
    return sequences, attention, ((places >= starts) & (places < ends))[:, 1:]


def work(actor: Actor, batches: list, loss_fn: MirrorDescentLoss) -> tuple[float, float]:
    """CPU seconds of the forward and backward passes of all micro-batches, and the sum of the log-probs."""
    began, total = time.process_time(), 0.0
    for sequences, attention, actions in batches:
        log_probs = actor(sequences, actions, attention_mask=attention)
        advantages = torch.linspace(-0.5, 0.5, len(sequences))[:, None].expand_as(log_probs)
        old = log_probs.detach() - 0.01 * torch.linspace(-1, 1, len(sequences))[:, None]
        loss = loss_fn(log_probs, old, advantages, actions)[0]
        loss.backward()
        total += log_probs.sum().item()
    actor.zero_grad()
    return time.process_time() - began, total


def measure(case: str, repeats: int) -> dict:
    build, lengths_of, count = CASES[case]
    lengths = lengths_of(random.Random(0), count)
    actors = {way: made_actor(build, way) for way in WAYS}
    torch.manual_seed(1)
    batches = [tensors(batch, actors[WAYS[0]].model.config.vocab_size) for batch in lengths]
    tokens = sum(response for batch in lengths for _, response in batch)
    padded = sum(sequences.numel() for sequences, *_ in batches)
    loss_fn = MirrorDescentLoss(tau=0.1, max_log_ratio=100.0, log_ratio="sequence", token_level_loss=False)
    runs: dict[str, list[float]] = {way: [] for way in WAYS}
    log_probs: dict[str, float] = {}
    for actor in actors.values():
        work(actor, batches[:1], loss_fn)  # warm-up
    for _ in range(repeats):
        for way in WAYS:
            seconds, log_probs[way] = work(actors[way], batches, loss_fn)
            runs[way].append(seconds)
    row = {
        "micro_batches": len(batches),
        "response_tokens": tokens,
        "padding_share": 1 - sum(sum(pair) for batch in lengths for pair in batch) / padded,
        "log_prob_difference": abs(log_probs[WAYS[1]] / log_probs[WAYS[0]] - 1),
        "tokens_per_cpu_second": {way: spread([tokens / seconds for seconds in runs[way]]) for way in WAYS},
        "times_as_fast": spread([slow / fast for slow, fast in zip(*(runs[way] for way in WAYS), strict=True)]),
    }
    ratio = row["times_as_fast"]
    progress(f"{case}: {ratio['median']:.2f} × ({ratio['min']:.2f} to {ratio['max']:.2f}) the tokens a CPU second")
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "training_phase.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = machine()
    write_json(args.out, {"machine": found, "cases": {case: measure(case, args.repeats) for case in CASES}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
