"""The graders in other trainers: verl's compute_score, and reward functions of TRL. Imports neither torch nor them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from statistics import fmean

from kimi_plugins.grading.extraction import opens_thinking
from kimi_plugins.grading.kinds import Grade, Grader, Settings, kind_problem

THREADS = 16  # grades at a time


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: object,
    extra_info: dict | None = None,
    *,
    kind: str | None = None,
    sources: dict[str, str] | None = None,
) -> dict[str, float]:
    """verl's custom_reward_function; `kind` and `sources` are its reward_kwargs.

    kind: of rows whose data source is not in `sources`, which is {data source: kind}.

    Returns:
        score and acc, 0 too for a failed grade, of which grader_failed is 1.

    Raises:
        ValueError: the data source has no kind, or an unknown one.
    """
    chosen = _kind_of(data_source, kind, sources)
    question = str((extra_info or {}).get("question", ""))
    grade = _grader().grade(chosen, solution_str, ground_truth, question)
    return {"score": grade.reward or 0.0, "acc": grade.score or 0.0, "grader_failed": float(grade.failed)}


def trl_reward(
    kind: str | None = None,
    sources: dict[str, str] | None = None,
    *,
    label_key: str = "label",
    kind_key: str = "kind",
    source_key: str = "datasource",
    settings: Settings | None = None,
) -> Callable[..., list[float | None]]:
    """A reward function for TRL's GRPOTrainer and its like.

    kind: of rows that have none in the column `kind_key`, nor by their data source in `sources`, {data source: kind}.

    Returns:
        A function of prompts, completions and the data set's columns. A failed grade gets the mean of the other
        responses to its prompt, so that its advantage is 0 and theirs are as without it; None if all of them failed.
    """
    grader = Grader(settings)

    def kimi_reward(*, prompts: Sequence, completions: Sequence, **columns: Sequence) -> list[float | None]:
        if label_key not in columns:
            raise ValueError(f"the data set has no column {label_key!r}; name the one with the answers in label_key")
        size = len(completions)
        kinds, found = columns.get(kind_key) or [None] * size, columns.get(source_key) or [None] * size
        chosen = [row_kind or _kind_of(source, kind, sources) for row_kind, source in zip(kinds, found, strict=True)]
        rows = zip(chosen, map(_text, prompts), map(_text, completions), columns[label_key], strict=True)
        with ThreadPoolExecutor(THREADS) as threads:
            grades = list(threads.map(lambda row: _graded(grader, *row), rows))
        return _neutral(grades, list(map(_text, prompts)))

    return kimi_reward


def _graded(grader: Grader, kind: str, prompt: str, response: str, label: object) -> Grade:
    response = "<think>" + response if opens_thinking(prompt) else response
    return grader.grade(kind, response, label, prompt, prompt)


def _neutral(grades: list[Grade], prompts: list[str]) -> list[float | None]:
    """The rewards, with the mean of the group's graded ones in place of failed grades."""
    graded: dict[str, list[float]] = {}
    for grade, prompt in zip(grades, prompts, strict=True):
        if grade.reward is not None:
            graded.setdefault(prompt, []).append(grade.reward)
    means = {prompt: fmean(rewards) for prompt, rewards in graded.items()}
    return [
        means.get(prompt) if grade.reward is None else grade.reward
        for grade, prompt in zip(grades, prompts, strict=True)
    ]


def _text(value: object) -> str:
    """A prompt or completion as text: what its last message says, if it is a conversation."""
    if isinstance(value, list):
        return str(value[-1]["content"]) if value else ""
    return str(value)


def _kind_of(source: object, kind: str | None, sources: dict[str, str] | None) -> str:
    chosen = (sources or {}).get(str(source), kind)
    if chosen is None:
        raise ValueError(f"the data source {source!r} has no kind; add it to sources, or give kind for all others")
    if (problem := kind_problem(chosen)) is not None:
        raise ValueError(problem)
    return chosen


@cache
def _grader() -> Grader:
    """One for the process: its grader processes start with the first response of each kind."""
    return Grader()
