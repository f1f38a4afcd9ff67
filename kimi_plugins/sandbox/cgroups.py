"""Control groups of the sandbox: memory, number of processes and CPU time, on cgroup v1 and v2."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

PREFIX = "kimi-sandbox-"
CONTROLLERS = ("memory", "pids", "cpuacct")  # of v1; v2 counts CPU time without a controller
WEIGHT = "cpu"  # the controller that shares cores among groups; the sandbox does without where it cannot be had
DELEGATED = ("memory", "pids")


class CgroupError(Exception):
    """No control group can be made here; the message says why and what to do."""


@dataclass(frozen=True)
class Cgroup:
    """One control group. memory, pids, cpu (accounting), weight (sharing of cores): its directories, one on v2.

    worker: a group beside it in which the process that watches it competes for cores as one against one, however many
    threads a program has. weight and worker are None where cores cannot be shared by groups.
    """

    memory: Path
    pids: Path
    cpu: Path
    version: int
    weight: Path | None = None
    worker: Path | None = None

    @property
    def directories(self) -> set[Path]:
        found = (self.memory, self.pids, self.cpu, self.weight, self.worker)
        return {path for path in found if path is not None}

    def create(self) -> None:
        for directory in self.directories:
            directory.mkdir()

    def enter_as_worker(self) -> Path | None:
        """Move the calling process to the worker's group, if there is one and it may.

        Returns the group it was in, for move_to(); None if it still is.
        """
        if self.worker is None:
            return None
        origin = _own_directories()[WEIGHT if self.version == 1 else ""]
        try:
            move_to(self.worker)
        except OSError:  # on v2 the group above both must be writable, too
            return None
        return origin

    def enter(self) -> None:
        """Move the calling process, whose children will be born here."""
        for directory in self.directories - {self.worker}:
            move_to(directory)

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
        return _entry(self.memory / ("memory.events" if self.version == 2 else "memory.oom_control"), "oom_kill")

    def memory_used(self) -> int:
        """Bytes charged now."""
        return int((self.memory / ("memory.current" if self.version == 2 else "memory.usage_in_bytes")).read_text())

    def cpu_seconds(self) -> float:
        """CPU time of all processes there ever were."""
        if self.version == 1:
            return int((self.cpu / "cpuacct.usage").read_text()) / 1e9
        return _entry(self.cpu / "cpu.stat", "usage_usec") / 1e6

    def starved_seconds(self) -> float | None:
        """Time in which a process was ready to run and none ran; None where the kernel does not tell (v1)."""
        try:
            text = (self.cpu / "cpu.pressure").read_text()
        except OSError:
            return None
        [full] = [line for line in text.splitlines() if line.startswith("full ")] or ["total=0"]
        return int(full.rpartition("total=")[2]) / 1e6

    def members(self) -> set[int]:
        return {int(line) for line in (self.pids / "cgroup.procs").read_text().split()}

    def tasks(self) -> int:
        """Processes and threads charged, among them dead ones not yet waited for."""
        return int((self.pids / "pids.current").read_text())

    def remove(self) -> None:
        """Raises OSError as long as a process is in it."""
        for directory in self.directories:
            if directory.exists():
                directory.rmdir()


def move_to(group: Path) -> None:
    """Move the calling process to a group."""
    _write(group / "cgroup.procs", 0)


def make(name: str) -> Cgroup:
    """A new control group below this process's own, or beside it where v2 allows none below.

    Removes those left by processes that were killed before they could.

    Raises:
        CgroupError: none can be made.
    """
    parents, version = _parents()
    sharing = _sharing(parents[0], version)
    for parent in {*parents, *filter(None, [sharing])}:
        _sweep(parent)
    name = f"{PREFIX}{os.getpid()}-{name}"
    memory, pids, cpu = (parent / name for parent in parents)
    cgroup = Cgroup(memory, pids, cpu, version)
    if sharing is not None:
        cgroup = replace(cgroup, weight=sharing / name, worker=sharing / f"{name}-worker")
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
            "neither cgroup v2 nor the memory, pids and cpuacct controllers of v1 are mounted: mount /sys/fs/cgroup "
            "(in a container: run it privileged)"
        )
    return [_delegated(own[""])] * len(CONTROLLERS), 2


def _sharing(parent: Path, version: int) -> Path | None:
    """The group whose children share cores by weight: this process's own of v1, `parent` of v2; None if none can."""
    if version == 1:
        own = _own_directories().get(WEIGHT)
        return own if own is not None and os.access(own, os.W_OK) else None
    return parent if _enable(parent, WEIGHT) else None


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
            points |= {name: (root, point) for name in options.split(",") if name in (*CONTROLLERS, WEIGHT)}
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
    """The nearest group on v2 below which groups with both controllers can be made: `own` or one above it.

    No process may be in a group whose children have controllers. If none above `own` will do, its processes move to a
    child: those of a delegated scope, or of a container that has a namespace of control groups.
    """
    above = [own, *own.parents]
    candidates = [group for group in above if (group / "cgroup.subtree_control").exists()]
    for group in candidates:
        if _enable(group, *DELEGATED) and os.access(group, os.W_OK):
            return group
    if candidates[:1] == [own] and os.access(own, os.W_OK) and _vacate(own) and _enable(own, *DELEGATED):
        return own
    raise CgroupError(
        f"the memory and pids controllers of cgroup v2 cannot be used in {own} or above it: start the command by "
        "systemd-run --user --scope -p Delegate=yes (in a container: give it a writable /sys/fs/cgroup)"
    )


def _enable(group: Path, *controllers: str) -> bool:
    """Whether the group's children have the controllers, which are enabled if they can be."""
    control = group / "cgroup.subtree_control"
    if set(controllers) <= set(control.read_text().split()):
        return True
    try:
        _write(control, " ".join(f"+{name}" for name in controllers))
    except OSError:
        return False
    return True


def _vacate(group: Path) -> bool:
    """Move the group's processes to a child, as far as allowed; whether none is left."""
    child = group / "kimi-processes"
    child.mkdir(exist_ok=True)
    for _ in range(10):  # a process may be born meanwhile
        left = (group / "cgroup.procs").read_text().split()
        if not left:
            return True
        for pid in left:
            try:
                _write(child / "cgroup.procs", pid)
            except ProcessLookupError:
                continue
            except OSError:
                return False
    return False


def _entry(file: Path, name: str) -> int:
    """The number after a name in a file of such lines."""
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(f"{name} "))


def _write(file: Path, value: int | str) -> None:
    with open(file, "w", encoding="ascii") as control:
        control.write(str(value))
