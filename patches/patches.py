#!/usr/bin/env python3
"""The patch series on the released OpenRLHF: fetch, apply, export, check, build.

    patches.py fetch                 download the released wheel into build/ and verify it
    patches.py apply                 unpack it to build/openrlhf, a git repository, one commit per patch
    patches.py export [--from DIR]   write that repository's commits back to patches/
    patches.py check [--tests]       prove that the series is complete and applies (and that upstream's tests pass)
    patches.py build                 write the patched wheel to build/dist and print its path

Standard library and git only: it runs before the virtual environment exists.
"""

import argparse
import base64
import email
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
import zipfile
from pathlib import Path

PATCHES = Path(__file__).resolve().parent
BUILD = PATCHES.parent / "build"
WORK_TREE = BUILD / "openrlhf"

AUTHOR = "kimi_plugins maintainers <maintainers@kimi-plugins.invalid>"  # of every patch, whoever commits it
LOCAL_VERSION = "kimi.1"
ENTRY_POINTS = "[console_scripts]\nopenrlhf = openrlhf.cli.main:main\n"
ADDED_REQUIREMENTS = ("pluggy", "PyYAML")  # what the patches import and the release does not name
RELEASE_DATE = "2026-09-14T00:00:00+0000"
APPLIED = "applied"  # tag on what `apply` made, to notice work that was not exported


class Error(Exception):
    """One line that says what is wrong and what to do."""


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout)
    return done.stdout


def git(tree: Path, *arguments: str | Path) -> str:
    # The user's git settings and a surrounding hook's GIT_* must not change the bytes of a patch.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "OpenRLHF release", f"GIT_{role}_EMAIL": "release@localhost"}
        env |= {f"GIT_{role}_DATE": RELEASE_DATE}
    try:
        return run("git", *arguments, cwd=tree, env=env)
    except FileNotFoundError:
        raise Error("git is missing: install git") from None


def first_error(output: str) -> str:
    lines = output.strip().splitlines()
    return next((line for line in lines if line.startswith(("error:", "fatal:"))), lines[-1] if lines else "no output")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_upstream() -> dict[str, str]:
    lines = (PATCHES / "UPSTREAM").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if line)


def read_series() -> list[Path]:
    """The patches in order. Raises Error if `series` and the directory do not name the same files."""
    listed = (PATCHES / "series").read_text().split()
    present = {path.name for path in PATCHES.glob("*.patch")}
    if missing := [name for name in listed if name not in present]:
        raise Error(f"patches/series names {missing[0]}, which is not in patches/")
    if extra := sorted(present.difference(listed)):
        raise Error(f"patches/{extra[0]} is not named in patches/series")
    if len(set(listed)) != len(listed):
        raise Error("patches/series names a patch twice")
    return [PATCHES / name for name in listed]


# fetch


def fetch() -> Path:
    upstream = read_upstream()
    wheel = BUILD / upstream["wheel"]
    if not wheel.exists():
        BUILD.mkdir(exist_ok=True)
        download(f"{upstream['name']}=={upstream['version']}", wheel)
    if sha256(wheel) != upstream["sha256"]:
        raise Error(f"build/{wheel.name}: its sha256 is not the one in patches/UPSTREAM: delete it and fetch again")
    return wheel


def download(requirement: str, wheel: Path) -> None:
    # The wheel is pure Python under a platform tag: ask for that tag, whatever machine this is.
    python, abi, platform = wheel.stem.split("-")[-3:]
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--timeout=20", "--retries=1"]
    tags = [f"--implementation={python[:2]}", f"--python-version={python[2:]}", f"--abi={abi}"]
    try:
        run(*pip, *tags, f"--platform={platform}", "--dest", wheel.parent, requirement)
    except subprocess.CalledProcessError as failure:
        print(failure.output, file=sys.stderr)
        raise Error(f"cannot download {requirement} (see pip's output above): no network?") from None
    if not wheel.exists():
        raise Error(f"the package index gave another file than {wheel.name} for {requirement}")


# apply


def unpack(wheel: Path, tree: Path) -> None:
    """Writes the wheel's Python files (its purelib) to a new git repository with one commit."""
    prefix = re.sub(r"^([^-]+-[^-]+)-.*", r"\1.data/purelib/", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(prefix) and not name.endswith("/"):
                path = tree / name.removeprefix(prefix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))
    git(tree, "init", "--quiet", "--initial-branch=main")
    git(tree, "add", "--all", "--force")
    git(tree, "commit", "--quiet", "--message", wheel.name)


