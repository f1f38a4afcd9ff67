"""Texts and images in one batch on two ranks: no rank waits for the other, and the gradients are one rank's."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kimi_plugins.vision.tiny_model import build_model

pytestmark = [pytest.mark.stack, pytest.mark.slow]
HERE = Path(__file__).parent


def start(model, directory, world):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    environment = os.environ | {
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    for rank in range(world):
        yield subprocess.Popen(
            [sys.executable, str(HERE / "mixed_worker.py"), str(model), str(directory)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=(directory / f"log_{world}_{rank}").open("w"),
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    """{ranks: {stage: gradients}}, the ranks of both runs started together."""
    model, directory = tmp_path_factory.mktemp("tiny_vlm"), tmp_path_factory.mktemp("mixed")
    build_model(model, list("abcd"), seed=1)
    ranks = [process for world in (1, 2) for process in start(model, directory, world)]
    try:
        codes = [process.wait(timeout=500) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    assert codes == [0] * len(ranks), "\n".join(log.read_text()[-2000:] for log in directory.glob("log_*"))
    return {world: torch.load(directory / f"gradients_{world}.pt") for world in (1, 2)}


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_gradients_of_two_ranks_are_those_of_one(gradients, stage):
    for expected, found in zip(gradients[1][stage], gradients[2][stage], strict=True):
        assert expected.keys() == found.keys()
        size = sum(gradient.square().sum() for gradient in expected.values()).sqrt()
        visual = sum(gradient.square().sum() for name, gradient in expected.items() if "visual" in name).sqrt()
        assert visual > 1e-3 * size  # the tower is trained
        error = sum((found[name] - gradient).square().sum() for name, gradient in expected.items()).sqrt()
        assert error < 1e-4 * size
