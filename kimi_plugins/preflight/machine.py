"""What a run asks of this machine: devices, cores, memory, and kernels that must be installed.

Where ray.init() joins a cluster, join.py asks its machines.
"""

import glob
import os
from collections.abc import Iterator
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

import psutil

from kimi_plugins.preflight import batches, cluster, models, values

GIB = 2**30
CPU_INFO = Path("/proc/cpuinfo")
NVIDIA_DEVICES = ("/dev/nvidia[0-9]*", "/proc/driver/nvidia/gpus/*")
OTHER_ACCELERATORS = ("/dev/kfd", "/dev/dxg", "/dev/davinci*")  # ROCm, CUDA in WSL, Ascend
CGROUP_MEMORY = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
PACKAGES = {
    "logger.wandb.key": "wandb",
    "logger.tensorboard_dir": "tensorboard",
    "ds.use_liger_kernel": "liger-kernel",
}
BINDING, UNBOUND = "VLLM_CPU_OMP_THREADS_BIND", "nobind"  # what OpenRLHF on the CPU sets
THREADS, MKL_THREADS = "OMP_NUM_THREADS", "MKL_NUM_THREADS"  # the second is of matrix products, if it is set
KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"
KV_SPACE_DEFAULT = "1"  # what OpenRLHF on the CPU gives its engines; empty: vLLM takes its share of the memory
# Private memory of a process that has imported torch and DeepSpeed (0.32 GiB measured) or vLLM (0.42 GiB).
PROCESS_GIB = 0.3
# Bytes per trained parameter in 16 bits: weight, gradient 2 + 2, float32 master, two moments 12; in 32 bits: 4 + 4, 8.
TRAINING_BYTES = 16


