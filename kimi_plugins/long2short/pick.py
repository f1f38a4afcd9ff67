"""`openrlhf kimi pick-checkpoint`: where the second RL phase starts (§2.4: best balance of accuracy and tokens)."""

import re
from pathlib import Path

from kimi_plugins import run_log
from kimi_plugins.long2short.balance import Point, choose, on_front
from kimi_plugins.long2short.checkpoint import CheckpointError, open_checkpoint


def evaluations(run: Path) -> list[Point]:
    """The held-out scores of a run by step, each a Point named after it; over several data sets their mean accuracy.

    Raises:
        FileNotFoundError: there is no log.
        ValueError: nothing was evaluated in it.
    """
    if not (run / run_log.FILE_NAME).exists():
        raise FileNotFoundError(f"{run / run_log.FILE_NAME}: no such file; train with --plugins kimi-log")
    points = []
    for record in run_log.read(run, "eval"):
        scores = [value for key, value in record.items() if re.fullmatch(r"eval_.+_pass1", key)]
        if scores and "eval_response_length_mean" in record:
            accuracy = sum(scores) / len(scores)
            points.append(Point(str(record["step"]), accuracy, record["eval_response_length_mean"]))
    if not points:
        raise ValueError(f"{run}: its log has no evaluation; train with eval.dataset and eval.steps")
    return points


def model_directory(run: Path, step: str) -> Path:
    return run / f"global_step{step}_hf"


def saved(run: Path, step: str) -> str | None:
    """What is wrong with the model saved at a step; None if it is whole."""
    directory = model_directory(run, step)
    if not directory.is_dir():
        return "not saved"
    try:
        open_checkpoint(directory)
    except CheckpointError as error:
        return str(error)
    return None


def pick(run: Path, within: float) -> tuple[Path, str]:
    """The model of the step to go on from, and the reasons as text.

    within: points of accuracy (in percent) that fewer tokens may cost.

    Raises:
        ValueError: no evaluated step has a saved model.
    """
    points = evaluations(run)
    problems = {point.name: saved(run, point.name) for point in points}
    candidates = [point for point in points if problems[point.name] is None]
    front = dict(zip((point.name for point in points), on_front(points), strict=True))
    if not candidates:
        raise ValueError(
            f"{run}: no evaluated step has a whole model in {model_directory(run, 'N').name}; train with "
            "ckpt.save_hf: true and ckpt.save_steps equal to eval.steps\n" + _table(points, front, problems)
        )
    chosen = choose(candidates, within / 100)
    best = max(candidates, key=lambda point: point.accuracy)
    reason = (
        f"step {chosen.name}: {chosen.tokens:.1f} tokens at {chosen.accuracy:.1%}, the fewest among the saved steps "
        f"at most {within:g} points below the best of them (step {best.name}: {best.tokens:.1f} tokens at "
        f"{best.accuracy:.1%})"
    )
    return model_directory(run, chosen.name), f"{_table(points, front, problems)}\n{reason}"


def _table(points: list[Point], front: dict[str, bool], problems: dict[str, str | None]) -> str:
    lines = [f"{'step':>6} {'pass@1':>8} {'tokens':>8}  Pareto front  model"]
    for point in points:
        lines.append(
            f"{point.name:>6} {point.accuracy:>8.1%} {point.tokens:>8.1f}  {'yes' if front[point.name] else '':<12}  "
            f"{problems[point.name] or 'saved'}"
        )
    return "\n".join(lines)
