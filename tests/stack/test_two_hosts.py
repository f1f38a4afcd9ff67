"""The recipe on two hosts, as docs/clusters.md says, until one of them loses power.

The tests share the hosts and follow each other: the second starts with the cluster that the first has left.
"""

import subprocess
import time
from pathlib import Path

import pytest
import real_runs
import two_hosts

from kimi_plugins import run_log
from kimi_plugins.quickstart.model import build_model

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 3  # before the power cut
ALL_STEPS = 12  # more than it can do before Ray notices
START_UP = 600  # seconds to the first steps: six processes import torch and vLLM, on two cores that may be busy
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

    def processes(self, host: two_hosts.Host) -> str:
        lines = host.run(["ps", "-eo", "args"], self.environment).splitlines()
        return "\n".join(line for line in lines if not line.endswith("<defunct>"))  # process 1 there reaps none

    def steps(self) -> list[int]:
        return [record["step"] for record in run_log.read(self.shared / "ckpt", "train")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if (why := two_hosts.why_not()) is not None:
        pytest.skip(why)
    shared = tmp_path_factory.mktemp("two_hosts")
    build_model(shared / "model", seed=0, tie=True)
    real_runs.write_prompts(shared, rows=8 * ALL_STEPS)
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
    assert "reward.remote_url: /tmp/mine/reward.py is not on node 10.77.0.2" in text, text


def test_it_trains_on_both_until_one_loses_power(cluster):
    log = cluster.shared / "run.txt"
    run = cluster.start(log, cluster.words())
    wait_until(lambda: len(cluster.steps()) >= STEPS or run.poll() is not None, START_UP, log)
    assert run.poll() is None, log.read_text(errors="replace")[-6000:]
    assert {path.name for path in cluster.shared.glob("graded-by-*")} == {"graded-by-alpha", "graded-by-beta"}
    for host in (cluster.alpha, cluster.beta):
        processes = cluster.processes(host)
        assert "ray::PolicyModelActor" in processes and "ray::RolloutRayActor" in processes

    cluster.beta.cut_power()
    assert run.wait(timeout=180) == 1
    end = log.read_text(errors="replace").strip().splitlines()[-3:]
    assert " on 10.77.0.2) died" in end[0], end
    assert end[2].startswith("Its log: "), end
    # Ray ends the job's processes once the driver has left.
    running = ("ray::PolicyModelActor", "ray::RolloutRayActor", "ray::PPOTrainer", "VLLM", "openrlhf train")
    wait_until(lambda: not any(name in cluster.processes(cluster.alpha) for name in running), 60, log)
