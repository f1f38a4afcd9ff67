"""Asks a judge over HTTP: time-outs, bounded retries, and a rest when it seems to be down. Standard library only."""

import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from kimi_plugins import options
from kimi_plugins.grading.judge.prompt import SCHEMA, NoVerdict, read_reply

API_KEY = "KIMI_JUDGE_API_KEY"  # environment variable; sent as a bearer token
BACKOFF = 0.5  # seconds before the second attempt, then doubled up to 16 times as long, ± 50 %
DOWN_AFTER = 8  # attempts in a row, over a time-out or longer, that reached no judge
DOWN_SECONDS = 30.0  # in which nothing is asked then, so that a run sees its failures soon
_MOST_BYTES = 2**20  # of a reply


class Failed(Exception):
    """No verdict; the message says why."""


class _Unreached(Failed):
    """Time-out, connection, HTTP 408, 429, 5xx: another attempt may succeed."""


class Client:
    """One judge. Can be used from any thread; at most `concurrency` requests are under way.

    Args:
        url: without path for a classic judge, with /v1 for an OpenAI-compatible server.
        timeout: seconds of one attempt.
        attempts: of one question, at least 1.
    """

    def __init__(self, url: str, *, timeout: float, attempts: int, concurrency: int) -> None:
        self._url, self._timeout, self._attempts = url.rstrip("/"), timeout, attempts
        self._slots = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        self._unreached, self._unreached_since, self._rests_until = 0, 0.0, 0.0

    def chat(self, prompt: str, model: str, max_tokens: int) -> tuple[bool, str]:
        """(correct, reasoning) from a judge that writes. Raises Failed."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "schema": SCHEMA, "strict": True},
            },
        }
        return self._ask("/chat/completions", body, _verdict)

    def score(self, text: str) -> tuple[bool, str]:
        """(correct, score) from OpenRLHF's serve_rm: correct above 0, the logit of one half. Raises Failed."""
        return self._ask("/get_reward", {"query": [text]}, _score)

    def _ask(self, path: str, body: dict, read: Callable[[dict], tuple[bool, str]]) -> tuple[bool, str]:
        data = json.dumps(body).encode()
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(BACKOFF * 2 ** min(attempt - 1, 4) * random.uniform(0.5, 1.5))
            try:
                with self._slots:
                    self._check_rest()
                    answer = self._post(path, data)
                self._reached(True)
                return read(answer)
            except _Unreached as error:
                self._reached(False)
                reason = str(error)
            except NoVerdict as error:
                reason = str(error)
        raise Failed(reason)

    def _check_rest(self) -> None:
        if time.monotonic() < self._rests_until:
            raise Failed("the judge is down")

    def _reached(self, reached: bool) -> None:
        now = time.monotonic()
        with self._lock:
            if self._unreached == 0:
                self._unreached_since = now
            self._unreached = 0 if reached else self._unreached + 1
            if self._unreached >= DOWN_AFTER and now - self._unreached_since >= self._timeout:
                self._rests_until = now + DOWN_SECONDS

    def _post(self, path: str, data: bytes) -> dict:
        headers = {"Content-Type": "application/json"} | _key()
        request = urllib.request.Request(self._url + path, data, headers)
        deadline = time.monotonic() + self._timeout
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                text = _read(response, deadline)
        except urllib.error.HTTPError as error:
            with error:
                detail = error.read(300).decode(errors="replace")
            if error.code in (408, 429) or error.code >= 500:
                raise _Unreached(f"the judge answered HTTP {error.code}") from None
            raise Failed(f"the judge answered HTTP {error.code}: {' '.join(detail.split())}") from None
        except TimeoutError:
            raise self._timed_out() from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise self._timed_out() from None
            raise _Unreached(f"the judge cannot be reached: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Unreached(f"the judge broke off: {type(error).__name__}") from None
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            raise NoVerdict("the server wrote no JSON") from None
        if not isinstance(answer, dict):
            raise NoVerdict("the server's JSON is no object")
        return answer

    def _timed_out(self) -> _Unreached:
        return _Unreached(f"the judge timed out after {self._timeout:g} s")


def _read(response, deadline: float) -> bytes:
    """All of it; a server that sends a byte a second does not outlive the deadline."""
    text = b""
    while chunk := response.read1(65536):
        text += chunk
        if len(text) > _MOST_BYTES:
            raise NoVerdict("the server's answer is too long")
        if time.monotonic() > deadline:
            raise TimeoutError
    return text


def _verdict(answer: dict) -> tuple[bool, str]:
    try:
        [choice, *_] = answer["choices"]
        message = choice["message"]
        finish, refusal, content = choice.get("finish_reason"), message.get("refusal"), message.get("content")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise NoVerdict("the server's JSON is no chat completion") from None
    if refusal:
        raise NoVerdict("the judge refused")
    if finish == "length":
        raise NoVerdict("the judge's verdict was cut by max_tokens")
    if content is not None and not isinstance(content, str):
        raise NoVerdict("the server's JSON is no chat completion")
    return read_reply(content)


def _score(answer: dict) -> tuple[bool, str]:
    try:
        [score] = answer["rewards"]
        return float(score) > 0, f"score {float(score):.3f}"
    except (KeyError, TypeError, ValueError):
        raise NoVerdict("the server's JSON has no rewards of one query") from None


def unreachable(settings: options.Judge) -> str | None:
    """Why a judge cannot be asked from this machine; None if it can. A judge that writes also has to know its name."""
    import httpx

    address = f"{settings.url.rstrip('/')}/models"
    try:
        answer = httpx.get(address, headers=_key(), timeout=min(settings.request_timeout, 10.0))
    except httpx.HTTPError as error:
        return f"nothing answers at {settings.url} ({error or type(error).__name__}); start the judge, or correct it"
    if settings.kind == "classic":
        return None  # serve_rm has no list of models
    if answer.status_code != 200:
        return (
            f"{address} answers HTTP {answer.status_code}; name the address of an OpenAI-compatible server, with /v1"
        )
    try:
        names = [model["id"] for model in answer.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return f"{address} answers without a list of models; name the address of an OpenAI-compatible server"
    if settings.model not in names:
        return (
            f"{settings.url} has no model {settings.model!r} (it has {', '.join(names)}); set kimi.rewards.judge.model"
        )
    return None


def _key() -> dict[str, str]:
    token = os.environ.get(API_KEY)
    return {"Authorization": f"Bearer {token}"} if token else {}
