"""Writes build/dist: the patched OpenRLHF, this package, and what they need, for `pip install`. Called by `make dist`.

Needs pip and setuptools in the interpreter that runs it. docs/gpus.md says how the directory is installed.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "build" / "dist"
# Name of the written file → the lock, and what is left out of it. PyPI's torchvision fails to import beside torch's
# CPU build, which `make setup` mends; training on text does without.
LOCKS = {"requirements.txt": ("cpu.txt", ("torchvision",)), "requirements-cuda.txt": ("cuda.txt", ())}


def build_wheels() -> list[Path]:
    """The two wheels, in the order in which they are installed."""
    patches = [sys.executable, str(ROOT / "patches" / "patches.py"), "build"]
    told = subprocess.run(patches, check=True, stdout=subprocess.PIPE, text=True).stdout
    openrlhf = Path(told.splitlines()[-1])
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # setuptools packs what an earlier build left there, too
    for old in DIST.glob("kimi_plugins-*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", str(DIST), str(ROOT)], check=True)
    return [openrlhf, *DIST.glob("kimi_plugins-*.whl")]


def requirements(name: str, wheels: list[Path], lock: str, left_out: tuple[str, ...] = ()) -> str:
    """The text of a requirements file, for pip's --no-deps.

    Args:
        name: of the file.
        wheels: that lie beside it and come first.
        lock: text of the lock, `name==version` a line.
        left_out: names of packages in the lock.
    """
    own = ["{}=={}".format(*wheel.name.split("-")) for wheel in wheels]
    locked = [line for line in lock.splitlines() if line.partition("==")[0] not in left_out and line[:1] != "#"]
    return "\n".join(
        [f"# Written by scripts/dist.py: pip install --no-deps -r {name}", "--find-links .", *own, *locked, ""]
    )


def main() -> None:
    wheels = build_wheels()
    for name, (lock, left_out) in LOCKS.items():
        text = (ROOT / "requirements" / lock).read_text()
        (DIST / name).write_text(requirements(name, wheels, text, left_out))
    shutil.copy(ROOT / "requirements" / "cluster.txt", DIST / "requirements-cluster.txt")
    for path in sorted(DIST.iterdir()):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
