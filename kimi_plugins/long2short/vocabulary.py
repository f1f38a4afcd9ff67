"""Whose tokenizer a merged model has, and which rows of the checkpoints' embeddings belong to its tokens."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kimi_plugins.long2short.checkpoint import HEAD, Checkpoint, CheckpointError, Stored, vocabulary_of

CHOICES = ("first", "second", "union")
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight", "embed_out.weight")
FILES = ("tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "added_tokens.json", "*.jinja", "*.model")
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Vocabulary:
    """rows: for each checkpoint int64 [size], the row of its embedding for each row of the merged one; −1 for none.

    tokenizer: the checkpoint whose tokenizer files are copied. added: tokens to add to them.
    """

    rows: list[Tensor]
    tokenizer: Checkpoint
    added: list[dict]

    @property
    def size(self) -> int:
        return len(self.rows[0])

    def rearranged(self, tensors: list[Tensor]) -> list[Tensor]:
        """The embeddings [V, …] with the rows of the merged one [size, …].

        A row that a checkpoint lacks is that of the others, on average, so that merging leaves it as it is there.
        """
        there = [rows >= 0 for rows in self.rows]
        found = [tensor[rows.clamp(min=0)] for tensor, rows in zip(tensors, self.rows, strict=True)]
        masks = [mask.view(-1, *[1] * (tensor.dim() - 1)) for mask, tensor in zip(there, found, strict=True)]
        total = torch.stack([torch.where(m, t.float(), 0.0) for m, t in zip(masks, found, strict=True)]).sum(dim=0)
        count = torch.stack([mask.float() for mask in masks]).sum(dim=0)
        mean = total / count.clamp(min=1)
        return [torch.where(mask, tensor, mean.to(tensor.dtype)) for mask, tensor in zip(masks, found, strict=True)]

    def shape(self, name: str, stored: Stored) -> tuple[int, ...]:
        """The merged tensor's shape."""
        return (self.size, *stored.shape[1:]) if is_embedding(name) else stored.shape

    def config(self) -> dict:
        """What of config.json follows from the tokenizer."""
        ids = {key: value for key, value in self.tokenizer.config.items() if key in TOKEN_IDS}
        return ids | {"vocab_size": self.size}

    def write(self, directory: Path) -> None:
        """Put the tokenizer's files into a directory."""
        for pattern in (*FILES, "generation_config.json"):
            for file in self.tokenizer.directory.glob(pattern):
                (directory / file.name).write_bytes(file.read_bytes())
        if self.added:
            file = directory / "tokenizer.json"
            tokenizer = json.loads(file.read_text("utf-8"))
            tokenizer["added_tokens"] += self.added
            file.write_text(json.dumps(tokenizer, ensure_ascii=False, indent=2), "utf-8")


def is_embedding(name: str) -> bool:
    return name == HEAD or name.startswith("lm_head.") or name.endswith(EMBEDDINGS)


def vocabulary(checkpoints: list[Checkpoint], choice: str) -> Vocabulary:
    """The vocabulary of the merge of `checkpoints` [first, second, perhaps base].

    Raises:
        CheckpointError: a tokenizer.json is missing, or for the union the second has other words and not only tokens
            that were added.
    """
    known = [vocabulary_of(checkpoint.directory) for checkpoint in checkpoints]
    sizes = [_size(checkpoint) for checkpoint in checkpoints]
    main = 1 if choice == "second" else 0
    wanted, added = dict(known[main]), []
    if choice == "union":
        added = _added(checkpoints[0], checkpoints[1], known[0])
        wanted |= {token["content"]: token["id"] for token in added}
    size = max(sizes[main], 1 + max(wanted.values(), default=-1))
    rows = []
    for number, (tokens, own) in enumerate(zip(known, sizes, strict=True)):
        row = torch.full((size,), -1, dtype=torch.int64)
        if number == main:  # its rows without a token too
            row[:own] = torch.arange(own)
        for token, place in wanted.items():
            row[place] = tokens.get(token, -1) if tokens.get(token, own) < own else -1
        rows.append(row)
    return Vocabulary(rows, checkpoints[main], added)


def _size(checkpoint: Checkpoint) -> int:
    return next(stored.shape[0] for name, stored in checkpoint.tensors.items() if is_embedding(name))


def _added(first: Checkpoint, second: Checkpoint, known: dict[str, int]) -> list[dict]:
    """The tokens that the second's tokenizer has more, as entries of added_tokens with their numbers in the union."""
    more = [token for token in vocabulary_of(second.directory) if token not in known]
    entries = json.loads((second.directory / "tokenizer.json").read_text("utf-8")).get("added_tokens", [])
    own = {token["content"]: token for token in entries}
    if words := [token for token in more if token not in own]:
        raise CheckpointError(
            f"{second.directory}: its tokenizer splits text into other words, as {words[0]!r} ({len(words)} in all), "
            "and not only adds tokens; choose --tokenizer first or second"
        )
    start = 1 + max(known.values())
    return [own[token] | {"id": start + place} for place, token in enumerate(more)]
