"""Data sets row by row; those on the hub by name only.

Prompts are read as the trainer reads them (data/training.py). Whether a row of the other trainers is usable is what
SFTDataset and RewardDataset make of what OpenRLHF's blending_datasets loads.
"""

import glob
import json
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from kimi_plugins.data import containers
from kimi_plugins.preflight import batches, models, prompts

LOADED_FILES = (".json", ".jsonl", ".csv", ".parquet", ".arrow")  # that OpenRLHF loads for SFT and preferences
KINDS = 5  # how many kinds of bad rows are told apart in one file

Count = Generator[str, None, int | None]  # yields problems, returns the number of rows, None if unknown

EMPTY: tuple = (None, "", [])
NULL: tuple = (None,)
MESSAGES: dict[tuple[type, ...], str] = {(list, dict): "holds messages, not text; set data.apply_chat_template"}
TEXT: dict[tuple[type, ...], str] = {(str,): "holds text, not a list of messages; drop data.apply_chat_template"}


@dataclass(frozen=True)
class Column:
    """A column that every row needs: the option naming it, and the values and types {types: why} it may not have."""

    option: str
    name: str
    values: tuple = ()
    types: dict[tuple[type, ...], str] | None = None

    def problem(self, row: dict) -> str | None:
        if self.name not in row:
            keys = ", ".join(map(repr, sorted(row)[:6])) or "none"
            return f"no key {self.name!r}; add it, or set {self.option} to one of its keys: {keys}"
        value = row[self.name]
        if value in self.values:
            return f"{self.name!r} is {'null' if value is None else 'empty'}; fill it in or remove the row"
        for types, text in (self.types or {}).items():
            if isinstance(value, types):
                return f"{self.name!r} {text}"
        return None


def sft_columns(args) -> list[Column]:
    data, kind = args.data, None
    if args.model.pretrain_mode_enable or not data.apply_chat_template:
        kind = MESSAGES
    elif data.multiturn or not data.output_key:
        kind = TEXT
    columns = [Column("data.input_key", data.input_key, EMPTY, kind)]
    if data.output_key and not args.model.pretrain_mode_enable:
        columns.append(Column("data.output_key", data.output_key, (), None if data.apply_chat_template else MESSAGES))
    return columns


def preference_columns(args) -> list[Column]:
    kind = TEXT if args.data.apply_chat_template else MESSAGES
    keys = [key for key in ("prompt_key", "chosen_key", "rejected_key") if getattr(args.data, key)]
    return [Column(f"data.{key}", getattr(args.data, key), NULL, kind) for key in keys]


def _row_problem(row: object, columns: list[Column]) -> str | None:
    if not isinstance(row, dict):
        return f'{json.dumps(row)[:20]} is not an object; write {{"{columns[0].name}": …}}'
    return next((problem for column in columns if (problem := column.problem(row))), None)


class Problems:
    """Problems of the rows of one data set, the equal ones together."""

    def __init__(self) -> None:
        self.rows: dict[str, list[str]] = {}

    def add(self, row: containers.Row, name: str, problem: str) -> None:
        where = str(row.number) if row.file == name else f"{row.number} of {row.file}"
        kind = problem if problem in self.rows or len(self.rows) < KINDS else "bad in other ways; correct them"
        self.rows.setdefault(kind, []).append(where)

    def lines(self, option: str, name: str) -> Iterator[str]:
        yield from containers.row_problems(option, name, self.rows)


def scan_file(option: str, path: str, split: str, columns: list[Column], limit: int) -> Count:
    """Rows of one file. Columns are only looked at in the first `limit` rows, which are all that will be used."""
    count, problems = 0, Problems()
    try:
        for row in containers.file_rows(path, [column.name for column in columns]):
            count, problem = count + 1, row.problem
            if problem is None and count <= limit:
                problem = _row_problem(row.value, columns)
            if problem is not None:
                problems.add(row, path, problem)
    except (OSError, ValueError) as error:
        yield f"{option}: {' '.join(str(error).split())}"
        return None
    yield from problems.lines(option, path)
    if count == 0:
        yield f"{option}: {path} holds no rows; give a file with data"
    return None if problems.rows or count == 0 else count


