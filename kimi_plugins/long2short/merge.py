"""Two checkpoints merged into one (k1.5 §2.4: the plain average), also by SLERP, task arithmetic, TIES and DARE.

The definitions are mergekit's, and tests compare with its results.

Read, merged and written tensor by tensor (the average in blocks), in float32 whatever the checkpoints are stored as.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from kimi_plugins.data.files import new_directory
from kimi_plugins.long2short.checkpoint import (
    BYTES,
    INDEX,
    INTEGERS,
    Checkpoint,
    CheckpointError,
    Stored,
    check_alike,
    open_checkpoint,
)
from kimi_plugins.long2short.vocabulary import FILES, Vocabulary, is_embedding, vocabulary

TORCH = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32} | {
    name: getattr(torch, kind) for name, kind in zip(INTEGERS, ("int64", "int32", "int16", "bool"), strict=True)
}
DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
BLOCK = 1 << 20  # numbers merged at a time, where that can be done in blocks
PARALLEL = 0.9995  # cosine from which SLERP is a plain average: the angle is lost in rounding (mergekit's value)
# Beside the weights, what a model directory needs; all of it is the first checkpoint's.
COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py")
NOT_COPIED = ("config.json", "*.index.json", "trainer_state.json", "manifest.json")


def average(tensors: list[Tensor], dtype: torch.dtype, *, weight: float) -> Tensor:
    """(1 − weight) a + weight b of `tensors` [a, b], rounded once, to `dtype`."""
    a, b = tensors
    if a.dtype == b.dtype == dtype:
        return torch.lerp(a, b, weight)  # computes in float32
    return torch.lerp(a.float(), b.float(), weight).to(dtype)


def slerp(tensors: list[Tensor], dtype: torch.dtype, *, weight: float) -> Tensor:
    """Spherical interpolation of two tensors as vectors, a at weight 0, b at 1; their average if nearly parallel."""
    a, b = (tensor.float() for tensor in tensors)
    norms = [torch.linalg.vector_norm(tensor).item() or 1.0 for tensor in (a, b)]
    cosine = torch.dot((a / norms[0]).flatten(), (b / norms[1]).flatten()).clamp(-1, 1).item()
    if abs(cosine) > PARALLEL:
        return torch.lerp(a, b, weight).to(dtype)
    angle = math.acos(cosine)
    shares = [math.sin(part * angle) / math.sin(angle) for part in (1 - weight, weight)]
    return (shares[0] * a + shares[1] * b).to(dtype)


def task_arithmetic(tensors: list[Tensor], dtype: torch.dtype, *, weight: float, scale: float) -> Tensor:
    """Task arithmetic (arXiv 2212.04089) of `tensors` [a, b, base]: base plus the weighted sum of both changes.

    scale: of the sum; at 1 it is the average of a and b, at 2 and weight ½ both changes are added whole.
    """
    a, b, base = (tensor.float() for tensor in tensors)
    return (base + scale * ((1 - weight) * (a - base) + weight * (b - base))).to(dtype)


def dare(
    tensors: list[Tensor],
    dtype: torch.dtype,
    *,
    weight: float,
    density: float,
    scale: float,
    elect: bool,
    generator: torch.Generator,
) -> Tensor:
    """DARE (arXiv 2311.03099) of `tensors` [a, b, base]: base plus the weighted sum of randomly thinned changes.

    density: chance of each number of a change to be kept; what is kept is scaled so that the sum of magnitudes stays.
    elect: leave out numbers whose sign is not that of the sum, as TIES does (mergekit's dare_ties).
    """
    *models, base = (tensor.float() for tensor in tensors)
    weights = (1 - weight, weight)
    changes = [share * thinned(model - base, density, generator) for share, model in zip(weights, models, strict=True)]
    if elect:
        sign = torch.where(changes[0] + changes[1] >= 0, 1.0, -1.0)
        changes = [torch.where(change.sign() == sign, change, 0.0) for change in changes]
    return (base + scale * (changes[0] + changes[1])).to(dtype)


def thinned(change: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """`change` with numbers set to 0 at random, the others scaled to the same sum of magnitudes."""
    if density >= 1:
        return change
    kept = change * torch.bernoulli(torch.full_like(change, density), generator=generator)
    before, after = change.abs().sum(), kept.abs().sum()
    return kept if min(before, after) < 1e-7 else kept * (before / after)


def ties(tensors: list[Tensor], dtype: torch.dtype, *, weight: float, density: float, scale: float) -> Tensor:
    """TIES (arXiv 2306.01708) of `tensors` [a, b, base]: base plus the mean of those large changes that agree in sign.

    density: share of each change's numbers that is kept, those of largest magnitude (all that tie with the last).
    scale: of the merged change (λ).
    """
    *models, base = (tensor.float() for tensor in tensors)
    weights = (1 - weight, weight)
    changes = [share * trim(model - base, density) for share, model in zip(weights, models, strict=True)]
    sign = torch.where(changes[0] + changes[1] >= 0, 1.0, -1.0)
    agree = [(change.sign() == sign).float() for change in changes]
    total = torch.stack([change * mask for change, mask in zip(changes, agree, strict=True)]).sum(dim=0)
    share = torch.stack([weight * mask for weight, mask in zip(weights, agree, strict=True)]).sum(dim=0)
    return (base + scale * total / torch.where(share == 0, 1.0, share)).to(dtype)


def trim(change: Tensor, density: float) -> Tensor:
    """`change` with all but its `density` largest magnitudes 0; at least one is kept."""
    if density >= 1 or not change.numel():
        return change
    kept = max(1, int(density * change.numel()))
    sizes = change.abs()
    # kthvalue counts from the smallest.
    least = torch.kthvalue(sizes.flatten(), change.numel() - kept + 1).values
    return torch.where(sizes >= least, change, 0.0)


class Merged(NamedTuple):
    tensors: int
    bytes: int
    notes: list[str]  # what differed without harm


def merge_checkpoints(
    directories: list[Path],
    out: Path,
    combine: Callable[[list[Tensor], torch.dtype], Tensor],
    *,
    dtype: str = "bfloat16",
    in_blocks: bool = False,
    tokenizer: str | None = None,
    advance: Callable[[int], object] = lambda bytes_written: None,
) -> Merged:
    """Write the merge of the checkpoints in `directories` to `out`, which appears when it is whole.

    Args:
        directories: the first gives configuration, tokenizer and division into files.
        combine: the merged tensor of the checkpoints' tensors of one name, in the dtype asked for.
        dtype: of the merged weights, a key of DTYPES.
        tokenizer: one of vocabulary.CHOICES, whose tokens the merged model has; None: they must be alike.
        in_blocks: whether combine works number by number, so that a tensor can be given to it in parts.
        advance: told of the bytes as they are written; for a progress bar.

    Raises:
        CheckpointError: a checkpoint is not whole or they do not fit, or a weight is not finite.
        FileExistsError: `out` is there already.
    """
    checkpoints = [open_checkpoint(directory) for directory in directories]
    alike = tokenizer is None
    notes = [note for other in checkpoints[1:] for note in check_alike(checkpoints[0], other, vocabularies=alike)]
    words = None if tokenizer is None else vocabulary(checkpoints, tokenizer)
    first, written = checkpoints[0], 0
    if words is not None:
        shared = int(torch.stack([rows >= 0 for rows in words.rows]).all(dim=0).sum())
        notes.append(f"the tokenizer is the {tokenizer}: {words.size} rows of embeddings, {shared} of them merged")
    files: dict[Path, list[str]] = {}
    for name, stored in first.tensors.items():
        files.setdefault(stored.file, []).append(name)
    with new_directory(out) as partial:
        for file, names in files.items():
            places = [_Target(name, first.tensors[name], words, DTYPES[dtype]) for name in names]
            with (partial / file.name).open("wb", buffering=0) as opened:
                opened.write(header({place.name: (place.shape, place.dtype) for place in places}))
                for block in _merged(checkpoints, places, combine, words, in_blocks, notes):
                    _write(opened, block)
                    written += block.nbytes
                    advance(block.nbytes)
        if len(files) > 1:
            place = {name: stored.file.name for name, stored in first.tensors.items()}
            index = {"metadata": {"total_size": written}, "weight_map": place}
            (partial / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        _copy_the_rest(first, partial, dtype, words)
    return Merged(len(first.tensors), written, notes)


class _Target:
    """A tensor of the merged checkpoint: its name, shape, dtype as the format names it, and whether it is copied."""

    def __init__(self, name: str, stored: Stored, words: Vocabulary | None, dtype: str) -> None:
        self.name = name
        self.copied = stored.dtype in INTEGERS
        self.rearranged = words is not None and is_embedding(name)
        self.dtype = stored.dtype if self.copied else dtype
        self.shape = words.shape(name, stored) if words is not None and self.rearranged else stored.shape


def header(tensors: dict[str, tuple[tuple[int, ...], str]]) -> bytes:
    """The beginning of a safetensors file of tensors of these shapes and dtypes, as the format names them."""
    entries: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, (shape, dtype) in tensors.items():
        stop = start + math.prod(shape) * (BYTES | INTEGERS)[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the data aligned
    return len(text).to_bytes(8, "little") + text


def _merged(
    checkpoints: list[Checkpoint],
    targets: list[_Target],
    combine: Callable,
    words: Vocabulary | None,
    in_blocks: bool,
    notes: list[str],
) -> Iterator[Tensor]:
    """The blocks of the merged tensors, one after the other; notes are added of buffers that differ."""
    parts = [
        (target, place, min(place + step, size))
        for target in targets
        for size in [math.prod(checkpoints[0].tensors[target.name].shape)]
        for step in [BLOCK if in_blocks and not (target.rearranged or target.copied) else max(size, 1)]
        for place in range(0, size, step)
    ]
    with ExitStack() as stack:
        files = {
            file: stack.enter_context(file.open("rb", buffering=0))
            for file in {checkpoint.tensors[target.name].file for checkpoint in checkpoints for target in targets}
        }

        def merge(part: tuple[_Target, int, int]) -> Tensor:
            target, start, stop = part
            places = [checkpoint.tensors[target.name] for checkpoint in checkpoints]
            if target.copied or target.rearranged:
                tensors = [_read(files[p.file], p, 0, math.prod(p.shape)).view(p.shape) for p in places]
            else:
                tensors = [_read(files[place.file], place, start, stop) for place in places]
            if target.copied:
                if any(not torch.equal(tensors[0], other) for other in tensors[1:]):
                    notes.append(f"{target.name} holds other whole numbers; the first checkpoint's are kept")
                return tensors[0]
            if words is not None and target.rearranged:
                tensors = [tensor.flatten() for tensor in words.rearranged(tensors)]
            block = combine(tensors, TORCH[target.dtype])
            # A sum is not finite if a number is not, and costs a tenth of isfinite(). TIES may drop that number.
            if not all(torch.isfinite(tensor.sum()) for tensor in ([block] if in_blocks else [block, *tensors])):
                _check_finite(target.name, checkpoints, tensors, block)
            return block

        yield from _one_ahead(merge, parts)


def _one_ahead(function: Callable, arguments: list) -> Iterator:
    """map(), the next result being made while the caller uses the last one."""
    with ThreadPoolExecutor(1) as thread:
        pending = [thread.submit(function, argument) for argument in arguments[:1]]
        for argument in arguments[1:]:
            result = pending.pop().result()
            pending.append(thread.submit(function, argument))
            yield result
        yield from (future.result() for future in pending)


def _read(file: BinaryIO, stored: Stored, start: int, stop: int) -> Tensor:
    """The numbers start to stop of a tensor, [stop − start]."""
    width = (BYTES | INTEGERS)[stored.dtype]
    data = torch.empty((stop - start) * width, dtype=torch.uint8)
    view, done = memoryview(data.numpy().data), 0
    while done < len(view):
        read = os.preadv(file.fileno(), [view[done:]], stored.start + start * width + done)
        if not read:
            raise CheckpointError(f"{stored.file}: became shorter while it was read; wait until it is written")
        done += read
    return data.view(TORCH[stored.dtype])


def _write(file: BinaryIO, block: Tensor) -> None:
    view = memoryview(block.contiguous().flatten().view(torch.uint8).numpy().data)
    while view:
        view = view[file.write(view) :]


def _check_finite(name: str, checkpoints: list[Checkpoint], tensors: list[Tensor], block: Tensor) -> None:
    for checkpoint, tensor in zip(checkpoints, tensors, strict=True):
        if not torch.isfinite(tensor).all():
            file = checkpoint.tensors[name].file
            raise CheckpointError(f"{file}: {name} has a weight that is not finite; take an earlier checkpoint")
    if not torch.isfinite(block).all():
        raise CheckpointError(f"{name}: the merged weights do not fit {block.dtype}; choose bfloat16 or float32")


def _copy_the_rest(first: Checkpoint, directory: Path, dtype: str, words: Vocabulary | None) -> None:
    key = "torch_dtype" if "torch_dtype" in first.config else "dtype"
    config = first.config | {key: dtype} | (words.config() if words is not None else {})
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for file in sorted(first.directory.iterdir()):
        wanted = any(file.match(pattern) for pattern in COPIED)
        if wanted and not any(file.match(pattern) for pattern in NOT_COPIED):
            shutil.copyfile(file, directory / file.name)
    if words is not None:
        for pattern in FILES:
            for file in directory.glob(pattern):
                file.unlink()
        words.write(directory)