def cuda_devices() -> int | None:
    """CUDA devices a process started here may use; None where accelerators cannot be counted without their drivers."""
    if any(glob.glob(pattern) for pattern in OTHER_ACCELERATORS):
        return None
    devices = next((len(found) for pattern in NVIDIA_DEVICES if (found := glob.glob(pattern))), 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return devices
    names = [name.strip() for name in visible.split(",")]
    return min(devices, next((count for count, name in enumerate(names) if name in ("", "-1")), len(names)))


def local_devices() -> int | None:
    """Like cuda_devices, and None where a Ray cluster is joined."""
    return None if cluster.ray_address() is not None else cuda_devices()


def memory() -> tuple[int, int]:
    """Total and available bytes, within the container's limit."""
    host = psutil.virtual_memory()
    for limit, usage in CGROUP_MEMORY:
        if os.path.exists(limit) and (text := Path(limit).read_text().strip()) != "max" and int(text) < host.total:
            return int(text), max(0, min(host.available, int(text) - int(Path(usage).read_text())))
    return host.total, host.available


def critic_shares_with_reward(args) -> bool:
    return args.train.colocate_critic_reward and "critic" in batches.groups(args)


def engine_ranks(args) -> int:
    return args.vllm.num_engines * args.vllm.tensor_parallel_size


def request(args) -> str:
    """Engines and ranks that a run starts, in words."""
    groups = " + ".join(f"{count} {name}" for name, count in batches.groups(args).items())
    return f"{args.vllm.num_engines} engines of {args.vllm.tensor_parallel_size} and {groups} ranks"


def gpus_needed(args) -> int:
    """GPUs in the placement groups of a run; colocated groups share those of the first."""
    shared = {"ref"} if args.train.colocate_actor_ref else set()
    if args.train.colocate_all:
        shared = {"ref", "critic", "reward"}
    if critic_shares_with_reward(args):
        shared = (shared | {"reward"}) - {"critic"}
    engines = 0 if args.train.colocate_all and not args.train.async_enable else engine_ranks(args)
    return engines + sum(ranks for name, ranks in batches.groups(args).items() if name not in shared)


def _check_alike(option: str, args, one: str, other: str) -> Iterator[str]:
    for size in ("num_nodes", "num_gpus_per_node"):
        sizes = getattr(getattr(args, one), size), getattr(getattr(args, other), size)
        if sizes[0] != sizes[1]:
            fix = f"set it to {sizes[0]}"
            yield f"{other}.{size}: {sizes[1]} must equal {one}.{size} {sizes[0]} with {option}; {fix}"


def check_placement(args) -> Iterator[str]:
    """Colocated models need equal shares; OpenRLHF finds out after it has started Ray."""
    ranks, train = batches.groups(args), args.train
    if train.colocate_all and not train.async_enable and ranks["actor"] != engine_ranks(args):
        yield (
            f"vllm.num_engines: {args.vllm.num_engines} × vllm.tensor_parallel_size {args.vllm.tensor_parallel_size} "
            f"must equal the {ranks['actor']} actor ranks with train.colocate_all; change one of them"
        )
    if "ref" in ranks and (train.colocate_all or train.colocate_actor_ref):
        option = "train.colocate_all" if train.colocate_all else "train.colocate_actor_ref"
        yield from _check_alike(option, args, "actor", "ref")
    if critic_shares_with_reward(args):
        yield from _check_alike("train.colocate_critic_reward", args, "critic", "reward")
    elif train.colocate_all:
        for name in ("critic", "reward"):
            if ranks.get(name, 0) > ranks["actor"]:
                yield (
                    f"{name}.num_gpus_per_node: {ranks[name]} {name} ranks find no room among the {ranks['actor']} "
                    f"actor ranks they share with train.colocate_all; set it to {args.actor.num_gpus_per_node}"
                )


def check_gpus(args) -> Iterator[str]:
    devices = local_devices()
    if devices and gpus_needed(args) > devices:
        yield (
            f"vllm.num_engines: {request(args)} need {gpus_needed(args)} GPUs, this machine offers {devices}; ask "
            "for fewer, share them with train.colocate_all, or join a Ray cluster (RAY_ADDRESS)"
        )


def check_cpu_settings(args) -> Iterator[str]:
    if local_devices() != 0:
        return
    if args.vllm.sync_backend != "gloo":
        yield f"vllm.sync_backend: {args.vllm.sync_backend} needs CUDA devices, and there are none; set it to gloo"
    if args.vllm.tensor_parallel_size > 1:
        yield (
            f"vllm.tensor_parallel_size: {args.vllm.tensor_parallel_size}: an engine of several processes was never "
            f"tried without CUDA; set it to 1, and vllm.num_engines to {engine_ranks(args)}"
        )
    for key in ("vllm.sync_with_ray", "vllm.enable_sleep", "ds.deepcompile"):
        if attrgetter(key)(args):
            yield f"{key}: needs CUDA devices, and there are none; drop it"
    cpu = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    if args.ds.param_dtype == "fp16" and "flags" in cpu and "avx512_fp16" not in cpu:
        yield "ds.param_dtype: fp16 needs a CPU with AVX512-FP16, which this one has not; set it to bf16 or fp32"
    space, (total, available) = os.environ.get(KV_SPACE, KV_SPACE_DEFAULT), memory()
    if space and not (space.isdecimal() and int(space) > 0):
        yield f"{KV_SPACE}: {space} is not a whole number of GiB; set it to 1 or more"
    share = args.vllm.gpu_memory_utilization
    if not space and share * total > available:
        yield (
            f"vllm.gpu_memory_utilization: {share} of this machine's memory is {share * total / GIB:.1f} GiB, of "
            f"{available / GIB:.1f} GiB available; set it to {int(90 * available / total) / 100} or less"
        )


def cpu_notes(args) -> Iterator[str]:
    """What is set for engines and does nothing on the CPU."""
    share, space = args.vllm.gpu_memory_utilization, os.environ.get(KV_SPACE, KV_SPACE_DEFAULT)
    if space and share != values.defaults()["vllm.gpu_memory_utilization"] and local_devices() == 0:
        yield (
            f"vllm.gpu_memory_utilization: {share}: no effect: the KV cache of an engine on the CPU has {space} GiB "
            f"({KV_SPACE})"
        )
    binding = os.environ.get(BINDING, UNBOUND)
    if binding != UNBOUND and local_devices() == 0 and args.vllm.tensor_parallel_size == 1:
        yield (
            f"{BINDING}: {binding}: no effect: it binds engines of several processes; an engine of one has "
            f"{THREADS} threads, on the cores of the run (taskset)"
        )


def check_packages(args) -> Iterator[str]:
    """Packages that flags ask for, and OpenRLHF does not depend on."""
    if cluster.ray_address() is not None:
        return
    for key, package in PACKAGES.items():
        value = args
        for name in key.split("."):
            value = getattr(value, name, None)  # not all trainers have all of them
        if value and find_spec(package.replace("-", "_")) is None:
            yield f"{key}: needs {package}, which is not installed; pip install {package}, or leave it out"


def check_loader(args) -> Iterator[str]:
    """Processes that load prompts, which are text already: each is one more that has imported torch."""
    cores, workers = len(os.sched_getaffinity(0)), args.data.dataloader_num_workers
    if cluster.ray_address() is None and workers > cores:
        yield f"data.dataloader_num_workers: {workers} on {cores} CPU cores; leave it out or set it to {cores} or less"


def _trains_and_generates(args) -> str | None:
    """The option by which engines generate while ranks train; None: they take turns."""
    if getattr(values.plugin(args, "rollout"), "overlap", False):
        return "kimi.rollout.overlap"
    return "train.async_enable" if args.train.async_enable else None


def check_cores(args) -> Iterator[str]:
    """On the CPU all engines generate at the same time and all ranks train at the same time: each needs a core."""
    if local_devices() != 0:
        return
    cores = len(os.sched_getaffinity(0))
    processes = {"vllm.num_engines": engine_ranks(args), "actor.num_gpus_per_node": batches.groups(args)["actor"]}
    if option := _trains_and_generates(args):
        processes = {option: sum(processes.values())}
    for key, count in processes.items():
        if count > cores:
            yield (
                f"{key}: {count} engines or ranks would compute at the same time on {cores} CPU cores, each on less "
                f"than one; ask for at most {cores}"
            )
    if max(processes.values()) <= cores:
        yield from _check_threads(processes, cores)


def _check_threads(processes: dict[str, int], cores: int) -> Iterator[str]:
    """Threads beyond the cores wait for each other at every operation: steps take several times as long."""
    default = str(max(1, (os.cpu_count() or 1) // 2))  # as OpenRLHF on the CPU sets it
    threads = {THREADS: os.environ.get(THREADS) or default}
    if text := os.environ.get(MKL_THREADS):
        threads[MKL_THREADS] = text
    key, count = max(processes.items(), key=lambda item: item[1])
    for name, text in threads.items():
        if not (text.isdecimal() and int(text) > 0):
            yield f"{name}: {text} is not a number of threads; set it to {cores // count}, or leave it out"
        elif int(text) * count > cores:
            yield (
                f"{name}: {text} threads × {count} processes ({key}) are more than the {cores} CPU cores; set it to "
                f"{cores // count}"
            )


def memory_needed(args) -> float:
    """GiB of a run on the CPU, estimated from below: KV caches, weights, training state, processes."""
    ranks, engines = batches.groups(args), engine_ranks(args)
    parameters = models.parameters(args.actor.model_name_or_path or "") / GIB
    weights = (4 if args.ds.param_dtype == "fp32" else 2) * parameters
    trained = weights if args.ds.lora.rank else TRAINING_BYTES * parameters
    copies = {name: count if args.ds.zero_stage == 0 else 1 for name, count in ranks.items()}
    models_gib = trained * (copies["actor"] + copies.get("critic", 0)) + weights * copies.get("ref", 0)
    space = os.environ.get(KV_SPACE, KV_SPACE_DEFAULT)
    per_engine = int(space) + weights if space else args.vllm.gpu_memory_utilization * memory()[0] / GIB
    return per_engine * engines + models_gib + PROCESS_GIB * (2 * engines + sum(ranks.values()) + 1)


def check_memory(args) -> Iterator[str]:
    if local_devices() != 0 or list(check_cpu_settings(args)):
        return
    needed, available = memory_needed(args), memory()[1] / GIB
    if needed > available:
        yield (
            f"vllm.num_engines: {request(args)} need about {needed:.1f} GiB of memory, {available:.1f} GiB are "
            f"available; ask for fewer of them, a smaller {KV_SPACE} or a smaller model"
        )


def _check_attention(args, devices: int | None) -> Iterator[str]:
    kernel, flash = args.ds.attn_implementation, find_spec("flash_attn") is not None
    missing = [name for name in ("flash-attn", "ring-flash-attn") if find_spec(name.replace("-", "_")) is None]
    if args.ds.ring_attn_size > 1 and missing:
        yield (
            f"ds.ring_attn_size: {args.ds.ring_attn_size} needs {' and '.join(missing)}, not installed; pip install "
            f"{' '.join(missing)}, or set it to 1"
        )
    elif kernel == "flash_attention_2" and find_spec("kernels") is None and (devices == 0 or not flash):
        lacks = "CUDA devices, and there are none" if devices == 0 else "flash-attn, which is not installed"
        yield f"ds.attn_implementation: {kernel} needs {lacks}; set it to sdpa"


def check_attention(args) -> Iterator[str]:
    yield from _check_attention(args, cuda_devices())


def check_rl_attention(args) -> Iterator[str]:
    if cluster.ray_address() is None:
        yield from _check_attention(args, cuda_devices())
