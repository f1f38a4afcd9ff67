"""From raw problems to a prompt set (k1.5 §2.1): the stages in their order, and what they write."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from kimi_plugins.completions.types import EngineOptions, Sampling
from kimi_plugins.progress import progress

STAGES = ("normalise", "dedup", "decontaminate", "exclude", "gradable", "difficulty", "guess", "tag", "balance")
SAMPLED = ("difficulty", "guess")
PATIENCE = 30  # seconds that a second of CPU time may take: what is kept does not depend on how busy the machine is


@dataclass(frozen=True)
class Settings:
    """What is done to which data; docs/prompts.md and the command's help explain each.

    columns: as --map. stages: names with commas; None: all that have what they need. responses, guesses: how they are
    sampled. engines: None without a model.
    """

    inputs: list[str]
    out: Path
    split: str
    format: str
    columns: list[str]
    answer_pattern: str | None
    stages: str | None
    evals: list[str]
    similarity: float
    containment: float
    responses: Sampling
    guesses: Sampling
    trivial: float
    tag_by: str
    shares: list[str]
    balance_by: str
    seed: int
    solve_template: str | None
    guess_template: str | None
    chat: bool
    response_pattern: str | None
    timeout: float
    memory_mib: int
    workers: int
    engines: EngineOptions | None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"--workers {self.workers}: it must be at least 1")

    def chosen(self) -> list[str]:
        """The stages to do, in the order they were named in.

        Raises:
            ValueError: there is no such stage, or it lacks what it needs.
        """
        needs: dict[str, tuple[object, str]] = {
            "decontaminate": (self.evals, "--eval"),
            "balance": (self.shares, "--shares"),
        }
        needs |= {name: (self.engines, "--model") for name in SAMPLED}
        if self.stages is None:
            chosen = [name for name in STAGES if name not in needs or needs[name][0]]
        else:
            chosen = ["normalise", *(name.strip() for name in self.stages.split(","))]
        for name in chosen:
            if name not in STAGES:
                raise ValueError(f"--stages: there is no {name!r}; there are {', '.join(STAGES)}")
            if name in needs and not needs[name][0]:
                raise ValueError(f"--stages: {name} needs {needs[name][1]}")
        if self.tag_by == "model" and not self.engines:
            raise ValueError("--tag-by model needs --model")
        return chosen


def curate(settings: Settings, engines=None) -> dict:
    """Run the stages and write the set and its report, which is returned (report.json).

    engines: context manager with .complete(requests, sampling); default: those of the settings, started when needed.

    Raises:
        ValueError, OSError: a setting or an input is invalid.
    """
    from kimi_plugins.data import sources
    from kimi_plugins.prompts import pipeline

    began = time.monotonic()
    chosen = settings.chosen()
    mapping = sources.Mapping.parse(settings.columns)
    if settings.answer_pattern is not None or settings.response_pattern is not None:
        from kimi_plugins.grading.extraction import compiled

        for pattern in filter(None, (settings.answer_pattern, settings.response_pattern)):
            compiled(pattern)
    inputs = [sources.Source(name, settings.split, settings.format) for name in settings.inputs]
    evals = [sources.Source(name, settings.split) for name in settings.evals]
    if len({str(source.identity()[0]) for source in inputs}) < len(inputs):
        raise ValueError("an input is named twice")
    for line in sources.check_columns(inputs, evals, mapping):
        print(line, file=sys.stderr)

    @contextmanager
    def bars() -> Iterator:
        with progress(unit="row", leave=False) as bar:

            def watched(chunks, name: str, total: int | None):
                bar.reset(total)
                bar.set_description(name)
                for chunk in chunks:
                    bar.update(len(chunk.kept) + len(chunk.rejected))
                    yield chunk

            yield watched, bar.write

    settings.out.mkdir(parents=True, exist_ok=True)
    with bars() as (watched, write), ExitStack() as resources:
        stages = pipeline.Stages(settings.out / "stages", partial(write, file=sys.stderr), watched)
        work = _Work(settings, stages, inputs, evals, mapping, engines, resources)
        summaries = stages.run([getattr(work, name)() for name in STAGES if name in chosen])
    report = _write(settings, stages, summaries, time.monotonic() - began)
    return report


class _Work:
    """Makes the stages of the options."""

    def __init__(self, settings: Settings, stages, inputs, evals, mapping, engines, resources: ExitStack):
        self.settings, self.stages, self.inputs, self.evals = settings, stages, inputs, evals
        self.mapping, self.resources, self._engines = mapping, resources, engines

    def normalise(self):
        from kimi_plugins.data import sources
        from kimi_plugins.prompts import pipeline
        from kimi_plugins.prompts.gradable import cleaned

        normalise = sources.Normaliser(self.mapping, self.settings.answer_pattern, self.settings.out / "images")
        return pipeline.Stage(
            "normalise",
            {
                "inputs": [source.identity() for source in self.inputs],
                "map": self.mapping.columns,
                "answer_pattern": self.settings.answer_pattern,
            },
            lambda _, __: pipeline.decided("normalise", cleaned(sources.normalised(self.inputs, normalise))),
        )

    def dedup(self):
        from kimi_plugins.prompts import pipeline
        from kimi_plugins.prompts.repeats import removed

        similarity, workers = self.settings.similarity, self.settings.workers
        if not 0 < similarity <= 1:
            raise ValueError(f"--similarity {similarity}: it must be in (0, 1]")
        directory = self.stages.directory / "dedup.index"
        return pipeline.Stage(
            "dedup",
            {"similarity": similarity},
            lambda previous, _: pipeline.decided(
                "dedup", removed(previous, directory, similarity, workers, self._pool(None).grade_all)
            ),
        )

    def decontaminate(self):
        from kimi_plugins.data import sources
        from kimi_plugins.prompts import contamination, pipeline

        def questions() -> Iterator[dict]:
            normalise = sources.Normaliser(self.mapping, self.settings.answer_pattern, self.settings.out / "images")
            for prompt, _ in sources.normalised(self.evals, normalise, answers=False):
                if "question" in prompt:  # without an answer it is a question all the same
                    yield prompt

        def run(previous: Path, fingerprint: str):
            evaluation = contamination.Evaluation.of(questions(), self.settings.containment)
            decide = contamination.Decontaminator(evaluation)
            return pipeline.ByRow("decontaminate", decide, self.settings.workers)(previous, fingerprint)

        containment = self.settings.containment
        if not 0 < containment <= 1:
            raise ValueError(f"--containment {containment}: it must be in (0, 1]")
        settings = {"eval": [source.identity() for source in self.evals], "containment": containment}
        return pipeline.Stage("decontaminate", settings, run)

    def exclude(self):
        from kimi_plugins.prompts import exclude, pipeline

        return pipeline.Stage("exclude", {}, pipeline.ByRow("exclude", exclude.excluded, self.settings.workers))

    def gradable(self):
        from kimi_plugins.prompts import pipeline
        from kimi_plugins.prompts.gradable import gradable

        def run(previous: Path, _: str):
            return pipeline.decided("gradable", gradable(pipeline.rows_of(previous), self._pool(None).grade_all))

        return pipeline.Stage("gradable", self._grader(), run)

    def difficulty(self):
        from kimi_plugins.prompts import sampled

        settings = self.settings
        template = self._template("solve", sampled.SOLVE)
        rest = {"trivial": settings.trivial, "response_pattern": settings.response_pattern} | self._grader()

        def run(previous: Path, complete):
            grade_all = self._pool(settings.response_pattern).grade_all
            return sampled.difficulty(
                previous,
                complete,
                grade_all,
                template=template,
                chat=settings.chat,
                trivial=settings.trivial,
            )

        return self._sampled("difficulty", settings.responses, template, rest, run)

    def guess(self):
        from kimi_plugins.prompts import sampled

        settings = self.settings
        template = self._template("guess", sampled.GUESS)

        def run(previous: Path, complete):
            return sampled.guessed(
                previous, complete, self._pool(None).grade_all, template=template, chat=settings.chat
            )

        return self._sampled("guess", settings.guesses, template, self._grader(), run)

    def tag(self):
        from kimi_plugins.prompts import pipeline, tags

        if self.settings.tag_by == "rules":
            return pipeline.Stage("tag", {"by": "rules"}, pipeline.ByRow("tag", tags.tagged, self.settings.workers))
        from kimi_plugins.completions.types import Sampling

        sampling = Sampling(temperature=0.0, max_new_tokens=32, choices=tags.CHOICES)
        run = partial(tags.tagged_by_model, chat=self.settings.chat)
        return self._sampled("tag", sampling, tags.ASK, {"by": "model"}, run)

    def balance(self):
        from kimi_plugins.prompts import balance, pipeline

        by, shares, seed = self.settings.balance_by, balance.parse_shares(self.settings.shares), self.settings.seed
        return pipeline.Stage(
            "balance",
            {"by": by, "shares": shares, "seed": seed},
            lambda previous, _: pipeline.decided("balance", balance.balanced(previous, by, shares, seed)),
        )

    def _sampled(self, name: str, sampling, template: str, rest: dict, run):
        """A stage whose completions are kept as they come, in a file of their own for each of its settings."""
        from dataclasses import asdict

        from kimi_plugins.completions.resume import resumed
        from kimi_plugins.completions.samples import when_needed
        from kimi_plugins.prompts import pipeline

        engines = self._engine_options()
        settings: dict[str, object] = {
            "model": engines.model,
            "files of the model": self._model_files(),
            "max_len": engines.max_len,
        }
        settings |= {"sampling": asdict(sampling), "template": template, "chat": self.settings.chat}

        def complete_into(path: Path, requests):
            answered = resumed(path, requests, settings, when_needed(self._shared_engines, sampling))
            return (completions for _, completions in answered)

        def stage(previous: Path | None, fingerprint: str):
            path = self.stages.directory / f"{name}-{fingerprint}.completions.jsonl"
            return pipeline.decided(name, run(previous, partial(complete_into, path)), size=pipeline.FEW)

        return pipeline.Stage(name, settings | rest, stage)

    def _shared_engines(self):
        """Those of all stages, started for the first that asks something."""
        if self._engines is None:
            from kimi_plugins.completions.samples import start_engines
            from kimi_plugins.prompts.pipeline import rows_of

            images = max(len(row.get("image", ())) for row in rows_of(self.stages.rows("normalise")))
            self._engines = self.resources.enter_context(start_engines(self.settings.engines, images=images))
        return nullcontext(self._engines)

    def _engine_options(self) -> EngineOptions:
        assert self.settings.engines is not None  # chosen() lets no stage pass that needs a model and has none
        return self.settings.engines

    @cache  # noqa: B019 – lives as long as the run
    def _model_files(self) -> dict:
        from kimi_plugins.completions.identity import model_files

        return model_files(self._engine_options().model)

    def _template(self, name: str, default: str) -> str:
        from kimi_plugins.prompts.sampled import QUESTION

        template = getattr(self.settings, f"{name}_template")
        if template is not None and QUESTION not in template:
            raise ValueError(f"--{name}-template {template!r}: lacks {QUESTION}")
        return template or default

    def _grader(self) -> dict:
        return {"timeout": self.settings.timeout, "memory_mib": self.settings.memory_mib}

    @cache  # noqa: B019 – lives as long as the run
    def _pool(self, pattern: str | None):
        from kimi_plugins.grading.workers import Pool

        settings = self.settings
        return self.resources.enter_context(
            Pool(
                settings.workers,
                timeout=settings.timeout,
                patience=PATIENCE,
                memory_mib=settings.memory_mib,
                pattern=pattern,
            )
        )


def _write(settings: Settings, stages, summaries: list[dict], seconds: float) -> dict:
    """The set, the rejects and the report, whole or not at all.

    Raises:
        Lost: kept and rejected rows are not as many as were read.
    """
    from kimi_plugins.data.files import replacing
    from kimi_plugins.prompts import pipeline, report

    last = stages.rows(summaries[-1]["stage"])
    coverage = report.Coverage()
    for row in pipeline.rows_of(last):
        coverage.add(row)
    kept = rejected = 0
    with ExitStack() as files:
        paths = {
            name: files.enter_context(replacing(settings.out / name))
            for name in ("prompts.jsonl", "rejects.jsonl", "report.json", "report.html")
        }
        with paths["prompts.jsonl"].open("wb") as file:
            for row in pipeline.rows_of(last):
                file.write(pipeline.encoded(output(row, coverage.columns, summaries[-1]["kept"])))
                kept += 1
        with paths["rejects.jsonl"].open("wb") as file:
            for one in summaries:
                with stages.rejects(one["stage"]).open("rb") as lines:
                    for line in lines:
                        file.write(line)
                        rejected += 1
        read = summaries[0]["read"]
        if kept + rejected != read:
            raise pipeline.Lost(f"{kept} rows kept and {rejected} rejected of {read}: stages were changed by hand?")
        result = report.summary(settings.inputs, summaries, coverage, seconds)
        report.write_json(paths["report.json"], result)
        paths["report.html"].write_text(report.page(settings.out.resolve().name, result, stages), encoding="utf-8")
    return result


def output(row: dict, columns, rows: int) -> dict:
    """A row of prompts.jsonl. All rows have the same columns of one type each, as `datasets` wants them.

    columns: how many of the set's `rows` prompts have each column.
    """
    result = {"input": row["question"], "label": row["answer"], "datasource": row["source"]}
    for name in ("domain", "discipline", "given_difficulty"):
        if columns[name]:
            result[name] = row.get(name, "")
    for name in ("difficulty", "pass_rate", "pass_rate_low", "pass_rate_high", "tries"):
        if columns[name] == rows:  # the samplers need it of every prompt
            result[name] = row[name]
    if 0 < columns["difficulty"] < rows:
        result["given_difficulty"] = row.get("given_difficulty") or (
            f"{row['difficulty']:g}" if "difficulty" in row else ""
        )
    if columns["image"]:
        result["images"] = row.get("image", [])
    return result | {"file": row["file"], "row": row["row"]}
