"""The command `openrlhf kimi curate`: from raw problems to a prompt set (k1.5 §2.1)."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path

from kimi_plugins import options
from kimi_plugins.cli.command import exit_code
from kimi_plugins.cli.sampling import add_engine_arguments

STAGES = ("normalise", "dedup", "decontaminate", "exclude", "gradable", "difficulty", "guess", "tag", "balance")
SAMPLED = ("difficulty", "guess")


def add_parser(commands) -> None:
    """Add the parser of `curate` to those of `openrlhf kimi`."""
    defaults = options.Curation()
    parser = commands.add_parser(
        "curate",
        help="make a prompt set for RL from raw problems",
        description="Make a prompt set for RL (k1.5 §2.1): normalise, remove duplicates and what is in evaluation "
        "sets, exclude multiple choice, true/false and proofs, check that answers can be graded, measure the "
        "difficulty, drop what can be guessed, tag, balance. Writes DIR/prompts.jsonl, DIR/rejects.jsonl with stage "
        "and reason of every other row, DIR/report.json and report.html. A stage that was done with the same settings "
        "is not done again. Exit code 2: input or options are not as they should be; 130: interrupted. Rules and "
        "figures: docs/prompts.md.",
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="IN",
        help="JSONL, JSON, CSV, Parquet or Arrow file; directory of a saved Hugging Face data set; or NAME[:CONFIG] "
        "of one on the hub",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="directory; made if it is not there")
    add("--split", default="train", help="of Hugging Face data sets; default: train")
    add(
        "--map",
        nargs="+",
        action="extend",
        default=[],
        metavar="COLUMN=THEIRS",
        help="which column of the inputs is question, answer, source, domain, discipline, difficulty, image or "
        "choices: question=problem; question=Body+Question joins two; several for one column are tried in turn",
    )
    add(
        "--answer-pattern",
        default=None,
        help="regular expression of the answer within the answer column, its first group or the rest of the line "
        "after it, e.g. '####'; default, and where it is not found: the whole column",
    )
    add(
        "--stages",
        default=None,
        metavar="STAGE,…",
        help=f"of {', '.join(STAGES)}; normalise is always done. Default: all, but difficulty and guess with --model, "
        "decontaminate with --eval and balance with --shares",
    )
    add(
        "--eval",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="evaluation sets, read as the inputs are",
    )
    add("--similarity", type=float, default=defaults.similarity, help=_help("similarity"))
    add("--ngram", type=int, default=defaults.ngram, help=_help("ngram"))
    add("--trivial", type=float, default=defaults.trivial, help=_help("trivial"))
    add("--guesses", type=int, default=defaults.guesses, help=_help("guesses"))
    add("--guess-tokens", type=int, default=defaults.guess_tokens, help=_help("guess_tokens"))
    add("--tag-by", choices=("rules", "model"), default="rules", help="how disciplines are found; default: rules")
    add(
        "--shares",
        nargs="+",
        action="extend",
        default=[],
        metavar="VALUE=SHARE",
        help="shares of the values of --balance-by, * for all others: algebra=0.4 geometry=0.4 *=0.2",
    )
    add("--balance-by", default="discipline", metavar="COLUMN", help="column that is balanced; default: discipline")
    add("--solve-template", default=None, help="prompt of the responses, with {question}")
    add("--guess-template", default=None, help="prompt of the guesses, with {question}")
    add("--no-chat", dest="chat", action="store_false", help="prompts as text, without the model's chat template")
    grader = options.MathGrader()
    add("--response-pattern", default=None, help="of the final answer in the model's responses; default: \\boxed{…}")
    for name in ("timeout", "memory_mib", "slots"):
        default = getattr(grader, name)
        add(
            "--" + name.replace("_", "-"),
            type=type(default),
            default=default,
            help=options.describe(options.MathGrader, name),
        )
    add("--processes", type=int, default=None, help="for the stages that need no model; default: one a core")
    add_engine_arguments(
        parser, max_new_tokens=1024, temperature=defaults.temperature, n=defaults.samples, required=False
    )
    parser.set_defaults(func=run)


def _help(name: str) -> str:
    return options.describe(options.Curation, name)


def run(args: argparse.Namespace) -> int:
    """0 when the set is written, 2 for bad input or options, 130 for Ctrl-C."""
    return exit_code("curate", partial(curate, args))


def curate(args: argparse.Namespace, engines=None) -> dict:
    """Run the stages and write the set and its report, which is returned (report.json).

    engines: context manager with .complete(requests, sampling); default: those of the options, started when needed.

    Raises:
        ValueError, OSError: an option or an input is not as it should be.
    """
    from tqdm import tqdm

    from kimi_plugins.data import sources
    from kimi_plugins.prompts import pipeline

    began = time.monotonic()
    chosen = _chosen(args)
    mapping = sources.Mapping.parse(args.map)
    if args.answer_pattern is not None or args.response_pattern is not None:
        from kimi_plugins.grading.extraction import compiled

        for pattern in filter(None, (args.answer_pattern, args.response_pattern)):
            compiled(pattern)
    inputs, evals = ([sources.Source(name, args.split) for name in names] for names in (args.inputs, args.eval))
    if len({str(source.identity()[0]) for source in inputs}) < len(inputs):
        raise ValueError("an input is named twice")
    sources.check_columns(inputs, evals, mapping)

    @contextmanager
    def bars() -> Iterator:
        with tqdm(unit="row", disable=None, leave=False) as bar:

            def watched(chunks, name: str, total: int | None):
                bar.reset(total)
                bar.set_description(name)
                for chunk in chunks:
                    bar.update(len(chunk.kept) + len(chunk.rejected))
                    yield chunk

            yield watched, bar.write

    args.out.mkdir(parents=True, exist_ok=True)
    with bars() as (watched, write), ExitStack() as resources:
        stages = pipeline.Stages(args.out / "stages", partial(write, file=sys.stderr), watched)
        work = _Work(args, stages, inputs, evals, mapping, engines, resources)
        summaries = stages.run([getattr(work, name)() for name in STAGES if name in chosen])
    report = _write(args, stages, summaries, time.monotonic() - began)
    print(f"{report['kept']:,} prompts of {report['read']:,} rows: {args.out / 'prompts.jsonl'}")
    for one in summaries:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in list(one["reasons"].items())[:5])
        print(f"  {one['stage']:<14}{one['kept']:>12,}  {reasons}")
    return report


def _chosen(args) -> list[str]:
    conditions = {"decontaminate": (args.eval, "--eval"), "balance": (args.shares, "--shares")}
    conditions |= {name: (args.model, "--model") for name in SAMPLED}
    if args.stages is None:
        chosen = [name for name in STAGES if name not in conditions or conditions[name][0]]
    else:
        chosen = ["normalise", *(name.strip() for name in args.stages.split(","))]
    for name in chosen:
        if name not in STAGES:
            raise ValueError(f"--stages: there is no {name!r}; there are {', '.join(STAGES)}")
        if name in conditions and not conditions[name][0]:
            raise ValueError(f"--stages: {name} needs {conditions[name][1]}")
    if args.tag_by == "model" and not args.model:
        raise ValueError("--tag-by model needs --model")
    return chosen


class _Work:
    """Makes the stages of the options."""

    def __init__(self, args, stages, inputs, evals, mapping, engines, resources: ExitStack):
        self.args, self.stages, self.inputs, self.evals = args, stages, inputs, evals
        self.mapping, self.resources, self._engines = mapping, resources, engines
        self.processes = args.processes or len(os.sched_getaffinity(0))
        if self.processes < 1:
            raise ValueError(f"--processes {args.processes}: it must be at least 1")

    def normalise(self):
        from kimi_plugins.data import sources
        from kimi_plugins.prompts import pipeline

        normalise = sources.Normaliser(self.mapping, self.args.answer_pattern, self.args.out / "images")
        return pipeline.Stage(
            "normalise",
            {
                "inputs": [source.identity() for source in self.inputs],
                "map": self.mapping.columns,
                "answer_pattern": self.args.answer_pattern,
            },
            lambda _, __: pipeline.decided("normalise", sources.normalised(self.inputs, normalise)),
        )

    def dedup(self):
        from kimi_plugins.prompts import pipeline
        from kimi_plugins.prompts.repeats import removed

        similarity = self.args.similarity
        if not 0 < similarity <= 1:
            raise ValueError(f"--similarity {similarity}: it must be in (0, 1]")
        directory = self.stages.directory / "dedup.index"
        return pipeline.Stage(
            "dedup",
            {"similarity": similarity},
            lambda previous, _: pipeline.decided("dedup", removed(previous, directory, similarity, self.processes)),
        )

    def decontaminate(self):
        from kimi_plugins.data import sources
        from kimi_plugins.prompts import contamination, pipeline

        def questions() -> Iterator[dict]:
            normalise = sources.Normaliser(self.mapping, self.args.answer_pattern, self.args.out / "images")
            for prompt, _ in sources.normalised(self.evals, normalise):
                if "question" in prompt:  # without an answer it is a question all the same
                    yield prompt

        def run(previous: Path, fingerprint: str):
            grams = contamination.Grams.of(questions(), self.args.ngram)
            decide = contamination.Decontaminator(grams)
            return pipeline.ByRow("decontaminate", decide, self.processes)(previous, fingerprint)

        if self.args.ngram < 1:
            raise ValueError(f"--ngram {self.args.ngram}: it must be at least 1")
        settings = {"eval": [source.identity() for source in self.evals], "ngram": self.args.ngram}
        return pipeline.Stage("decontaminate", settings, run)

    def exclude(self):
        from kimi_plugins.prompts import exclude, pipeline

        return pipeline.Stage("exclude", {}, pipeline.ByRow("exclude", exclude.excluded, self.processes))

    def gradable(self):
        from kimi_plugins.prompts import pipeline
        from kimi_plugins.prompts.gradable import gradable

        def run(previous: Path, _: str):
            return pipeline.decided("gradable", gradable(pipeline.rows_of(previous), self._pool(None).grade_all))

        return pipeline.Stage("gradable", self._grader(), run)

    def difficulty(self):
        from kimi_plugins.cli import sampling as cli
        from kimi_plugins.prompts import sampled

        sampling = cli.sampling(self.args)
        template = self._template("solve", sampled.SOLVE)
        rest = {"trivial": self.args.trivial, "response_pattern": self.args.response_pattern} | self._grader()

        def run(previous: Path, complete):
            grade_all = self._pool(self.args.response_pattern).grade_all
            return sampled.difficulty(
                previous, complete, grade_all, template=template, chat=self.args.chat, trivial=self.args.trivial
            )

        return self._sampled("difficulty", sampling, template, rest, run)

    def guess(self):
        from dataclasses import replace

        from kimi_plugins.cli import sampling as cli
        from kimi_plugins.prompts import sampled

        args = self.args
        sampling = replace(cli.sampling(args), n=args.guesses, max_new_tokens=args.guess_tokens)
        template = self._template("guess", sampled.GUESS)

        def run(previous: Path, complete):
            return sampled.guessed(previous, complete, self._pool(None).grade_all, template=template, chat=args.chat)

        return self._sampled("guess", sampling, template, self._grader(), run)

    def tag(self):
        from kimi_plugins.prompts import pipeline, tags

        if self.args.tag_by == "rules":
            return pipeline.Stage("tag", {"by": "rules"}, pipeline.ByRow("tag", tags.tagged, self.processes))
        from kimi_plugins.completions.types import Sampling

        sampling = Sampling(temperature=0.0, max_new_tokens=32, choices=tags.CHOICES)
        run = partial(tags.tagged_by_model, chat=self.args.chat)
        return self._sampled("tag", sampling, tags.ASK, {"by": "model"}, run)

    def balance(self):
        from kimi_plugins.prompts import balance, pipeline

        by, shares, seed = self.args.balance_by, balance.parse_shares(self.args.shares), self.args.seed
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

        settings = {"model": self.args.model, "sampling": asdict(sampling), "template": template}
        settings |= {"chat": self.args.chat, "max_len": self.args.max_len}

        def complete_into(path: Path, requests):
            answered = resumed(path, requests, settings, when_needed(self._shared_engines, sampling))
            return (completions for _, completions in answered)

        def stage(previous: Path, fingerprint: str):
            path = self.stages.directory / f"{name}-{fingerprint}.completions.jsonl"
            return pipeline.decided(name, run(previous, partial(complete_into, path)), size=pipeline.FEW)

        return pipeline.Stage(name, settings | rest, stage)

    def _shared_engines(self):
        """Those of all stages, started for the first that asks something."""
        if self._engines is None:
            from kimi_plugins.cli import sampling as cli
            from kimi_plugins.prompts.pipeline import rows_of

            images = max(len(row.get("image", ())) for row in rows_of(self.stages.rows("normalise")))
            self._engines = self.resources.enter_context(cli.engines(self.args, images=images))
        return nullcontext(self._engines)

    def _template(self, name: str, default: str) -> str:
        from kimi_plugins.prompts.sampled import QUESTION

        template = getattr(self.args, f"{name}_template")
        if template is not None and QUESTION not in template:
            raise ValueError(f"--{name}-template {template!r}: lacks {QUESTION}")
        return template or default

    def _grader(self) -> dict:
        return {"timeout": self.args.timeout, "memory_mib": self.args.memory_mib}

    @cache  # noqa: B019 – lives as long as the run
    def _pool(self, pattern: str | None):
        from kimi_plugins.grading.workers import Pool

        args = self.args
        return self.resources.enter_context(
            Pool(args.slots, timeout=args.timeout, memory_mib=args.memory_mib, pattern=pattern)
        )


def _write(args, stages, summaries: list[dict], seconds: float) -> dict:
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
            name: files.enter_context(replacing(args.out / name))
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
        result = report.summary(args.inputs, summaries, coverage, seconds)
        report.write_json(paths["report.json"], result)
        paths["report.html"].write_text(report.page(args.out.resolve().name, result, stages), encoding="utf-8")
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
