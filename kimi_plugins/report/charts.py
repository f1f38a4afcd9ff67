"""The panels of the page: each a Plotly figure as plain dicts, or what would fill it. report.js adds the theme."""

import re
from dataclasses import dataclass
from html import escape
from typing import Any

from kimi_plugins.report.rollouts import SuccessRates
from kimi_plugins.report.series import spaced, thin, values_of

# Told apart by the colour-blind and readable on white and on black.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#3b82f6", "#e8833a", "#22a06b", "#e5534b", "#a371f7", "#8b949e"
PHASES = {
    "timing/generation": ("generation", BLUE),
    "timing/make_experience": ("log-probs and rewards", ORANGE),
    "timing/ppo_train": ("training", GREEN),
    "timing/broadcast": ("weights to vLLM", PURPLE),
}
SHARE = {"tickformat": ".0%", "rangemode": "tozero"}


@dataclass
class Panel:
    title: str
    note: str  # how to read it
    figure: dict | None
    missing: str  # what writes the metrics of a panel without a figure


def panels(train: list[dict], evals: list[dict], rates: SuccessRates) -> list[Panel]:
    kimi_log = "rollouts.jsonl, which the plugin kimi-log writes (train with --plugins kimi-log)"
    return [
        Panel(
            "Accuracy and response length",
            "Long chains of thought are learnt: accuracy and length rise together (k1.5, fig. 5).",
            _accuracy(train, evals),
            "the metrics of at least one training step or evaluation",
        ),
        Panel(
            "Length by outcome",
            "Mean tokens of correct and of wrong responses, and the length reward that presses on them.",
            _outcome_length(train),
            "kimi/correct_length_mean, kimi/wrong_length_mean and kimi/length_reward_mean of the plugin kimi-length",
        ),
        Panel(
            "Accuracy by data source",
            "Mean score of the graded responses, and the share of failed grades in all. Healthy: no source stays at 0 "
            "or 1, and next to no grade fails.",
            _by_source(train),
            "kimi/rewards/<source>/accuracy of the plugin kimi-rewards, in runs with kimi.rewards.sources or kind",
        ),
        Panel(
            "Success rates of the prompts",
            "Prompts by their latest success rate at each step. Healthy: they move upwards, and not all at once.",
            _success_rates(rates),
            kimi_log,
        ),
        Panel(
            "Groups without gradient",
            "A group whose responses all have the same reward teaches nothing. Healthy: below half.",
            _zero_gradient(train, rates),
            f"kimi/zero_advantage_share of the plugin kimi-policy, or {kimi_log}",
        ),
        Panel(
            "Log-prob gap between vLLM and the actor",
            "Of a sampled token. Healthy: |gap| is a constant of model and dtype, the signed mean stays in the band "
            "of ±0.002; a rise means stale weights in the engine.",
            _logprob_gap(train),
            "vllm_kl of OpenRLHF (with algo.advantage.is_correction_level on) and kimi/logprob_gap_abs of the plugin "
            "kimi-policy",
        ),
        Panel(
            "Drift from the policy of the rollout",
            "Within one iteration, whole responses. Healthy: KL below 1 on short responses, nothing clipped.",
            _drift(train),
            "kimi/log_ratio_sq_mean, kimi/kl_mean and kimi/log_ratio_clip_share of the plugin kimi-policy",
        ),
        Panel(
            "Time per step", "Where the seconds of a training step go.", _time(train), "OpenRLHF's timing/… metrics"
        ),
    ]


def first_key(records: list[dict], *keys: str) -> str | None:
    """The first of the keys that any record has."""
    return next((key for key in keys if any(key in record for record in records)), None)


def pass1_keys(evals: list[dict]) -> list[str]:
    return sorted({key for record in evals for key in record if re.fullmatch(r"eval_.+_pass1", key)})


def source_of(pass1_key: str) -> str:
    return pass1_key.removeprefix("eval_").removesuffix("_pass1")


def _line(records: list[dict], key: str | None, name: str, color: str, dash: str = "solid", **style) -> list[dict]:
    """The line of a metric as a list of one trace, of none where no record has it."""
    steps, values = values_of(records, key) if key else ([], [])
    if not any(value is not None for value in values):
        return []
    style = {"mode": "lines", "hovertemplate": "%{y:.4~g}"} | style
    indices = thin(values)
    line = {"color": color, "width": 2 if len(indices) < 300 else 1, "dash": dash}
    return [_trace(steps, values, indices, name=name, line=line, **style)]


