"""A mixture of sources, vision and text, as a YAML file describes it; docs/vision.md has the format."""

import difflib
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from kimi_plugins.data.images import Limits
from kimi_plugins.data.known import Columns, named
from kimi_plugins.data.store import LIMITS
from kimi_plugins.vision.synthetic import SMALLEST, TASKS

INSTRUCTION = "Give the final answer in \\boxed{}."


@dataclass(frozen=True)
class Source:
    """One source of prompts: files (or names on the hub), as they are or rendered as images; or procedural scenes."""

    name: str
    weight: float = 1.0  # its share of the rows, beside the other sources' weights
    files: tuple[str, ...] = ()
    split: str = "train"
    format: str = "auto"  # the shape of the files' rows; auto: recognised
    columns: Columns = Columns()  # given, not recognised
    render: bool = False  # text prompts become images
    twins: bool = False  # each rendered prompt comes with its text
    width: int = 512  # of the rendered text's column, pixels
    font: tuple[int, int] = (14, 24)  # smallest and largest, pixels
    synthetic: tuple[str, ...] = ()
    size: int = 224  # of a scene's side, pixels
    difficulty: tuple[float, float] = (0.0, 1.0)  # of the scenes, drawn uniformly
    harder: str = "higher"  # which value of the difficulty column is harder: higher, or lower for pass rates
    instruction: str | None = None  # put behind every prompt; scenes and rendered text have INSTRUCTION by default

    @property
    def suffix(self) -> str:
        made = self.synthetic or self.render
        text = self.instruction if self.instruction is not None else INSTRUCTION if made else ""
        return f" {text}" if text else ""


@dataclass(frozen=True)
class Mixture:
    """Sources, and how images are treated.

    rows: of the whole; None for all rows of all files.
    reject_limit: share of the rows, of at least 100, that may be rejected.
    """

    sources: tuple[Source, ...]
    rows: int | None = None
    seed: int = 1
    reject_limit: float = 0.05
    limits: Limits = LIMITS
    model: str | None = None  # whose processor counts the tokens
    image_tokens: int | None = None  # of one image at most
    prompt_tokens: int | None = None  # of a prompt with its images at most
    folder: Path = Path(".")  # what relative paths of files are relative to

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names:
            raise ValueError("sources: none; list at least one")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"sources: the name {name!r} stands twice; give each its own")
        endless = [source.name for source in self.sources if source.synthetic]
        if self.rows is None and endless:
            raise ValueError(f"rows: not set, and {endless[0]!r} is endless; say how many rows the mixture has")
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"rows is {self.rows}: it must be ≥ 1")
        if not 0 <= self.reject_limit <= 1:
            raise ValueError(f"reject_limit is {self.reject_limit}: it must be in [0, 1]")
        for key in ("image_tokens", "prompt_tokens"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"{key} is {value}: it must be ≥ 1")
            if value is not None and self.model is None:
                raise ValueError(f"{key} is {value}: set model, whose processor counts the tokens")
        if not 1 <= self.limits.least <= self.limits.most <= self.limits.source:
            raise ValueError("pixels: it must be 1 ≤ least ≤ most ≤ source")
        for source in self.sources:
            _check(source)


