"""What kimi.rewards says of a run: which kind each row is, the reward function, and what is wrong with either."""

import os
from collections.abc import Iterator

from kimi_plugins import options
from kimi_plugins.data import training
from kimi_plugins.data.containers import Row
from kimi_plugins.data.shapes import Prompt
from kimi_plugins.grading.extraction import compiled
from kimi_plugins.grading.functions import Function, FunctionFailed, TimedOut
from kimi_plugins.grading.kinds import FILE, Settings, is_function, kind_problem
from kimi_plugins.rewards.labels import Tagged
from kimi_plugins.rewards.mixed_reward import Format, MixedReward

BY_PLUGIN = "plugin"  # what OpenRLHF sets reward.remote_url to where a plugin grades the responses
IMPORT_SECONDS = 60.0  # of a function, before the run


def is_mixed(args) -> bool:
    """Whether the rows have kinds; else the reward is reward.remote_url's or a reward model's."""
    chosen = args.kimi.rewards
    return any((chosen.kind, chosen.kind_key, chosen.sources))


def reward_function(args) -> MixedReward | None:
    """What grades the run's responses; None to leave it to OpenRLHF."""
    file, chosen = _reward_file(args), args.kimi.rewards
    if args.train.agent_func_path or not (_remote(args) or is_mixed(args)):
        return None
    functions = options.values(options.Functions, chosen.functions)
    settings = Settings(
        math=options.values(options.MathGrader, chosen.math),
        code=options.values(options.CodeGrader, chosen.code),
        judge=options.values(options.Judge, chosen.judge),
        text=options.values(options.TextGrader, chosen.text),
        functions=functions,
        file=file or tuple(_remote(args)) or None,
        vision_pattern=getattr(getattr(args.kimi, "vision", None), "answer_pattern", None),
    )
    form = chosen.format and Format(chosen.format, functions.workers, functions.timeout, functions.start_timeout)
    return MixedReward(settings, chosen.kind or (None if is_mixed(args) else FILE), form or None)


def tagged_label(row: dict, label: object, args) -> dict | None:
    """The label with the kind and the source of its row; None where rows have no kinds.

    Raises:
        ValueError: the row has no kind, or an unknown one.
    """
    if not is_mixed(args):
        return None
    kind, source = kind_of(row, args)
    return Tagged(kind, source, label).as_dict()


def kind_of(row: dict, args) -> tuple[str, str | None]:
    """(kind, data source) of a row: its column kind_key, else the table sources, else kimi.rewards.kind.

    Raises:
        ValueError: the row has no kind, or an unknown one.
    """
    chosen = args.kimi.rewards
    source = row.get(chosen.source_key)
    source = None if source is None else str(source)
    kind = row.get(chosen.kind_key) if chosen.kind_key else None
    if kind is not None:
        if (problem := kind_problem(kind)) is not None:
            raise ValueError(f"{chosen.kind_key!r} is {problem}")
        return kind, source
    kind = chosen.kind if source is None else _table(chosen.sources).get(source, chosen.kind)
    if kind is not None:
        return kind, source
    if not chosen.sources:
        raise ValueError(f"no kind in {chosen.kind_key!r}; add it, or set kimi.rewards.kind for such rows")
    if source is None:
        raise ValueError(
            f"no data source in {chosen.source_key!r}; add it, name the column in kimi.rewards.source_key, or set "
            "kimi.rewards.kind for such rows"
        )
    raise ValueError(
        f"the data source {source!r} is not in kimi.rewards.sources; add {source}=KIND, or set kimi.rewards.kind "
        "for all others"
    )


def _table(sources: list[str] | None) -> dict[str, str]:
    """{data source: kind}; what is malformed is left to problems()."""
    return {name: kind for name, _, kind in (entry.rpartition("=") for entry in sources or ())}


def _remote(args) -> list[str]:
    """What reward.remote_url names: before OpenRLHF's checks it is one text, afterwards a list."""
    urls = args.reward.remote_url or []
    names = urls.split(",") if isinstance(urls, str) else urls
    return [] if names == [BY_PLUGIN] else names


def _reward_file(args) -> str | None:
    names = _remote(args)
    return names[0] if names and names[0].endswith(".py") else None


def problems(args) -> list[str]:
    """What is wrong with kimi.rewards, on whatever machine the run is."""
    found = [problem for section in options.sections("rewards") for problem in options.invalid(args, section)]
    return found + list(_conflicts(args))


def _kind_problems(args) -> Iterator[str]:
    chosen = args.kimi.rewards
    if chosen.kind is not None and (problem := kind_problem(chosen.kind)):
        yield f"kimi.rewards.kind: {problem}"
    seen: dict[str, str] = {}
    for entry in chosen.sources or ():
        name, separator, kind = entry.rpartition("=")
        if not separator or not name:
            yield f"kimi.rewards.sources: {entry!r} is not SOURCE=KIND; write gsm8k=math, for example"
        elif problem := kind_problem(kind):
            yield f"kimi.rewards.sources: {name}: {problem}"
        elif seen.setdefault(name, kind) != kind:
            yield f"kimi.rewards.sources: {name} is {seen[name]} and {kind}; keep one"
    if not args.data.label_key and not all(kind == FILE or is_function(kind) for kind in _possible(chosen)):
        yield "data.label_key: not set, so no row has an answer to grade by; name the column of the labels"


