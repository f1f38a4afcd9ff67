"""The files that a data set's name stands for, and their contents, decompressed."""

import bz2
import codecs
import glob
import gzip
import io
import lzma
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


class Unreadable(ValueError):
    """A data set that cannot be read as a whole; the message names file, reason and fix."""


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else f"{text[:157]}…"


SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".tar": "tar",
}
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
KNOWN = "JSONL, NDJSON, JSON, CSV, TSV, Parquet, Arrow or webdataset tar, each also as .gz or .zst"
_DESCRIPTIONS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
_SHARD = re.compile(r"(.*?)-(\d{2,6})-of-(\d{2,6})(\..*)$")
_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


def kind_of(name: str) -> str | None:
    """The kind of container a file's name stands for, one of the values of SUFFIXES, or None."""
    stem, suffix = os.path.splitext(name.lower())
    if suffix == ".tgz":
        return "tar"
    if suffix in COMPRESSED:
        suffix = os.path.splitext(stem)[1]
    return SUFFIXES.get(suffix)


def is_saved(name: str) -> bool:
    """Whether it is a directory written by `save_to_disk` of `datasets`."""
    return any(os.path.exists(os.path.join(name, file)) for file in ("state.json", "dataset_dict.json"))


def source_kind(name: str) -> str:
    """What a data set's name stands for: files, saved or hub.

    Raises:
        Unreadable: a path that does not exist or holds no data.
    """
    if os.path.isdir(name) and is_saved(name):
        return "saved"
    if os.path.exists(name) or glob.has_magic(name) or kind_of(name) is not None:
        return "files"
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise Unreadable(f"{name}: no such file; correct the path")
    return "hub"


def shards(name: str, split: str = "train") -> list[str]:
    """The files of a file's, directory's or glob's name, in order; of a directory those of the split.

    Raises:
        Unreadable: there are none, they are of several kinds, one of the numbered shards is missing.
    """
    if os.path.isdir(name):
        found = _files_below(name, split)
    elif os.path.exists(name):
        found = [name]
    elif glob.has_magic(name):
        found = [path for path in sorted(glob.glob(name, recursive=True)) if os.path.isfile(path)]
        if not found:
            raise Unreadable(f"{name}: no such file; correct the pattern")
    else:
        raise Unreadable(f"{name}: no such file; correct the path")
    kinds = dict.fromkeys(kind_of(path) for path in found)
    if len(kinds) > 1:
        endings = ", ".join(dict.fromkeys("".join(Path(path).suffixes[-2:]) or path for path in found))
        raise Unreadable(f"{name}: holds files of several kinds ({endings}); name those of one, as '{name}/*.parquet'")
    _check_numbered(found)
    return found


def _files_below(directory: str, split: str) -> list[str]:
    found = [
        str(path)
        for path in sorted(Path(directory).rglob("*"))
        if path.is_file()
        and kind_of(path.name) is not None
        and path.name not in _DESCRIPTIONS
        and not any(part.startswith((".", "_")) for part in path.relative_to(directory).parts)
    ]
    if not found:
        raise Unreadable(f"{directory}: a directory without data files; give one with {KNOWN}")
    by_split: dict[str | None, list[str]] = {}
    for path in found:
        words = re.split(r"[^a-z]+", os.path.relpath(path, directory).lower())
        by_split.setdefault(next((_SPLITS[word] for word in words if word in _SPLITS), None), []).append(path)
    named = [one for one in by_split if one is not None]
    if not named:
        return found
    wanted = _SPLITS.get(split, split)
    if wanted not in by_split:
        raise Unreadable(f"{directory}: no files of split {split!r}; it has {', '.join(named)}")
    return by_split[wanted]


def _check_numbered(paths: list[str]) -> None:
    """Raise Unreadable if shards named x-00000-of-00003 are not all there."""
    groups: dict[tuple[str, str, str], set[int]] = {}
    for path in paths:
        if match := _SHARD.fullmatch(path):
            groups.setdefault((match[1], match[3], match[4]), set()).add(int(match[2]))
    for (stem, total, suffix), numbers in groups.items():
        if len(paths) > 1 and (missing := sorted(set(range(int(total))) - numbers)):
            width = len(total)
            first = f"{stem}-{missing[0]:0{width}}-of-{total}{suffix}"
            raise Unreadable(f"{first}: {len(missing)} of {int(total)} shards missing; download them")


_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"), (b"\xfd7zXZ\x00", "xz"))


def checked_kind(path: str) -> str:
    """The kind of a file by its name and its first bytes.

    Raises:
        Unreadable: it is empty of data, of an unknown kind, or not what its name says.
    """
    if not os.path.isfile(path):
        raise Unreadable(f"{path}: not a file; give {KNOWN}")
    with opened(path) as file:
        start = file.read(512)
    kind = kind_of(path)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable(f"{path}: UTF-16, not UTF-8; convert it (iconv -f UTF-16 -t UTF-8)")
    text = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        raise Unreadable(f"{path}: a Git LFS pointer, not the data; download it (git lfs pull)")
    if kind in ("json", "jsonl", "csv", "tsv", "parquet", None) and text.startswith(
        (b"<!doctype", b"<html", b"<?xml")
    ):
        raise Unreadable(f"{path}: a web page, not data; download the file itself")
    found = "parquet" if start.startswith(b"PAR1") else "arrow" if start.startswith(b"ARROW1") else None
    if start[257:262] == b"ustar":
        found = "tar"
    if kind is None and found is None:
        found = "jsonl" if text.startswith(b"{") else "json" if text.startswith(b"[") else None
        if found is None:
            raise Unreadable(f"{path}: unknown format; convert it to {KNOWN}")
    if found is not None and kind not in (None, found):
        raise Unreadable(f"{path}: the content is {found}, not {kind}; rename it")
    if kind == "parquet" and found is None:
        raise Unreadable(f"{path}: not a Parquet file; download it again")
    return kind or found or ""


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The content of a file, decompressed as its first bytes ask for, whatever its name."""
    with open(path, "rb") as raw:
        start = raw.read(8)
        raw.seek(0)
        method = next((name for magic, name in _MAGIC if start.startswith(magic)), None)
        if method is None:
            yield raw
        elif method == "zstd":
            import pyarrow

            with pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd") as stream:
                yield io.BufferedReader(stream, 1 << 15)
        else:
            openers: dict[str, Callable[[BinaryIO], Any]] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
            with openers[method](raw) as stream:
                yield stream


@contextmanager
def seekable(path: str) -> Iterator[Any]:
    """The path itself, or that of a temporary decompressed copy."""
    with opened(path) as stream:
        if isinstance(stream, io.BufferedReader) and getattr(stream, "name", None) == path:
            yield path
            return
        with tempfile.NamedTemporaryFile(suffix=os.path.splitext(os.path.splitext(path)[0])[1]) as copy:
            while data := stream.read(1 << 20):
                copy.write(data)
            copy.flush()
            yield copy.name
