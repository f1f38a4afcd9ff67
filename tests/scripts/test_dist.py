"""The wheel of this package is whole, and the requirements beside it install as one command."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as its wheel unpacks, built from a copy: setuptools writes into its source."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("kimi_plugins", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(target), str(source)], check=True)
    with zipfile.ZipFile(next(target.glob("*.whl"))) as wheel:
        wheel.extractall(target)
    return target


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(installed):
    files = [path for path in (ROOT / "kimi_plugins").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    files += [ROOT / "kimi_plugins" / "configs" / path.name for path in (ROOT / "configs").glob("*.yaml")]
    for path in files:
        copy = installed / path.relative_to(ROOT)
        assert copy.is_file() and copy.read_bytes() == path.read_bytes(), path


@pytest.mark.slow
def test_a_shipped_configuration_is_found_by_name_in_an_empty_directory(installed, tmp_path):
    paths = [str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "openrlhf.cli.main", "train", "--plugins", "kimi"]
    done = subprocess.run(
        [*command, "--config", "quickstart_cpu", "--dry-run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert f"{installed}/kimi_plugins/configs/quickstart_cpu.yaml:" in done.stdout, done.stderr
    assert list(tmp_path.glob("*.yaml")) == []


def test_the_requirements_name_the_wheels_first_and_leave_out_what_they_should():
    spec = importlib.util.spec_from_file_location("dist", ROOT / "scripts" / "dist.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    wheels = [Path("openrlhf-0.11.2+kimi.1-py3-none-any.whl"), Path("kimi_plugins-0.1.0-py3-none-any.whl")]
    text = script.requirements("r.txt", wheels, "# written\nray==2.55.0\ntorch==2\ntorchvision==3\n", ("torchvision",))
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == ["--find-links .", "openrlhf==0.11.2+kimi.1", "kimi_plugins==0.1.0", "ray==2.55.0", "torch==2"]
    for lock, _ in script.LOCKS.values():
        pins = (ROOT / "requirements" / lock).read_text().splitlines()
        assert all(re.match(r"#|[\w.-]+(===?)\S+( ; .*)?$", line) for line in pins) and len(pins) > 100
