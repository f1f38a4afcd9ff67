"""The process that has programs run one after the other, each in fresh namespaces, and watches their limits.

It starts one outer sandbox by bubblewrap, in a control group of its own, in which starter.py forks each program. It
has one thread, which bwrap's --die-with-parent needs, and ends when the process that asks closes the connection,
however that one ended. It knows inputs only, no labels, and never blocks on what a program can reach.
"""

import ctypes
import json
import math
import os
import resource
import select
import signal
import socket
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path

from kimi_plugins.sandbox import cgroups
from kimi_plugins.sandbox.cgroups import Cgroup

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
HELPERS = 1  # process beside the program's, of each run
NOBODY = 65534
STDERR_KEPT = 64 << 10  # bytes
START_SECONDS = 30.0
CLEAN_SECONDS = 10.0
STACK_BYTES = 512 << 20  # for which the starter's address space leaves room
PATIENCE = 20  # times the wall limit, for programs that get no core
LEAST_CHECK, MOST_CHECK = 0.01, 1.0  # seconds between looks at the CPU time
INSIDE = ("starter.py", "interpreter.py", "preamble.py")  # files beside this one, as /kimi/… in the outer sandbox


class Abandoned(Exception):
    """Nobody waits for the result any more."""


class Worker:
    def __init__(self, asker: list[int], settings: dict):
        self.asker = asker  # readable when the process that asks ends or closes the connection
        self.settings = settings
        self.cgroup = Cgroup(**settings["cgroup"])
        self.origin = self.cgroup.enter_as_worker()
        self.limited: tuple[int, int] | None = None
        self._start()

    def _start(self) -> None:
        """Start the outer sandbox. Raises RuntimeError with what bwrap or the starter says."""
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        contents = {name: Path(__file__).with_name(name).read_bytes() for name in INSIDE}
        contents |= {"filter": self.settings["filter"], "init": _init()}
        files = [(name, _file(content)) for name, content in contents.items()]
        arguments = list(self.settings["bwrap"])
        for name, fd in files:
            arguments += ["--perms", "0555", "--file", str(fd), f"/kimi/{name}"]
        arguments += ["--remount-ro", "/", "--", self.settings["python"], "-I", "/kimi/starter.py", "/kimi/filter"]
        errors, errors_in = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(arguments, self.cgroup, theirs.fileno(), errors_in, [fd for _, fd in files])
        theirs.close()
        for fd in (errors_in, *(fd for _, fd in files)):
            os.close(fd)
        self.control.settimeout(START_SECONDS)
        try:
            ready = self.control.recv(1)
        except (TimeoutError, OSError):
            ready = b""
        if not ready:
            self._kill(set())
            os.set_blocking(errors, False)
            try:
                said = os.read(errors, 4096).decode(errors="replace").strip()
            except BlockingIOError:
                said = ""
            raise RuntimeError(f"the sandbox could not start: {said or 'no reason was given'}")
        os.close(errors)
        self.control.settimeout(CLEAN_SECONDS)
        self.own = self.cgroup.members()
        self.own_tasks = self.cgroup.tasks()
        self.own_memory = self.cgroup.memory_used()

    def run(self, request: dict) -> dict:
        """One program in fresh namespaces; what comes back is described at pool.Result."""
        limits = request["limits"]
        content = sum(len(content) for _, content in request["files"])
        self._limit((limits["memory_mb"] << 20) + content, limits["processes"])
        kills, cpu_before = self.cgroup.memory_kills(), self.cgroup.cpu_seconds()
        inputs = [_request(request), _file(request["stdin"])]
        out, err = os.pipe(), os.pipe()
        for fd in (out[0], err[0]):
            os.set_blocking(fd, False)  # a program of the same user could read from its own pipe
        if os.geteuid() == 0:
            os.fchown(out[1], NOBODY, NOBODY)  # so that it can be opened as /dev/stdout
        began = time.monotonic()
        try:
            socket.send_fds(self.control, [b"s"], [*inputs, out[1], err[1]])
        finally:
            for fd in (*inputs, out[1], err[1]):
                os.close(fd)
        try:
            stopped, streams, answer = self._watch({"stdout": out[0], "stderr": err[0]}, limits, began, cpu_before)
        finally:
            os.close(out[0])
            os.close(err[0])
        answer = self._end(answer)
        seconds, cpu_seconds = time.monotonic() - began, self.cgroup.cpu_seconds() - cpu_before
        killed = self.cgroup.memory_kills() > kills
        code = struct.unpack("i", answer[1:])[0] if answer[:1] == b"e" and len(answer) == 5 else None
        exit_code = code if code is not None and code >= 0 else None
        spent = cpu_seconds > limits["cpu_seconds"] or exit_code == 128 + signal.SIGXCPU
        if killed:
            stopped = "memory"
        elif stopped in (None, "busy") and spent:
            stopped = "cpu"
        elif stopped == "busy":
            raise RuntimeError(f"the machine is too busy: {cpu_seconds:.1f} s of a core in {seconds:.1f} s")
        elif stopped is None and exit_code is None:
            raise RuntimeError(
                f"the program could not be started: {answer[1:].decode(errors='replace') or 'no answer'}"
            )
        return {
            "stopped": stopped,
            "exit_code": None if stopped else exit_code,
            "stdout": bytes(streams["stdout"]),
            "stderr": bytes(streams["stderr"]),
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "last": not answer,  # the starter is dead, too: killed for want of memory
        }

    def _limit(self, memory: int, processes: int) -> None:
        if (memory, processes) != self.limited:
            self.cgroup.limit(self.own_memory + memory, self.own_tasks + HELPERS + processes)
            self.limited = memory, processes

    def _watch(
        self, readers: dict[str, int], limits: dict, began: float, cpu_before: float
    ) -> tuple[str | None, dict[str, bytearray], bytes | None]:
        """Read what the program writes until it ends or passes a limit.

        Returns what must stop it (None: it ended by itself), what each reader gave, and the starter's answer, if any.
        """
        room = {"stdout": limits["output_kb"] << 10, "stderr": STDERR_KEPT}
        streams = {name: bytearray() for name in readers}
        names = {fd: name for name, fd in readers.items()}
        poll = select.poll()
        for fd in (*names, *self.asker, self.control.fileno()):
            poll.register(fd, select.POLLIN)
        starved_before = self._starved()
        cores = len(os.sched_getaffinity(0))
        check = began + min(MOST_CHECK, limits["wall_seconds"], limits["cpu_seconds"] / cores)
        stopped, answer = None, None
        while answer is None or names:
            now = time.monotonic()
            if now >= check:
                if answer is not None:
                    break
                used = self.cgroup.cpu_seconds() - cpu_before
                stopped, left = self._time_left(limits, now - began, used, starved_before)
                if stopped:
                    break
                left = min(left, (limits["cpu_seconds"] - used) / cores, MOST_CHECK)
                check = now + max(left, LEAST_CHECK)
            for fd, _ in poll.poll(math.ceil(max(0.0, check - time.monotonic()) * 1000)):
                if fd == self.control.fileno():
                    # What the program left running is dead already; what is in the pipes is still read.
                    answer = self._answer()
                    check = time.monotonic() + CLEAN_SECONDS
                    poll.unregister(fd)
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
                too_much = len(stream) + len(chunk) > room[name]
                stream += chunk[: room[name] - len(stream)]
                if too_much and name == "stdout":
                    return "output", streams, answer
        return stopped, streams, answer

    def _answer(self) -> bytes:
        """The starter's message; nothing if it is dead."""
        try:
            return self.control.recv(8192)
        except (TimeoutError, OSError):
            return b""

    def _time_left(self, limits: dict, seconds: float, used: float, starved_before: float) -> tuple[str | None, float]:
        """What stops a program after `seconds` of wall time and `used` of CPU time, or how long it may go on.

        Time in which it was ready to run and the machine had no core for it does not count. Control groups of v2 tell
        that time; elsewhere it is that of a program's one thread: several can wait for each other on purpose.
        "busy": the machine is too busy to tell what the program would have done.
        """
        if used > limits["cpu_seconds"]:
            return "cpu", 0.0
        left = limits["wall_seconds"] - seconds
        if left <= 0:
            left += self._waited(starved_before)
        if left <= 0:
            return "time", 0.0
        if seconds > PATIENCE * limits["wall_seconds"]:
            return "busy", 0.0
        return None, left

    def _waited(self, before: float) -> float:
        """Seconds since `before` for which the program, or the starter that forked it, waited for a core."""
        alone = self.cgroup.tasks() <= self.own_tasks + HELPERS + 1
        return self._starved() - before if alone or self.cgroup.starved_seconds() is not None else 0.0

    def _starved(self) -> float:
        """What the control group tells, else the sum over its processes, which is right for one that runs alone."""
        told = self.cgroup.starved_seconds()
        if told is not None:
            return told
        waited = 0.0
        for member in self.cgroup.members():
            try:
                with open(f"/proc/{member}/schedstat", encoding="ascii") as file:
                    waited += int(file.read().split()[1]) / 1e9
            except (FileNotFoundError, ProcessLookupError):
                continue
        return waited

    def _end(self, answer: bytes | None) -> bytes:
        """End all that is left of a run, until the starter has answered and nothing of the run is charged.

        Returns the answer, which is empty if the starter is dead.
        """
        deadline, pause = time.monotonic() + CLEAN_SECONDS, 0.0002
        while answer is None or self.cgroup.tasks() > self.own_tasks:
            self._kill(self.own)
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of a program cannot be ended: {self.cgroup.members() - self.own}")
            if answer is None and select.select([self.control], [], [], pause)[0]:
                answer = self._answer()
            elif answer is not None:
                time.sleep(pause)
            pause = min(2 * pause, 0.01)
        return answer

    def _kill(self, spared: set[int]) -> None:
        for member in self.cgroup.members() - spared:
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                continue
        # Whatever bwrap leaves behind becomes a child of this process, for it is a subreaper.
        while _reap():
            continue

    def close(self) -> None:
        """End the outer sandbox and remove the control groups."""
        self.control.close()
        self.own, self.own_tasks = set(), 0
        self._end(b"")
        if self.origin is not None:
            cgroups.move_to(self.origin)
        self.cgroup.remove()


