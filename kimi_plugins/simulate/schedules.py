"""The three ways to schedule rollouts and training, as discrete events.

Synchronous: all responses of a batch, then training, on the same devices. Partial: the same with a budget per
iteration, by the rule that kimi-rollout draws by. Asynchronous: generation never stops, other devices train.
"""

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kimi_plugins.options import Rollout
from kimi_plugins.rollout.draw import to_draw
from kimi_plugins.simulate.engine import Engine, Speed


@dataclass(frozen=True)
class Job:
    """What is run. batch: prompts a step; k: responses a prompt; prompt_tokens: of each.

    train_rate: tokens a second one device trains on; sync_seconds: for new weights to reach the engines.
    lengths: (rng, size) → tokens of that many responses.
    """

    speed: Speed
    engines: int
    batch: int
    k: int
    prompt_tokens: float
    train_rate: float
    sync_seconds: float
    lengths: Callable[[np.random.Generator, int], np.ndarray]


@dataclass
class Result:
    """Of each step: seconds in all and of generation, mean staleness (iterations) of what was trained on."""

    step_seconds: list[float] = field(default_factory=list)
    generation_seconds: list[float] = field(default_factory=list)
    staleness: list[float] = field(default_factory=list)
    trained_tokens: float = 0.0
    utilisation: float = 0.0  # tokens written while the engines generated, over what they can write at their fastest

    def groups_per_second(self, batch: int) -> float:
        return batch * len(self.step_seconds) / sum(self.step_seconds)


@dataclass
class _Group:
    left: np.ndarray  # [k] tokens to write
    written: np.ndarray  # [k]
    version: int
    pending: int = 0  # responses that still write in this iteration

    @property
    def tokens(self) -> float:
        return float(self.written.sum())

    @property
    def finished(self) -> bool:
        return not self.left.any()


class _Fleet:
    """Engines and the responses they write; the earliest end comes first."""

    def __init__(self, job: Job, engines: int) -> None:
        self.engines = [Engine(job.speed) for _ in range(engines)]
        self._ends: list[tuple[float, int, int]] = []
        self._stamps = [0] * engines

        self._turn = itertools.cycle(range(engines))

    def submit(self, now: float, group: "_Group", prompt: float, budget: float = math.inf) -> None:
        """Let each unfinished response of a group write at most `budget` tokens, on the engine whose turn it is."""
        number = next(self._turn)
        for n in group.left.nonzero()[0]:
            tokens = min(budget, group.left[n])
            group.pending += 1
            self.engines[number].submit(now, prompt + group.written[n], tokens, (group, n, tokens))
        self._note(number)

    def pop(self) -> tuple[float, "_Group"] | None:
        """(time, group) of the next response that ends or spends its budget; None if nothing runs."""
        while self._ends:
            _, number, stamp = heapq.heappop(self._ends)
            if stamp == self._stamps[number]:
                end, (group, n, tokens) = self.engines[number].pop()
                self._note(number)
                group.left[n] -= tokens
                group.written[n] += tokens
                group.pending -= 1
                return end, group
        return None

    def next_end(self) -> float:
        while self._ends and self._ends[0][2] != self._stamps[self._ends[0][1]]:
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else math.inf

    def pause(self, now: float, seconds: float) -> None:
        """From `now` on nothing is written for that long."""
        for number, engine in enumerate(self.engines):
            engine.advance(now)
            engine.pause(seconds)
            self._note(number)

    def utilisation(self, seconds: float) -> float:
        fastest = max(rate for _, rate in self.engines[0].speed.decode)
        return sum(engine.generated for engine in self.engines) / (fastest * seconds * len(self.engines))

    def _note(self, number: int) -> None:
        self._stamps[number] += 1
        if (end := self.engines[number].next_event()) is not None:
            heapq.heappush(self._ends, (end, number, self._stamps[number]))


def synchronous(job: Job, steps: int, seed: int = 0) -> Result:
    """Whole rollouts: every step waits for its longest response."""
    rng, result, fleet, now = np.random.default_rng(seed), Result(), _Fleet(job, job.engines), 0.0
    generating = 0.0
    for step in range(steps):
        began = now
        groups = [_draw(job, rng, step) for _ in range(job.batch)]
        for group in groups:
            fleet.submit(now, group, job.prompt_tokens)
        while (end := fleet.pop()) is not None:
            now = max(now, end[0])
        generating += now - began
        now = _train(job, result, groups, began, now, version=step)
    result.utilisation = fleet.utilisation(generating)
    return result


