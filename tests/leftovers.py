"""What tests of the sandbox look for after it: processes and control groups that should be gone."""

import time
from pathlib import Path

from kimi_plugins.sandbox import cgroups


def control_groups(pid: int) -> list[Path]:
    """Those made by a process."""
    return [
        path
        for directory in cgroups._own_directories().values()
        for path in directory.glob(f"{cgroups.PREFIX}{pid}-*")
    ]


def wait_until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether it still runs; a dead process nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
