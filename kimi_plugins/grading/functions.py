"""A user's reward function, called in processes of its own: it may raise, return nonsense, hang or die.

A thread cannot be ended, and one that holds the interpreter's lock, as a regular expression does, stops the engine it
runs in. So each call is made in a process (function_worker.py) that is killed at its deadline and replaced.
"""

import math
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from kimi_plugins.grading import frames

# A process is to end with this one, and the kernel ends it with the thread that started it: one that stays.
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="functions")
_PATIENCE = 0.1  # seconds a call waits for a busy process before another one is started
_MOST_TRACEBACK = 4000  # characters


class FunctionFailed(Exception):
    """The function gave no grade; the message says why. traceback: where it raised, if it did."""

    def __init__(self, reason: str, traceback: str = "") -> None:
        super().__init__(reason)
        self.traceback = traceback[-_MOST_TRACEBACK:]


class TimedOut(FunctionFailed):
    """It took longer than a call or its import may."""


class Graded(NamedTuple):
    """reward: what is trained on. score: how right the response is. logs: further numbers by name."""

    reward: float
    score: float
    logs: dict[str, float]


class Function:
    """A function in killable processes. Can be called from any thread; close() ends the processes.

    Args:
        target: `module:function`, or the path of a Python file with OpenRLHF's reward_func.
        extra: further keyword arguments of every call.
        workers: processes at most; each makes one call at a time.
        timeout: seconds of one call.
        start_timeout: seconds of the import.
    """

    def __init__(
        self, target: str, extra: dict | None = None, *, workers: int, timeout: float, start_timeout: float = 600.0
    ) -> None:
        if workers < 1 or not 0 < timeout < math.inf:
            raise ValueError(f"workers is {workers} and timeout is {timeout}: both must be above 0, and finite")
        self._target, self._extra, self._workers = target, extra or {}, workers
        self._timeout, self._start_timeout = timeout, start_timeout
        self._idle: queue.LifoQueue[_Process] = queue.LifoQueue()
        self._unstarted, self._starting = threading.Semaphore(workers), threading.Lock()
        self._live: set[_Process] = set()

    def check(self) -> None:
        """Import the function. Raises FunctionFailed if that fails, or if it has another signature."""
        self._idle.put(self._process())

    def grade(self, response: str, label: object, prompt: str = "", query: str | None = None) -> Graded:
        """One call. Raises FunctionFailed.

        query: prompt and response together, as the tokens were decoded; None: joined.
        """
        query = prompt + response if query is None else query
        for tries_left in range(self._workers, -1, -1):
            process = self._process()
            try:
                answer = process.ask([query, response, label, prompt], self._timeout)
            except TimeoutError:
                self._end(process)
                raise TimedOut(f"{self._target} timed out after {self._timeout:g} s") from None
            except (EOFError, OSError) as error:
                self._end(process)
                if not tries_left or not isinstance(error, BrokenPipeError):  # else it had ended before it was asked
                    raise FunctionFailed(f"the process of {self._target} died") from None
                continue
            except (TypeError, ValueError) as error:
                self._end(process)
                raise FunctionFailed(f"{self._target} cannot be sent its arguments: {error}") from None
            except BaseException:
                self._end(process)
                raise
            self._idle.put(process)
            if "error" in answer:
                raise FunctionFailed(f"{self._target} raised {answer['error']}", answer["traceback"])
            try:
                return read_result(answer["value"])
            except ValueError as error:
                raise FunctionFailed(f"{self._target} returned {error}") from None
        raise AssertionError("unreachable")

    def close(self) -> None:
        for process in list(self._live):
            self._end(process)

    def _process(self) -> "_Process":
        """An idle process, or a new one where calls have to wait; they are started one after the other."""
        patience = 0.0 if not self._live else _PATIENCE
        while True:
            try:
                return self._idle.get(patience > 0, patience or None)
            except queue.Empty:
                patience = _PATIENCE
            if self._starting.acquire(blocking=False):
                try:
                    if self._unstarted.acquire(blocking=False):
                        return self._start()
                finally:
                    self._starting.release()

    def _start(self) -> "_Process":
        process = None
        try:
            process = _STARTER.submit(_Process, self._target).result()
            self._live.add(process)
            try:
                answer = process.ask(self._extra, self._start_timeout)
            except TimeoutError:
                raise TimedOut(f"{self._target} was not imported within {self._start_timeout:g} s") from None
            except (EOFError, OSError):
                raise FunctionFailed(f"{self._target} cannot be imported: its process died") from None
            if "error" in answer:
                raise FunctionFailed(f"{self._target} cannot be used: {answer['error']}", answer["traceback"])
            return process
        except BaseException:
            if process is None:
                self._unstarted.release()
            else:
                self._end(process)
            raise

    def _end(self, process: "_Process") -> None:
        if process in self._live:
            self._live.discard(process)
            process.kill()
            self._unstarted.release()


class _Process:
    def __init__(self, target: str) -> None:
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "kimi_plugins.grading.function_worker", str(theirs.fileno()), target],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, os.getcwd()]))},
                start_new_session=True,  # Ctrl-C is the caller's
            )

    def ask(self, message: object, timeout: float) -> dict:
        """Raises TimeoutError, OSError, EOFError or, for what JSON cannot hold, TypeError or ValueError."""
        deadline = time.monotonic() + timeout
        frames.send(self._connection, message, deadline)
        answer = frames.receive(self._connection, deadline)
        if not isinstance(answer, dict):
            raise EOFError
        return answer

    def kill(self) -> None:
        self._connection.close()
        self._popen.kill()
        self._popen.wait()


def read_result(value: object) -> Graded:
    """What a reward function returned for one response: a number, or OpenRLHF's dict. Raises ValueError if neither."""
    if not isinstance(value, dict):
        reward = _number(value, "its value")
        return Graded(reward, reward, {})
    if value.get("rewards") is None:
        raise ValueError(f"a dict without rewards: {sorted(value)!r:.80}")
    reward = _number(value["rewards"], "rewards")
    score = reward if value.get("scores") is None else _number(value["scores"], "scores")
    logs = value.get("extra_logs") or {}
    if not isinstance(logs, dict):
        raise ValueError(f"extra_logs that are not a dict: {logs!r:.60}")
    return Graded(reward, score, {name: _number(item, f"extra_logs[{name!r}]") for name, item in logs.items()})


def _number(value: object, name: str) -> float:
    """A finite number, or a list of one, at any depth."""
    found = value
    while isinstance(found, list):
        if len(found) != 1:
            raise ValueError(f"{name} of length {len(found)} for one response: {value!r:.60}")
        [found] = found
    if not isinstance(found, bool | int | float):
        raise ValueError(f"{name} that is not a number: {value!r:.60}")
    if not math.isfinite(found):
        raise ValueError(f"{name} that is not finite: {found}")
    return float(found)
