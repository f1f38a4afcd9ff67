"""The recipe on two hosts, as docs/clusters.md says, until one of them loses power; then on what is left.

The tests share the hosts and follow each other: each starts with the cluster that the one before it has left.
"""

import pytest
import two_hosts

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS = 3  # before the power cut
ALL_STEPS = 12  # more than it can do before Ray notices
PATIENCE = 900  # seconds: a run's six processes import torch and vLLM, on two cores that may be busy
REWARD = """
import pathlib, socket

def reward_func(queries, prompts, labels):
    # Runs in the engines: leaves the name of the host.
    (pathlib.Path(__file__).parent / f"graded-by-{socket.gethostname()}").touch()
    response = queries[0][len(prompts[0]):]
    reward = float(response.count(labels[0][-1]) >= 2)
    return {"rewards": reward, "scores": reward, "extra_logs": {}}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with two_hosts.made_cluster(tmp_path_factory.mktemp("two_hosts"), 8 * ALL_STEPS, REWARD) as made:
        yield made


def test_a_run_waits_for_the_second_host_and_names_what_is_missing_there(cluster):
    log = cluster.shared / "waiting.txt"
    cluster.ray_start(cluster.alpha, "--head", "--include-dashboard=false", RAY_health_check_failure_threshold="3")
    cluster.alpha.run(["mkdir", "/tmp/mine"], cluster.environment)
    cluster.alpha.run(["cp", str(cluster.shared / "reward.py"), "/tmp/mine"], cluster.environment)
    words = cluster.words("--wait", "900", reward__remote_url="/tmp/mine/reward.py")
    run = cluster.start(log, words)
    waits = "waiting for the Ray cluster"
    two_hosts.wait_until(lambda: waits in log.read_text() or run.poll() is not None, PATIENCE, log)
    cluster.ray_start(cluster.beta, f"--address={cluster.alpha.address}:6379")
    assert run.wait(timeout=PATIENCE) == 2, log.read_text()
    text = log.read_text()
    assert "need 2 GPUs with a CPU each" in text and "10.77.0.1 (GPU 1, CPU 3); hosts without GPUs offer" in text
    assert "1 problem\n" in text, text
    assert "reward.remote_url: /tmp/mine/reward.py is not on node 10.77.0.2" in text, text


def test_it_trains_on_both_until_one_loses_power(cluster):
    log = cluster.shared / "run.txt"
    run = cluster.start(log, cluster.words())
    two_hosts.wait_until(lambda: len(cluster.steps()) >= STEPS or run.poll() is not None, PATIENCE, log)
    assert run.poll() is None, log.read_text(errors="replace")[-6000:]
    assert {path.name for path in cluster.shared.glob("graded-by-*")} == {"graded-by-alpha", "graded-by-beta"}
    for host in (cluster.alpha, cluster.beta):
        assert {"ray::PolicyModelActor", "ray::RolloutRayActor"} <= cluster.running(host)

    cluster.beta.cut_power()
    assert run.wait(timeout=PATIENCE) == 1
    end = log.read_text(errors="replace").strip().splitlines()[-3:]
    assert " on 10.77.0.2) died" in end[0], end
    assert end[2].startswith("Its log: "), end
    # Ray ends the job's processes once the driver has left.
    two_hosts.wait_until(lambda: not cluster.running(cluster.alpha), PATIENCE, log)


def test_what_is_left_trains_the_rest(cluster):
    log, before = cluster.shared / "resumed.txt", cluster.steps()
    run = cluster.start(log, cluster.words("--resume", "auto", nodes=1))
    assert run.wait(timeout=PATIENCE) == 0, log.read_text(errors="replace")[-6000:]
    assert STEPS <= len(before) < ALL_STEPS
    assert cluster.steps() == list(range(1, ALL_STEPS + 1))
    saved = sorted(int(path.name[11:]) for path in (cluster.shared / "ckpt/_actor").glob("global_step*[0-9]"))
    assert saved[-1] == ALL_STEPS
