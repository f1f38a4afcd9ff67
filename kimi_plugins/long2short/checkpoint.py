"""Hugging Face checkpoints as files: what is in their safetensors, whether they are whole, how two of them differ.

The format: 8 bytes with the length of a JSON header, the header {name: {dtype, shape, data_offsets}}, the data.
"""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

BYTES = {"BF16": 2, "F16": 2, "F32": 4}  # of the dtypes that can be merged
INTEGERS = {"I64": 8, "I32": 4, "I16": 2, "BOOL": 1}  # of buffers, which are copied; weights of 8 bits are not
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
HEAD = "lm_head.weight"  # some checkpoints hold it although it is tied to the embedding
FIXED = ("architectures", "model_type", "vocab_size", "tie_word_embeddings")  # of config.json: weights depend on them
SILENT = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
TOKENIZER_PARTS = ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder")
SERVED = ("generation_config.json", "preprocessor_config.json", "processor_config.json")  # by an engine, beside these
TOKENIZER_FILES = ("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "tekken.json")


class CheckpointError(ValueError):
    """A checkpoint is not whole, or two do not fit; the message names the file or tensor."""


class Stored(NamedTuple):
    """Where a tensor is: bytes start to stop of `file`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass
class Checkpoint:
    directory: Path
    config: dict
    tensors: dict[str, Stored]  # in the order of the files

    @property
    def tied(self) -> bool:
        return bool(self.config.get("tie_word_embeddings", False))


def open_checkpoint(directory: Path) -> Checkpoint:
    """The checkpoint in `directory`, its files checked for being whole.

    Raises:
        CheckpointError: a file is missing, truncated or no safetensors, as of one that is being written.
    """
    config = _json(directory / "config.json", directory)
    if "quantization_config" in config:
        raise CheckpointError(f"{directory}: is quantized; merge the checkpoint it was made from")
    index = directory / INDEX
    if index.exists():
        place = _json(index, directory).get("weight_map", {})
        shards = sorted(set(place.values()))
    else:
        place, shards = None, [SINGLE]
    tensors: dict[str, Stored] = {}
    for shard in shards:
        tensors |= dict(read_header(directory / shard))
    if place is not None and (missing := [name for name, shard in place.items() if name not in tensors]):
        raise CheckpointError(f"{directory}: {place[missing[0]]} lacks {missing[0]}, which {INDEX} has; save it again")
    if not tensors:
        raise CheckpointError(f"{directory}: has no weights; save it again")
    return Checkpoint(directory, config, tensors)


def read_header(file: Path) -> Iterator[tuple[str, Stored]]:
    """(name, place) of every tensor in a safetensors file, in the order of the data."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            size = os.fstat(opened.fileno()).st_size
            if size < 8 or length > size - 8:
                raise CheckpointError(f"{file}: is truncated, or still being written; wait, or copy it again")
            header = json.loads(opened.read(length))
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: is missing; copy it, or wait until the checkpoint is written") from error
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file}: its header is not JSON ({error}); copy it again") from error
    header.pop("__metadata__", None)
    data = 8 + length
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if data + end != size:
        raise CheckpointError(
            f"{file}: has {size} of {data + end} bytes: truncated, or still being written; wait, or copy it again"
        )
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        stored = Stored(file, entry["dtype"], tuple(entry["shape"]), data + start, data + stop)
        width = (BYTES | INTEGERS).get(stored.dtype)
        if width is None:
            raise CheckpointError(f"{file}: {name} is {stored.dtype}; only {', '.join(BYTES)} can be merged")
        if stop - start != width * math.prod(stored.shape):
            raise CheckpointError(f"{file}: {name} has {stop - start} bytes, not those of its shape; copy it again")
        yield name, stored


