"""Starts programs inside the sandbox: a Python with common modules loaded, from which each program is forked.

Standard library only: this file runs inside bubblewrap, which shows nothing of the machine but /usr, with capabilities
that hold within bubblewrap's namespaces only. Each program gets namespaces of its own, whose first process is the tiny
INIT, and a fresh /tmp, /dev/shm and /proc. This process itself reads no request, so that none is left in its memory,
which all programs inherit.
"""

import atexit
import ctypes
import gc
import io
import json
import math
import os
import random
import resource
import signal
import socket
import struct
import sys
import threading
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import interpreter  # noqa: E402 — beside this file, inside the sandbox

del sys.path[0]

PRELOADED = (
    "abc array bisect builtins cmath collections contextlib copy dataclasses datetime decimal enum fractions "
    "functools heapq itertools math operator queue random re statistics string struct textwrap time traceback typing"
)
OPEN_FILES = 256
FAULTS = OPEN_FILES - 1  # the descriptor over which a forked process says why it failed
ENDED, FAILED = b"e", b"f"  # the two answers: with an exit code, or with why the program could not be started
INIT, PREAMBLE = "/kimi/init", "/kimi/preamble.py"

# linux/sched.h, linux/mount.h, linux/prctl.h, linux/capability.h
CLONE_NEWPID = 0x20000000
NAMESPACES = 0x20000 | 0x04000000 | 0x08000000 | 0x40000000  # CLONE_NEWNS, NEWUTS, NEWIPC, NEWNET
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 4, 22, 24, 47, 4
SECCOMP_MODE_FILTER = 2
LAST_CAPABILITY = 40
CAPABILITY_VERSION = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)
_SMALL = ctypes.c_ulong


def _call(name: str, *arguments) -> None:
    """A C function that returns -1 for errors. Raises OSError."""
    if getattr(libc, name)(*arguments) == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def serve(connection: socket.socket, filter_program: bytes) -> None:
    """Start a program for every message until the other side closes; answer each when the program has ended.

    A message bears four descriptors: of the request, and of the program's input, output and errors.
    """
    for name in PRELOADED.split():
        __import__(name)
    with open(PREAMBLE, encoding="utf-8") as file:
        interpreter.names_of(file.read())  # the usual one need not be run again
    with open("/proc/sys/user/max_user_namespaces", "w", encoding="ascii") as file:
        file.write("0")  # no program becomes root of a namespace
    own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY)
    gc.collect()
    gc.freeze()
    gc.disable()
    connection.send(ENDED)
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
        if not message:
            return
        faults, faults_in = os.pipe()
        first, code = 0, 127
        try:
            _call("unshare", CLONE_NEWPID)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # in which case the kernel reaps for the first process
            first = os.posix_spawn(INIT, ["init"], {}, setsigmask=())
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            pid = os.fork()
            if pid == 0:
                os.dup2(faults_in, FAULTS, inheritable=False)
                _guarded(_become, descriptors, filter_program)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except OSError as error:
            os.write(faults_in, str(error).encode())
        if first:
            os.kill(first, signal.SIGKILL)  # and with it all that the program has left
            os.waitpid(first, 0)
        _call("setns", own_pids, CLONE_NEWPID)
        for fd in (*descriptors, faults_in):
            os.close(fd)
        fault = os.read(faults, 4096)
        os.close(faults)
        connection.send(FAILED + fault if fault else ENDED + struct.pack("i", code if code >= 0 else 128 - code))


def _guarded(work, *arguments) -> None:
    """Do a forked process's work; why it failed goes to FAULTS. Never returns."""
    try:
        work(*arguments)
    except BaseException as error:  # nothing of this process may go on in what it was forked from
        os.write(FAULTS, f"{type(error).__name__}: {error}".encode()[:4096])
    finally:
        os._exit(127)


def _mount(disk: int) -> None:
    """Enter namespaces and mount there what the program may write to, `disk` bytes each."""
    _call("unshare", NAMESPACES)
    size = f"mode=0700,size={disk}".encode()
    _call("mount", b"proc", b"/proc", b"proc", _SMALL(MS_NOSUID | MS_NODEV | MS_NOEXEC), None)
    for directory in (b"/tmp", b"/dev/shm"):
        _call("mount", b"tmpfs", directory, b"tmpfs", _SMALL(MS_NOSUID | MS_NODEV), size)


