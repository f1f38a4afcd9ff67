"""Two hosts on one machine: namespaces of network, mounts, processes and host name, joined by a cable (veth).

A host is a process: when it ends, whatever ends it, the kernel ends every process in it and removes its network. It
ends with the pipe that the test holds, so that nothing is left behind even by a test that is killed.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import real_runs

from kimi_plugins import run_log
from kimi_plugins.quickstart.model import build_model

ROOT = Path(__file__).parents[2]
OF_A_RUN = ("ray::PolicyModelActor", "ray::RolloutRayActor", "ray::PPOTrainer", "VLLM", "openrlhf train")

# Runs as process 1 of the host: $0 name, $1 bytes of /dev/shm, $2 /etc/hosts, the others directories to keep.
# /etc/hosts is Debian's: the host's own name is 127.0.1.1. While the shell waits for cat, it reaps what others leave.
INIT = """
set -e
hostname "$0"
shm=$1; hosts=$2; shift 2
mount --bind "$hosts" /etc/hosts
mount -t tmpfs -o size="$shm" tmpfs /dev/shm

mount -t tmpfs tmpfs /mnt
n=0
for kept in "$@"; do n=$((n+1)); mkdir /mnt/$n; mount --bind "$kept" /mnt/$n; done
mount -t tmpfs tmpfs /tmp
n=0
for kept in "$@"; do n=$((n+1)); mkdir -p "$kept"; mount --bind /mnt/$n "$kept"; done
ip link set lo up
echo ready
cat
exit
"""


class Host:
    """One host. Paths are this machine's, but for /tmp and /dev/shm, which are the host's own.

    Args:
        name: its host name.
        address: IPv4 address on the cable.
        directory: where its logs and its /etc/hosts go.
        kept: directories below /tmp that it sees as this machine does: a file system that hosts share.
        shm: bytes of /dev/shm.
    """

    def __init__(self, name: str, address: str, directory: Path, kept: list[Path], shm: int = 2**30) -> None:
        self.name, self.address, self.directory = name, address, directory
        hosts = directory / f"{name}.hosts"
        hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        self._process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
            + ["sh", "-c", INIT, name, str(shm), str(hosts), *map(str, kept)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"host {name} did not start: exit code {self._process.wait()}")
        self.pid = int(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text())
        # Its network outlives it: with its end of the cable the kernel would take away the other host's.
        self._net = open(f"/proc/{self.pid}/ns/net")

    def inside(self, *words: str) -> list[str]:
        """The command line that runs `words` in this host."""
        namespaces = ["--net", "--mount", "--uts", "--pid"]
        return ["nsenter", f"--target={self.pid}", *namespaces, f"--wdns={self.directory}", *words]

    def start(self, words: list[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen:
        """A command in this host; it is nsenter's child, and killed with it."""
        words = self.inside("setpriv", "--pdeathsig=KILL", *words)
        with log.open("w") as file:
            return subprocess.Popen(words, stdout=file, stderr=file, env=dict(environment))

    def run(self, words: list[str], environment: Mapping[str, str], timeout: float = 900) -> str:
        """Standard output of a command in this host; raises RuntimeError with all that it said if it fails."""
        done = subprocess.run(
            self.inside(*words), env=dict(environment), capture_output=True, text=True, timeout=timeout
        )
        if done.returncode:
            raise RuntimeError(
                f"{self.name}: {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def plug_in(self, other: "Host") -> None:
        """Lay the cable between two hosts; each calls its end eth0."""
        ip = ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns"]
        subprocess.run(self._network(*ip, str(other.pid)), check=True)
        for host in (self, other):
            subprocess.run(host._network("ip", "address", "add", f"{host.address}/24", "dev", "eth0"), check=True)
            subprocess.run(host._network("ip", "link", "set", "eth0", "up"), check=True)

    def _network(self, *words: str) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--net", *words]

    def cut_power(self) -> None:
        """End the host without a word to the other: the cable goes first, then every process."""
        subprocess.run(self._network("ip", "link", "set", "eth0", "down"), check=True)
        self._kill()

    def end(self) -> None:
        """End every process of the host and give back its namespaces; again does nothing."""
        self._kill()
        self._net.close()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=30)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{self.pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)


