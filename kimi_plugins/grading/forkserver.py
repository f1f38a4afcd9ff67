"""The process from which grader processes are forked, and what they run: python -m … DESCRIPTOR.

multiprocessing has a forkserver too, but its children import the main module of the program anew, which in a Ray
worker takes longer than the start-up that the forkserver is to save. This one imports the grader once, grades a few
answers, and forks on request.
"""

import ctypes
import gc
import os
import resource
import signal
import socket
import sys

from kimi_plugins.grading import frames
from kimi_plugins.grading.math.grade import grade, grade_answer
from kimi_plugins.grading.verdict import Kind, Verdict

# Fill the caches that all children then share.
_EXAMPLES = [
    (r"x^2+2x+1-\frac{x^{2}-1}{x-1}", r"(x+1)^{2}-\left(x+1\right)"),
    (r"\frac{\sqrt{3}}{2}x^{2}y-a^{-1}", r"\sqrt[3]{2}\cdot x_1+x_{12}\times2^{x+1}"),
    (r"\sin 2x+\cos^2 x-\tan^{-1}(x)", r"2\sin x\cos(\pi x)+|x-1|"),
    (r"\ln(x^2)+\log_{2} 8-e^{2\ln 3}", r"n!+\binom{5}{2}+\alpha\beta"),
    (r"2e^{i\pi/3}-3i", r"1+\sqrt{3}i"),
    (r"\lfloor 2.5\rfloor+f(x)", r"\frac{n(n+1)}{2}-1.5x"),
    (r"(1,\frac{\pi}{2})", r"(1,\pi)"),
    (r"2x-y+3=0", r"y=2x+3"),
    (r"\begin{pmatrix}1&2\\3&a\end{pmatrix}", r"\begin{pmatrix}1&2\\3&b\end{pmatrix}"),
    (r"(-\infty,1)\cup[\sqrt{8},\infty)", r"x<1\text{ or }x\ge2\sqrt{2}"),
    (r"100\sqrt{2}\text{ cm}", r"90^\circ"),
]
_OUT_OF_MEMORY = "out of memory: more than {} MiB"
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
        except MemoryError:
            verdict, ends = Verdict(Kind.FAILED, _OUT_OF_MEMORY.format(memory_mib)), True
        else:
            verdict, ends = _verdict(response, reference, pattern, memory_mib)
        ends = ends or _resident_mib() > memory_mib / 2
        try:
            frames.send(connection, [*verdict, ends])
        except OSError:
            return


def _verdict(response: str | None, reference: str, pattern: str | None, memory_mib: int) -> tuple[Verdict, bool]:
    """The verdict, and whether the process is of no more use. Without a response, the reference's with itself."""
    try:
        if response is None:
            return grade_answer(reference, reference), False
        return grade(response, reference, pattern=pattern), False
    except MemoryError:
        return Verdict(Kind.FAILED, _OUT_OF_MEMORY.format(memory_mib)), True
    except Exception as error:  # of arithmetic on what a response holds; a failed grade says what it was
        return Verdict(Kind.FAILED, f"{type(error).__name__}: {str(error)[:200]}"), False


def _resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)  # at once: its children end with it
