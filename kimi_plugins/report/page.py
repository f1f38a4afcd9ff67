"""Writes the page: the numbers, the charts, Plotly and the samples in one file that needs no network."""

import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from kimi_plugins import html, run_log
from kimi_plugins.report.charts import first_key, panels, pass1_keys, source_of
from kimi_plugins.report.rollouts import TEXT_LIMIT, collect
from kimi_plugins.report.series import POINTS, not_finite, values_of
from kimi_plugins.report.warnings import findings

FILE_NAME = "report.html"


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of the run logged in directory `run` to `out`, default run/report.html, and return its path."""
    run = Path(run)
    out = Path(out) if out else run / FILE_NAME
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: no such directory; give the run's ckpt.path")
    if out.is_dir():
        raise ValueError(f"{out}: is a directory; give --out a file name")
    log = run / run_log.FILE_NAME
    if not log.exists():
        raise FileNotFoundError(f"{log}: no such file; train with --plugins kimi-log")
    train, evals = run_log.read(run, "train"), run_log.read(run, "eval")
    if not train and not evals:
        raise ValueError(f"{log}: no step logged yet; train with --plugins kimi-log until the first step is done")
    page = _render(run.resolve().name, train, evals, run_log.read_rollouts(run))
    html.write(out, page)
    return out


def tiles(train: list[dict], evals: list[dict]) -> list[tuple[str, str]]:
    """(name, value) of the header's numbers; a name without data has the value "–"."""
    result = []
    for key in pass1_keys(evals) or ["eval_held-out_pass1"]:
        result.append((f"pass@1, {source_of(key)}", _first_last(evals, key, "{:.1%}")))
    length = first_key(train, "rollout/response_length_mean", "response_length")
    result.append(("mean tokens per response", _first_last(train, length, "{:,.0f}")))
    generated = [
        record["rollout/num_samples"] * record["rollout/response_length_mean"]
        for record in train
        if "rollout/num_samples" in record and "rollout/response_length_mean" in record
    ]
    result.append(("tokens generated in training", _short(sum(generated)) if generated else "–"))
    zero = [value for value in values_of(train, "kimi/zero_advantage_share")[1] if value is not None]
    result.append(("groups without gradient, last", f"{zero[-1]:.1%}" if zero else "–"))
    return result


def _first_last(records: list[dict], key: str | None, form: str) -> str:
    values = [value for value in (values_of(records, key)[1] if key else []) if value is not None]
    return " → ".join(form.format(value) for value in [values[0], values[-1]][: len(values)]) if values else "–"


def _short(number: float) -> str:
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _summary(train: list[dict], evals: list[dict]) -> str:
    times = [record["time"] for record in train + evals]
    seconds = round(max(times) - min(times))
    wall = (
        f"{seconds // 3600} h {seconds // 60 % 60} min" if seconds >= 3600 else f"{seconds // 60} min {seconds % 60} s"
    )
    steps = f"{len(train):,} training steps logged" + (f", the last is {train[-1]['step']:,}" if train else "")
    start, end = (datetime.fromtimestamp(moment, UTC) for moment in (min(times), max(times)))
    return f"{steps} · {wall} from first to last record · {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"


def _notes(train: list[dict], evals: list[dict]) -> list[str]:
    notes = []
    if len(train) > POINTS:
        notes.append(
            f"Charts draw at most {POINTS:,} points of the {len(train):,} steps: lines keep the lowest and highest "
            "value of every stretch, areas and the heat map evenly spaced steps."
        )
    bad = not_finite(train + evals)
    if bad:
        counts = ", ".join(f"{key} ({count}×)" for key, count in sorted(bad.items()))
        notes.append(f"Not finite (NaN or infinite) and left out of the charts: {counts}.")
    return notes


def _render(name: str, train: list[dict], evals: list[dict], records) -> str:
    rates, samples = collect(records)
    shown = panels(train, evals, rates)
    return rendered(
        (files(__package__) / "report.html").read_text("utf-8"),
        [panel.figure for panel in shown],
        samples.to_json(),
        name=name,
        summary=_summary(train, evals),
        tiles=tiles(train, evals),
        findings=findings(train),
        notes=_notes(train, evals),
        panels=shown,
        seen=samples.seen,
        stride=samples.stride,
        text_limit=TEXT_LIMIT,
    )


def rendered(template: str, figures: list[dict | None], samples: str, **values) -> str:
    """A page with the report's style and charts: figures[i], plain dicts for Plotly, is drawn in #chart-i.

    template: Jinja; beside `values` it gets css, scripts, script_hashes and data. samples: JSON of the rollouts shown.
    """
    source = files(__package__)
    scripts = [get_plotlyjs(), (source / "report.js").read_text("utf-8")]
    data = f'{{"charts":{json.dumps(figures, allow_nan=False)},"samples":{samples}}}'
    return html.rendered(
        template,
        (source / "report.css").read_text("utf-8"),
        scripts,
        # ASCII without "<": nothing in it can end the script element or start a comment.
        data=Markup(data.replace("<", "\\u003c")),
        **values,
    )
