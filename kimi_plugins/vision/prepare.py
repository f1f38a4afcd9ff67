"""The command `openrlhf kimi vision-prepare`."""

import argparse
import json
import math
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from kimi_plugins.data.files import replacing

PROMPTS, REJECTS = "prompts.jsonl", "rejects.jsonl"


def add_parser(commands) -> None:
    """Add the parser of `vision-prepare` to those of `openrlhf kimi`."""
    parser = commands.add_parser(
        "vision-prepare",
        help="make a prompt set with images, checked row by row",
        description="Make a prompt set (k1.5 §2.3.5) from files of prompts with images, or from a mixture of such "
        "files, procedural scenes and text rendered as images, which a YAML file describes. Writes DIR/prompts.jsonl "
        "for data.prompt_dataset, the images beside it, and DIR/rejects.jsonl with every row that cannot be used and "
        "why. docs/vision.md has the formats.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IN",
        help="MIXTURE.yaml, or files, directories, globs, names on the hub; see docs/data.md",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where everything goes")
    parser.add_argument("--split", default="train", help="of data sets in splits; default: train")
    parser.add_argument("--format", default="auto", help="shape of the rows, see docs/data.md; default: recognised")
    parser.add_argument("--allow-urls", action="store_true", help="download images whose reference is a URL")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """0 when it is written, 1 when too many rows were rejected, 2 for bad input, 130 for Ctrl-C."""
    from kimi_plugins.vision.rows import TooManyRejects

    try:
        print(prepare(mixture_of(args.inputs, args.format, args.split), args.out, allow_urls=args.allow_urls))
    except (OSError, ValueError) as error:
        print(f"openrlhf kimi vision-prepare: error: {error}", file=sys.stderr)
        return 2
    except TooManyRejects as error:
        print(f"openrlhf kimi vision-prepare: error: {error}; see {args.out / REJECTS}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"openrlhf kimi vision-prepare: interrupted; {args.out / PROMPTS} is not written", file=sys.stderr)
        return 130
    return 0


def mixture_of(inputs: list[str], format: str = "auto", split: str = "train"):
    """The mixture of a YAML file, or of all rows of the files given; format and split are those of the files."""
    from kimi_plugins.vision.mixture import Mixture, read_mixture
    from kimi_plugins.vision.rows import one_source

    mixtures = [name for name in inputs if name.endswith((".yaml", ".yml"))]
    if mixtures and len(inputs) > 1:
        raise ValueError(f"{mixtures[0]}: a mixture stands by itself; name the other files in it")
    if mixtures:
        return read_mixture(Path(mixtures[0]))
    return Mixture(sources=tuple(one_source(Path(name), format, split) for name in inputs))


def prepare(mixture, out: Path, *, allow_urls: bool = False) -> str:
    """Write the prompt set; returns a line on each source. Raises as rows.mixed."""
    from tqdm import tqdm

    from kimi_plugins.data.containers import Unreadable
    from kimi_plugins.data.store import Store
    from kimi_plugins.sampling.curriculum import as_number
    from kimi_plugins.vision.rows import Rejects, TooManyRejects, mixed, ranks

    out.mkdir(parents=True, exist_ok=True)
    difficulties: dict[str, list[float]] = {}
    unusable: dict[str, object] = {}  # a difficulty that is there and is not a number, by source
    contents: defaultdict[str, Counter[str]] = defaultdict(Counter)  # of scenes
    stopped: TooManyRejects | ValueError | None = None
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=out) as unranked,
        replacing(out / REJECTS) as rejected,
        rejected.open("w", encoding="utf-8") as bad,
    ):
        rejects = Rejects(mixture.reject_limit, lambda reject: bad.write(json.dumps(reject) + "\n"))
        rows = mixed(mixture, Store(out / "images"), rejects, allow_urls=allow_urls)
        try:
            for row in tqdm(rows, total=mixture.rows, unit="row", disable=None):
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
            places = {name: iter(ranks(values)) for name, values in difficulties.items()}
            with replacing(out / PROMPTS) as partial, partial.open("w", encoding="utf-8") as file:
                for line in unranked:
                    row = json.loads(line)
                    row["difficulty"] = next(places[row["datasource"]])
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if stopped is not None:
        raise stopped
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
    if rejects.reasons:
        lines.append(f"{rejects.reasons.total()} rejected of {rejects.rows} rows: {out / REJECTS}")
        lines += [f"  {number} × {reason}" for reason, number in rejects.reasons.most_common(5)]
    return "\n".join([*lines, str(out / PROMPTS)])
