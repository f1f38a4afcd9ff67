"""Grading in processes of their own: hostile and broken answers can neither hang nor grow the caller.

Each is killed at the deadline and replaced from a fork server (forkserver.py) that has the grader loaded.
A response that takes too much time or memory is wrong, so that none can choose to be left out; if grading the
reference alone fails as well, or a process dies, the grade is a failed one and says why.
"""

import asyncio
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kimi_plugins.grading import frames
from kimi_plugins.grading.extraction import compiled
from kimi_plugins.grading.verdict import Kind, Verdict

_POLL_SECONDS = 0.2
_START_UP_SECONDS = 120.0  # of the fork server, on a busy machine


class Pool:
    """Grader processes. All methods can be called from any thread; close() or `with` ends the processes.

    Args:
        workers: number of processes, at least 1.
        timeout: seconds of one grade.
        patience: above 1, the timeout is counted in CPU time, and each second of it may take this many by the clock.
        memory_mib: address space of a process, MiB.
        pattern: of the final answer, see extraction.final_answers.
    """

    def __init__(
        self, workers: int = 1, *, timeout: float, memory_mib: int, pattern: str | None = None, patience: float = 1
    ) -> None:
        if workers < 1 or not timeout > 0:
            raise ValueError(f"workers is {workers}, timeout is {timeout}: workers must be ≥ 1 and the timeout > 0 s")
        if pattern is not None:
            compiled(pattern)
        self.workers, self.timeout, self.memory_mib, self.pattern = workers, timeout, memory_mib, pattern
        self.patience = patience
        self._server = _ForkServer()
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)  # started when first needed

    def grade(self, response: str, reference: str) -> Verdict:
        """Grade a response; returns within twice the timeout from when a process is free."""
        verdict = self._grade(response, reference)
        by_response = verdict.kind is Kind.FAILED and not isinstance(verdict, _ByMachine)
        if by_response and reference.strip() and self._grade(None, reference).correct:
            return Verdict(Kind.WRONG, f"the response cannot be graded: {verdict.reason}")
        return verdict

    def _grade(self, response: str | None, reference: str) -> Verdict:
        worker = self._idle.get()
        try:
            for _ in range(2):
                worker = worker or self._server.fork(self.memory_mib)
                verdict, ends = self._ask(worker, response, reference)
                if ends:
                    worker.kill()
                    worker = None  # the next grade forks another, in milliseconds
                if verdict is not None:
                    return verdict
            return _DIED
        except ForkServerError as error:
            return Verdict(Kind.FAILED, str(error))
        finally:
            self._idle.put(worker)

    async def grade_async(self, response: str, reference: str) -> Verdict:
        return await asyncio.to_thread(self.grade, response, reference)

    def grade_all(self, pairs: Iterable[tuple[str, str]]) -> Iterator[Verdict]:
        """The verdicts of (response, reference) pairs, in their order, as soon as they are there."""
        threads = ThreadPoolExecutor(self.workers)
        pending: queue.SimpleQueue = queue.SimpleQueue()
        try:
            for pair in pairs:
                pending.put(threads.submit(self.grade, *pair))
                if pending.qsize() > 4 * self.workers:  # no more ahead: the pairs may not fit the memory
                    yield pending.get().result()
            while not pending.empty():
                yield pending.get().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def processes(self) -> list[int]:
        """Process ids of the graders that are idle."""
        return [worker.pid for worker in list(self._idle.queue) if worker is not None]

    def close(self) -> None:
        self._server.close()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _ask(self, worker: "_Worker", response: str | None, reference: str) -> tuple[Verdict | None, bool]:
        """A verdict, None if the process had ended before it was asked; and whether it is of no more use."""
        deadline, cpu_seconds = time.monotonic() + self.patience * self.timeout, worker.cpu_seconds()
        try:
            frames.send(worker.connection, [response, reference, self.pattern], deadline)
        except BrokenPipeError:
            return None, True
        except TimeoutError:
            return self._timed_out(), True
        try:
            if self.patience > 1:
                self._wait(worker, deadline, cpu_seconds + self.timeout)
            kind, reason, ends = frames.receive(worker.connection, deadline)
        except TimeoutError:
            if worker.cpu_seconds() - cpu_seconds < self.timeout / 10:
                reason = f"{self._timed_out().reason}, of which it ran less than a tenth"
                return _ByMachine(Kind.FAILED, reason), True
            return self._timed_out(), True
        except (EOFError, OSError, ValueError):
            return _DIED, True
        return Verdict(Kind(kind), reason), ends

    def _wait(self, worker: "_Worker", deadline: float, cpu_seconds: float) -> None:
        """Until the process has answered. Raises TimeoutError at the deadline or when it has used the CPU time."""
        while not select.select([worker.connection], [], [], _POLL_SECONDS)[0]:
            if time.monotonic() > deadline or worker.cpu_seconds() > cpu_seconds:
                raise TimeoutError

    def _timed_out(self) -> Verdict:
        return Verdict(Kind.FAILED, f"timed out after {self.timeout:g} s")


class _ByMachine(Verdict):
    """A failed grade for which the response is not the reason."""


_DIED = _ByMachine(Kind.FAILED, "the grader process died")


class _Worker:
    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.connection, self.pid = connection, pid
        self._descriptor = os.pidfd_open(pid)  # the number may be another process's later

    def cpu_seconds(self) -> float:
        """CPU time that the process has used; 0 if it is gone."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        try:
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self._descriptor)
        self.connection.close()


class ForkServerError(RuntimeError):
    """No grader process could be started; the message says why."""


class _ForkServer:
    """Starts forkserver.py when first needed, and again if it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None
        self._closed = False

    def fork(self, memory_mib: int) -> _Worker:
        with self._lock:
            for _ in range(2):
                if self._closed:
                    raise ForkServerError("the pool is closed")
                if self._control is None:
                    self._start()
                try:
                    return self._fork(memory_mib)
                except (OSError, EOFError, ValueError) as error:
                    reason = f"no grader process could be started: {error or type(error).__name__}"
                    self._stop()
        raise ForkServerError(reason)

    def _fork(self, memory_mib: int) -> _Worker:
        assert self._control is not None
        ours, theirs = socket.socketpair()
        with theirs:
            self._control.settimeout(_START_UP_SECONDS)
            socket.send_fds(self._control, [b"%d" % memory_mib], [theirs.fileno()])
            answer = self._control.recv(64)
        if not answer:
            raise EOFError("the fork server died")
        return _Worker(ours, int(answer))

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kimi_plugins.grading.forkserver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C is the caller's
            )

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._stop()

    def _stop(self) -> None:
        if self._control is not None and self._process is not None:
            self._control.close()  # it ends then, and the graders with it
            self._process.wait()
            self._control = self._process = None
