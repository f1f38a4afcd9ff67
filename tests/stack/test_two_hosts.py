"""What preflight says of a cluster of two hosts, set up as docs/clusters.md says."""

import subprocess
import time
from pathlib import Path

import pytest
import real_runs
import two_hosts

from kimi_plugins.quickstart.model import build_model

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(900)]

REWARD = """
import pathlib, socket

def reward_func(queries, prompts, labels):
    # Runs in the engines: leaves the name of the host.
    (pathlib.Path(__file__).parent / f"graded-by-{socket.gethostname()}").touch()
    response = queries[0][len(prompts[0]):]
    reward = float(response.count(labels[0][-1]) >= 2)
    return {"rewards": reward, "scores": reward, "extra_logs": {}}
"""


class Cluster:
    """Two hosts, the directory they share, and what a user types on them."""

    def __init__(self, shared: Path, alpha: two_hosts.Host, beta: two_hosts.Host) -> None:
        self.shared, self.alpha, self.beta = shared, alpha, beta
        self.environment = two_hosts.environment(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")

    def ray_start(self, host: two_hosts.Host, *words: str) -> None:
        declared = ["--num-gpus", "1", "--num-cpus", "3", f"--node-ip-address={host.address}"]
        host.run(["ray", "start", *words, *declared, "--disable-usage-stats"], self.environment)

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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if (why := two_hosts.why_not()) is not None:
        pytest.skip(why)
    shared = tmp_path_factory.mktemp("two_hosts")
    build_model(shared / "model", seed=0, tie=True)
    real_runs.write_prompts(shared, rows=64)
    (shared / "reward.py").write_text(REWARD)
    with two_hosts.two_hosts(shared) as (alpha, beta):
        yield Cluster(shared, alpha, beta)


def wait_until(condition, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timed out:\n{log.read_text(errors='replace')[-6000:]}"
        time.sleep(0.2)


def test_a_run_waits_for_the_second_host_and_names_what_is_missing_there(cluster):
    log = cluster.shared / "waiting.txt"
    cluster.ray_start(cluster.alpha, "--head", "--include-dashboard=false")
    cluster.alpha.run(["mkdir", "/tmp/mine"], cluster.environment)
    cluster.alpha.run(["cp", str(cluster.shared / "reward.py"), "/tmp/mine"], cluster.environment)
    words = cluster.words("--wait", "300", reward__remote_url="/tmp/mine/reward.py")
    run = cluster.start(log, words)
    wait_until(lambda: "waiting for the Ray cluster" in log.read_text() or run.poll() is not None, 120, log)
    cluster.ray_start(cluster.beta, f"--address={cluster.alpha.address}:6379")
    assert run.wait(timeout=180) == 2, log.read_text()
    text = log.read_text()
    assert "need 2 GPUs with a CPU each" in text and "10.77.0.1 (GPU 1, CPU 3); hosts without GPUs offer" in text
    assert "1 problem\n" in text, text
    assert "reward.remote_url: /tmp/mine/reward.py is not on node 10.77.0.2" in text.splitlines()[-1], text
