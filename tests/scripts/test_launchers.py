"""The Slurm script with stand-ins for the cluster's commands; the RayJob and the Dockerfile by their structure."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAND_INS = {
    # srun: what follows the options, with the node's name in NODE
    "srun": 'while [[ $1 == -* ]]; do [ "$1" = -w ] && { export NODE=$2; shift; }; shift; done; exec "$@"',
    "scontrol": 'echo "$*" >> log; echo a1; echo a2; echo a3',
    "hostname": "echo 10.0.0.7 fe80::1",
    "ray": 'echo "$NODE ray $*" >> log; [ "$1" = status ] && exit 0; [ -e head_fails ] && exit 1; exec sleep 60',
    "openrlhf": 'echo "$NODE $RAY_ADDRESS openrlhf $*" >> log; trap "echo saved >> log; exit 143" TERM; '
    "for _ in $(seq ${STEPS:-0}); do sleep 0.1; done; exit ${CODE:-0}",
}


@pytest.fixture
def job(tmp_path):
    """Starts the script with arguments as Slurm would on three nodes; the stand-ins write `log`."""
    for name, script in STAND_INS.items():
        path = tmp_path / "venv" / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{script}\n")
        path.chmod(0o755)

    def start(*arguments, **environment):
        slurm = {"SLURM_JOB_ID": "123", "SLURM_JOB_NODELIST": "a[1-3]", "SLURM_SUBMIT_DIR": str(tmp_path)}
        return subprocess.Popen(
            ["bash", str(ROOT / "scripts" / "slurm.sbatch"), *arguments],
            cwd=tmp_path,
            env=os.environ | slurm | {"VENV": str(tmp_path / "venv")} | environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def log(directory):
    return (directory / "log").read_text().splitlines()


@pytest.mark.parametrize("code", [0, 3])
def test_one_ray_cluster_over_all_nodes_and_the_run_on_the_first(job, tmp_path, code):
    process = job("--config", "a b", CODE=str(code), STEPS="5")
    assert process.wait(60) == code
    lines = log(tmp_path)
    assert "a1 10.0.0.7:20123 openrlhf train --wait 600 --config a b" in lines
    flags = "ray start --block --disable-usage-stats --num-gpus 8"
    assert f"a1 {flags} --head --port=20123 --include-dashboard=false" in lines
    assert {line for line in lines if "--address" in line and "start" in line} == {
        f"{node} {flags} --address=10.0.0.7:20123" for node in ("a2", "a3")
    }


def test_slurms_term_reaches_the_run(job, tmp_path):
    process = job(STEPS="500")
    deadline = time.monotonic() + 60
    while not ((tmp_path / "log").exists() and any("openrlhf" in line for line in log(tmp_path))):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)  # until its trap is set
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert log(tmp_path)[-1] == "saved"


def test_a_head_that_cannot_start_ends_the_job(job, tmp_path):
    (tmp_path / "head_fails").touch()
    ray = tmp_path / "venv" / "bin" / "ray"
    ray.write_text(ray.read_text().replace("exit 0", "exit 1"))
    process = job()
    assert process.wait(60) == 1
    assert "Ray's head on a1 has ended" in process.stderr.read()


def test_the_rayjob_has_what_kuberay_asks_for():
    found = yaml.safe_load((ROOT / "scripts" / "rayjob.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    spec = found["spec"]
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == re.search(r"^ray==(\S+)", (ROOT / "requirements/cuda.txt").read_text(), re.M)[1]
    [workers] = cluster["workerGroupSpecs"]
    for group in (cluster["headGroupSpec"], workers):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {"name", "image", "resources"} <= container.keys()
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    gpus = workers["replicas"] * workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    assert f"--actor.num_nodes {workers['replicas']} --vllm.num_engines {gpus}" in spec["entrypoint"]
    recipe = yaml.safe_load((ROOT / "configs" / "k15_7b_8gpu.yaml").read_text())
    assert gpus == workers["replicas"] * recipe["actor"]["num_gpus_per_node"]


def test_the_image_installs_what_make_dist_writes_for_torchs_cuda():
    text = (ROOT / "Dockerfile").read_text()
    toolkit = re.search(r"^cuda-toolkit==(\d+\.\d+)", (ROOT / "requirements/cuda.txt").read_text(), re.M)[1]
    assert f"FROM nvidia/cuda:{toolkit}." in text and "requirements-cuda.txt" in text
    assert "requirements-cluster.txt" in text  # the RayJob needs the dashboard
