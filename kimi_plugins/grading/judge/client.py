"""Asks a judge over HTTP, by the openai client: deadlines, bounded retries, and a rest when it seems to be down."""

import asyncio
import email.utils
import json
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TYPE_CHECKING

from kimi_plugins import options
from kimi_plugins.grading.judge.prompt import SCHEMA, Case, NoVerdict, prompt, read_reply

if TYPE_CHECKING:  # a second to import, for those who ask a judge
    import httpx
    import openai

API_KEY = "KIMI_JUDGE_API_KEY"  # environment variable; sent as a bearer token, to the judge alone
BACKOFF = 0.5  # seconds before the second attempt, then doubled up to 16 times as long, ± 50 %
MOST_WAIT = 120.0  # seconds of a server's Retry-After that are waited
DOWN_AFTER = 8  # attempts in a row, over a time-out or longer, that reached no judge
DOWN_SECONDS = 30.0  # in which nothing is asked then, so that a run sees its failures soon
IDENTITY_SECONDS = 60.0  # after which the judge is asked again what it is
_MOST_BYTES = 2**20  # of a reply
_MOST_TOKENS = 4  # times max_tokens, of a verdict that was cut
# The score of these tells a classic judge from another one: its server has no name for its model.
_PROBES = ("=== probe", "The final answer is 4. The reference answer is 5.")


class Failed(Exception):
    """No verdict; the message says why."""