def check_release(tree: Path) -> str:
    """The id of the tree's first commit, which must hold upstream's files as released."""
    root = git(tree, "rev-list", "--max-parents=0", "HEAD").strip()
    upstream = read_upstream()
    found, release = git(tree, "rev-parse", f"{root}^{{tree}}").strip(), f"{upstream['name']} {upstream['version']}"
    if found != upstream["tree"]:
        raise Error(f"{tree}: its first commit is not {release} as released: tree {found}, see patches/UPSTREAM")
    return root


def make_tree(tree: Path) -> None:
    """Unpacks the release to the empty directory `tree` and applies the series."""
    series = read_series()
    unpack(fetch(), tree)
    check_release(tree)
    git(tree, "tag", APPLIED)
    for patch in series:
        try:
            git(tree, "am", "--quiet", "--whitespace=nowarn", "--committer-date-is-author-date", patch)
        except subprocess.CalledProcessError as failure:
            raise Error(f"patches/{patch.name} does not apply: {first_error(failure.output)}") from None
        git(tree, "tag", "--force", APPLIED)


def has_uncommitted(tree: Path) -> bool:
    return bool(git(tree, "status", "--porcelain", "--", ".", ":!*__pycache__*"))


def apply() -> None:
    if WORK_TREE.exists():
        head, applied = git(WORK_TREE, "rev-parse", "HEAD", APPLIED).split()
        if head != applied or has_uncommitted(WORK_TREE):
            raise Error("build/openrlhf holds work that was not exported: export it, or delete the directory")
        shutil.rmtree(WORK_TREE)
    WORK_TREE.mkdir(parents=True)
    make_tree(WORK_TREE)


# export


def signed(patch: str) -> str:
    """The patch with AUTHOR as its only author and signature, whoever made the commit."""
    header, found, diff = patch.partition("\n---\n")
    if not found:
        raise Error(f"a commit changes no file: {first_error(header)}")
    header = re.sub(r"^From: .*(?:\n .*)*$", f"From: {AUTHOR}", header, count=1, flags=re.MULTILINE)
    header = re.sub(r"^Signed-off-by: .*\n?", "", header, flags=re.MULTILINE).rstrip("\n")
    return f"{header}\nSigned-off-by: {AUTHOR}\n---\n{diff}"


def format_patches(tree: Path, target: Path) -> list[Path]:
    """Writes the tree's commits to the directory `target`, and returns the files in the order of the series."""
    root = check_release(tree)
    stable = ["--zero-commit", "--no-signature", "--no-numbered", "--full-index", "--no-renames", "--quiet"]
    stable += ["--filename-max-length=100"]
    git(tree, "format-patch", *stable, "--output-directory", target, f"{root}..HEAD")
    patches = []
    for numbered in sorted(target.glob("*.patch")):
        patch = target / re.sub(r"^\d+-", "", numbered.name)  # the order is in `series`
        if patch.exists():
            raise Error(f"two commits have the subject of {patch.name}: reword one")
        patch.write_bytes(signed(numbered.read_bytes().decode("latin-1")).encode("latin-1"))
        numbered.unlink()
        patches.append(patch)
    return patches


def export(tree: Path) -> None:
    if not (tree / ".git").exists():
        raise Error(f"{tree} is not a git repository: run `patches.py apply` first")
    if has_uncommitted(tree):
        print(f"patches.py: {tree} holds changes that are not committed: they are not exported", file=sys.stderr)
    with tempfile.TemporaryDirectory() as directory:
        new = format_patches(tree, Path(directory))
        for old in PATCHES.glob("*.patch"):
            old.unlink()
        for patch in new:
            shutil.copyfile(patch, PATCHES / patch.name)
    (PATCHES / "series").write_text("".join(f"{patch.name}\n" for patch in new))
    if tree == WORK_TREE:
        git(tree, "tag", "--force", APPLIED)
    print(f"exported {len(new)} patches")


# check


def check_message(patch: Path) -> None:
    """Raises Error unless the commit message says why and carries the DEP-3 fields."""
    message = email.message_from_bytes(patch.read_bytes()).get_payload(decode=True).decode(errors="replace")
    message = re.split(r"^(?:---|diff --git .*)$", message, maxsplit=1, flags=re.MULTILINE)[0]
    fields = {"Forwarded": r"(?:no|not-needed|yes|https?://\S+).*", "Last-Update": r"\d{4}-\d{2}-\d{2}"}
    for field, value in fields.items():
        if not re.search(rf"^{field}: {value}$", message, re.MULTILINE):
            raise Error(f"patches/{patch.name}: its message has no valid `{field}:` line")
    if not re.sub(r"^[A-Z][A-Za-z-]+: .*$", "", message, flags=re.MULTILINE).strip():
        raise Error(f"patches/{patch.name}: its message does not say why")


