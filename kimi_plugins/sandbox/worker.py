"""The process that runs programs one after the other, each in a fresh bubblewrap sandbox.

It lives in the control groups it starts programs in: children are born there, and moving a process would cost more
than starting it. It is small, so that forking it is cheap, has one thread, which bwrap's --die-with-parent needs, and
ends when the process that asks closes the connection, however that one ended. It knows inputs only, no labels.
"""

import ctypes
import json
import math
import os
import resource
import select
import signal
import time
from multiprocessing.connection import Connection

from kimi_plugins.sandbox.cgroups import Cgroup

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
OWN_TASKS = 1
BWRAP_TASKS = 2  # bwrap outside, and as the first process inside
NOBODY = 65534
STDERR_KEPT = 64 << 10  # bytes
CLEAN_SECONDS = 10.0
OPEN_FILES = 256
PATIENCE = 4  # times the wall limit, for programs that get no core


class Abandoned(Exception):
    """Nobody waits for the result any more."""


class Worker:
    def __init__(self, asker: list[int], settings: dict):
        self.asker = asker  # readable when the process that asks ends or closes the connection
        self.bwrap: list[str] = settings["bwrap"]  # program and the options that never change
        self.cgroup = Cgroup(**settings["cgroup"])
        self.filter = _file(settings["filter"])

    def run(self, request: dict) -> dict:
        """One program in one sandbox; what comes back is described at pool.Result."""
        limits = request["limits"]
        self.cgroup.limit(limits["memory_mb"] << 20, OWN_TASKS + BWRAP_TASKS + limits["processes"])
        kills = self.cgroup.memory_kills()
        stdin = _file(request["stdin"])
        files = [(name, _file(content)) for name, content in request["files"]]
        os.lseek(self.filter, 0, os.SEEK_SET)
        out, err, status = os.pipe(), os.pipe(), os.pipe()
        for fd in (out[0], err[0], status[0]):
            os.set_blocking(fd, False)  # a program of the same user could read from its own pipe
        if os.geteuid() == 0:
            os.fchown(out[1], NOBODY, NOBODY)  # so that it can be opened as /dev/stdout
        inherited = [self.filter, status[1], *(fd for _, fd in files)]
        arguments = self.bwrap + self._options(request, status[1], files) + ["--", *request["argv"]]
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _become(arguments, limits, (stdin, out[1], err[1]), inherited)
        for fd in (stdin, out[1], err[1], status[1], *(fd for _, fd in files)):
            os.close(fd)
        try:
            stopped, streams = self._watch(
                pid, {"stdout": out[0], "stderr": err[0], "status": status[0]}, limits, began
            )
        finally:
            for fd in (out[0], err[0], status[0]):
                os.close(fd)
            cpu_seconds = self._end()
        seconds = time.monotonic() - began
        exit_code = _exit_code(streams["status"])
        spent = cpu_seconds > limits["cpu_seconds"] or exit_code == 128 + signal.SIGXCPU
        if self.cgroup.memory_kills() > kills:
            stopped = "memory"
        elif stopped in (None, "busy") and spent:
            stopped = "cpu"
        elif stopped == "busy":
            raise RuntimeError(f"the machine is too busy: {cpu_seconds:.1f} s of a core in {seconds:.1f} s")
        elif stopped is None and exit_code is None:
            message = streams["stderr"].decode(errors="replace").strip()
            raise RuntimeError(f"bwrap could not start the program: {message}")
        return {
            "stopped": stopped,
            "exit_code": exit_code,
            "stdout": bytes(streams["stdout"]),
            "stderr": bytes(streams["stderr"]),
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
        }

    def _options(self, request: dict, status: int, files: list) -> list[str]:
        disk = str(request["limits"]["disk_mb"] << 20)
        options = ["--seccomp", str(self.filter), "--json-status-fd", str(status)]
        for source, target in request["mounts"]:
            options += ["--ro-bind", source, target]
        # Own sizes: a tmpfs is bounded by half of the machine's memory otherwise.
        options += ["--size", disk, "--tmpfs", "/dev/shm", "--size", disk, "--tmpfs", "/tmp"]
        for name, fd in files:
            options += ["--perms", "0755", "--file", str(fd), f"/tmp/{name}"]
        for name, target in request["links"]:
            options += ["--symlink", target, f"/tmp/{name}"]
        return options + ["--remount-ro", "/"]

    def _watch(self, pid: int, readers: dict[str, int], limits: dict, began: float) -> tuple[str | None, dict]:
        """Read what the program writes until it ends or passes a limit.

        Returns what must stop it (None: it ended by itself), and what each reader gave.
        """
        room = {"stdout": limits["output_kb"] << 10, "stderr": STDERR_KEPT, "status": STDERR_KEPT}
        streams = {name: bytearray() for name in readers}
        names = {fd: name for name, fd in readers.items()}
        poll = select.poll()
        for fd in names:
            poll.register(fd, select.POLLIN)
        for fd in self.asker:
            poll.register(fd, select.POLLIN)
        pidfd = os.pidfd_open(pid)
        poll.register(pidfd, select.POLLIN)
        deadline = began + limits["wall_seconds"]
        stopped, ended = None, False
        while not ended or names:
            left = deadline - time.monotonic()
            if left <= 0 and not ended and stopped is None:
                stopped, left = self._time_left(limits, time.monotonic() - began)
                deadline = time.monotonic() + left
            if stopped or left <= 0:
                break
            for fd, _ in poll.poll(math.ceil(left * 1000)):
                if fd == pidfd:
                    # What the program left running dies with the sandbox; only what is in the pipes is still read.
                    ended, deadline = True, time.monotonic() + CLEAN_SECONDS
                    poll.unregister(pidfd)
                    continue
                if fd not in names:
                    raise Abandoned
                name = names[fd]
                try:
                    chunk = os.read(fd, 1 << 16)
                except BlockingIOError:  # the program has read it
                    continue
                if not chunk:
                    poll.unregister(fd)
                    del names[fd]
                    continue
                stream = streams[name]
                if name == "stdout" and len(stream) + len(chunk) > room[name]:
                    stopped = "output"
                stream += chunk[: room[name] - len(stream)]
        os.close(pidfd)
        return stopped, streams

    def _time_left(self, limits: dict, seconds: float) -> tuple[str | None, float]:
        """What stops a program after `seconds` of wall time, or how long it may go on.

        Time in which it was ready to run and the machine had no core for it does not count, as long as it is one
        thread: several can wait for each other.
        "busy": the machine is too busy to tell what the program would have done.
        """
        ran, waited = 0.0, 0.0
        for member in self.cgroup.members() - {os.getpid()}:
            try:
                with open(f"/proc/{member}/schedstat", encoding="ascii") as file:
                    running, waiting, _ = map(int, file.read().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
            ran, waited = ran + running / 1e9, waited + waiting / 1e9
        if ran > limits["cpu_seconds"]:
            return "cpu", 0.0
        if self.cgroup.tasks() > OWN_TASKS + BWRAP_TASKS + 1:
            waited = 0.0
        left = limits["wall_seconds"] - (seconds - waited)
        if left <= 0:
            return "time", 0.0
        if seconds > PATIENCE * limits["wall_seconds"]:
            return "busy", 0.0
        return None, left

    def _end(self) -> float:
        """End and reap all that is left of the sandbox, until nothing is charged; returns its CPU seconds."""
        cpu_seconds = 0.0
        deadline = time.monotonic() + CLEAN_SECONDS
        pause = 0.0002
        while True:
            for member in self.cgroup.members() - {os.getpid()}:
                try:
                    os.kill(member, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            # Whatever bwrap leaves behind becomes a child of this process, for it is a subreaper.
            while (reaped := _reap()) is not None:
                cpu_seconds += reaped
            if self.cgroup.tasks() == OWN_TASKS:
                return cpu_seconds
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of a sandbox cannot be ended: {self.cgroup.members()}")
            time.sleep(pause)
            pause = min(2 * pause, 0.01)


def _reap() -> float | None:
    """CPU seconds of a dead child and its descendants; None if no child is dead."""
    try:
        pid, _, usage = os.wait4(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return usage.ru_utime + usage.ru_stime if pid else None


def _become(arguments: list[str], limits: dict, streams: tuple[int, int, int], inherited: list[int]) -> None:
    """The child turns into bwrap: limits, streams, nobody, an empty environment. Never returns."""
    try:
        for target, fd in enumerate(streams):
            os.dup2(fd, target)
        for fd in inherited:
            os.set_inheritable(fd, True)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")  # short of memory, the kernel ends the program, not the worker
        cpu, disk = math.ceil(limits["cpu_seconds"]), limits["disk_mb"] << 20
        _limit(resource.RLIMIT_CPU, cpu, cpu + 1)  # SIGXCPU, a second later SIGKILL
        _limit(resource.RLIMIT_FSIZE, disk, disk)
        stack = limits["memory_mb"] << 20
        _limit(resource.RLIMIT_STACK, stack, stack)
        _limit(resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)
        for name in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
            _limit(name, 0, 0)
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        os.execve(arguments[0], arguments, {})
    except (OSError, ValueError) as error:
        os.write(2, str(error).encode())
    finally:
        os._exit(127)


def _limit(name: int, soft: int, hard: int) -> None:
    _, ceiling = resource.getrlimit(name)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(name, (soft, hard))


def _file(content: bytes) -> int:
    """A file without a name that holds content."""
    fd = os.memfd_create("sandbox")
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _exit_code(status: bytes) -> int | None:
    """The program's exit code as bwrap reports it, 128 + n for signal n; None if it never started or was killed."""
    for line in status.splitlines():
        code = json.loads(line).get("exit-code")
        if code is not None:
            return code
    return None


def main() -> None:
    """Serve requests on file descriptor 0 until it is closed or the process at its other end is gone."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    connection = Connection(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    asker = [connection.fileno(), os.pidfd_open(os.getppid())]
    try:
        settings = connection.recv()
        cgroup = Cgroup(**settings["cgroup"])
        before = cgroup.enter()
    except EOFError:
        return
    try:
        _serve(connection, asker, Worker(asker, settings))
    except (EOFError, BrokenPipeError, ConnectionResetError, Abandoned):
        return
    finally:
        cgroup.leave(before)


def _serve(connection: Connection, asker: list[int], worker: Worker) -> None:
    connection.send({})
    while asker[1] not in select.select(asker, [], [])[0]:
        request = connection.recv()
        try:
            reply = worker.run(request)
        except (OSError, RuntimeError) as error:
            # What state the sandbox is in is not known: a new worker is started for the next program.
            connection.send({"error": f"{type(error).__name__}: {error}"})
            return
        connection.send(reply)


if __name__ == "__main__":
    main()
