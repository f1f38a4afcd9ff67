"""The code reward over HTTP, for runs whose own machines may not isolate programs (`openrlhf kimi sandbox-serve`)."""

import base64
import binascii
import hmac
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kimi_plugins.grading.programs import Problem, judge, read_label
from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.sandbox.pool import Sandbox

LARGEST_BODY = 256 << 20  # bytes


def application(sandbox: Sandbox, respond: Callable, token: str | None, queue: int, cases: Path | None) -> Starlette:
    """The server's application: POST / grades, GET /health answers.

    Args:
        respond: response of a query and its prompt, None if it cannot be told.
        token: what a client must know, as bearer token or as password of the address; None: nothing.
        queue: responses that may wait beside those that are graded; more are refused with status 503.
        cases: the directory from which labels FILE#ID may be read; None: labels are JSON objects only.
    """
    threads = ThreadPoolExecutor(sandbox.workers)
    waiting = 0

    def grade(query: str, prompt: str, label: object) -> Verdict:
        response = respond(query, prompt)
        if response is None:
            return Verdict(Kind.FAILED, "the response cannot be told from the prompt")
        try:
            return judge(response, _problem(label, cases), sandbox)
        except (ValueError, OSError) as error:
            return Verdict(Kind.FAILED, str(error))

    async def rewards(request: Request) -> Response:
        nonlocal waiting
        if not _authorised(request.headers.get("authorization", ""), token):
            return JSONResponse({"error": "a token is needed"}, 401, {"WWW-Authenticate": "Bearer"})
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BODY:
                return JSONResponse({"error": f"more than {LARGEST_BODY} bytes"}, 413)
        try:
            rows = _rows(await run_in_threadpool(json.loads, bytes(body)))
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        if waiting + len(rows) > sandbox.workers + queue:
            return JSONResponse({"error": "too many responses wait"}, 503, {"Retry-After": "1"})
        waiting += len(rows)
        try:
            running = [threads.submit(grade, *row) for row in rows]
            verdicts = await run_in_threadpool(lambda: [future.result() for future in running])
        finally:
            waiting -= len(rows)
        return JSONResponse(_answer(verdicts))

    async def health(_: Request) -> Response:
        return JSONResponse({"workers": sandbox.workers, "waiting": waiting})

    return Starlette(routes=[Route("/", rewards, methods=["POST"]), Route("/health", health)])


def _rows(message) -> list[tuple[str, str, object]]:
    """(query, prompt, label) of each response. Raises ValueError."""
    if not isinstance(message, dict):
        raise ValueError("the body must be a JSON object with query, prompts and labels")
    found = [message.get(name) for name in ("query", "prompts", "labels")]
    columns = [column for column in found if isinstance(column, list)]
    if len(columns) != 3 or len({len(column) for column in columns}) != 1:
        raise ValueError("query, prompts and labels must be lists of one length")
    if not all(isinstance(text, str) for column in columns[:2] for text in column):
        raise ValueError("query and prompts must hold text")
    return list(zip(*columns, strict=True))


def _answer(verdicts: list[Verdict]) -> dict:
    """What OpenRLHF expects of a reward server."""
    values = [float(verdict.correct or False) for verdict in verdicts]
    failed = [float(verdict.correct is None) for verdict in verdicts]
    reasons = [verdict.reason for verdict in verdicts]
    return {"rewards": values, "scores": values, "extra_logs": {"grader_failed": failed}, "reasons": reasons}


def _problem(label: object, cases: Path | None) -> Problem:
    """Raises ValueError or OSError."""
    if isinstance(label, dict):
        return Problem.parse(label)
    text = str(label)
    if not text.lstrip().startswith("{"):
        path = Path(text.rpartition("#")[0]).resolve()
        if cases is None or not path.is_relative_to(cases.resolve()):
            raise ValueError("labels must be JSON objects, or FILE#ID below the server's --cases")
    return read_label(text)


def _authorised(header: str, token: str | None) -> bool:
    if token is None:
        return True
    scheme, _, given = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given).decode().rpartition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    return hmac.compare_digest(given.strip().encode(), token.encode())
