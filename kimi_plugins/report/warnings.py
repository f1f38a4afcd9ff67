"""Where a run leaves what is known to work, and what to change: rules on its metrics, with limits that are ours.

A rule looks at the mean over the last fifth of the run, at least 5 steps; what rises or falls is compared with the
same number of steps at the start, in runs of at least 20 steps.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean

TREND_STEPS = 20  # of a run whose start and end are compared


@dataclass(frozen=True)
class Finding:
    found: str  # with the figure and its limit
    change: str  # what to do about it


def findings(train: list[dict]) -> list[Finding]:
    """What the records of the training steps show, rule by rule; one whose metrics are missing finds nothing."""
    return [finding for rule in RULES for finding in rule(train)]


def _zero_advantages(train: list[dict]) -> Iterator[Finding]:
    share = _last(train, "kimi/zero_advantage_share")
    if share is not None and share > 0.5:
        yield Finding(
            f"{share:.0%} of the groups have no gradient (healthy: below 50 %).",
            "Draw prompts that are sometimes solved (kimi.sampling.priority: gradient; openrlhf kimi curate drops "
            "trivial ones), or raise rollout.n_samples_per_prompt.",
        )


def _skipped_steps(train: list[dict]) -> Iterator[Finding]:
    skipped, taken = _last(train, "actor_skipped_steps"), _last(train, "actor_optimizer_steps")
    if skipped is not None and taken is not None and skipped > 0.1 * (skipped + taken):
        yield Finding(
            f"{skipped / (skipped + taken):.0%} of the optimizer steps were skipped, having no advantage (healthy: "
            "below 10 %).",
            "Raise train.batch_size, so that a step has groups with right and wrong responses, or change the prompts.",
        )


def _drift(train: list[dict]) -> Iterator[Finding]:
    kl = _last(train, "kimi/kl_mean")
    tokens = _last(train, "rollout/response_length_mean")
    limit = max(1.0, 0.01 * (tokens or 0.0))
    if kl is not None and kl > limit:
        yield Finding(
            f"Within an iteration the policy drifts by {kl:.3g} nats a response (healthy: below {limit:.3g}, which is "
            "1, or 0.01 a token if that is more).",
            "Raise kimi.policy.tau, lower the learning rate (actor.adam.lr), or take fewer optimizer steps an "
            "iteration (a larger train.batch_size).",
        )


def _clipped(train: list[dict]) -> Iterator[Finding]:
    share = _last(train, "kimi/log_ratio_clip_share")
    if share is not None and share > 0.01:
        yield Finding(
            f"{share:.1%} of the log ratios are clipped (healthy: below 1 %).",
            "Lower the learning rate or raise kimi.policy.tau; with kimi.policy.form: k2.5 widen log_ratio_low and "
            "log_ratio_high.",
        )


def _steps_after_a_reset(train: list[dict]) -> Iterator[Finding]:
    counts: list[float] = []  # optimizer steps between two resets
    since = None
    for record in train:
        if record.get("kimi/optimizer_reset"):
            counts += [] if since is None else [since]
            since = 0.0
        if since is not None:
            since += record.get("actor_optimizer_steps", math.nan)
    if counts and fmean(counts) < 10:
        yield Finding(
            f"The optimizer takes {fmean(counts):.3g} steps from one reset to the next (healthy: at least 10): "
            "Adam has hardly begun when it starts anew.",
            "Set kimi.policy.optimizer_reset: none, raise kimi.policy.reset_every, or take more optimizer steps an "
            "iteration (a smaller train.batch_size).",
        )


def _longer_wrong_answers(train: list[dict]) -> Iterator[Finding]:
    wrong, correct = _growth(train, "kimi/wrong_length_mean"), _growth(train, "kimi/correct_length_mean")
    if wrong is not None and wrong > 1.3 and wrong > 1.2 * (correct or 1.0):
        yield Finding(
            f"Wrong responses have become {wrong:.2g} times as long"
            + (f", right ones {correct:.2g} times" if correct is not None else "")
            + " (healthy: both alike).",
            "Look at some of them below: for loops set kimi.rollout.repetition_penalty, for rambling raise "
            "kimi.length.weight with kimi.length.wrong: penalise.",
        )


def _entropy(train: list[dict]) -> Iterator[Finding]:
    left = _growth(train, "entropy_loss")
    if left is not None and left < 1 / 3:
        yield Finding(
            f"The policy's entropy has fallen to {left:.0%} of what it was (healthy: above a third).",
            "Raise kimi.policy.tau, lower the learning rate, or give actor.entropy_coef a value above 0; fewer passes "
            "over the same prompts help, too.",
        )


RULES: tuple[Callable[[list[dict]], Iterator[Finding]], ...] = (
    _zero_advantages,
    _skipped_steps,
    _drift,
    _clipped,
    _steps_after_a_reset,
    _longer_wrong_answers,
    _entropy,
)


def _last(train: list[dict], key: str) -> float | None:
    """The mean of a metric over the end of the run; None if it is not there."""
    return _mean(train[-_window(train) :], key)


def _growth(train: list[dict], key: str) -> float | None:
    """The end's mean of a metric over the start's; None in short runs, and where either is missing or not above 0."""
    if len(train) < TREND_STEPS:
        return None
    first, last = _mean(train[: _window(train)], key), _last(train, key)
    return last / first if first is not None and last is not None and first > 0 else None


def _window(train: list[dict]) -> int:
    return max(5, len(train) // 5)


def _mean(records: list[dict], key: str) -> float | None:
    values = [record[key] for record in records if key in record and math.isfinite(record[key])]
    return fmean(values) if values else None
