"""patches.py on a tiny made-up wheel: what it accepts, what it refuses and in which words."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "patches" / "patches.py"
WHEEL = "openrlhf-0.0.1-cp311-cp311-manylinux1_x86_64.whl"
SOURCE = "".join(f"line_{number} = {number}\n" for number in range(20))
METADATA = "Metadata-Version: 2.1\nName: openrlhf\nVersion: 0.0.1\nRequires-Dist: torch\n\nVersion: x\n"
FIELDS = "Kind: fix\nDepends-on: nothing\nForwarded: no\nLast-Update: 2026-01-31\n"
MESSAGE = f"Make line 3 three times as large\n\nIt was too small.\n\nTested: by looking at it.\n\n{FIELDS}"
README = "# Patches\n\n<!-- patches.py export writes this table -->\n<!-- end of the table -->\n\nMore.\n"


class Checkout:
    """A directory with patches/ and a downloaded wheel in build/."""

    def __init__(self, root: Path):
        self.patches, self.build = root / "patches", root / "build"
        self.tree = self.build / "openrlhf"
        self.patches.mkdir()
        self.build.mkdir()
        shutil.copy(SCRIPT, self.patches)
        (self.patches / "series").touch()
        (self.patches / "README.md").write_text(README)
        with zipfile.ZipFile(self.build / WHEEL, "w") as wheel:
            wheel.writestr("openrlhf-0.0.1.data/purelib/openrlhf/__init__.py", "")
            wheel.writestr("openrlhf-0.0.1.data/purelib/openrlhf/lines.py", SOURCE)
            wheel.writestr("openrlhf-0.0.1.data/purelib/tests/test_lines.py", "def test_one(): pass\n")
            wheel.writestr("openrlhf-0.0.1.dist-info/METADATA", METADATA)
            wheel.writestr("openrlhf-0.0.1.dist-info/WHEEL", "Wheel-Version: 1.0\n")
            wheel.writestr("openrlhf-0.0.1.dist-info/LICENSE", "A licence\n")
        self.write_upstream(tests=1)

    def write_upstream(self, tests: int) -> None:
        sha256 = hashlib.sha256((self.build / WHEEL).read_bytes()).hexdigest()
        tree = "e4b07ec55a9256e679948b63c823c4b4cb54def2"
        lines = ["name: openrlhf", "version: 0.0.1", f"wheel: {WHEEL}", f"sha256: {sha256}", f"tree: {tree}"]
        (self.patches / "UPSTREAM").write_text("\n".join([*lines, f"tests: {tests}", ""]))

    def names(self) -> list[str]:
        return [name.removesuffix(".patch") for name in (self.patches / "series").read_text().split()]

    def run(self, *arguments: str, ok: bool = True) -> str:
        """Runs patches.py; returns what it printed, which after a failure must end in one line from patches.py."""
        command = [sys.executable, self.patches / "patches.py", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert (done.returncode == 0) == ok, done.stdout
        if not ok:
            assert done.returncode == 1 and "Traceback" not in done.stdout, done.stdout
            return re.findall("^patches.py: (.*)$", done.stdout, re.MULTILINE)[-1]
        return done.stdout

    def commit(self, old: str, new: str, message: str = MESSAGE) -> None:
        lines = self.tree / "openrlhf" / "lines.py"
        lines.write_text(lines.read_text().replace(old, new))
        identity = ["-c", "user.name=A Developer", "-c", "user.email=developer@localhost"]
        subprocess.run(["git", *identity, "commit", "--quiet", "--all", "-m", message], cwd=self.tree, check=True)

    def patch(self) -> Path:
        return self.patches / (self.patches / "series").read_text().split()[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout with two exported patches."""
    made = Checkout(tmp_path)
    made.run("apply")
    made.commit("line_3 = 3\n", "line_3 = 9\n")
    made.commit("line_15 = 15\n", "line_15 = 'fünfzehn'\n", MESSAGE.replace("line 3", "line 15"))
    made.run("export")
    return made


def test_the_series_is_exported_applied_and_exported_again_with_the_same_bytes(checkout):
    first = {path.name: path.read_bytes() for path in checkout.patches.glob("*.patch")}
    series = (checkout.patches / "series").read_text().split()
    assert series == ["Make-line-3-three-times-as-large.patch", "Make-line-15-three-times-as-large.patch"]
    assert sorted(series) == sorted(first)
    assert "2 apply and re-export identically" in checkout.run("check")
    shutil.rmtree(checkout.tree)
    checkout.run("apply")
    assert "line_3 = 9\n" in (checkout.tree / "openrlhf" / "lines.py").read_text()
    checkout.run("export", "--from", str(checkout.tree))
    assert {path.name: path.read_bytes() for path in checkout.patches.glob("*.patch")} == first