def _check(source: Source) -> None:
    where = f"source {source.name!r}"
    if bool(source.files) == bool(source.synthetic):
        raise ValueError(f"{where}: give either files or synthetic")
    if not source.name or set(source.name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."):
        raise ValueError(f"{where}: a name is of letters, digits, '-', '_' and '.'")
    if not 0 < source.weight < float("inf"):
        raise ValueError(f"{where}: weight is {source.weight}: it must be > 0")
    for task in source.synthetic:
        if task not in TASKS:
            raise ValueError(f"{where}: synthetic: {task!r} is unknown; choose of {', '.join(TASKS)}")
    if source.synthetic and source.size < SMALLEST:
        raise ValueError(f"{where}: size is {source.size}: it must be ≥ {SMALLEST}")
    low, high = source.difficulty
    if not 0 <= low <= high <= 1:
        raise ValueError(f"{where}: difficulty is [{low}, {high}]: it must be in [0, 1], the lower one first")
    if source.format != "auto":
        named(source.format)
    if source.harder not in ("higher", "lower"):
        raise ValueError(f"{where}: harder is {source.harder!r}: it must be higher or lower")
    if source.twins and not source.render:
        raise ValueError(f"{where}: twins are of rendered text; set render: true")
    if source.render and source.width < 100:
        raise ValueError(f"{where}: width is {source.width}: it must be ≥ 100 pixels")
    if not 8 <= source.font[0] <= source.font[1]:
        raise ValueError(f"{where}: font is {list(source.font)}: it must be ≥ 8, the smaller one first")


def read_mixture(path: Path, model: str | None = None) -> Mixture:
    """The mixture of a YAML file. model: unless the file names another one.

    Raises:
        ValueError: the file, a key or a value is wrong; the message names it and what to do.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return _mixture(content, path.parent, model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


_KEYS = ("sources", "rows", "seed", "reject_limit", "pixels", "model", "image_tokens", "prompt_tokens")


def _mixture(content: object, folder: Path, model: str | None) -> Mixture:
    given = _object(content, _KEYS, "the mixture")
    pixels = _object(given.pop("pixels", {}), [entry.name for entry in fields(Limits)], "pixels")
    sources = given.pop("sources", None)
    if not isinstance(sources, list):
        raise ValueError("sources: missing; give a list")
    kinds = {"rows": int, "seed": int, "reject_limit": float, "model": str}
    for key, kind in (kinds | {"image_tokens": int, "prompt_tokens": int}).items():
        if key in given:
            given[key] = _typed(given[key], kind, key)
    default = Mixture(sources=(Source("x", files=("x",)),)).limits
    limits = Limits(
        **{**vars(default), **{key: _typed(value, float, f"pixels.{key}") for key, value in pixels.items()}}
    )
    given.setdefault("model", model)
    return Mixture(sources=tuple(map(_source, sources)), limits=limits, folder=folder, **given)


def _source(content: object) -> Source:
    given = _object(content, [entry.name for entry in fields(Source)], "a source")
    if "name" not in given:
        raise ValueError(f"a source has no name: {content}")
    where = f"source {given['name']!r}: "
    kinds = {
        "name": str,
        "split": str,
        "format": str,
        "weight": float,
        "render": bool,
        "twins": bool,
        "width": int,
        "size": int,
    }
    for key, kind in (kinds | {"instruction": str, "harder": str}).items():
        if key in given:
            given[key] = _typed(given[key], kind, where + key)
    for key in ("files", "synthetic"):
        if key in given:
            values = given[key] if isinstance(given[key], list) else [given[key]]
            values = list(TASKS) if key == "synthetic" and values == ["all"] else values
            given[key] = tuple(_typed(value, str, where + key) for value in values)
    for key, kind in (("font", int), ("difficulty", float)):
        if key in given:
            pair = given[key]
            if not isinstance(pair, list) or len(pair) != 2:
                raise ValueError(f"{where}{key} is {pair}: give two numbers, [low, high]")
            given[key] = tuple(_typed(value, kind, where + key) for value in pair)
    if "columns" in given:
        columns = _object(given["columns"], Columns._fields, where + "columns")
        given["columns"] = Columns(
            **{role: _typed(name, str, f"{where}columns.{role}") for role, name in columns.items()}
        )
    return Source(**given)


def _object(content: object, keys, where: str) -> dict:
    if not isinstance(content, dict):
        raise ValueError(f"{where} is a {type(content).__name__}; give keys and values")
    for key in content:
        if key not in keys:
            close = difflib.get_close_matches(str(key), keys, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose of {', '.join(keys)}"
            raise ValueError(f"{where}: unknown key {key!r}; {hint}")
    return dict(content)


def _typed(value: object, kind: type, where: str):
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and (kind is not int or not isinstance(value, bool)):
        return value
    raise ValueError(f"{where} is {value!r}: give a {'number' if kind in (int, float) else kind.__name__}")