@contextmanager
def two_hosts(directory: Path, shm: int = 2**30) -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach each other and share `directory`. shm: bytes of the second's /dev/shm."""
    below = {path for path in (ROOT, Path(sys.prefix)) if path.is_relative_to("/tmp")}  # they see the rest anyway
    with ExitStack() as stack:
        hosts = []
        for name, address, size in (("alpha", "10.77.0.1", 2**30), ("beta", "10.77.0.2", shm)):
            hosts.append(Host(name, address, directory, [directory, *below], size))
            stack.callback(hosts[-1].end)
        hosts[0].plug_in(hosts[1])
        yield hosts[0], hosts[1]


def why_not() -> str | None:
    """Why this machine cannot make two hosts; None if it can."""
    if os.geteuid() != 0:
        return "two hosts need root: network namespaces, mounts"
    tried = subprocess.run(["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "true"], capture_output=True)
    if tried.returncode:
        return f"no namespaces can be made here: {tried.stderr.decode(errors='replace').strip()}"
    return None


def environment(**changed: str) -> dict[str, str]:
    """What a user has on every host: the environment's commands on PATH, nothing of Ray."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "GLOO_", "NCCL_", "VLLM_"))}
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    return kept | changed


class Cluster:
    """Two hosts, the directory they share, and what a user types on them."""

    def __init__(self, shared: Path, alpha: Host, beta: Host) -> None:
        self.shared, self.alpha, self.beta = shared, alpha, beta
        self.environment = environment(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")

    def ray_start(self, host: Host, *words: str, prefix: list[str] | None = None, **changed: str) -> None:
        """`ray start`. prefix: of the command line, such as `env …`; changed: variables."""
        declared = ["--num-gpus", "1", "--num-cpus", "3", f"--node-ip-address={host.address}"]
        command = [*(prefix or []), "ray", "start", *words, *declared, "--disable-usage-stats"]
        host.run(command, self.environment | changed)

    def words(self, *more: str, nodes: int = 2, **changed) -> list[str]:
        """`openrlhf train` with one actor rank and one engine on each of `nodes` hosts."""
        settings = {
            "actor__num_nodes": nodes,
            "vllm__num_engines": nodes,
            "ckpt__disable_ds": None,
            "ckpt__save_steps": 1,
            "rollout__batch_size": 8,
            "rollout__max_new_tokens": 16,
            "rollout__micro_batch_size": 16,
            "train__batch_size": 32,
            "train__micro_batch_size": 16,
        }
        flags = real_runs.flags(self.shared, self.shared / "model", **settings | changed)
        return ["openrlhf", "train", "--plugins", "kimi", *more, *flags]

    def start(self, log: Path, words: list[str]) -> subprocess.Popen:
        return self.alpha.start(words, log, self.environment)

    def running(self, host: Host) -> set[str]:
        """Which processes of a run live there."""
        lines = host.run(["ps", "-eo", "args"], self.environment).splitlines()
        alive = [line for line in lines if not line.endswith("<defunct>")]
        return {name for name in OF_A_RUN if any(name in line for line in alive)}

    def steps(self) -> list[int]:
        return [record["step"] for record in run_log.read(self.shared / "ckpt", "train")]


@contextmanager
def made_cluster(shared: Path, rows: int, reward: str | None = None, shm: int = 2**30) -> Iterator[Cluster]:
    """Two hosts that share a directory with a model, prompts and a reward file; skips where there can be none.

    reward: the file's source, by default real_runs' own. shm: as of two_hosts.
    """
    if (why := why_not()) is not None:
        pytest.skip(why)
    build_model(shared / "model", seed=0, tie=True)
    real_runs.write_prompts(shared, rows=rows)
    if reward is not None:
        (shared / "reward.py").write_text(reward)
    with two_hosts(shared, shm) as (alpha, beta):
        yield Cluster(shared, alpha, beta)


def wait_until(condition, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timed out:\n{log.read_text(errors='replace')[-6000:]}"
        time.sleep(0.2)