def test_the_users_git_settings_do_not_change_a_patch(checkout, tmp_path, monkeypatch):
    before = checkout.patch().read_bytes()
    (tmp_path / "gitconfig").write_text("[diff]\n\tnoprefix = true\n[format]\n\tsignature = me\n\tsignOff = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_DIR", os.devnull)
    checkout.run("export")
    assert checkout.patch().read_bytes() == before


def test_the_project_is_the_author_of_every_patch_and_its_only_signer(checkout):
    checkout.commit("line_4 = 4\n", "line_4 = 8\n", MESSAGE.replace("3", "4") + "Signed-off-by: A B <a@some-host>\n")
    checkout.run("export")
    for patch in checkout.patches.glob("*.patch"):
        text = patch.read_text()
        assert "developer@localhost" not in text and "some-host" not in text
        assert text.count("\nFrom: kimi_plugins maintainers <maintainers@kimi-plugins.invalid>\n") == 1
        signature = "\nSigned-off-by: kimi_plugins maintainers <maintainers@kimi-plugins.invalid>\n---\n"
        assert text.count(signature) == text.count("Signed-off-by") == 1
    assert "3 apply and re-export identically" in checkout.run("check")


def test_two_patches_have_the_same_subject(checkout):
    checkout.commit("line_4 = 4\n", "line_4 = 8\n")
    message = checkout.run("export", ok=False)
    assert message == "two commits have the subject of Make-line-3-three-times-as-large.patch: reword one"


def test_a_patch_named_in_series_is_missing(checkout):
    name = checkout.patch().name
    checkout.patch().unlink()
    assert checkout.run("check", ok=False) == f"patches/series names {name}, which is not in patches/"


def test_a_patch_is_not_named_in_series(checkout):
    (checkout.patches / "more.patch").touch()
    assert checkout.run("check", ok=False) == "patches/more.patch is not named in patches/series"


def test_the_wheel_has_another_hash(checkout):
    with (checkout.build / WHEEL).open("ab") as wheel:
        wheel.write(b"\0")
    assert "sha256 is not the one in patches/UPSTREAM" in checkout.run("check", ok=False)


def test_upstreams_files_are_others(checkout):
    upstream = checkout.patches / "UPSTREAM"
    upstream.write_text(re.sub("tree: .*", f"tree: {'0' * 40}", upstream.read_text()))
    assert "first commit is not openrlhf 0.0.1 as released" in checkout.run("build", ok=False)


def test_a_patch_does_not_apply(checkout):
    patch = checkout.patch()
    patch.write_text(patch.read_text().replace("-line_3 = 3", "-line_3 = 4"))
    message = checkout.run("check", ok=False)
    assert message.startswith(f"patches/{patch.name} does not apply: error: patch failed: openrlhf/lines.py")


def test_a_patch_that_applies_but_is_not_as_exported(checkout):
    patch = checkout.patch()
    patch.write_text(patch.read_text().replace("Subject: [PATCH] Make", "Subject: [PATCH 1/2] Make"))
    assert f"patches/{patch.name} is not what an export writes" in checkout.run("check", ok=False)


@pytest.mark.parametrize(
    "remove, complaint",
    [
        ("Forwarded: no\n", "its message has no valid `Forwarded:` line"),
        ("Last-Update: 2026-01-31\n", "its message has no valid `Last-Update:` line"),
        ("01-31", "its message has no valid `Last-Update:` line"),
        ("Kind: fix\n", "its message has no valid `Kind:` line"),
        ("nothing", "its message has no valid `Depends-on:` line"),
        ("It was too small.\n\n", "its message does not say why"),
        ("Tested: by looking at it.\n\n", "its message does not say how it was tested"),
    ],
)
def test_a_message_is_incomplete(checkout, remove, complaint):
    patch = checkout.patch()
    patch.write_text(patch.read_text().replace(remove, "", 1))
    assert checkout.run("check", ok=False).startswith(f"patches/{patch.name}: {complaint}")


def test_an_incomplete_message_is_not_exported(checkout):
    before = {path: path.read_bytes() for path in checkout.patches.iterdir()}
    checkout.commit("line_4 = 4\n", "line_4 = 8\n", "Double line 4\n\nWhy not.\n")
    assert "Double-line-4.patch: its message has no valid `Kind:` line" in checkout.run("export", ok=False)
    assert {path: path.read_bytes() for path in checkout.patches.iterdir()} == before