def scan_prompts(option: str, name: str, split: str, args, limit: int, row_checks: Sequence) -> Count:
    """Rows of a data set of prompts, of which the trainer takes the first `limit`; prints the shape that they have.

    row_checks: training.RowChecks, which see each row that is a prompt.
    """
    from kimi_plugins.data import training

    count, problems, options, shape = 0, Problems(), training.Options.of(args), None
    try:
        found = training.opened(name, split, options)
        for row, prompt, problem in islice(found.prompts(), limit):
            count += 1
            if problem is not None:
                problems.add(row, name, problem)
            for check in row_checks if prompt is not None else ():
                for line in check.row(option, row, prompt, problem):
                    problems.add(row, name, line)
            shape = shape or (found.shape.described(row.value) if problem is None else None)
    except (OSError, ValueError) as error:
        yield f"{option}: {' '.join(str(error).split())}"
        return None
    yield from problems.lines(option, name)
    if count == 0:
        yield f"{option}: {name} holds no rows; give a file with data"
    elif options.label is None and not problems.rows and found.shape.name != "openrlhf":
        yield (
            f"data.label_key: not set, and {name} has the shape {found.shape.name}, whose answers would reach no "
            "reward function; set it to label"
        )
    if shape is not None:
        print(f"{option}: {name}: {shape}")
    return None if problems.rows or count == 0 else count


def _check_source(option: str, source: str, split_option: str, split: str, scan, use_ms: bool, whole: bool) -> Count:
    """whole: whether `scan` takes all that containers.rows takes, not single files only."""
    name, _, folder = (part.strip() for part in source.partition("@"))
    if "://" in name:
        return None
    local = os.path.join(name, folder) if folder and os.path.isdir(name) else name
    is_file = os.path.splitext(name)[1] in LOADED_FILES
    if whole and not name.endswith(".py") and (os.path.exists(local) or glob.has_magic(local) or is_file):
        if not os.path.exists(local) and not glob.glob(local, recursive=True):
            yield f"{option}: {name} does not exist; correct the path"
            return None
        if (
            os.path.isfile(local) and split != "train" and ".json" not in Path(local).suffixes
        ):  # which may hold several
            print(f"{split_option}: {split}: no effect: {local} is one split, and all is taken")
        return (yield from scan(option, local, split))
    if is_file:
        files = [name] if os.path.isfile(name) else sorted(glob.glob(name, recursive=True))
        if not files:
            yield f"{option}: {name} does not exist; correct the path"
        if split != "train":
            yield f"{split_option}: {split!r}, but a file is all in the split 'train'; set it to train"
        total: int | None = 0 if files else None
        for file in files:
            count = yield from scan(option, file, split)
            total = None if count is None or total is None else total + count
        return total
    if os.path.isdir(name):
        if not os.path.isdir(local) or not os.listdir(local):
            yield f"{option}: {local} is missing or empty; give a directory with data files"
    elif os.path.exists(name):
        yield f"{option}: {name} has an unknown format; convert it to one of {', '.join(LOADED_FILES)}"
    elif not use_ms:
        yield from models.check_not_local(option, name, models.cached_datasets)
    return None


def check_dataset(option: str, spec: str | None, split: tuple[str, str], scan, args, limit, whole=False) -> Count:
    """A comma-separated list of data sets. split: option and value; limit: rows used of each and of all of them."""
    if not spec:
        yield f"{option}: not set; give a file, a directory or a name on the hub"
        return None
    total: int | None = 0
    for source in spec.split(","):
        count = yield from _check_source(option, source.strip(), *split, scan, args.use_ms, whole)
        total = None if count is None or total is None else total + min(count, limit)
    return None if total is None else min(limit, total)


