"""What is wrong with a cluster is named, with the node and the fix, by a dry run: nothing is loaded.

The tests share two hosts and follow each other: each starts with the cluster that the one before it has left.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import openrlhf
import pytest
import two_hosts

import kimi_plugins

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(1800)]

BETA = "10.77.0.2"
NOBODY = 65534
IN_USE = """
import ray, time
ray.init(logging_level="ERROR")
@ray.remote(num_gpus=1)
class Other:
    def ready(self):
        return "in use"
other = Other.remote()
print(ray.get(other.ready.remote()), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with two_hosts.made_cluster(tmp_path_factory.mktemp("bad_nodes"), rows=16, shm=64 * 2**20) as made:
        yield made


@pytest.fixture
def problems(cluster):
    """problems(changed settings, environment): what a dry run on alpha finds, one line each."""

    def problems(environment=None, **changed):
        words = cluster.alpha.inside(*cluster.words("--dry-run", **changed))
        told = cluster.environment | (environment or {})
        done = subprocess.run(words, env=told, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        found = [line.partition("on this machine: kimi-preflight: ") for line in done.stdout.splitlines()]
        return [line for start, mark, line in found if mark and not start]

    return problems


def test_another_program_at_the_port_or_none(cluster, problems):
    address = f"{cluster.alpha.address}:6379"
    [line] = problems({"RAY_ADDRESS": address})
    assert line.startswith(f"RAY_ADDRESS: no Ray cluster answers at {address} any more") and "or unset" in line
    server = ["python", "-m", "http.server", "6379", "--bind", cluster.alpha.address]
    other = cluster.alpha.start(server, cluster.shared / "server.txt", cluster.environment)
    listening = ["ss", "-Hltn", "sport = :6379"]
    two_hosts.wait_until(lambda: cluster.alpha.run(listening, cluster.environment), 30, cluster.shared / "server.txt")
    [line] = problems({"RAY_ADDRESS": address})
    assert f"another program than Ray has the port at {address}; find it with `ss -tlnp" in line
    other.kill()
    other.wait()


def test_a_cluster_that_is_too_small(cluster, problems):
    cluster.ray_start(cluster.alpha, "--head", "--include-dashboard=false")
    [line] = problems()
    assert "too small, 10.77.0.1 (GPU 1, CPU 3)" in line and "--num-gpus 2 --num-cpus 3" in line


def test_all_that_a_node_lacks(cluster, problems):
    other = cluster.shared / "other"
    for package in (openrlhf, kimi_plugins):
        source = Path(package.__file__).parent
        shutil.copytree(source, other / source.name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        with (other / source.name / "__init__.py").open("a") as file:
            file.write("# of another day\n")
    mine = "/tmp/mine"  # each host has a /tmp of its own
    for host in (cluster.alpha, cluster.beta):
        host.run(["cp", "-r", str(cluster.shared), mine], cluster.environment)
    for words in (
        ["rm", "-r", f"{mine}/model"],
        ["truncate", "-s-1", f"{mine}/prompts.jsonl"],
        ["rm", f"{mine}/reward.py"],
    ):
        cluster.beta.run(words, cluster.environment)
    cluster.ray_start(cluster.beta, f"--address={cluster.alpha.address}:6379", PYTHONPATH=str(other))
    found = problems(
        actor__model_name_or_path=f"{mine}/model",
        data__prompt_dataset=f"{mine}/prompts.jsonl",
        reward__remote_url=f"{mine}/reward.py",
        ckpt__path=f"{mine}/ckpt",
    )
    assert [re.match(r"[\w./]+(?=: )", line)[0] for line in found] == [
        "openrlhf",
        "kimi_plugins",
        "actor.model_name_or_path",
        "data.prompt_dataset",
        "reward.remote_url",
        "ckpt.path",
        "/dev/shm",
    ]
    assert all(f"on node {BETA}" in line and "; " in line for line in found), found
    assert "64 MiB" in found[-1] and "prompts.jsonl is another" in found[3]


def test_a_node_whose_ray_may_not_read_and_write(cluster, problems):
    """Ray runs there as a user who is nobody's superuser, and what the run needs is another's."""
    cluster.beta.run(["ray", "stop"], cluster.environment)
    cluster.beta.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", "/dev/shm"], cluster.environment)
    checkpoints = cluster.shared / "ckpt"
    checkpoints.mkdir()
    (cluster.shared / "reward.py").chmod(0o600)
    for path in (cluster.shared / "reward.py", checkpoints):
        os.chown(path, NOBODY, NOBODY)
    without_rights = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    cluster.ray_start(cluster.beta, f"--address={cluster.alpha.address}:6379", prefix=without_rights)
    found = problems()
    assert len(found) == 2 and all(f"on node {BETA}" in line for line in found), found
    assert found[0].startswith("reward.remote_url: ") and "cannot be read" in found[0]
    assert found[1].startswith("ckpt.path: ") and "cannot be written" in found[1]


def test_a_cluster_in_use(cluster, problems):
    log = cluster.shared / "in_use.txt"
    other = cluster.alpha.start(["python", "-c", IN_USE], log, cluster.environment)
    two_hosts.wait_until(lambda: "in use" in log.read_text() or other.poll() is not None, 900, log)
    [line] = problems()
    assert re.search(r"in use by Other \(\d+\) on 10\.77\.0\.[12]; free are 10", line) and "--wait" in line, line
    other.kill()
    other.wait()
