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

ROOT = Path(__file__).parents[2]

# Runs as process 1 of the host: $0 name, $1 bytes of /dev/shm, $2 /etc/hosts, the others directories to keep.
# /etc/hosts is Debian's: the host's own name is 127.0.1.1.
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
exec cat
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

    def inside(self, *words: str) -> list[str]:
        """The command line that runs `words` in this host."""
        namespaces = ["--net", "--mount", "--uts", "--pid"]
        return ["nsenter", f"--target={self.pid}", *namespaces, f"--wdns={self.directory}", *words]

    def start(self, words: list[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen:
        with log.open("w") as file:
            return subprocess.Popen(self.inside(*words), stdout=file, stderr=file, env=dict(environment))

    def run(self, words: list[str], environment: Mapping[str, str], timeout: float = 120) -> str:
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
        if self._process.poll() is None:
            subprocess.run(self._network("ip", "link", "set", "eth0", "down"), check=False)
        self.end()

    def end(self) -> None:
        """End every process of the host and give back its namespaces; again does nothing."""
        self._process.kill()
        self._process.wait(timeout=30)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{self.pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)


@contextmanager
def two_hosts(directory: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach each other and share `directory`."""
    checkout = [ROOT] if ROOT.is_relative_to("/tmp") else []  # else they see it anyway
    with ExitStack() as stack:
        hosts = []
        for name, address in (("alpha", "10.77.0.1"), ("beta", "10.77.0.2")):
            hosts.append(Host(name, address, directory, [directory, *checkout]))
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
