"""`ray job submit` and `ray job stop` on a host of its own, as docs/clusters.md says.

The tests share the host and follow each other. They need requirements/cluster.txt, which `make setup` leaves out:
with it every run, also of other tests, would start all of Ray's dashboard. `make test` puts it into build/cluster.
"""

import json
import os

import pytest
import two_hosts

from kimi_plugins import run_log

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(1800)]

NEEDED = two_hosts.ROOT / "build/cluster"
PATIENCE = 900  # seconds: a run's processes import torch and vLLM, on two cores that may be busy
RAY_WAITS = (
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S",
    "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT",
    "RAY_JOB_STOP_WAIT_TIME_S",
)
REWARD = """
import os, pathlib

def reward_func(queries, prompts, labels):
    # Runs in an engine's process: leaves what reached it.
    told = [os.environ[name] for name in ("OPENRLHF_PLUGINS", "NCCL_DEBUG")]
    (pathlib.Path(__file__).parent / "engine.txt").write_text(" ".join(told))
    reward = float(labels[0][-1] in queries[0])
    return {"rewards": reward, "scores": reward, "extra_logs": {}}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if not NEEDED.is_dir():
        pytest.skip("`ray job` needs requirements/cluster.txt: make build/cluster")
    with two_hosts.made_cluster(tmp_path_factory.mktemp("jobs"), 400, REWARD) as made:
        made.environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(NEEDED), os.environ.get("PYTHONPATH")]))
        waits = dict.fromkeys(RAY_WAITS, str(PATIENCE))
        made.ray_start(made.alpha, "--head", f"--dashboard-host={made.alpha.address}", **waits)
        yield made


def job(cluster, *words, **variables):
    """`ray job WORDS`; variables: of the job."""
    told = [f"--runtime-env-json={json.dumps({'env_vars': variables})}"] if variables else []
    return ["ray", "job", words[0], f"--address=http://{cluster.alpha.address}:8265", *told, *words[1:]]


def test_plugins_variables_log_and_exit_code(cluster):
    log = cluster.shared / "job.txt"
    words = ["python", "-m", "openrlhf.cli.train_ppo_ray"]
    words += cluster.words(nodes=1, ckpt__path=cluster.shared / "first", data__max_samples=16)[4:]
    variables = {"OPENRLHF_PLUGINS": "kimi", "NCCL_DEBUG": "INFO"}
    run = cluster.start(log, job(cluster, "submit", "--", *words, **variables))
    assert run.wait(timeout=PATIENCE) == 0, log.read_text(errors="replace")[-6000:]
    text = log.read_text(errors="replace")
    assert "(RolloutRayActor pid=" in text and "succeeded" in text
    # kimi-log's in the trainer, with kimi-policy's in the actor.
    records = run_log.read(cluster.shared / "first", "train")
    assert [record["step"] for record in records] == [1, 2] and all("kimi/log_ratio_mean" in r for r in records)
    assert (cluster.shared / "engine.txt").read_text() == "kimi INFO"


def test_a_refused_run(cluster):
    log = cluster.shared / "refused.txt"
    run = cluster.start(log, job(cluster, "submit", "--", *cluster.words(nodes=2)))
    assert run.wait(timeout=PATIENCE) == 1  # Ray's, for any other than 0
    text = log.read_text(errors="replace")
    assert "need 2 GPUs with a CPU each" in text and "exit code 2" in text, text


def test_a_stopped_job_saves_and_leaves_nothing_behind(cluster):
    log = cluster.shared / "stopped.txt"
    (cluster.shared / "engine.txt").unlink()
    words = cluster.words("--ckpt.save_on_sigterm", nodes=1, ckpt__save_steps=1000)
    run = cluster.start(log, job(cluster, "submit", "--submission-id=mine", "--", *words, NCCL_DEBUG="WARN"))
    two_hosts.wait_until(lambda: cluster.steps() or run.poll() is not None, PATIENCE, log)
    assert run.poll() is None, log.read_text(errors="replace")[-6000:]
    assert (cluster.shared / "engine.txt").read_text() == "kimi WARN"
    cluster.alpha.run(job(cluster, "stop", "mine"), cluster.environment)
    assert run.wait(timeout=PATIENCE) == 0  # Ray's, for a job that was stopped
    assert "was stopped" in log.read_text(errors="replace")
    [saved] = [path.name for path in (cluster.shared / "ckpt/_actor").glob("global_step*[0-9]")]
    assert saved == f"global_step{cluster.steps()[-1]}"
    two_hosts.wait_until(lambda: not cluster.running(cluster.alpha), PATIENCE, log)