def _possible(chosen) -> set[str]:
    """The kinds that the configuration names; those of a column are not among them."""
    return {kind for kind in (chosen.kind, *_table(chosen.sources).values()) if kind is not None}


def _conflicts(args) -> Iterator[str]:
    chosen, remote = args.kimi.rewards, ",".join(_remote(args))
    if chosen.format is None and abs(chosen.format_reward) > 0:
        yield f"kimi.rewards.format_reward is {chosen.format_reward} without a format; set kimi.rewards.format"
    if not is_mixed(args):
        return
    yield from _kind_problems(args)
    if chosen.judge.kind == "classic" and not chosen.judge.eos_token:
        yield f"kimi.rewards.judge.eos_token is not set: {options.CLASSIC_NEEDS}"
    if args.train.agent_func_path:
        yield (
            f"train.agent_func_path: {args.train.agent_func_path} gives the rewards itself, so kimi.rewards.kind, "
            "kind_key and sources have no effect; drop one or the other"
        )
        return
    if args.reward.model_name_or_path:
        yield (
            f"reward.model_name_or_path: {args.reward.model_name_or_path} would not be asked: kimi.rewards says what "
            "grades each row; drop one or the other"
        )
    if remote and chosen.kind_key is None and FILE not in _possible(chosen):
        yield (
            f"reward.remote_url: {remote} would grade no row; give the kind {FILE} to a data source in "
            "kimi.rewards.sources, or drop it"
        )
    elif not remote and FILE in _possible(chosen):
        yield f"kimi.rewards: the kind {FILE} needs a reward file or server; name it in reward.remote_url"


class Labels:
    """A training.RowCheck: rows without a kind or a usable label, and graders that cannot be had on this machine."""

    def __init__(self, args) -> None:
        self._args, self._options = args, training.Options.of(args)
        self._off = not is_mixed(args) or args.train.agent_func_path
        self._used: set[str] = set()

    def row(self, option: str, row: Row, prompt: Prompt | None, problem: str | None) -> Iterator[str]:
        if self._off or prompt is None:
            return
        columns, label_key = training.delivered(prompt, row.value, self._options), self._args.data.label_key
        try:
            kind, _ = kind_of(columns, self._args)
        except ValueError as error:
            yield str(error)
            return
        self._used.add(kind)
        if (found := label_problem(kind, columns.get(label_key) if label_key else "", label_key)) is not None:
            yield found

    def end(self) -> Iterator[str]:
        if not self._off:
            data, evaluation = self._args.data.prompt_dataset, self._args.eval.dataset
            names = [name.strip() for spec in (data, evaluation) for name in (spec or "").split(",")]
            read = all(os.path.exists(name) for name in names if name)
            for kind in sorted(self._used if read else self._used | _possible(self._args.kimi.rewards)):
                yield from _unavailable(kind, self._args)


def label_problem(kind: str, label: object, column: str | None) -> str | None:
    """Why no response could ever be graded by this label; None for a label that can be used."""
    if kind == FILE or is_function(kind):
        return None
    if label is None or (isinstance(label, str) and not label.strip()):
        return f"{column!r} is empty, and {kind} grades by it; fill it in or remove the row"
    if kind == "code":
        from kimi_plugins.grading.programs import Problem, read_label

        try:
            Problem.parse(label) if isinstance(label, dict) else read_label(str(label))
        except (ValueError, OSError) as error:
            return f"{column!r} is not a problem with test cases: {str(error)[:200]}"
        return None
    if isinstance(label, bool) or not isinstance(label, str | int | float):
        return f"{column!r} is {str(label)[:40]!r}, neither text nor a number; {kind} grades by such a label"
    if kind == "regex":
        try:
            compiled(str(label))
        except ValueError as error:
            return f"{column!r}: {error}"
    return None


def _unavailable(kind: str, args) -> Iterator[str]:
    """Why a kind cannot be graded from this machine."""
    chosen = args.kimi.rewards
    if kind == "code":
        from kimi_plugins.sandbox.pool import Sandbox, SandboxUnavailable

        try:
            Sandbox(workers=1, python=chosen.code.python).close()
        except SandboxUnavailable as error:
            yield f"kimi.rewards: programs cannot be isolated here: {error}"
    elif kind == "judge":
        from kimi_plugins.grading.judge.client import unreachable

        if (reason := unreachable(options.values(options.Judge, chosen.judge))) is not None:
            yield f"kimi.rewards.judge.url: {reason}"
    elif kind == FILE or is_function(kind):
        target = _reward_file(args) if kind == FILE else kind
        if target is None:
            if not _remote(args):
                yield f"kimi.rewards: rows have the kind {FILE}; name a reward file or server in reward.remote_url"
            return  # kimi-preflight asks whether servers answer
        if (reason := import_problem(target)) is not None:
            key = "reward.remote_url" if kind == FILE else "kimi.rewards"
            yield f"{key}: {reason}; correct the name or the function"


def import_problem(target: str) -> str | None:
    """Why a reward function cannot be imported or called. One whose import takes long, of a model say, is let be."""
    function = Function(target, workers=1, timeout=IMPORT_SECONDS, start_timeout=IMPORT_SECONDS)
    try:
        function.check()
    except TimedOut:
        return None
    except FunctionFailed as error:
        return str(error)
    finally:
        function.close()
    return None
