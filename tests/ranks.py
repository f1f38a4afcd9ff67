"""Starts the ranks of a worker script on real gloo."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from openrlhf.utils import build_cache

ROOT = Path(__file__).parents[1]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start(script, world, directory, *arguments):
    """The processes `python script *arguments directory` of all ranks; their output goes to directory/log_WORLD_RANK.

    As the openrlhf command does: operators are built once for an environment, and no lock of a killed build is left.
    """
    build_cache.prepare()
    environment = os.environ | {
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        # DeepSpeed builds its optimizers with the ninja beside the interpreter.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    for rank in range(world):
        log = (directory / f"log_{world}_{rank}").open("w")
        yield subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments), str(directory)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def outcomes(script, directory, name):
    """{ranks: what each wrote to directory/NAME_RANKS_RANK.json} of one rank and of two, all started together."""
    finish([process for world in (1, 2) for process in start(script, world, directory)], directory)
    return {
        world: [json.loads((directory / f"{name}_{world}_{rank}.json").read_text()) for rank in range(world)]
        for world in (1, 2)
    }


def finish(processes, directory):
    """Wait until each process has ended with exit code 0; none is left behind."""
    try:
        codes = [process.wait(timeout=500) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0] * len(processes), "\n".join(log.read_text()[-2000:] for log in directory.glob("log_*"))