def _give_up_rights(filter_program: bytes) -> None:
    for capability in range(LAST_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, _SMALL(capability), 0, 0, 0)  # fails where the kernel knows fewer
    _call("prctl", PR_CAP_AMBIENT, _SMALL(PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
    _call("capset", struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24))
    _call("prctl", PR_SET_DUMPABLE, _SMALL(1), 0, 0, 0)  # otherwise /proc/self would be another user's
    code = ctypes.create_string_buffer(filter_program, len(filter_program))
    program = struct.pack("HP", len(filter_program) // 8, ctypes.addressof(code))
    _call("prctl", PR_SET_SECCOMP, _SMALL(SECCOMP_MODE_FILTER), program, 0, 0)


def _read_request(file) -> dict:
    """A JSON object after its length, and the contents of the files after it."""
    [length] = struct.unpack("!I", file.read(4))
    request = json.loads(file.read(length))
    request["files"] = {name: file.read(size) for name, size in request["files"]}
    return request


def _become(descriptors: list[int], filter_program: bytes) -> None:
    """Set the program's files, limits and rights up and turn into it."""
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(fd, b"1000")  # short of memory, the kernel ends the program, not what it was forked from
    os.close(fd)
    with open(descriptors[0], "rb") as file:
        request = _read_request(file)
    limits = request["limits"]
    disk = limits["disk_mb"] << 20
    _mount(disk + sum(len(content) for content in request["files"].values()))
    os.chdir("/tmp")
    for name, content in request["files"].items():
        if "/" in name:
            os.makedirs(os.path.dirname(name), exist_ok=True)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT, 0o755)
        with open(fd, "wb") as file:
            file.write(content)
    for name, target in request["links"].items():
        os.symlink(target, name)
    for target, fd in enumerate(descriptors[1:]):
        os.dup2(fd, target)
    os.closerange(3, FAULTS)
    os.setsid()
    cpu, stack = math.ceil(limits["cpu_seconds"]), limits["memory_mb"] << 20
    _limit(resource.RLIMIT_CPU, cpu, cpu + 1)  # SIGXCPU, a second later SIGKILL
    _limit(resource.RLIMIT_FSIZE, disk, disk)
    _limit(resource.RLIMIT_STACK, stack, stack)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)
    for name in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        _limit(name, 0, 0)
    _give_up_rights(filter_program)
    if request["argv"]:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # which Python ignores
        os.execve(request["argv"][0], request["argv"], dict(os.environ))  # closes FAULTS
    os.close(FAULTS)
    _run_python(request["python"])


def _limit(name: int, soft: int, hard: int) -> None:
    _, ceiling = resource.getrlimit(name)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(name, (soft, hard))


def _run_python(request: dict) -> None:
    """Run a Python program as the interpreter would, to its end. Never returns."""
    streams = {
        "stdin": _stream(io.BufferedReader, 0, "r", "surrogateescape"),
        "stdout": _stream(io.BufferedWriter, 1, "w", "surrogateescape"),
        "stderr": _stream(io.BufferedWriter, 2, "w", "backslashreplace", line_buffering=True),
    }
    vars(sys).update(streams, **{f"__{name}__": stream for name, stream in streams.items()})
    for number in (signal.SIGXCPU, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    random.seed()
    code = 0
    try:
        interpreter.run("main.py", request)
    except SystemExit as ending:
        code = _code_of(ending)
    except BaseException as error:
        code = 1
        traceback.print_exception(type(error), error, _frames_of_the_program(error.__traceback__))
    try:
        vars(threading)["_shutdown"]()
        atexit._run_exitfuncs()
        _flush(sys.stdout)
        sys.stdout = sys.__stdout__  # one of the program's own may need what is cleared next
        sys.modules["__main__"].__dict__.clear()  # what the program left open is written and closed
        _flush(sys.stdout)
    except BaseException:
        code = code or 120  # as the interpreter does when the output cannot be written
    os._exit(code)


def _flush(stream) -> None:
    if stream is not None and not getattr(stream, "closed", False):
        stream.flush()


def _stream(kind, fd: int, mode: str, errors: str, **more):
    file = io.FileIO(fd, mode, closefd=False)
    vars(file)["name"] = ("<stdin>", "<stdout>", "<stderr>")[fd]
    stream = io.TextIOWrapper(kind(file), encoding="utf-8", errors=errors, **more)
    vars(stream)["mode"] = mode
    return stream


def _frames_of_the_program(frames):
    """The traceback without the frames of this file and the interpreter's run()."""
    while frames is not None and frames.tb_frame.f_code.co_filename in (__file__, interpreter.__file__):
        frames = frames.tb_next
    return frames


def _code_of(ending: SystemExit) -> int:
    if ending.code is None or isinstance(ending.code, int):
        return (ending.code or 0) & 0xFF
    print(ending.code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        content = file.read()
    serve(socket.socket(fileno=0), content)