def check_alike(first: Checkpoint, other: Checkpoint, *, vocabularies: bool = True) -> list[str]:
    """What differs without harm, in words; the merged checkpoint follows `first` there.

    A tied output head that only one of them holds is dropped from it. vocabularies: whether they must be alike too.

    Raises:
        CheckpointError: they are of different architectures, vocabularies, tokenizers or shapes; all of it is said.
    """
    problems = [
        f"{key} is {first.config.get(key)!r} and {other.config.get(key)!r}"
        for key in FIXED
        if first.config.get(key) != other.config.get(key) and (vocabularies or key != "vocab_size")
    ]
    if vocabularies and (differences := tokenizer_differences(first.directory, other.directory)):
        problems += [f"{difference}; choose one with --tokenizer" for difference in differences]
    if first.tied and other.tied:
        for one, another in ((first, other), (other, first)):
            if HEAD not in another.tensors:
                one.tensors.pop(HEAD, None)
    for one, another in ((first, other), (other, first)):
        if missing := [name for name in one.tensors if name not in another.tensors]:
            problems.append(f"{another.directory} lacks {_some(missing)}")
    shared = [name for name in first.tensors if name in other.tensors]
    for name in shared:
        shape, its = first.tensors[name].shape, other.tensors[name].shape
        if shape != its and (vocabularies or shape[1:] != its[1:]):
            problems.append(f"{name} is {list(shape)} and {list(its)}")
        if (first.tensors[name].dtype in INTEGERS) != (other.tensors[name].dtype in INTEGERS):
            problems.append(f"{name} is {first.tensors[name].dtype} and {other.tensors[name].dtype}")
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise CheckpointError(f"{first.directory} and {other.directory} cannot be merged:{listed}")
    notes = [
        f"config.json: {key} is {first.config.get(key)!r} and {other.config.get(key)!r}; the first is kept"
        for key in sorted(first.config.keys() | other.config.keys())
        if key not in (*FIXED, *SILENT) and first.config.get(key) != other.config.get(key)
    ]
    changed = [name for name in shared if first.tensors[name].dtype != other.tensors[name].dtype]
    if changed:
        dtypes = " and ".join(checkpoint.tensors[changed[0]].dtype for checkpoint in (first, other))
        notes.append(f"{len(changed)} tensors are stored as {dtypes}, as {changed[0]}")
    return notes


def only_weights_differ(first: Path, other: Path) -> bool:
    """Whether an engine that serves `first` serves `other` once it has its weights; False if either is not whole."""
    try:
        notes = check_alike(open_checkpoint(first), open_checkpoint(other))
    except CheckpointError:
        return False
    return not notes and _served(first) == _served(other)


def _served(directory: Path) -> list:
    files = [_optional(directory / name) for name in SERVED]
    ends = _optional(directory / "tokenizer_config.json").get("eos_token")  # the rest is as the last use left it
    return [ends, *({key: value for key, value in file.items() if key not in SILENT} for file in files)]


def _optional(file: Path) -> dict:
    return _json(file, file.parent) if file.exists() else {}


def tokenizer_differences(first: Path, other: Path) -> list[str]:
    """What makes the tokenizers of two directories give different tokens; empty if they are alike."""
    both = [directory / "tokenizer.json" for directory in (first, other)]
    if all(file.exists() for file in both):
        one, another = (_json(file, file.parent) for file in both)
        vocabularies = [_vocabulary(tokenizer) for tokenizer in (one, another)]
        if vocabularies[0] != vocabularies[1]:
            changed = sorted(dict(vocabularies[0].items() ^ vocabularies[1].items()), key=str)
            return [f"the tokenizers have other numbers for {_some(changed)}"]
        parts = [part for part in TOKENIZER_PARTS if one.get(part) != another.get(part)]
        return [f"the tokenizers differ in {', '.join(parts)} (tokenizer.json)"] if parts else []
    present = [
        name for name in ("tokenizer.json", *TOKENIZER_FILES) if any((d / name).exists() for d in (first, other))
    ]
    if not present:
        return ["neither has a tokenizer"]
    changed = [name for name in present if _bytes(first / name) != _bytes(other / name)]
    return [f"the tokenizers differ in {', '.join(changed)}"] if changed else []


def vocabulary_of(directory: Path) -> dict[str, int]:
    """The numbers of all tokens of a directory's tokenizer.json.

    Raises:
        CheckpointError: there is none.
    """
    return _vocabulary(_json(directory / "tokenizer.json", directory))


def _vocabulary(tokenizer: dict) -> dict[str, int]:
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, list):  # of a unigram model: [token, score] by number
        vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
    return vocabulary | {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def _json(file: Path, directory: Path) -> dict:
    try:
        return json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{directory}: has no {file.name}; give a directory saved by save_pretrained") from error
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON ({error}); copy it again") from error
