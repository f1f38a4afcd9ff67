"""Reward servers as OpenRLHF asks them: query, prompts and labels in; JSON with rewards, scores, extra_logs out."""

import itertools
import time

import httpx

from kimi_plugins.grading.functions import FunctionFailed, Graded, read_result

ATTEMPTS = 4
BACKOFF = 0.5  # seconds before the second attempt, then doubled


class Servers:
    """Servers asked in turn. Can be used from any thread. timeout: seconds of one response, all attempts together."""

    def __init__(self, urls: list[str], timeout: float) -> None:
        self._turn, self._timeout = itertools.cycle(urls), timeout
        self._client = httpx.Client(limits=httpx.Limits(max_connections=None))

    def grade(self, query: str, prompt: str, label: object) -> Graded:
        """Raises FunctionFailed."""
        deadline = time.monotonic() + self._timeout
        body = {"query": [query], "prompts": [prompt], "labels": [label]}
        for attempt in range(ATTEMPTS):
            url = next(self._turn)
            try:
                return self._ask(url, body, max(0.1, deadline - time.monotonic()))
            except httpx.HTTPError as error:
                reason = f"the reward server {url} failed: {error or type(error).__name__}"
            pause = BACKOFF * 2**attempt
            if time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
        raise FunctionFailed(reason)

    def _ask(self, url: str, body: dict, timeout: float) -> Graded:
        answer = self._client.post(url, json=body, timeout=timeout)
        answer.raise_for_status()
        try:
            return read_result(answer.json())
        except ValueError as error:
            raise FunctionFailed(f"the reward server {url} returned {error}") from None

    def close(self) -> None:
        self._client.close()
