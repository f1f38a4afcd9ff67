"""Grader processes under hostile and broken input."""

import asyncio
import os
import random
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from kimi_plugins.grading import frames
from kimi_plugins.grading.failures import LEAST_GRADES, Failures, TooManyFailures
from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.grading.workers import Pool

pytestmark = pytest.mark.slow

# A pattern that backtracks for ever, without ever letting go of the GIL: nothing but a kill ends it.
NOT_GRADED = "the response cannot be graded"
HANGING = r"(?:^(?:a+)+b|^=) (.*)"
HANGS, FINE = ("a" * 60, "5"), ("= 5", "5")
MIB = 2**20


@pytest.fixture(scope="module")
def pool():
    with Pool(2, timeout=10, memory_mib=512) as pool:
        pool.grade(r"\boxed{5}", "5")  # not part of any time measured
        yield pool


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no memory")


def gone(processes: list[int]) -> bool:
    """Whether the processes end within seconds."""
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    "response, correct",
    [
        (r"\boxed{9^{9^{8}}}", False),
        (r"\boxed{9^{9^{9^{9}}}}", False),
        (r"\boxed{(x+y+z+w)^{400}}", False),
        (r"\boxed{10000000!}", False),
        (r"\boxed{\binom{1000000000}{500000000}}", False),
        ("x" * MIB, False),
        ("x" * MIB + r"\boxed{5}", True),
        (r"\boxed{" + "1" * MIB + "}", False),
        (r"\boxed{" * 100_000, False),
        ("<|" * 500_000, False),
        (" " * MIB + r"\boxed{5}" + " " * MIB, True),
        ("\x00\\boxed{5}\x00", True),
        ("\\boxed{5\x00}", False),
        ("\ud800\\boxed{5}\udfff", True),
        ("\\boxed{\ud800}", False),
        (r"\boxed{__import__('os').kill(1, 9)}", False),
        (r"\boxed{" + "{" * 400 + "5" + "}" * 400 + "}", True),
        (r"\boxed{" + "(" * 900 + "5" + ")" * 900 + "}", False),
        (r"\boxed{" + r"\sqrt{" * 300 + "5" + "}" * 300 + "}", False),
    ],
    ids=range(19),
)
def test_hostile_input_is_graded_like_any_other(pool, response, correct):
    assert pool.grade(response, "5").correct is correct


def test_noise_never_breaks_the_grader(pool):
    rng = random.Random(0)
    parts = [
        *r"\frac \sqrt \pm \text \begin \end \cup \infty \le \left ( ) [ ] { } , ; ^ _ = < & | % $ ! . x 5".split()
    ]
    pairs = [("\\boxed{" + "".join(rng.choices(parts, k=12)) + "}", "5") for _ in range(300)]
    verdicts = list(pool.grade_all(pairs))
    assert len(verdicts) == 300
    assert [verdict for verdict in verdicts if verdict.correct is None] == []


def test_the_deadline_is_kept_and_the_process_replaced():
    with Pool(1, timeout=0.5, memory_mib=512, pattern=HANGING) as pool:
        while pool.grade(*FINE).correct is None:
            pass  # a busy machine may need longer than half a second
        before = pool.processes()
        began = time.monotonic()
        verdict = pool.grade(*HANGS)  # which returns: by itself the response would take for ever
        assert verdict == Verdict(Kind.WRONG, f"{NOT_GRADED}: timed out after 0.5 s")
        assert time.monotonic() - began >= 0.5
        assert gone(before)
        while pool.grade(*FINE).correct is None:
            pass
        after = pool.processes()
        assert len(after) == 1 and after != before


def test_a_response_that_needs_too_much_memory_is_wrong_and_says_so():
    # The regular expression remembers every repetition.
    with Pool(1, timeout=60, memory_mib=120, pattern="^= (.*)|(?:(x)|y)*z") as pool:
        assert pool.grade(*FINE).correct
        [before] = pool.processes()
        assert pool.grade("x" * 2 * MIB, "5") == Verdict(Kind.WRONG, f"{NOT_GRADED}: out of memory: more than 120 MiB")
        assert pool.grade(*FINE).correct
        [after] = pool.processes()
        assert after != before and resident_mib(after) < 100


def test_a_response_that_does_not_fit_the_memory_is_wrong_too():
    with Pool(1, timeout=60, memory_mib=100) as pool:
        assert pool.grade("x" * 60 * MIB, "5").correct is False
        assert pool.grade(r"\boxed{5}", "5").correct