def check(with_tests: bool) -> None:
    series = read_series()
    for patch in series:
        check_message(patch)
    with tempfile.TemporaryDirectory() as directory:
        tree, exported = Path(directory, "tree"), Path(directory, "exported")
        tree.mkdir()
        make_tree(tree)
        names = [patch.name for patch in format_patches(tree, exported)]
        if names != [patch.name for patch in series]:
            raise Error("patches/series is not what an export writes: run `patches.py apply` and `patches.py export`")
        for patch in series:
            if (exported / patch.name).read_bytes() != patch.read_bytes():
                raise Error(f"patches/{patch.name} is not what an export writes: run `patches.py apply` and `export`")
        print(f"patches: {len(series)} apply and re-export identically", flush=True)
        if with_tests:
            run_upstream_tests(tree)


def run_upstream_tests(tree: Path) -> None:
    """Runs upstream's own tests on the patched tree, with the Python that runs this file."""
    report = tree.parent / "tests.xml"
    # The empty settings file and the root keep pytest from finding this project's.
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tree]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*pytest, f"--junitxml={report}", "tests"], cwd=tree, env=env)
    if done.returncode != 0:
        raise Error("upstream's tests fail on the patched tree (pytest's output is above)")
    suite = xml.etree.ElementTree.parse(report).find("testsuite")
    passed = int(suite.get("tests")) - int(suite.get("skipped"))
    if passed < int(read_upstream()["tests"]):
        raise Error(f"only {passed} of upstream's {read_upstream()['tests']} tests ran on the patched tree")


# build


def patched_metadata(metadata: str, version: str) -> str:
    metadata = re.sub(r"^Version: .*$", f"Version: {version}", metadata, count=1, flags=re.MULTILINE)
    added = "".join(f"Requires-Dist: {name}\n" for name in ADDED_REQUIREMENTS)
    return metadata.replace("Requires-Dist: ", f"{added}Requires-Dist: ", 1)


def record_line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def build() -> Path:
    """Writes the patched wheel; the same series gives the same bytes. Returns its path."""
    upstream = read_upstream()
    name, version = upstream["name"], f"{upstream['version']}+{LOCAL_VERSION}"
    info, old_info = f"{name}-{version}.dist-info", f"{name}-{upstream['version']}.dist-info"
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as directory:
        make_tree(Path(directory))
        # The release also installs its tests as a top-level package, `tests`: that stays out.
        for path in Path(directory, name).rglob("*"):
            if path.is_file():
                files[path.relative_to(directory).as_posix()] = path.read_bytes()
    with zipfile.ZipFile(fetch()) as released:
        files[f"{info}/LICENSE"] = released.read(f"{old_info}/LICENSE")
        metadata = released.read(f"{old_info}/METADATA").decode()
    files[f"{info}/METADATA"] = patched_metadata(metadata, version).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: patches.py\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = ENTRY_POINTS.encode()
    files[f"{info}/top_level.txt"] = f"{name}\n".encode()
    record = f"{info}/RECORD"
    files[record] = ("".join(record_line(*item) for item in sorted(files.items())) + f"{record},,\n").encode()

    wheel = BUILD / "dist" / f"{name}-{version}-py3-none-any.whl"
    wheel.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in sorted(files.items(), key=lambda item: (item[0] == record, item[0])):
            entry = zipfile.ZipInfo(path, date_time=(2020, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return wheel


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("fetch", "apply", "build"):
        commands.add_parser(name)
    commands.add_parser("export").add_argument("--from", dest="tree", type=Path, default=WORK_TREE)
    commands.add_parser("check").add_argument("--tests", action="store_true")
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "fetch":
                print(fetch())
            case "apply":
                apply()
                print(WORK_TREE)
            case "export":
                export(arguments.tree.resolve())
            case "check":
                check(arguments.tests)
            case "build":
                print(build())
    except Error as error:
        print(f"patches.py: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as failure:
        print(f"patches.py: {' '.join(map(str, failure.cmd))}: {first_error(failure.output)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
