"""What a curation did, as JSON and as one self-contained page: funnel, difficulty, coverage, reasons, matches."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path

from kimi_plugins.prompts.pipeline import Stages, rows_of
from kimi_plugins.report.charts import BLUE, ORANGE, Panel
from kimi_plugins.report.page import rendered

EXAMPLES = 20  # rejects of a stage that the page shows
BINS = 10  # of the difficulty


class Coverage:
    """Counts over the prompt set."""

    def __init__(self) -> None:
        self.tags: Counter = Counter()  # (domain, discipline)
        self.difficulty: Counter = Counter()  # bin of what was measured, or the source's own number as text
        self.sources: Counter = Counter()
        self.columns: Counter = Counter()  # prompts that have each

    def add(self, row: dict) -> None:
        self.columns.update(row.keys())
        self.tags[row.get("domain", "not tagged"), row.get("discipline", "not tagged")] += 1
        self.sources[row["source"]] += 1
        if "pass_rate" in row:
            self.difficulty[min(int(row["difficulty"] * BINS), BINS - 1) / BINS] += 1
        elif "difficulty" in row:
            self.difficulty[f"{row['difficulty']:g}"] += 1


def summary(inputs: list[str], summaries: list[dict], coverage: Coverage, seconds: float) -> dict:
    """report.json. seconds: of this run; those of stages that were done before are in `stages`."""
    read, kept = summaries[0]["read"], summaries[-1]["kept"]
    return {
        "inputs": inputs,
        "read": read,
        "kept": kept,
        "rejected": read - kept,
        "seconds": round(seconds, 1),
        "stages": summaries,
        "coverage": [
            {"domain": domain, "discipline": discipline, "prompts": count, "share": round(count / kept, 6)}
            for (domain, discipline), count in coverage.tags.most_common()
        ],
        "difficulty": [
            {"difficulty": value, "prompts": n} for value, n in sorted(coverage.difficulty.items(), key=str)
        ],
        "sources": dict(coverage.sources.most_common()),
    }


@dataclass(frozen=True)
class Table:
    title: str
    note: str
    columns: tuple[str, ...]
    rows: list[tuple]
    numbers: tuple[int, ...] = ()  # columns that are


def page(name: str, report: dict, stages: Stages) -> str:
    """The HTML of report.json, with examples of what each stage rejected."""
    panels = [
        Panel("Funnel", "Prompts left after each stage.", _funnel(report["stages"]), "a stage"),
        Panel(
            "Difficulty",
            "Prompts of the set by difficulty: 1 − pass rate where it was measured, else the sources' own labels.",
            _difficulty(report["difficulty"]),
            "the stage difficulty, or a column difficulty",
        ),
    ]
    return rendered(
        (files(__package__) / "report.html").read_text("utf-8"),
        [panel.figure for panel in panels],
        "[]",
        name=name,
        inputs=report["inputs"],
        tiles=[
            ("rows read", f"{report['read']:,}"),
            ("prompts kept", f"{report['kept']:,}"),
            ("rejected, each with a reason", f"{report['rejected']:,}"),
            ("share kept", f"{report['kept'] / max(1, report['read']):.1%}"),
        ],
        panels=panels,
        tables=[*_tables(report), *_examples(report["stages"], stages)],
    )


def _tables(report: dict) -> Iterable[Table]:
    stages = report["stages"]
    yield Table(
        "Stages",
        "Seconds are of the run that did the stage.",
        ("stage", "read", "kept", "rejected", "seconds"),
        [
            (one["stage"], *(f"{one[key]:,}" for key in ("read", "kept", "rejected")), f"{one['seconds']:,.1f}")
            for one in stages
        ],
        (1, 2, 3, 4),
    )
    yield Table(
        "Coverage",
        "Domain and discipline of the prompts kept.",
        ("domain", "discipline", "prompts", "share"),
        [
            (one["domain"], one["discipline"], f"{one['prompts']:,}", f"{one['share']:.1%}")
            for one in report["coverage"]
        ],
        (2, 3),
    )
    yield Table(
        "Reasons",
        "Why rows were rejected. For decontamination: the evaluation file that has the same run of words.",
        ("stage", "reason", "rows"),
        [(one["stage"], reason, f"{count:,}") for one in stages for reason, count in one["reasons"].items()],
        (2,),
    )
    names = list(dict.fromkeys(name for one in (stages[0], stages[-1]) for name in one["sources"]))
    yield Table(
        "Sources",
        "Prompts of each source that are left after each stage.",
        ("source", *(one["stage"] for one in stages)),
        [(name, *(f"{one['sources'].get(name, 0):,}" for one in stages)) for name in names],
        tuple(range(1, len(stages) + 1)),
    )


def _examples(summaries: list[dict], stages: Stages) -> Iterable[Table]:
    for one in summaries:
        if one["rejected"]:
            rows = islice(rows_of(stages.rejects(one["stage"])), EXAMPLES)
            yield Table(
                f"Rejected by {one['stage']}",
                f"The first {min(EXAMPLES, one['rejected']):,} of {one['rejected']:,}; all are in rejects.jsonl.",
                ("file", "row", "reason", "question", "answer"),
                [
                    (
                        Path(row["file"]).name,
                        row["row"],
                        row["reason"],
                        _cut(row.get("question")),
                        _cut(row.get("answer")),
                    )
                    for row in rows
                ],
                (1,),
            )


def _cut(text: str | None) -> str:
    return "" if text is None else text if len(text) <= 200 else f"{text[:160]} … {text[-30:]}"


def _funnel(summaries: list[dict]) -> dict:
    names = ["read", *(one["stage"] for one in summaries)]
    counts = [summaries[0]["read"], *(one["kept"] for one in summaries)]
    trace = {"type": "funnel", "y": names, "x": counts, "textinfo": "value+percent initial", "marker": {"color": BLUE}}
    return {"data": [trace], "layout": {"hovermode": "closest", "yaxis": {"automargin": True}}}


def _difficulty(counts: list[dict]) -> dict | None:
    if not counts:
        return None
    measured = all(isinstance(one["difficulty"], float) for one in counts)
    x = [one["difficulty"] + 0.5 / BINS if measured else one["difficulty"] for one in counts]
    trace: dict[str, object] = {
        "type": "bar",
        "x": x,
        "y": [one["prompts"] for one in counts],
        "marker": {"color": ORANGE},
    }
    axis: dict[str, object] = {"title": {"text": "1 − pass rate" if measured else "difficulty as given"}}
    axis |= {"range": [0, 1], "dtick": 0.1} if measured else {"type": "category"}
    if measured:
        trace["width"] = [1 / BINS] * len(x)
    return {
        "data": [trace],
        "layout": {"hovermode": "closest", "bargap": 0.02, "xaxis": axis, "yaxis": {"title": {"text": "prompts"}}},
    }


def write_json(path: Path, report: dict) -> None:
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
