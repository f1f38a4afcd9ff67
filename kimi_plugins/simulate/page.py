"""The simulation as one self-contained HTML page."""

from pathlib import Path

from plotly import graph_objects
from plotly.subplots import make_subplots

from kimi_plugins.data.files import replacing

PANELS = {
    "step_seconds": "seconds a step",
    "speed_up": "groups a second over synchronous",
    "utilisation": "utilisation of the engines",
    "staleness": "staleness, iterations",
}


def write(path: Path, result: dict) -> None:
    """result: of command.run, the rows of all numbers of engines and schedules, and the budgets that were tried."""
    titles = [*PANELS.values()] + (["groups a second by budget"] if result["budgets"] else [])
    figure = make_subplots(rows=len(titles), cols=1, subplot_titles=titles)
    schedules = list(dict.fromkeys(row["schedule"] for row in result["rows"]))
    for place, key in enumerate(PANELS, start=1):
        for number, name in enumerate(schedules):
            rows = [row for row in result["rows"] if row["schedule"] == name]
            figure.add_bar(
                x=[str(row["engines"]) for row in rows],
                y=[row[key] for row in rows],
                name=name,
                legendgroup=name,
                showlegend=place == 1,
                marker_color=("#3b82f6", "#e8833a", "#22a06b")[number],
                row=place,
                col=1,
            )
        figure.update_xaxes(title_text="engines", row=place, col=1, type="category")
    if result["budgets"]:
        chosen = [row["segment_tokens"] == result["segment_tokens"] for row in result["budgets"]]
        trace = graph_objects.Scatter(
            x=[row["segment_tokens"] for row in result["budgets"]],
            y=[row["groups_per_second"] for row in result["budgets"]],
            marker_size=[14 if one else 8 for one in chosen],
            text=["recommended" if one else "" for one in chosen],
            textposition="top center",
            mode="lines+markers+text",
            showlegend=False,
        )
        figure.add_trace(trace, row=len(titles), col=1)
        figure.update_xaxes(title_text="kimi.rollout.segment_tokens", row=len(titles), col=1)
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(
        title="Simulated schedules of rollouts and training", barmode="group", height=320 * len(titles)
    )
    with replacing(path) as partial:
        figure.write_html(partial, include_plotlyjs=True, config={"displaylogo": False})