def _trace(steps: list, values: list, indices: list[int], **style) -> dict:
    y = [None if values[index] is None else float(f"{values[index]:.6g}") for index in indices]
    return {"type": "scatter", "x": [steps[index] for index in indices], "y": y, **style}


def _figure(data: list[dict], **layout: object) -> dict | None:
    x = _axis("training step", unifiedhovertitle={"text": "step %{x}"})
    return {"data": data, "layout": {"xaxis": x, **layout}} if data else None


def _axis(title: str, **style) -> dict:
    return {"title": {"text": title, "standoff": 8}, **style}


def _second_axis(title: str, **style) -> dict:
    return _axis(title, overlaying="y", side="right", tickmode="auto", showgrid=False, zeroline=False, **style)


def _accuracy(train: list[dict], evals: list[dict]) -> dict | None:
    percent = {"hovertemplate": "%{y:.1%}"}
    tokens = {"yaxis": "y2", "hovertemplate": "%{y:.0f} tokens"}
    marked: dict[str, Any] = {"mode": "lines+markers", "marker": {"size": 6}}
    train_length = first_key(train, "rollout/response_length_mean", "response_length")
    data = _line(train, first_key(train, "score", "rollout/reward_mean", "reward"), "training score", BLUE, **percent)
    for i, key in enumerate(pass1_keys(evals)):
        color = (ORANGE, PURPLE, RED)[i % 3]
        data += _line(evals, key, f"held-out pass@1, {escape(source_of(key))}", color, **marked, **percent)
    data += _line(train, train_length, "tokens, training", GREEN, "dash", **tokens)
    data += _line(evals, "eval_response_length_mean", "tokens, held-out", GREY, "dash", **marked, **tokens)
    data += _line(train, "rollout/truncated_rate", "truncated share", RED, "dot", **percent)
    return _figure(
        data, yaxis=_axis("accuracy", **SHARE), yaxis2=_second_axis("tokens per response", rangemode="tozero")
    )


