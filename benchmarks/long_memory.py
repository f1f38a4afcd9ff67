"""GPU memory of training with a long context, by arithmetic: `python benchmarks/long_memory.py` prints a table.

OpenRLHF's policy under ZeRO-3 in bfloat16 with gradient checkpointing and flash-attn, of which ring attention gives
each GPU a part of the sample; engines sleep meanwhile. Fragmentation, buffers of communication and CUDA come on top.
"""

import argparse
from dataclasses import dataclass

GIB = 2**30
BF16, FLOAT32 = 2, 4  # bytes
# Float32 tensors of the logits' size that live at once, as benchmarks/long_context.py measures (3.1 and 3.7).
COPIES = 4


@dataclass(frozen=True)
class Shape:
    """A decoder like Qwen2's, its head untied from its embeddings, with biases of q, k and v."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @property
    def attention(self) -> int:
        """Width of q, k and v together."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        projections = self.hidden * (self.attention + self.heads * self.head_dim) + self.attention
        return projections + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + 2 * self.vocabulary * self.hidden + self.hidden


QWEN2_7B = Shape(28, 3584, 18944, 28, 4, 128, 152064)


def saved_of_layer(shape: Shape) -> int:
    """Bytes a token that the backward pass of one layer needs of its forward pass, which checkpointing runs again.

    Both norms: the input in float32, it normalised, and the output. Attention: q, k, v, its output and a float32 a
    head (log-sum-exp). MLP: gate, its SiLU, up and their product.
    """
    norms = 2 * shape.hidden * (FLOAT32 + 2 * BF16)
    attention = BF16 * (shape.attention + shape.heads * shape.head_dim) + FLOAT32 * shape.heads
    return norms + attention + BF16 * 4 * shape.intermediate


def memory(shape: Shape, tokens: int, *, gpus: int, ring: int, chunk: int = 512) -> dict[str, float]:
    """GiB in each GPU by what they hold, while a sample is trained on; "KV cache" is of the engine, a response.

    Args:
        tokens: of the sample, prompt and response.
        gpus: that ZeRO-3 divides weights, gradients and optimizer among.
        ring: ds.ring_attn_size, GPUs that share a sample.
        chunk: ds.logits_chunk_size; at least the sample's part in a GPU for whole logits.
    """
    share = -(-tokens // ring)
    head = shape.vocabulary * shape.hidden
    held = {
        "weights": BF16 * shape.parameters / gpus,
        "gradients": BF16 * shape.parameters / gpus,
        "optimizer": 3 * FLOAT32 * shape.parameters / gpus,  # float32 weights, two moments
        # Two layers, one of them fetched ahead; the head, and its gradient summed in float32.
        "gathered": 2 * BF16 * shape.layer + (BF16 + FLOAT32) * head,
        "checkpoints": share * BF16 * shape.hidden * shape.layers,  # the input of every layer
        # And the gradients of the MLP's two widest tensors.
        "a layer": share * (saved_of_layer(shape) + 2 * BF16 * shape.intermediate),
        "log-probs": COPIES * FLOAT32 * shape.vocabulary * min(chunk, share),
    }
    kv_cache = tokens * shape.layers * 2 * shape.kv_heads * shape.head_dim * BF16
    return {name: size / GIB for name, size in held.items()} | {
        "sum": sum(held.values()) / GIB,
        "log-probs by whole logits": COPIES * FLOAT32 * shape.vocabulary * share / GIB,
        "KV cache": kv_cache / GIB,
    }


COLUMNS = ((32768, 1), (65536, 1), (131072, 1), (131072, 2), (131072, 8))  # tokens, ring


def table(shape: Shape = QWEN2_7B, gpus: int = 8) -> list[str]:
    """Lines of Markdown, GiB a GPU."""
    columns = [memory(shape, tokens, gpus=gpus, ring=ring) for tokens, ring in COLUMNS]
    heads = [f"{tokens // 1024}k" + (f", ring of {ring}" if ring > 1 else "") for tokens, ring in COLUMNS]
    lines = [f"| GiB a GPU | {' | '.join(heads)} |", f"|---|{'---|' * len(columns)}"]
    return lines + [f"| {name} | {' | '.join(f'{column[name]:.1f}' for column in columns)} |" for name in columns[0]]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("\n".join(table()))


if __name__ == "__main__":
    main()