def _reap() -> bool:
    """Whether a child was dead."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _become(arguments: list[str], cgroup: Cgroup, control: int, errors: int, inherited: list[int]) -> None:
    """The child turns into bwrap: its control group, limits, nobody, an empty environment. Never returns."""
    try:
        cgroup.enter()
        os.dup2(control, 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(errors, 2)
        for fd in inherited:
            os.set_inheritable(fd, True)
        _, ceiling = resource.getrlimit(resource.RLIMIT_STACK)
        stack = STACK_BYTES if ceiling == resource.RLIM_INFINITY else min(STACK_BYTES, ceiling)
        resource.setrlimit(resource.RLIMIT_STACK, (stack, ceiling))
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        os.execve(arguments[0], arguments, {})
    except (OSError, ValueError) as error:
        os.write(2, str(error).encode())
    finally:
        os._exit(127)


def _file(*parts: bytes) -> int:
    """A file without a name that holds the parts."""
    fd = os.memfd_create("sandbox")
    for content in parts:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _init() -> bytes:
    """The smallest program, which does nothing but sleep: the first process of a program's namespaces.

    An ELF header, a segment, a stack that is not executable, and a loop around pause() or ppoll().
    """
    machine, code = {
        "x86_64": (62, "b8220000000f05ebf7"),  # mov eax, 34; syscall; jmp
        "aarch64": (183, "000080d2010080d2020080d2030080d2280980d2010000d4faffff17"),  # mov x0 to x3, x8; svc; b
    }[os.uname().machine]
    loop = bytes.fromhex(code)
    address, head = 0x400000, 64 + 2 * 56
    elf = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    elf += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, address + head, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    size = head + len(loop)
    elf += struct.pack("<IIQQQQQQ", 1, 5, 0, address, address, size, size, 0x1000)  # PT_LOAD, readable, executable
    return elf + struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16) + loop  # PT_GNU_STACK, not executable


def _request(request: dict) -> int:
    """The file that starter._read_request reads."""
    files = dict(request["files"])
    head = {name: request[name] for name in ("argv", "python", "limits")}
    head |= {"links": dict(request["links"]), "files": [(name, len(content)) for name, content in files.items()]}
    text = json.dumps(head).encode()
    return _file(struct.pack("!I", len(text)), text, *files.values())


def main() -> None:
    """Serve requests on file descriptor 0 until it is closed or the process at its other end is gone."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    connection = Connection(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    asker = [connection.fileno(), os.pidfd_open(os.getppid())]
    try:
        worker = Worker(asker, connection.recv())
    except EOFError:
        return
    except (OSError, RuntimeError) as error:
        connection.send({"error": str(error)})
        return
    try:
        _serve(connection, asker, worker)
    except (EOFError, BrokenPipeError, ConnectionResetError, Abandoned):
        return
    finally:
        worker.close()


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
        if reply["last"]:
            return


if __name__ == "__main__":
    main()