def test_a_worker_stays_small(pool):
    rng = random.Random(0)
    pairs = [(rf"\boxed{{\frac{{{rng.random()}}}{{7}}x^{n}}}", "x") for n in range(60)]
    assert all(verdict.correct is False for verdict in pool.grade_all(pairs))
    assert all(resident_mib(pid) < 100 for pid in pool.processes())


def test_a_worker_killed_while_it_grades_fails_the_grade():
    with Pool(1, timeout=60, memory_mib=512, pattern=HANGING) as pool:
        pool.grade(*FINE)
        [pid] = pool.processes()
        threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
        assert pool.grade(*HANGS) == Verdict(Kind.FAILED, "the grader process died")
        assert pool.grade(*FINE).correct


def test_a_worker_killed_while_it_is_idle_costs_nothing(pool):
    for pid in pool.processes():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert pool.grade(r"\boxed{5}", "5").correct


def test_a_fork_server_that_died_is_started_again(pool):
    os.kill(pool._server._process.pid, signal.SIGKILL)  # its children go with it
    time.sleep(0.2)
    assert pool.grade(r"\boxed{5}", "5").correct


def test_a_killed_worker_is_replaced_without_importing_anew(pool):
    pool._server.fork(512).kill()
    worker = pool._server.fork(512)
    frames.send(worker.connection, [r"\boxed{5}", "5", None])
    assert frames.receive(worker.connection)[0] == "right"
    assert psutil.Process(worker.pid).ppid() == pool._server._process.pid
    worker.kill()


def test_slots_grade_at_the_same_time():
    with Pool(3, timeout=60, memory_mib=512, pattern=HANGING) as pool:
        list(pool.grade_all([FINE] * 12))
        server = psutil.Process(pool._server._process.pid)
        threading.Thread(target=lambda: list(pool.grade_all([HANGS] * 3)), daemon=True).start()

        def busy() -> int:
            return sum(worker.cpu_times().user > 0.5 for worker in server.children())

        while busy() < 3:  # none of them ever ends by itself
            time.sleep(0.1)


def test_verdicts_come_in_the_order_of_the_pairs(pool):
    pairs = [(rf"\boxed{{{n % 7}}}", "3") for n in range(100)]
    assert [verdict.correct for verdict in pool.grade_all(pairs)] == [n % 7 == 3 for n in range(100)]


def test_many_tasks_of_an_event_loop_share_the_slots(pool):
    async def main():
        return await asyncio.gather(*(pool.grade_async(rf"\boxed{{{n}}}", "7") for n in range(40)))

    assert [verdict.correct for verdict in asyncio.run(main())] == [n == 7 for n in range(40)]


def test_nothing_is_left_behind():
    pool = Pool(2, timeout=30, memory_mib=512, pattern=HANGING)
    list(pool.grade_all([FINE] * 8))
    processes = [*pool.processes(), pool._server._process.pid]
    assert len(processes) >= 2
    threading.Timer(0.2, pool.close).start()  # while one grades
    assert pool.grade(*HANGS).correct is None
    assert gone(processes)
    pool.close()


def test_settings_that_cannot_work_are_refused():
    for changed in ({"workers": 0}, {"timeout": 0.0}, {"timeout": float("nan")}):
        with pytest.raises(ValueError, match="workers must be ≥ 1 and the timeout > 0"):
            Pool(**{"workers": 1, "timeout": 1.0, "memory_mib": 512} | changed)


def test_too_many_failures_end_the_run_with_the_commonest_reason():
    failures = Failures()
    for n in range(1000):
        failures.add(Verdict(Kind.FAILED, "timed out") if n < 20 else Verdict(Kind.of(n % 2 == 0), "equal"))
    assert (failures.graded, failures.failed) == (1000, 20)
    failures.check(0.02)
    with pytest.raises(TooManyFailures, match="failed on 20 of 1000 responses, above the limit of 0.01 .*20 × timed"):
        failures.check(0.01)
    few = Failures()
    for _ in range(LEAST_GRADES // 10):
        few.add(Verdict(Kind.FAILED, "timed out"))
    few.check(0.1)
    with pytest.raises(TooManyFailures):
        few.check(0.09)


def test_with_patience_the_timeout_is_cpu_time():
    with Pool(1, timeout=0.5, memory_mib=512, pattern=HANGING, patience=100) as pool:
        assert pool.grade(*FINE).correct
        [pid] = pool.processes()
        # A stopped process uses no CPU time, however long it takes.
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(2, os.kill, (pid, signal.SIGCONT)).start()
        assert pool.grade(*FINE).correct
        assert pool.processes() == [pid]
        assert NOT_GRADED in pool.grade(*HANGS).reason
