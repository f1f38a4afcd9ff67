"""An inference engine as its measured speeds describe it."""

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Speed:
    """What one engine was measured to do.

    decode: (running requests, tokens a second of all of them together), by rising number of requests.
    prefill: tokens a second. max_running: requests that run at once; the others wait.

    Raises:
        ValueError: numbers that are not positive, or requests that do not rise.
    """

    decode: Sequence[tuple[float, float]]
    prefill: float
    max_running: int

    def __post_init__(self) -> None:
        requests = [n for n, _ in self.decode]
        if not requests or requests[0] <= 0 or any(a >= b for a, b in zip(requests, requests[1:], strict=False)):
            raise ValueError(f"decode: {self.decode}: it must list rising numbers of requests > 0")
        if min(speed for _, speed in self.decode) <= 0 or self.prefill <= 0 or self.max_running < 1:
            raise ValueError("decode and prefill speeds must be > 0 tokens a second, max_running at least 1")

    def decode_rate(self, running: float) -> float:
        """Tokens a second of `running` requests together: linear between the measured points.

        Below the first point each request is as fast as there, beyond the last one no more is gained.
        """
        points = self.decode
        if running <= points[0][0]:
            return points[0][1] * running / points[0][0]
        if running >= points[-1][0]:
            return points[-1][1]
        right = bisect_right(points, running, key=lambda point: point[0])
        (n0, rate0), (n1, rate1) = points[right - 1], points[right]
        return rate0 + (rate1 - rate0) * (running - n0) / (n1 - n0)


class Engine:
    """Continuous batching: all running requests get a token a step; who waits comes in as soon as one ends.

    A request's prefill holds up the others for as long as it takes.
    """

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self.clock = 0.0  # seconds
        self.generated = 0.0  # tokens
        self._grown = 0.0  # tokens every running request has written since the start
        self._running: list[tuple[float, int, Any]] = []  # (self._grown at its end, number, what it is)
        self._waiting: deque[tuple[float, float, Any]] = deque()
        self._number = 0

    def __len__(self) -> int:
        return len(self._running) + len(self._waiting)

    def submit(self, now: float, prompt: float, tokens: float, request) -> None:
        """At `now`, ask for `tokens` after a prompt of that many; now must not be before the last event."""
        self.advance(now)
        self._waiting.append((prompt, tokens, request))
        self._admit()

    def next_event(self) -> float | None:
        """When the next request ends; None if there is none."""
        if not self._running:
            return None
        return self.clock + (self._running[0][0] - self._grown) / self._rate()

    def pop(self) -> tuple[float, Any]:
        """Go to the end of the next request; when that is, and what it is."""
        end = self.next_event()
        assert end is not None, "nothing runs"
        self.advance(end)
        self._grown = max(self._grown, self._running[0][0])
        request = heapq.heappop(self._running)[2]
        self._admit()
        return end, request

    def advance(self, now: float) -> None:
        """Let the running requests write until `now`."""
        seconds = max(0.0, now - self.clock)
        if self._running:
            grown = seconds * self._rate()
            self._grown += grown
            self.generated += grown * len(self._running)
        self.clock = max(self.clock, now)

    def pause(self, seconds: float) -> None:
        """Nothing is written for that long, as while weights are loaded."""
        self.clock += seconds

    def _rate(self) -> float:
        """Tokens a second of each running request."""
        return self.speed.decode_rate(len(self._running)) / len(self._running)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.speed.max_running:
            prompt, tokens, request = self._waiting.popleft()
            self.clock += prompt / self.speed.prefill
            self._number += 1
            heapq.heappush(self._running, (self._grown + tokens, self._number, request))