def test_the_readme_lists_the_patches(checkout):
    message = MESSAGE.replace("3", "4").replace("nothing", "Make-line-3-three-times-as-large")
    checkout.commit("line_4 = 4\n", "line_4 = 12\n", message)
    checkout.run("export")
    readme = (checkout.patches / "README.md").read_text()
    link = "[Make line 4 three times as large](Make-line-4-three-times-as-large.patch)"
    assert f"| 3 | {link} | fix | after 1 |  | no |\n" in readme
    assert readme.startswith("# Patches\n") and readme.endswith("\nMore.\n")
    (checkout.patches / "README.md").write_text(readme.replace("after 1", "alone"))
    assert "the table in patches/README.md is not what an export writes" in checkout.run("check", ok=False)


def test_a_patch_depends_on_a_later_one(checkout):
    patch = checkout.patch()
    patch.write_text(patch.read_text().replace("nothing", "Make-line-15-three-times-as-large"))
    message = checkout.run("check", ok=False)
    assert message.endswith("depends on Make-line-15-three-times-as-large, which is not an earlier patch")


@pytest.fixture
def dependent(checkout):
    """The name of a third patch, which changes a line beside that of the first one."""
    checkout.commit("line_4 = 4\n", "line_4 = 12\n", MESSAGE.replace("3", "4"))
    checkout.run("export")
    return "Make-line-4-three-times-as-large"


@pytest.mark.parametrize("declared", ["Make-line-3-three-times-as-large", "everything before"])
def test_each_patch_applies_to_the_release_after_what_it_depends_on(checkout, dependent, declared):
    complaint = f"1 of 3 patches fail alone: {dependent}.patch"
    assert checkout.run("check", "--alone", ok=False) == complaint
    assert checkout.run("check", "--alone", dependent, ok=False) == complaint.replace("of 3", "of 1")
    assert "2 of 2 apply alone" in checkout.run("check", "--alone", *(set(checkout.names()) - {dependent}))
    assert checkout.run("check", "--alone", "other", ok=False).startswith("no patch has the name other")
    patch = checkout.patches / f"{dependent}.patch"
    patch.write_text(patch.read_text().replace("Depends-on: nothing", f"Depends-on: {declared}"))
    assert "2 of 3 apply alone to the release" in checkout.run("check", "--alone")


def test_a_patchs_own_tests_fail_without_it_and_pass_with_it(checkout, tmp_path):
    tests = checkout.tree / "tests" / "test_line_4.py"
    tests.write_text("from openrlhf.lines import line_4\n\n\ndef test_line_4():\n    assert line_4 == 12\n")
    subprocess.run(["git", "add", tests], cwd=checkout.tree, check=True)
    message = MESSAGE.replace("3", "4").replace("nothing", "Make-line-3-three-times-as-large")
    checkout.commit("line_4 = 4\n", "line_4 = 12\n", message)
    checkout.run("export")
    output = checkout.run("check", "--alone", "--tests")
    assert "Make-line-4-three-times-as-large: its tests fail without it and pass with it" in output
    upstream = tmp_path / "upstream"
    root = subprocess.check_output(["git", "-C", checkout.tree, "rev-list", "--max-parents=0", "HEAD"], text=True)
    subprocess.run(["git", "clone", "--quiet", checkout.tree, upstream], check=True)
    subprocess.run(["git", "-C", upstream, "reset", "--quiet", "--hard", root.strip()], check=True)
    request = checkout.run("pr", "Make-line-4-three-times-as-large", str(upstream))
    assert "Without the change, its tests fail: `python -m pytest tests/test_line_4.py`" in request
    patch = checkout.patches / "Make-line-4-three-times-as-large.patch"
    text = patch.read_text()
    patch.write_text(text.replace("assert line_4 == 12", "assert line_4 >= 4"))
    failed = f"1 of 3 patches fail alone: {patch.name}"
    assert checkout.run("check", "--alone", "--tests", ok=False) == failed
    patch.write_text(text.replace("assert line_4 == 12", "assert line_4 == 13"))
    assert checkout.run("check", "--alone", "--tests", ok=False) == failed


