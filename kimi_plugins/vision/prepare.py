"""Making a prompt set of a mixture."""

import json
import math
import tempfile
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_plugins.data.files import replacing
from kimi_plugins.progress import progress

if TYPE_CHECKING:
    from kimi_plugins.vision.mixture import Mixture

PROMPTS, REJECTS, UNFINISHED = "prompts.jsonl", "rejects.jsonl", "unfinished.jsonl"


def mixture_of(inputs: list[str], format: str = "auto", split: str = "train", model: str | None = None) -> "Mixture":
    """The mixture of a YAML file, or of all rows of the files given; format and split are those of the files.

    model: whose processor counts the tokens, unless the YAML file names another one.
    """
    from kimi_plugins.vision.mixture import Mixture, read_mixture
    from kimi_plugins.vision.rows import one_source

    mixtures = [name for name in inputs if name.endswith((".yaml", ".yml"))]
    if mixtures and len(inputs) > 1:
        raise ValueError(f"{mixtures[0]}: a mixture stands by itself; name the other files in it")
    if mixtures:
        mixture = read_mixture(Path(mixtures[0]), model)
    else:
        mixture = Mixture(sources=tuple(one_source(Path(name), format, split) for name in inputs), model=model)
    if mixture.model is None:
        return mixture
    from kimi_plugins.vision.processor import limits_of

    return replace(mixture, limits=limits_of(mixture.model, mixture.limits, mixture.image_tokens))


def prepare(mixture: "Mixture", out: Path, *, allow_urls: bool = False, workers: int = 0) -> str:
    """Write the prompt set; returns a line on each source. Raises as rows.mixed.

    workers: processes; 0 for this one, which a picture that crashes its decoder ends.
    What an interrupted run has made stands in OUT/unfinished.jsonl, from which the same command goes on.
    """
    from kimi_plugins.data.shards import Unreadable
    from kimi_plugins.data.store import Store
    from kimi_plugins.sampling.curriculum import as_number
    from kimi_plugins.vision.rows import Rejects, TooManyRejects, mixed, ranks
    from kimi_plugins.vision.work import Journal, Work, fingerprint

    out.mkdir(parents=True, exist_ok=True)
    difficulties: dict[str, list[float]] = {}
    unusable: dict[str, object] = {}  # a difficulty that is there and is not a number, by source
    contents: defaultdict[str, Counter[str]] = defaultdict(Counter)  # of scenes
    stopped: TooManyRejects | ValueError | None = None
    journal = Journal(out / UNFINISHED, fingerprint(mixture, allow_urls))
    with (
        closing(journal),
        Work(Store(out / "images"), allow_urls=allow_urls, workers=workers, journal=journal) as work,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=out) as unranked,
        replacing(out / REJECTS) as rejected,
        rejected.open("w", encoding="utf-8") as bad,
    ):
        rejects = Rejects(mixture.reject_limit, lambda reject: bad.write(json.dumps(reject) + "\n"))
        rows = mixed(mixture, rejects, work)
        try:
            for row in progress(rows, total=mixture.rows, unit="row"):
                if row["facts"]:
                    contents[row["datasource"]][json.dumps([row["input"], row["facts"]])] += 1
                number = as_number(row["difficulty"])
                difficulties.setdefault(row["datasource"], []).append(number)
                if math.isnan(number) and row["difficulty"] is not None:
                    unusable.setdefault(row["datasource"], row["difficulty"])
                unranked.write(json.dumps(row, ensure_ascii=False) + "\n")
        except Unreadable:
            raise
        except (TooManyRejects, ValueError) as error:  # the rejects say why
            stopped = error
        if stopped is None:
            unranked.seek(0)
            remaining_ranks = {name: iter(ranks(values)) for name, values in difficulties.items()}
            with replacing(out / PROMPTS) as partial, partial.open("w", encoding="utf-8") as file:
                for line in unranked:
                    row = json.loads(line)
                    row["difficulty"] = next(remaining_ranks[row["datasource"]])
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    (out / UNFINISHED).unlink()
    if stopped is not None:
        raise stopped
    lines = _said_of_sources(difficulties, unusable, contents)
    if rejects.reasons:
        lines.append(f"{rejects.reasons.total()} rejected of {rejects.rows} rows: {out / REJECTS}")
        lines += [f"  {number} × {reason}" for reason, number in rejects.reasons.most_common(5)]
    return "\n".join([*lines, str(out / PROMPTS)])


def _said_of_sources(
    difficulties: dict[str, list[float]], unusable: dict[str, object], contents: dict[str, Counter[str]]
) -> list[str]:
    """How many rows each source gave, whose difficulties are unusable, and which scenes repeat the contents of one."""
    lines = [f"{len(values)} × {name}" for name, values in difficulties.items()]
    for name, values in difficulties.items():
        bad_ones = sum(map(math.isnan, values))
        if name in unusable or 0 < bad_ones < len(values):
            example = f", as {unusable[name]!r}" if name in unusable else ""
            lines.append(
                f"{bad_ones} of {len(values)} rows of {name} have no usable difficulty{example}, so none is ordered"
            )
    for name, seen in contents.items():
        if repeated := seen.total() - len(seen):
            lines.append(f"{repeated} of {seen.total()} scenes of {name} have the contents of another one")
    return lines
