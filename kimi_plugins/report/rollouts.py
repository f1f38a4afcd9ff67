"""One pass over rollouts.jsonl, which may be far larger than memory: what the page shows of it."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

TEXT_LIMIT = 8_000  # characters of one text; the rest is left out of its middle
STEP_BUDGET = 1_000_000  # bytes of JSON for the samples of one step
BUDGET = 6_000_000  # bytes of JSON for the samples of all steps but the last
MAX_LEVELS = 16  # with more responses to a prompt the success rates are counted in tenths


def success_bin(rate: float, levels: int) -> int:
    """The bin 0 … levels next to rate · levels; only prompts that never or always succeed are in the outer two."""
    if rate <= 0:
        return 0
    return levels if rate >= 1 else min(max(round(rate * levels), 1), levels - 1)


@dataclass
class SuccessRates:
    """How many prompts have which latest success rate, and how many groups give no gradient, step by step."""

    levels: int
    steps: list[int] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)  # by step and bin; a prompt counts from its first step on
    none_solved: list[float] = field(default_factory=list)  # share of the step's groups
    all_solved: list[float] = field(default_factory=list)
    latest: dict = field(default_factory=dict)  # prompt id → its bin now

    def add(self, step: int, groups: list) -> None:
        counts = list(self.counts[-1]) if self.counts else [0] * (self.levels + 1)
        groups = [(prompt, rate) for prompt, rate in groups if math.isfinite(rate)]
        for prompt, rate in groups:
            before = self.latest.get(prompt)
            if before is not None:
                counts[before] -= 1
            self.latest[prompt] = success_bin(rate, self.levels)
            counts[self.latest[prompt]] += 1
        self.steps.append(step)
        self.counts.append(counts)
        self.none_solved.append(sum(rate <= 0 for _, rate in groups) / max(len(groups), 1))
        self.all_solved.append(sum(rate >= 1 for _, rate in groups) / max(len(groups), 1))


@dataclass
class Samples:
    """The samples of evenly spaced steps as JSON within a budget, always with those of the first and the last step."""

    budget: int = BUDGET
    stride: int = 1
    seen: int = 0
    size: int = 0  # of what is kept
    kept: list[tuple[int, str]] = field(default_factory=list)  # (how many came before, JSON)
    last: dict | None = None

    def add(self, record: dict) -> None:
        if self.seen % self.stride == 0:
            self.kept.append((self.seen, _json(record)))
            self.size += len(self.kept[-1][1])
        while len(self.kept) > 1 and self.size > self.budget:
            self.stride *= 2
            self.kept = [(place, text) for place, text in self.kept if place % self.stride == 0]
            self.size = sum(len(text) for _, text in self.kept)
        self.last = record
        self.seen += 1

    def to_json(self) -> str:
        texts = [text for _, text in self.kept]
        if self.last is not None and self.kept[-1][0] != self.seen - 1:
            texts.append(_json(self.last))
        return f"[{','.join(texts)}]"


def collect(records: Iterable[dict]) -> tuple[SuccessRates, Samples]:
    """SuccessRates and Samples from the records of run_log.read_rollouts, of which only one is held at a time."""
    rates = None
    samples = Samples()
    for record in records:
        if rates is None:
            k = max((len(group["responses"]) for group in record["samples"]), default=0)
            rates = SuccessRates(levels=k if 2 <= k <= MAX_LEVELS else 10)
        rates.add(record["step"], record["groups"])
        if record["samples"]:
            samples.add(record)
    return rates or SuccessRates(levels=10), samples


def cut(text: str, limit: int = TEXT_LIMIT) -> str | list:
    """The text, or [its beginning, the number of characters left out, its end]."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return [text[:half], len(text) - 2 * half, text[-half:]]


def _json(record: dict) -> str:
    """{"step", "groups": [{"prompt", "label", "responses", "left_out": responses}], "left_out": groups}."""
    groups = []
    left = STEP_BUDGET
    for group in record["samples"]:
        responses: list[dict] = []
        shown = {"prompt": cut(group["prompt"]), "label": cut(str(group["label"])), "responses": responses}
        left -= len(json.dumps(shown))
        for response in group["responses"]:
            # A reward that is not finite is shown by its name: JSON has no number for it.
            response = {
                "text": cut(response["text"]),
                "score": _number(response["score"]),
                "reward": _number(response["reward"]),
                "advantage": _number(response["advantage"]),
                "tokens": response["tokens"],
                "truncated": response["truncated"],
            }
            left -= len(json.dumps(response))
            if left < 0:
                break
            responses.append(response)
        if not responses:
            break
        groups.append(shown | {"left_out": len(group["responses"]) - len(responses)})
    record = {"step": record["step"], "groups": groups, "left_out": len(record["samples"]) - len(groups)}
    return json.dumps(record, allow_nan=False)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
