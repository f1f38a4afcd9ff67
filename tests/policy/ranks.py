"""Starts the ranks of a worker script of this directory, on real gloo."""

import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start(script, world, directory):
    """The processes `python script directory` of all ranks; their output goes to directory/log_WORLD_RANK."""
    # As the openrlhf command does: operators are built once for an environment, not again for each in one cache.
    cache = os.environ.get("TORCH_EXTENSIONS_DIR", f"{sys.prefix}/torch_extensions")
    environment = os.environ | {
        "TORCH_EXTENSIONS_DIR": cache,
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        # DeepSpeed builds its optimizers with the ninja beside the interpreter.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    for rank in range(world):
        log = (directory / f"log_{world}_{rank}").open("w")
        yield subprocess.Popen(
            [sys.executable, str(HERE / script), str(directory)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def finish(processes, directory):
    """Wait until each process has ended with exit code 0; none is left behind."""
    try:
        codes = [process.wait(timeout=500) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0] * len(processes), "\n".join(log.read_text()[-2000:] for log in directory.glob("log_*"))
