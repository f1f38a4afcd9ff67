"""Control groups of the sandbox: memory and number of processes, on cgroup v1 and v2."""

import os
from dataclasses import dataclass
from pathlib import Path

PREFIX = "kimi-sandbox-"
CONTROLLERS = ("memory", "pids")


class CgroupError(Exception):
    """No control group can be made here; the message says why and what to do."""


@dataclass(frozen=True)
class Cgroup:
    """One control group. memory and pids: its directories, one and the same on v2."""

    memory: Path
    pids: Path
    version: int

    def create(self) -> None:
        for directory in {self.memory, self.pids}:
            directory.mkdir()

    def enter(self) -> list[Path]:
        """Move the calling process, whose children will be born here. Returns where it was, for leave()."""
        own = _own_directories()
        before = [own[name] for name in (CONTROLLERS if self.version == 1 else ("",))]
        for directory in {self.memory, self.pids}:
            _write(directory / "cgroup.procs", 0)
        return before

    def leave(self, before: list[Path]) -> None:
        """Move the calling process back and remove the empty control group."""
        for directory in before:
            _write(directory / "cgroup.procs", 0)
        self.remove()

    def limit(self, memory_bytes: int, processes: int) -> None:
        """Set limits for all processes together, the temporary file systems they fill included. No swap."""
        _write(self.pids / "pids.max", processes)
        if self.version == 2:
            _write(self.memory / "memory.max", memory_bytes)
            swap = self.memory / "memory.swap.max"
            if swap.exists():
                _write(swap, 0)
            return
        memory, with_swap = self.memory / "memory.limit_in_bytes", self.memory / "memory.memsw.limit_in_bytes"
        files = [memory, with_swap] if with_swap.exists() else [memory]
        # Memory with swap may never be less than memory: the larger limit moves first.
        grows = int(memory.read_text()) < memory_bytes
        for file in reversed(files) if grows else files:
            _write(file, memory_bytes)

    def memory_kills(self) -> int:
        """Processes killed so far for want of memory."""
        file = self.memory / ("memory.events" if self.version == 2 else "memory.oom_control")
        return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("oom_kill "))

    def members(self) -> set[int]:
        return {int(line) for line in (self.pids / "cgroup.procs").read_text().split()}

    def tasks(self) -> int:
        """Processes and threads charged, among them dead ones not yet waited for."""
        return int((self.pids / "pids.current").read_text())

    def remove(self) -> None:
        """Raises OSError as long as a process is in it."""
        for directory in {self.memory, self.pids}:
            if directory.exists():
                directory.rmdir()


def make(name: str) -> Cgroup:
    """A new control group below this process's own, or beside it where v2 allows none below.

    Removes those left by processes that were killed before they could.

    Raises:
        CgroupError: none can be made.
    """
    parents, version = _parents()
    for parent in set(parents):
        _sweep(parent)
    cgroup = Cgroup(*(parent / f"{PREFIX}{os.getpid()}-{name}" for parent in parents), version)
    try:
        cgroup.create()
    except OSError as error:
        raise CgroupError(
            f"no control group can be made in {error.filename} ({error.strerror}): run as root, or under "
            "systemd-run --user --scope -p Delegate=yes"
        ) from error
    return cgroup


def _sweep(parent: Path) -> None:
    for left in parent.glob(f"{PREFIX}*"):
        pid = int(left.name.removeprefix(PREFIX).split("-")[0])
        if not Path(f"/proc/{pid}").exists():
            try:
                left.rmdir()
            except OSError:  # its last process is still dying, or it is not ours to remove
                continue


def _parents() -> tuple[list[Path], int]:
    own = _own_directories()
    if all(name in own for name in CONTROLLERS):
        return [own[name] for name in CONTROLLERS], 1
    if "" not in own:
        raise CgroupError(
            "neither cgroup v2 nor the memory and pids controllers of v1 are mounted: mount /sys/fs/cgroup (in a "
            "container: run it privileged)"
        )
    return [_delegated(own[""])] * 2, 2


def _own_directories() -> dict[str, Path]:
    return own_directories(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())


def own_directories(membership: str, mounts: str) -> dict[str, Path]:
    """Where this process's control groups are: by v1 controller, v2 under the key "".

    membership, mounts: /proc/self/cgroup and /proc/self/mountinfo.
    """
    points: dict[str, tuple[str, str]] = {}  # controller: root of the mount within the hierarchy, mount point
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split()
        root, point = fields.split()[3:5]
        if kind == "cgroup2":
            points[""] = root, point
        elif kind == "cgroup":
            points |= {name: (root, point) for name in options.split(",") if name in CONTROLLERS}
    found = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            if name in points:
                root, point = points[name]
                inside = path == root or path.startswith(root.rstrip("/") + "/")
                found[name] = Path(point, path[len(root) :].lstrip("/") if inside else "")
    return found


def _delegated(own: Path) -> Path:
    """Where on v2 groups with both controllers can be made: below `own` if no process is in it, else beside it."""
    for parent in (own, own.parent):
        control = parent / "cgroup.subtree_control"
        if not control.exists():
            continue
        if set(CONTROLLERS) <= set(control.read_text().split()):
            return parent
        try:
            _write(control, "+memory +pids")
        except OSError:
            continue
        return parent
    raise CgroupError(
        f"the memory and pids controllers of cgroup v2 cannot be had in {own} or beside it: start the command by "
        "systemd-run --user --scope -p Delegate=yes (in a privileged container: move its processes to a child of "
        "/sys/fs/cgroup first)"
    )


def _write(file: Path, value: int | str) -> None:
    with open(file, "w", encoding="ascii") as control:
        control.write(str(value))