def _check_probabilities(option: str, probabilities: str | None, spec: str | None) -> Iterator[str]:
    if probabilities is None or not spec:
        return
    try:
        values = [float(value) for value in probabilities.split(",")]
    except ValueError:
        yield f"{option}: {probabilities} is not a list of numbers; write 0.7,0.3, for example"
        return
    if len(values) != spec.count(",") + 1 or abs(sum(values) - 1) > 1e-8:
        yield f"{option}: {probabilities}; give {spec.count(',') + 1} numbers, one per data set, that add up to 1"


def check_template(args) -> Iterator[str]:
    template = args.data.input_template
    try:
        (template or "").format("")
    except (LookupError, ValueError, AttributeError) as error:
        yield (
            f"data.input_template: {template!r} has more in braces than the {{}} of the prompt ({error}); double the "
            "braces that are to stay, {{ and }}"
        )


def check_prompts(args, row_checks: Sequence = ()) -> Iterator[str]:
    """The prompts to train on and those to evaluate, each row read once for all row_checks (training.RowCheck).

    Prints the number of steps that flags name and the run does not have.
    """
    data, limit = args.data, args.data.max_samples
    row_checks = [*row_checks, prompts.Lengths(args), prompts.EvaluationMetrics(args)]
    scan = partial(scan_prompts, args=args, limit=limit, row_checks=row_checks)
    split = ("data.prompt_split", data.prompt_split)
    rows = yield from check_dataset("data.prompt_dataset", data.prompt_dataset, split, scan, args, limit, whole=True)
    for note in prompts.step_notes(args, rows):
        print(note)
    yield from _check_probabilities("data.prompt_probs", data.prompt_probs, data.prompt_dataset)
    if args.eval.dataset:
        split = ("eval.split", args.eval.split)
        yield from check_dataset("eval.dataset", args.eval.dataset, split, scan, args, limit, whole=True)
    for check in row_checks:
        yield from check.end()


def _check_trainer_data(args, columns: list[Column]) -> Count:
    data, split = args.data, ("data.dataset_split", args.data.dataset_split)
    scan = partial(scan_file, columns=columns, limit=data.max_samples)
    rows = yield from check_dataset("data.dataset", data.dataset, split, scan, args, data.max_samples)
    yield from _check_probabilities("data.dataset_probs", data.dataset_probs, data.dataset)
    if args.eval.dataset:
        split = ("eval.split", args.eval.split)
        scan = partial(scan_file, columns=columns, limit=10**8)
        yield from check_dataset("eval.dataset", args.eval.dataset, split, scan, args, 10**8)
    return None if data.dataset_probs else rows


def check_sft_data(args) -> Iterator[str]:
    data = args.data
    if not (data.output_key or data.apply_chat_template or args.model.pretrain_mode_enable):
        yield (
            "data.output_key: not set, so every response is empty and every row is left out; set it, or "
            "model.pretrain_mode_enable to train on data.input_key alone"
        )
        return
    rows = yield from _check_trainer_data(args, sft_columns(args))
    ranks = max(1, batches.trainer_ranks() // batches.model_parallel(args))
    micro = args.train.micro_batch_size
    if rows is not None and rows // ranks // micro * args.train.max_epochs < args.train.batch_size // micro // ranks:
        yield _too_few_rows(rows, args)


def _too_few_rows(rows: int, args) -> str:
    return (
        f"data.dataset: {rows} rows do not make one batch of train.batch_size {args.train.batch_size}; add rows or "
        "lower train.batch_size"
    )


def check_preferences(args) -> Count:
    rows = yield from _check_trainer_data(args, preference_columns(args))
    if rows is not None and rows < args.train.batch_size:
        yield _too_few_rows(rows, args)
    return rows


def check_reward_model_data(args) -> Iterator[str]:
    rows = yield from check_preferences(args)
    if rows is not None and rows < 100 and not args.eval.dataset:
        yield (
            f"eval.dataset: not set, so 1 % of the {rows} rows would serve to normalise the reward, less than one; "
            "set eval.dataset, or give 100 rows or more"
        )