def test_a_pull_request(checkout, dependent, tmp_path):
    patch = checkout.patches / f"{dependent}.patch"
    declared = "Depends-on: Make-line-3-three-times-as-large"
    patch.write_text(patch.read_text().replace("Depends-on: nothing", declared))
    upstream = tmp_path / "upstream"
    subprocess.run(["git", "clone", "--quiet", checkout.tree, upstream], check=True)
    git = ["git", "-C", upstream, "-c", "user.name=A", "-c", "user.email=a@localhost"]
    root = subprocess.check_output([*git, "rev-list", "--max-parents=0", "HEAD"], text=True).strip()
    subprocess.run([*git, "reset", "--quiet", "--hard", root], check=True)
    text = checkout.run("pr", dependent, str(upstream))
    assert text == (
        "fix: make line 4 three times as large\n\nIt was too small.\n\nTested: by looking at it.\n\n"
        "This branch begins with other pull requests, which come first:\n\n- Make line 3 three times as large\n"
    )
    log = subprocess.check_output([*git, "log", "--format=%an %cn%n%B", f"main..{dependent}"], text=True)
    assert log.count("kimi_plugins maintainers kimi_plugins maintainers\n") == 2
    assert log.count("Signed-off-by: kimi_plugins maintainers <maintainers@kimi-plugins.invalid>\n") == 2
    assert "Forwarded" not in log and "Depends-on" not in log and "Kind" not in log
    lines = (upstream / "openrlhf" / "lines.py").read_text()
    assert "line_3 = 9\nline_4 = 12\n" in lines and "line_15 = 15\n" in lines
    assert "has a branch" in checkout.run("pr", dependent, str(upstream), ok=False)


def test_a_pull_request_that_does_not_apply_leaves_the_checkout_as_it_was(checkout, tmp_path):
    upstream = tmp_path / "upstream"
    subprocess.run(["git", "clone", "--quiet", checkout.tree, upstream], check=True)
    git = ["git", "-C", upstream, "-c", "user.name=A", "-c", "user.email=a@localhost"]
    lines = upstream / "openrlhf" / "lines.py"
    lines.write_text(lines.read_text().replace("line_3 = 9", "line_3 = 'three'"))
    subprocess.run([*git, "commit", "--quiet", "--all", "-m", "Write it out"], check=True)
    name = "Make-line-3-three-times-as-large"
    assert f"patches/{name}.patch does not apply to {upstream}" in checkout.run("pr", name, str(upstream), ok=False)
    assert subprocess.check_output([*git, "branch", "--format=%(refname:short)"], text=True) == "main\n"
    assert subprocess.check_output([*git, "status", "--porcelain"], text=True) == ""


def test_apply_keeps_work_that_was_not_exported(checkout):
    checkout.commit("line_4 = 4\n", "line_4 = 8\n", MESSAGE.replace("3", "4"))
    assert "holds work that was not exported" in checkout.run("apply", ok=False)
    checkout.run("export")
    checkout.run("apply")
    (checkout.tree / "openrlhf" / "new.py").touch()
    assert "holds work that was not exported" in checkout.run("apply", ok=False)


def test_upstreams_tests_must_pass_and_all_must_run(checkout):
    assert "1 passed" in checkout.run("check", "--tests")
    checkout.write_upstream(tests=2)
    assert checkout.run("check", "--tests", ok=False) == "only 1 of upstream's 2 tests ran on the patched tree"
    test = checkout.tree / "tests" / "test_lines.py"
    test.write_text("def test_one(): assert False\n")
    checkout.commit("", "", MESSAGE.replace("3", "4"))
    checkout.run("export")
    assert "upstream's tests fail" in checkout.run("check", "--tests", ok=False)


def test_the_built_wheel(checkout):
    path = Path(checkout.run("build").strip())
    assert path.name == "openrlhf-0.0.1+kimi.1-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    info = "openrlhf-0.0.1+kimi.1.dist-info"
    assert b"line_3 = 9\n" in files["openrlhf/lines.py"]
    assert not [name for name in files if name.startswith("tests")]
    assert files[f"{info}/entry_points.txt"] == b"[console_scripts]\nopenrlhf = openrlhf.cli.main:main\n"
    metadata = files[f"{info}/METADATA"].decode()
    assert "\nVersion: 0.0.1+kimi.1\n" in metadata and metadata.endswith("\n\nVersion: x\n")
    assert {"Requires-Dist: torch", "Requires-Dist: pluggy"} <= set(metadata.splitlines())
    assert b"Tag: py3-none-any\n" in files[f"{info}/WHEEL"]

    record = dict(line.split(",", 1) for line in files[f"{info}/RECORD"].decode().splitlines())
    assert record.keys() == files.keys() and record.pop(f"{info}/RECORD") == ","
    for name, entry in record.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).decode().rstrip("=")
        assert entry == f"sha256={digest},{len(files[name])}"

    first = path.read_bytes()
    path.unlink()
    checkout.run("build")
    assert path.read_bytes() == first


def test_the_wheel_is_downloaded_from_the_package_index(checkout, tmp_path, monkeypatch):
    (tmp_path / "index").mkdir()
    shutil.move(checkout.build / WHEEL, tmp_path / "index")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert checkout.run("fetch", ok=False) == "cannot download openrlhf==0.0.1 (see pip's output above): no network?"
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    assert Path(checkout.run("fetch").strip()) == checkout.build / WHEEL