def partial(
    job: Job,
    steps: int,
    seed: int = 0,
    *,
    segment_tokens: float,
    in_flight: float = Rollout.in_flight,
    held_limit: float = Rollout.held_limit,
) -> Result:
    """A budget per iteration, as kimi-rollout schedules it."""
    rng, result, fleet, now = np.random.default_rng(seed), Result(), _Fleet(job, job.engines), 0.0
    held: list[_Group] = []
    generating, surplus = 0.0, None
    first, limit = round(in_flight * job.batch), round(held_limit * job.batch)
    for step in range(steps):
        began = now
        count = to_draw(batch=job.batch, surplus=surplus, first=first, held=len(held), limit=limit)
        held += [_draw(job, rng, step) for _ in range(count)]
        finished = [group for group in held if group.finished]
        growing = [group for group in held if not group.finished]
        now = _grow(fleet, job, growing, finished, now, segment_tokens)
        surplus = len(finished) - job.batch
        while growing := [group for group in held if not group.finished][: max(0, job.batch - len(finished))]:
            now = _grow(fleet, job, growing, finished, now, segment_tokens)
        generating += now - began
        order = {id(group): place for place, group in enumerate(held)}
        taken = sorted(finished, key=lambda group: order[id(group)])[: job.batch]
        gone = set(map(id, taken))
        held = [group for group in held if id(group) not in gone]
        now = _train(job, result, taken, began, now, version=step)
    result.utilisation = fleet.utilisation(generating)
    return result


def _grow(fleet: _Fleet, job: Job, groups: list[_Group], finished: list[_Group], now: float, budget: float) -> float:
    """Give each group a budget, adding to `finished` those that finish; the time when all have spent it."""
    for group in groups:
        fleet.submit(now, group, job.prompt_tokens, budget)
    while (end := fleet.pop()) is not None:
        now, group = max(now, end[0]), end[1]
        if group.pending == 0 and group.finished:
            finished.append(group)
    return now


def asynchronous(job: Job, steps: int, seed: int = 0, *, train_share: float, max_staleness: int) -> Result:
    """Generation goes on while other devices train, as in AReaL; new weights interrupt it and caches are refilled.

    train_share: of the devices that train. max_staleness: prompts are drawn only while those drawn and not yet trained
    on are at most max_staleness + 1 batches.
    """
    trainers = min(job.engines - 1, max(1, round(train_share * job.engines)))
    fleet = _Fleet(job, job.engines - trainers)
    rng, result, now = np.random.default_rng(seed), Result(), 0.0
    version = drawn = 0
    finished: list[_Group] = []
    training: tuple[float, list[_Group]] | None = None  # its end, and on what
    last = 0.0
    while version < steps:
        while drawn < (version + max_staleness + 1) * job.batch:
            fleet.submit(now, _draw(job, rng, version), job.prompt_tokens)
            drawn += 1
        if training is None and len(finished) >= job.batch:
            batch, finished = finished[: job.batch], finished[job.batch :]
            training = now + sum(group.tokens for group in batch) / (job.train_rate * trainers), batch
        if training is not None and training[0] <= fleet.next_end():
            now, batch = training
            training = None
            fleet.pause(now, job.sync_seconds + _refill(job, fleet))
            result.step_seconds.append(now - last)
            result.generation_seconds.append(now - last)
            result.staleness.append(float(np.mean([version - group.version for group in batch])))
            result.trained_tokens += sum(group.tokens for group in batch)
            version, last = version + 1, now
            continue
        ended = fleet.pop()
        assert ended is not None, "a prompt is in flight unless a batch is in training"
        now, group = ended
        if group.pending == 0:
            finished.append(group)
    result.utilisation = fleet.utilisation(now)
    return result


def _draw(job: Job, rng: np.random.Generator, version: int) -> _Group:
    return _Group(np.asarray(job.lengths(rng, job.k), float).copy(), np.zeros(job.k), version)


def _train(job: Job, result: Result, groups: list[_Group], began: float, now: float, *, version: int) -> float:
    """Record a step whose generation lasted from began to now; the time when it ends."""
    tokens = sum(group.tokens for group in groups)
    end = now + tokens / (job.train_rate * job.engines) + job.sync_seconds
    result.step_seconds.append(end - began)
    result.generation_seconds.append(now - began)
    result.staleness.append(float(np.mean([version - group.version for group in groups])))
    result.trained_tokens += tokens
    return end


def _refill(job: Job, fleet: _Fleet) -> float:
    """Seconds in which an engine computes the caches of what it runs again, under new weights."""
    running = sum(min(len(engine), job.speed.max_running) for engine in fleet.engines) / len(fleet.engines)
    return running * job.prompt_tokens / job.speed.prefill