def _by_source(train: list[dict]) -> dict | None:
    pattern = re.compile(r"kimi/rewards/(.+)/accuracy")
    names = sorted({match[1] for record in train for key in record if (match := pattern.fullmatch(key))})
    colors = (BLUE, ORANGE, GREEN, PURPLE)
    data: list[dict] = []
    for number, name in enumerate(names):
        dash = ("solid", "dash", "dot", "dashdot")[number // len(colors) % 4]
        color = colors[number % len(colors)]
        data += _line(train, f"kimi/rewards/{name}/accuracy", escape(name), color, dash, hovertemplate="%{y:.1%}")
    if data:
        data += _line(train, "kimi/grader_failure_share", "failed grades", RED, hovertemplate="%{y:.1%}")
    return _figure(data, yaxis=_axis("accuracy", **SHARE))


def _outcome_length(train: list[dict]) -> dict | None:
    data = (
        _line(train, "kimi/correct_length_mean", "correct", GREEN, hovertemplate="%{y:.0f} tokens")
        + _line(train, "kimi/wrong_length_mean", "wrong", RED, hovertemplate="%{y:.0f} tokens")
        + _line(train, "kimi/length_reward_mean", "length reward", BLUE, "dash", yaxis="y2")
        + _line(train, "kimi/length_reward_weight", "its weight", PURPLE, "dash", yaxis="y2")
        + _line(train, "kimi/equal_length_share", "groups of equal lengths (share)", GREY, "dash", yaxis="y2")
    )
    return _figure(
        data, yaxis=_axis("tokens per response", rangemode="tozero"), yaxis2=_second_axis("reward, weight, share")
    )


def _success_rates(rates: SuccessRates) -> dict | None:
    if not rates.latest:
        return None
    names = ["not tried yet", "none", *(f"{i / rates.levels:.1%}" for i in range(1, rates.levels)), "all"]
    indices = spaced(len(rates.steps))
    total = len(rates.latest)
    # Empty cells are None: they stay free of colour and of hover text.
    columns = [[total - sum(rates.counts[index]), *rates.counts[index]] for index in indices]
    untried, *tried = [[count or None for count in row] for row in zip(*columns, strict=True)]
    blank = [None] * len(indices)
    # Both traces have all rows: Plotly takes a category axis' rows from each of them.
    heat = {"type": "heatmap", "x": [rates.steps[index] for index in indices], "y": names, "hoverongaps": False}
    heat |= {"ygap": 1, "zmin": 0}
    data = [
        heat
        | {
            "z": [blank, *tried],
            "colorscale": [[i / 10, f"rgba(59,130,246,{(i / 10) ** 0.6:.2f})"] for i in range(11)],
            "colorbar": {"title": {"text": "prompts"}, "thickness": 10, "outlinewidth": 0},
            "hovertemplate": "step %{x}<br>%{z} prompts: %{y} solved<extra></extra>",
        },
        heat
        | {
            "z": [untried, *[blank] * len(tried)],
            "zmax": total,
            "colorscale": [[0, "rgba(139,148,158,0)"], [1, "rgba(139,148,158,1)"]],
            "showscale": False,
            "hovertemplate": "step %{x}<br>%{z} prompts are tried later<extra></extra>",
        },
    ]
    return _figure(data, yaxis=_axis("success rate", type="category", showgrid=False), hovermode="closest")


def _zero_gradient(train: list[dict], rates: SuccessRates) -> dict | None:
    data = []
    if rates.steps:
        indices = spaced(len(rates.steps))
        area = {"mode": "lines", "stackgroup": "groups", "hovertemplate": "%{y:.1%}"}
        for values, name, color in (
            (rates.none_solved, "none solved", RED),
            (rates.all_solved, "all solved", GREEN),
        ):
            data.append(_trace(rates.steps, values, indices, name=name, line={"color": color, "width": 1}, **area))
    share = "kimi/zero_advantage_share"
    data += _line(train, share, "all rewards of the group equal", BLUE, hovertemplate="%{y:.1%}")
    return _figure(data, yaxis=_axis("share of groups", **SHARE))


def _logprob_gap(train: list[dict]) -> dict | None:
    data = _line(train, "kimi/logprob_gap_abs", "|gap|", BLUE) + _line(train, "vllm_kl", "signed", ORANGE, yaxis="y2")
    figure = _figure(
        data,
        yaxis=_axis("|gap|, nats", domain=[0.56, 1], rangemode="tozero"),
        yaxis2=_axis("signed, nats", domain=[0, 0.44], autorangeoptions={"include": [-0.003, 0.003]}),
    )
    if figure:
        figure["layout"]["xaxis"]["anchor"] = "y2"
        band = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": -0.002, "y1": 0.002}
        figure["layout"]["shapes"] = [
            band | {"fillcolor": GREEN, "opacity": 0.12, "line": {"width": 0}, "layer": "below"}
        ]
    return figure


def _drift(train: list[dict]) -> dict | None:
    data = (
        _line(train, "kimi/log_ratio_sq_mean", "log-ratio²", BLUE)
        + _line(train, "kimi/kl_mean", "KL", ORANGE)
        + _line(train, "kimi/log_ratio_clip_share", "clipped share", RED, "dash", yaxis="y2", hovertemplate="%{y:.2%}")
    )
    log = _axis("nats² and nats", type="log", exponentformat="power")
    return _figure(data, yaxis=log, yaxis2=_second_axis("clipped responses", **SHARE))


def _time(train: list[dict]) -> dict | None:
    records = [record for record in train if any(key in record for key in PHASES)]
    indices = spaced(len(records))
    steps = [record["step"] for record in records]
    phases = {key: [record.get(key, 0.0) for record in records] for key in PHASES}
    rest = [
        max(record.get("timing/step_total", 0.0) - sum(times), 0.0)
        for record, times in zip(records, zip(*phases.values(), strict=True), strict=True)
    ]
    areas = [(phases[key], *PHASES[key]) for key in PHASES] + [(rest, "other", GREY)]
    style = {"mode": "lines", "stackgroup": "time", "hovertemplate": "%{y:.3~g} s"}
    data = [
        _trace(steps, values, indices, name=name, line={"color": color, "width": 1}, **style)
        for values, name, color in areas
        if max(values, default=0.0) > 1e-3
    ]
    return _figure(data, yaxis=_axis("seconds", rangemode="tozero"))
