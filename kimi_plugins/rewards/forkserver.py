"""The process from which grader processes are forked, and what they run: python -m … DESCRIPTOR.

multiprocessing has a forkserver too, but its children import the main module of the program anew, which in a Ray
worker takes longer than the start-up that the forkserver is to save. This one imports the grader once, grades a few
answers so that math-verify's parser is warm, and forks on request.
"""

import ctypes
import gc
import os
import resource
import signal
import socket
import sys

from kimi_plugins.rewards import frames
from kimi_plugins.rewards.math import grade, grade_answer

# Warm the parser's tables, which all children then share.
_EXAMPLES = [
    (r"\frac{\sqrt{3}}{2}x^{2}+1", r"\frac{1}{2}"),
    (r"(1,\frac{\pi}{2})", r"(1,\pi)"),
    (r"x^2+y^2=\sin x", r"x=\sqrt[3]{2}\cdot e^{-1}"),
    (r"\begin{pmatrix}1&2\\3&a\end{pmatrix}", r"\begin{pmatrix}1&2\\3&b\end{pmatrix}"),
    (r"[2,\infty)", r"x\ge2"),
]
_PR_SET_PDEATHSIG = 1
MIB = 2**20


def serve(control: socket.socket) -> None:
    """Fork a grader for every socket received; ends, and its children with it, when the other side closes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    for answer, reference in _EXAMPLES:
        grade_answer(answer, reference)
    gc.collect()
    gc.freeze()
    while True:
        message, [*descriptors], _, _ = socket.recv_fds(control, 64, 1)
        if not message:
            return
        memory_mib = int(message)
        pid = os.fork()
        if pid == 0:
            control.close()
            with socket.socket(fileno=descriptors[0]) as connection:
                _grade_for(connection, memory_mib)
            os._exit(0)
        os.close(descriptors[0])
        control.sendall(b"%d\n" % pid)


def _grade_for(connection: socket.socket, memory_mib: int) -> None:
    """Grade what comes over the connection until it closes, something breaks, or half the memory is used up."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mib * MIB, memory_mib * MIB))
    ends = False
    while not ends:
        try:
            response, reference, pattern = frames.receive(connection)
        except (EOFError, OSError):
            return
        try:
            verdict = grade(response, reference, pattern=pattern)
        except MemoryError:
            verdict, ends = (None, f"out of memory: more than {memory_mib} MiB"), True
        except Exception as error:  # sympy raises anything; it becomes a failed grade with its reason
            verdict = None, f"{type(error).__name__}: {str(error)[:200]}"
        ends = ends or _resident_mib() > memory_mib / 2
        try:
            frames.send(connection, [*verdict, ends])
        except OSError:
            return


def _resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
