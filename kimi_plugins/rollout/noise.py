"""Sampling by seed and position, so that a response is the same however it was cut into segments.

vLLM seeds a request, and a trajectory that goes on is a new request: its generator starts afresh. Here the token at
position t of a trajectory is argmax(logits + Gumbel noise of (seed, t)), which is a draw from softmax(logits).
"""

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.interface import MoveDirectionality

# Any odd number far from small ones: neighbouring seeds and positions give unrelated generator seeds.
_STRIDE = 0x9E3779B97F4A7C15


def gumbel(seed: int, position: int, size: int) -> torch.Tensor:
    """[size] float32 noise that depends on seed and position alone."""
    generator = torch.Generator().manual_seed((seed + position * _STRIDE) % 2**63)
    return -torch.empty(size).exponential_(generator=generator).log()


class PlacedNoise(LogitsProcessor):
    """For requests with extra_args {"position_seed", "position": tokens before this request} and temperature 0."""

    def __init__(self, vllm_config, device, is_pin_memory) -> None:
        self._rows: dict[
            int, tuple[int, int, list[int]]
        ] = {}  # batch row → seed, tokens before, tokens of the request

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update) -> None:
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._rows.pop(row, None)
        for row, params, _, written in batch_update.added:
            self._rows.pop(row, None)
            extra = params.extra_args or {}
            if "position_seed" in extra:
                self._rows[row] = (extra["position_seed"], extra["position"], written)
        for source, target, direction in batch_update.moved:
            moved, replaced = self._rows.pop(source, None), self._rows.pop(target, None)
            if moved is not None:
                self._rows[target] = moved
            if direction == MoveDirectionality.SWAP and replaced is not None:
                self._rows[source] = replaced

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        for row, (seed, before, written) in self._rows.items():
            logits[row] += gumbel(seed, before + len(written), logits.shape[-1]).to(logits.device)
        return logits
