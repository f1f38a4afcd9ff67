"""Accuracy over tokens as a picture and as a page; rows as frontier.summarize() makes them."""

import importlib.util
from pathlib import Path

from kimi_plugins.data.files import replacing
from kimi_plugins.report.charts import BLUE, GREY

TITLE = "Accuracy over tokens, with 95 % intervals over prompts"
AXES = ("tokens of a response, mean", "pass@1")


def check_matplotlib() -> None:
    """Raises ValueError if it is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("matplotlib, which draws frontier.png, is not installed; pip install matplotlib")


def front(rows: list[dict]) -> list[dict]:
    """Those on the Pareto front, by tokens."""
    return sorted((row for row in rows if row["pareto_front"]), key=lambda row: row["tokens"])


def _distances(row: dict, key: str) -> tuple[float, float]:
    """From the mean down and up to the ends of its interval."""
    low, high = row[f"{key}_interval"]
    return max(0.0, row[key] - low), max(0.0, high - row[key])


def write_png(path: Path, rows: list[dict]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    line = front(rows)
    axes.plot(
        [row["tokens"] for row in line], [row["pass_at_1"] for row in line], "--", color=GREY, label="Pareto front"
    )
    for row in rows:
        axes.errorbar(
            row["tokens"],
            row["pass_at_1"],
            xerr=[[distance] for distance in _distances(row, "tokens")],
            yerr=[[distance] for distance in _distances(row, "pass_at_1")],
            fmt="o" if row["pareto_front"] else "s",
            color=BLUE if row["pareto_front"] else GREY,
            capsize=3,
        )
        axes.annotate(row["name"], (row["tokens"], row["pass_at_1"]), xytext=(6, 6), textcoords="offset points")
    axes.set_xlabel(AXES[0])
    axes.set_ylabel(AXES[1])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlim(left=0)
    axes.set_title(TITLE)
    axes.legend()
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(partial)


def write_html(path: Path, rows: list[dict]) -> None:
    """One self-contained page."""
    from plotly import graph_objects

    figure = graph_objects.Figure()
    line = front(rows)
    figure.add_scatter(
        x=[row["tokens"] for row in line],
        y=[row["pass_at_1"] for row in line],
        mode="lines",
        line={"dash": "dash", "color": GREY},
        name="Pareto front",
        hoverinfo="skip",
    )
    for row in rows:
        bars = {
            axis: dict(zip(("arrayminus", "array"), ([d] for d in _distances(row, key)), strict=True))
            for axis, key in (("error_x", "tokens"), ("error_y", "pass_at_1"))
        }
        figure.add_scatter(
            x=[row["tokens"]],
            y=[row["pass_at_1"]],
            mode="markers+text",
            marker={"color": BLUE if row["pareto_front"] else GREY, "size": 10},
            text=[row["name"]],
            textposition="top right",
            name=row["name"],
            hovertemplate="%{y:.1%}, %{x:.1f} tokens<br>"
            f"{row['points_over_first']:+.1f} points and {row['tokens_over_first']:.0%} of the tokens to the first",
            **bars,
        )
    figure.update_layout(title=TITLE, xaxis_title=AXES[0], yaxis_title=AXES[1], template="plotly_white")
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(tickformat=".0%")
    with replacing(path) as partial:
        figure.write_html(partial, include_plotlyjs=True, config={"displaylogo": False})
