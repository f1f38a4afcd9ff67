"""`openrlhf kimi frontier`: pass@1 over mean tokens of several models on the same prompts, with intervals."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kimi_plugins.completions import samples
from kimi_plugins.completions.grading import Graded, math_pool
from kimi_plugins.completions.types import EngineOptions
from kimi_plugins.data.files import replacing
from kimi_plugins.long2short.balance import Point, on_front
from kimi_plugins.long2short.checkpoint import only_weights_differ

WRITTEN = ("frontier.json", "frontier.png", "frontier.html")
RESAMPLES = 2000
LEVEL = 95  # per cent of the intervals


@dataclass
class Scores:
    """How one model did, by prompt: arrays [P], NaN where nothing was graded."""

    name: str
    model: str
    right: np.ndarray  # share of right responses
    tokens: np.ndarray  # mean of a response
    cut: float  # share of responses cut by length
    failed: int  # grades


def scores(name: str, model: str, answers: Iterable[list[Graded]]) -> Scores:
    right, tokens, cut, total, failed = [], [], 0, 0, 0
    for group in answers:
        graded = [answer.right for answer in group if answer.verdict.correct is not None]
        right.append(np.mean(graded) if graded else np.nan)
        tokens.append(np.mean([answer.completion.tokens for answer in group]) if group else np.nan)
        cut += sum(answer.completion.finish != "stop" for answer in group)
        failed += len(group) - len(graded)
        total += len(group)
    return Scores(name, model, np.array(right), np.array(tokens), cut / max(total, 1), failed)


def summarize(models: list[Scores], seed: int) -> list[dict]:
    """A row for each model: pass@1 and tokens with intervals, and its differences to the first model.

    Intervals are those of a bootstrap over prompts, with the same resamples for all models, so that differences are
    between answers to the same prompts. A prompt without a grade for one model is left out for all.

    Raises:
        ValueError: no prompt has a grade for every model.
    """
    known = np.flatnonzero(~np.any([np.isnan(model.right) for model in models], axis=0))
    if not len(known):
        raise ValueError("no prompt has a graded response of every model; see --max-len and --answer-pattern")
    chosen = known[np.random.default_rng(seed).integers(len(known), size=(RESAMPLES, len(known)))]  # [R, P]
    means = [tuple(values[chosen].mean(axis=1) for values in (m.right, m.tokens)) for m in models]  # [R] each
    points = [Point(m.name, float(m.right[known].mean()), float(m.tokens[known].mean())) for m in models]
    rows = []
    for model, point, front, (right, tokens) in zip(models, points, on_front(points), means, strict=True):
        first, (first_right, first_tokens) = points[0], means[0]
        rows.append(
            {
                "name": model.name,
                "model": model.model,
                "pass_at_1": point.accuracy,
                "pass_at_1_interval": _interval(right),
                "tokens": point.tokens,
                "tokens_interval": _interval(tokens),
                "pareto_front": front,
                "points_over_first": 100 * (point.accuracy - first.accuracy),
                "points_over_first_interval": _interval(100 * (right - first_right)),
                "tokens_over_first": point.tokens / first.tokens,
                "tokens_over_first_interval": _interval(tokens / first_tokens),
                "cut_share": model.cut,
                "grades_failed": model.failed,
                "prompts_left_out": len(model.right) - len(known),
            }
        )
    return rows


def _interval(resampled: np.ndarray) -> list[float]:
    low = (100 - LEVEL) / 2
    return [float(value) for value in np.percentile(resampled, [low, 100 - low])]


def table(rows: list[dict]) -> str:
    width = max(len("model"), *(len(row["name"]) for row in rows))
    lines = [f"{'model':<{width}}  {'pass@1':>7} {'95 %':>15}  {'tokens':>8} {'95 %':>19}  front  to the first"]
    for row in rows:
        accuracy = "{:.1%} – {:.1%}".format(*row["pass_at_1_interval"])
        tokens = "{:.1f} – {:.1f}".format(*row["tokens_interval"])
        lines.append(
            f"{row['name']:<{width}}  {row['pass_at_1']:>7.1%} {accuracy:>15}  {row['tokens']:>8.1f} {tokens:>19}  "
            f"{'yes' if row['pareto_front'] else '':<5}  {row['points_over_first']:+.1f} points, "
            f"{row['tokens_over_first']:.0%} of the tokens"
        )
    return "\n".join(lines)


def named(models: list[str]) -> list[tuple[str, str]]:
    """(name, model) of what is given as NAME=MODEL or MODEL, whose name is then its last part."""
    pairs = []
    for text in models:
        name, separator, model = text.partition("=")
        pairs.append((name, model) if separator else (Path(text).name or text, text))
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two models are called {twice[0]}; give them names, as long={pairs[0][1]}")
    if any(not name or "/" in name for name in names):
        raise ValueError(f"{models}: a name before = must not be empty nor have a / in it")
    return pairs


@contextlib.contextmanager
def shared_engines() -> Iterator[Callable[..., contextlib.AbstractContextManager]]:
    """samples.start_engines for one model after the other: the engines go on if only the weights differ."""
    running = None
    with contextlib.ExitStack() as stack:

        def engines(options: EngineOptions, *, images: int) -> contextlib.AbstractContextManager:
            nonlocal running
            if running and only_weights_differ(Path(running.model), Path(options.model)):
                running.load(options.model)
            else:
                stack.close()
                running = stack.enter_context(samples.start_engines(options, images=images))
            return contextlib.nullcontext(running)

        yield engines


def make(models: list[tuple[str, str]], sampler: samples.Sampler, out: Path, *, pattern: str | None) -> list[dict]:
    """Sample and grade every model, write WRITTEN into `out`, and return the rows of summarize().

    models: (name, model). sampler: with each model in turn in place of its own. pattern: of the final answer.
    """
    from kimi_plugins.long2short import charts

    charts.check_matplotlib()  # before hours of sampling
    out.mkdir(parents=True, exist_ok=True)
    found = []
    with math_pool(pattern) as pool, shared_engines() as engines:
        for name, model in models:
            own = replace(sampler, engines=replace(sampler.engines, model=model))
            file = out / f"{name}.completions.jsonl"
            graded = samples.graded_samples(own, file, pool, title=name, engines=engines)
            found.append(scores(name, model, (answers for _, answers in graded)))
    rows = summarize(found, sampler.sampling.seed)
    result = {
        "n": sampler.sampling.n,
        "temperature": sampler.sampling.temperature,
        "prompts": len(found[0].right),
        "models": rows,
    }
    with replacing(out / "frontier.json") as partial:
        partial.write_text(json.dumps(result, indent=2) + "\n")
    charts.write_png(out / "frontier.png", rows)
    charts.write_html(out / "frontier.html", rows)
    return rows
