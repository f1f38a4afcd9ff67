"""Whether the nodes of a cluster have what the run needs there: code, files, shared memory.

`report` runs on every node, sent by value: it needs nothing but the standard library there.
"""

import errno
import hashlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from kimi_plugins.preflight import batches

SHARED_MEMORY = "/dev/shm"
LEAST_SHARED_MEMORY = 128 * 2**20  # bytes: containers have 64 MiB by default, less than two ranks' buffers


@dataclass(frozen=True)
class Needs:
    """What a run needs on every node.

    Attributes:
        packages: importable packages that must be the same everywhere.
        files: {path: option that names it} of what is read there and is there on this machine.
        marker: (path of a file made for this check where checkpoints go, the option), None if that need not be shared.
    """

    packages: tuple[str, ...]
    files: dict[str, str]
    marker: tuple[str, str] | None


def contents(path: str) -> dict[str, int] | str | None:
    """{name: bytes} of a file, or of the files in a directory but not below.

    None if there is nothing at the path, the system's words if this process may not read it or the disk fails.
    """
    place = Path(path)
    try:
        if not place.exists():
            return None
        if not os.access(place, os.R_OK):
            return os.strerror(errno.EACCES)
        files = [entry for entry in place.iterdir() if entry.is_file()] if place.is_dir() else [place]
        return {file.name: file.stat().st_size for file in files if file.name[0] != "."}
    except OSError as error:
        return str(error.strerror)


def code(package: str) -> tuple[str, str] | None:
    """(version, digest of the .py files) of an importable package, None if it is not installed."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    digest = hashlib.sha256()
    for root in spec.submodule_search_locations:
        for path in sorted(Path(root).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    try:
        number = version(package)
    except PackageNotFoundError:
        number = "not installed as a distribution"
    return number, digest.hexdigest()


def shared_memory() -> int | None:
    """Bytes of /dev/shm in all, None if there is none."""
    if not os.path.isdir(SHARED_MEMORY):
        return None
    status = os.statvfs(SHARED_MEMORY)
    return status.f_frsize * status.f_blocks


def report(packages: tuple[str, ...], files: list[str], marker: str | None) -> dict:
    """What is on the node that this runs on; see Needs for the arguments."""
    return {
        "python": platform.python_version(),
        "packages": {package: code(package) for package in packages},
        "files": {path: contents(path) for path in files},
        "marker": marker is None or os.path.exists(marker),
        "writable": marker is None or os.access(os.path.dirname(marker), os.W_OK | os.X_OK),
        "shared_memory": shared_memory(),
        "directory": os.getcwd(),
    }


def shared_memory_problem(size: int | None, where: str) -> str | None:
    """size: bytes or None, as shared_memory() gives it. where: the machine, in words."""
    if size is not None and size >= LEAST_SHARED_MEMORY:
        return None
    found = "missing" if size is None else f"{size / 2**20:.0f} MiB"
    return (
        f"{SHARED_MEMORY}: {found} on {where}, where processes of a run exchange tensors; mount a tmpfs of 1 GiB or "
        "more there, for a container by `docker run --shm-size=1g`"
    )


def differences(address: str, here: dict, there: dict, needs: Needs) -> Iterator[str]:
    """One line for everything on the node `address` that is not as on this machine. here, there: of report()."""
    if there["python"] != here["python"]:
        yield (
            f"Python: {there['python']} on node {address}, {here['python']} here; install the same there, and start "
            "Ray from it"
        )
    for package, wanted in here["packages"].items():
        found = there["packages"][package]
        if found is None:
            yield f"{package}: not installed on node {address}; install the same wheel there, where its Ray is"
        elif found != wanted:
            versions = (found[0], wanted[0]) if found[0] != wanted[0] else (f"other files of {found[0]}", "those")
            yield f"{package}: {versions[0]} on node {address}, {versions[1]} here; install the same wheel on both"
    for path, key in needs.files.items():
        wanted, found = here["files"][path], there["files"][path]
        if found is None:
            yield (
                f"{key}: {path} is not on node {address}{_relative(path, there)}; copy it there, or put it on a file "
                "system that all nodes have at the same path"
            )
        elif isinstance(found, str):
            yield (
                f"{key}: {path} cannot be read on node {address} ({found}); give the user that Ray runs as there the "
                "right to, or start Ray as another"
            )
        elif isinstance(wanted, dict) and found != wanted:
            name = min(set(found.items()) ^ set(wanted.items()))[0]
            yield f"{key}: {path} is another on node {address} (see {name}); copy it there again"
    if needs.marker is not None and not there["marker"]:
        yield (
            f"{needs.marker[1]}: what is written to {os.path.dirname(needs.marker[0])} is not seen on node {address}"
            f"{_relative(needs.marker[0], there)}, and every rank writes its part of a checkpoint; choose a directory "
            "on a file system that all nodes have at the same path"
        )
    elif needs.marker is not None and not there["writable"]:
        yield (
            f"{needs.marker[1]}: {os.path.dirname(needs.marker[0])} cannot be written on node {address}, and every "
            "rank writes its part of a checkpoint; mount it writable there, or start Ray as a user that may"
        )
    if (problem := shared_memory_problem(there["shared_memory"], f"node {address}")) is not None:
        yield problem


def _relative(path: str, there: dict) -> str:
    return "" if os.path.isabs(path) else f" (a relative path; Ray runs in {there['directory']} there)"


def _local_sources(spec: str | None) -> list[str]:
    """Paths of this machine in a comma-separated list of data sets, each with an optional @folder."""
    names = [source.partition("@")[0].strip() for source in (spec or "").split(",")]
    return [name for name in names if name and os.path.exists(name)]


def files_needed(args) -> dict[str, str]:
    """{path: option} of the models, data and code on this machine that processes on other nodes read, too."""
    options = {"actor.model_name_or_path": [args.actor.model_name_or_path]}
    if "critic" in batches.groups(args):
        options["critic.model_name_or_path"] = [args.critic.model_name_or_path]
    if "reward" in batches.groups(args):
        options["reward.model_name_or_path"] = [args.reward.model_name_or_path]
    options["data.prompt_dataset"] = _local_sources(args.data.prompt_dataset)
    options["eval.dataset"] = _local_sources(args.eval.dataset)
    policy = getattr(getattr(args, "kimi", None), "policy", None)
    options["kimi.policy.ptx_dataset"] = [getattr(policy, "ptx_dataset", None)]
    remote = args.reward.remote_url
    options["reward.remote_url"] = [remote] if isinstance(remote, str) else list(remote or ())
    options["train.agent_func_path"] = [args.train.agent_func_path]
    return {path: key for key, paths in options.items() for path in paths if path and os.path.exists(path)}