class _Unreached(Failed):
    """Time-out, connection, HTTP 408, 429, 5xx: another attempt may succeed. wait: seconds the server asks to wait."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Cut(NoVerdict):
    """The verdict did not fit in max_tokens: asked again unchanged, it would be cut again."""


class Client:
    """One judge. Can be used from any thread; at most `concurrency` requests are under way.

    Requests are made in an event loop of its own, where a deadline holds for all of a request: the connection, the
    headers, the body. close() ends it.
    """

    def __init__(self, settings: options.Judge) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._unreached, self._unreached_since, self._rests_until = 0, 0.0, 0.0
        self._identity: str | None = None
        self._identity_until = 0.0
        self._asking = asyncio.Lock()
        self._clients: tuple[httpx.AsyncClient, openai.AsyncOpenAI] | None = None
        self._headers: dict = {}
        threading.Thread(target=self._loop.run_forever, daemon=True, name="judge").start()

    def ask(self, case: Case) -> tuple[bool, str]:
        """(correct, reasoning) from a judge that writes, (correct, score) from a classic one. Raises Failed."""
        return asyncio.run_coroutine_threadsafe(self._ask(case), self._loop).result()

    def identity(self) -> str | None:
        """What judge answers at the address, for the cache; None if it does not say."""
        return asyncio.run_coroutine_threadsafe(self._identify(), self._loop).result()

    def close(self) -> None:
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)

    async def _end(self) -> None:
        if self._clients is not None:
            await self._clients[0].aclose()

    async def _ask(self, case: Case) -> tuple[bool, str]:
        text, tokens = prompt(case), self._settings.max_tokens
        failure: Exception
        for attempt in range(self._settings.attempts):
            try:
                async with self._slots:
                    if time.monotonic() < self._rests_until:
                        raise Failed("the judge is down")
                    answer = await self._within(self._request(text, tokens))
                self._reached(True)
                return _verdict(answer) if self._settings.kind == "cot" else _score(answer)
            except _Unreached as error:
                self._reached(False)
                failure, wait = error, error.wait
            except NoVerdict as error:
                failure, wait = error, None
                if isinstance(error, _Cut) and tokens < _MOST_TOKENS * self._settings.max_tokens:
                    tokens *= 2
                elif isinstance(error, _Cut):
                    break
                else:
                    text = prompt(case)  # with another code: at temperature 0 the same words get the same reply
            if attempt + 1 < self._settings.attempts:
                await asyncio.sleep(_pause(attempt) if wait is None else wait)
        raise Failed(str(failure))

    async def _request(self, text: str, tokens: int) -> dict:
        if self._settings.kind == "classic":
            return await self._plain("POST", "/get_reward", {"query": [f"{text} {self._settings.eos_token}"]})
        _, client = self._connected()
        async with client.chat.completions.with_streaming_response.create(
            model=self._settings.model,
            messages=[{"role": "user", "content": text}],
            temperature=0,
            max_tokens=tokens,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "verdict", "schema": SCHEMA, "strict": True},
            },
            extra_headers=self._headers,
        ) as response:
            return _object(await _bounded(response.iter_bytes()))

    async def _plain(self, method: str, path: str, body: dict | None = None) -> dict:
        """A request that is not OpenAI's: to serve_rm, or for vLLM's own fields of a model."""
        client, _ = self._connected()
        async with client.stream(method, self._url + path, json=body, headers=_key()) as response:
            text = await _bounded(response.aiter_bytes())
        if not response.is_success:
            raise _refused(response.status_code, response.headers, text.decode(errors="replace"))
        return _object(text)

    async def _within(self, request: Awaitable[dict]) -> dict:
        """The reply, if it is there within the time-out. Raises Failed, _Unreached or NoVerdict."""
        import httpx
        import openai

        try:
            async with asyncio.timeout(self._settings.request_timeout):
                return await request
        except openai.APIStatusError as error:
            raise _refused(error.status_code, error.response.headers, str(error.body or "")) from None
        except (TimeoutError, openai.APITimeoutError):
            raise _Unreached(f"the judge timed out after {self._settings.request_timeout:g} s") from None
        except (openai.APIConnectionError, httpx.HTTPError) as error:
            reason = error.__cause__ or error
            raise _Unreached(f"the judge cannot be reached: {reason or type(reason).__name__}") from None

    def _connected(self) -> "tuple[httpx.AsyncClient, openai.AsyncOpenAI]":
        if self._clients is not None:
            return self._clients
        import httpx
        import openai

        # Redirects are not followed: the key, the question and the verdict are this judge's.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self._settings.concurrency)
        http = httpx.AsyncClient(follow_redirects=False, timeout=None, limits=limits)
        # What the environment holds for OpenAI's own service is not for the judge.
        self._headers = (
            dict.fromkeys(("OpenAI-Organization", "OpenAI-Project", "Authorization"), openai.Omit()) | _key()
        )
        client = openai.AsyncOpenAI(
            api_key="see the headers",
            base_url=self._url,
            http_client=http,
            max_retries=0,
        )
        self._clients = http, client
        return self._clients

    async def _identify(self) -> str | None:
        async with self._asking:
            if time.monotonic() >= self._identity_until:
                self._identity = await self._asked_identity()
                self._identity_until = time.monotonic() + IDENTITY_SECONDS
            return self._identity

    async def _asked_identity(self) -> str | None:
        try:
            if self._settings.kind == "classic":
                bodies = [{"query": [probe]} for probe in _PROBES]
                answers = [await self._within(self._plain("POST", "/get_reward", body)) for body in bodies]
                return "scores " + " ".join(f"{float(answer['rewards'][0]):.2f}" for answer in answers)
            return _described(await self._within(self._plain("GET", "/models")), self._settings.model)
        except (Failed, NoVerdict, KeyError, IndexError, TypeError, ValueError):
            return None

    def _reached(self, reached: bool) -> None:
        now = time.monotonic()
        if reached:
            self._unreached = 0
            return
        self._identity_until = 0.0  # another one may answer next
        if self._unreached == 0:
            self._unreached_since = now
        self._unreached += 1
        if self._unreached >= DOWN_AFTER and now - self._unreached_since >= self._settings.request_timeout:
            self._rests_until = now + DOWN_SECONDS


def _key() -> dict[str, str]:
    token = os.environ.get(API_KEY)
    return {"Authorization": f"Bearer {token}"} if token else {}


def _pause(attempt: int) -> float:
    return BACKOFF * 2 ** min(attempt, 4) * random.uniform(0.5, 1.5)


async def _bounded(chunks: AsyncIterator[bytes]) -> bytes:
    text = b""
    async for chunk in chunks:
        text += chunk
        if len(text) > _MOST_BYTES:
            raise NoVerdict("the server's answer is too long")
    return text


def _object(text: bytes) -> dict:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise NoVerdict("the server wrote no JSON") from None
    if not isinstance(answer, dict):
        raise NoVerdict("the server's JSON is not an object")
    return answer


def _refused(code: int, headers: Mapping[str, str], text: str) -> Failed:
    """What a reply with another status than 200 says."""
    if code in (408, 429) or code >= 500:
        wait = _retry_after(headers.get("retry-after"))
        if wait is not None and wait > MOST_WAIT:
            return Failed(f"the judge answered HTTP {code} and asks to wait {wait:.0f} s")
        return _Unreached(f"the judge answered HTTP {code}", wait)
    if 300 <= code < 400:
        return Failed(f"the judge redirects to {headers.get('location')}; set its url to that if it is right")
    return Failed(f"the judge answered HTTP {code}: {' '.join(text[:300].split())}")


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait, of a header that is a number or a date; None without a sensible one."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _described(models: dict, name: str) -> str | None:
    """What a list of models says of one: its names and where its weights are from; `judge-serve` adds their hash."""
    entries = [model for model in models["data"] if isinstance(model, dict)]
    roots = {model.get("root") for model in entries if model.get("id") == name}
    if not roots:
        return None
    names = sorted(str(model.get("id")) for model in entries if model.get("root") in roots)
    return json.dumps([names, sorted(map(str, roots))])


def _verdict(answer: dict) -> tuple[bool, str]:
    try:
        [choice, *_] = answer["choices"]
        message = choice["message"]
        finish, refusal, content = choice.get("finish_reason"), message.get("refusal"), message.get("content")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise NoVerdict("the server's JSON is not a chat completion") from None
    if refusal:
        raise NoVerdict("the judge refused")
    if finish == "length":
        raise _Cut("the judge's verdict was cut by max_tokens")
    if content is not None and not isinstance(content, str):
        raise NoVerdict("the server's JSON is not a chat completion")
    return read_reply(content)


def _score(answer: dict) -> tuple[bool, str]:
    """Correct above 0, the logit of one half."""
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
