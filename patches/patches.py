#!/usr/bin/env python3
"""The patch series on the released OpenRLHF: fetch, apply, export, check, build.

    patches.py fetch                 download the released wheel into build/ and verify it
    patches.py apply                 unpack it to build/openrlhf, a git repository, one commit per patch
    patches.py export [--from DIR]   write that repository's commits back to patches/
    patches.py check [--tests]       prove that the series is complete and applies (and that upstream's tests pass)
    patches.py check --alone [NAME …]  prove that each patch (or those named) applies to the release after what it
                                     depends on only; with --tests, that its own tests fail without it and pass with it
    patches.py pr NAME CHECKOUT      make a branch of a checkout of upstream with this patch, and print the text
                                     of its pull request
    patches.py build                 write the patched wheel to build/dist and print its path

Standard library and git only: it runs before the virtual environment exists.
"""

import argparse
import base64
import email
import email.policy
import hashlib
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
import zipfile
from pathlib import Path
from typing import NamedTuple

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
    name, address = AUTHOR.rstrip(">").split(" <")
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": address, f"GIT_{role}_DATE": RELEASE_DATE}
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
        read_messages(new)
        for old in PATCHES.glob("*.patch"):
            old.unlink()
        for patch in new:
            shutil.copyfile(patch, PATCHES / patch.name)
    (PATCHES / "series").write_text("".join(f"{patch.name}\n" for patch in new))
    readme = PATCHES / "README.md"
    readme.write_text(with_table(readme.read_text(), read_messages(read_series())))
    if tree == WORK_TREE:
        git(tree, "tag", "--force", APPLIED)
    print(f"exported {len(new)} patches")


# messages


class Message(NamedTuple):
    """What a patch says of itself."""

    path: Path
    subject: str
    text: str  # why, and how it was tested
    kind: str
    depends_on: list[str]  # names of earlier patches
    forwarded: str
    tests: list[str]  # files that it adds to upstream's tests/ or changes there


FIELDS = {
    "Kind": r"fix|option|cpu|hook|command",
    "Depends-on": r"nothing|everything before|[\w.-]+(?:, [\w.-]+)*",
    "Forwarded": r"(?:no|not-needed|yes|https?://\S+).*",
    "Last-Update": r"\d{4}-\d{2}-\d{2}",
}


def read_message(patch: Path) -> Message:
    """Raises Error unless the patch's message says why and how it was tested, and has all FIELDS."""
    mail = email.message_from_bytes(patch.read_bytes(), policy=email.policy.default)
    text, _, diff = mail.get_payload(decode=True).decode(errors="replace").partition("\n---\n")
    fields = {}
    for field, value in FIELDS.items():
        found = re.search(rf"^{field}: ({value})$", text, re.MULTILINE)
        if not found:
            raise Error(f"patches/{patch.name}: its message has no valid `{field}:` line (see patches/README.md)")
        fields[field] = found[1]
    text = re.sub(rf"^(?:{'|'.join(FIELDS)}|Signed-off-by): .*\n?", "", text, flags=re.MULTILINE).strip()
    why, tested, _ = f"\n{text}".partition("\nTested: ")
    if not why.strip():
        raise Error(f"patches/{patch.name}: its message does not say why")
    if not tested:
        raise Error(f"patches/{patch.name}: its message does not say how it was tested (Tested: …)")
    subject = re.sub(r"^\[PATCH\] ", "", " ".join(mail["Subject"].split()))
    depends_on = [] if fields["Depends-on"] == "nothing" else fields["Depends-on"].split(", ")
    tests = re.findall(r"^diff --git a/(tests/test_\S+) b/", diff, re.MULTILINE)
    return Message(patch, subject, text, fields["Kind"], depends_on, fields["Forwarded"], tests)


def read_messages(series: list[Path]) -> list[Message]:
    """The messages in the order of the series. Raises Error unless each depends on earlier patches only."""
    messages, names = [], []
    for patch in series:
        message = read_message(patch)
        if message.depends_on == ["everything before"]:
            message = message._replace(depends_on=list(names))
        if unknown := [name for name in message.depends_on if name not in names]:
            raise Error(f"patches/{patch.name} depends on {unknown[0]}, which is not an earlier patch")
        messages.append(message)
        names.append(patch.stem)
    return messages


def needed(message: Message, messages: list[Message]) -> list[Message]:
    """The patches that `message` depends on, directly or not, in the order of the series."""
    names = set(message.depends_on)
    for earlier in reversed(messages[: messages.index(message)]):
        if earlier.path.stem in names:
            names.update(earlier.depends_on)
    return [earlier for earlier in messages if earlier.path.stem in names]


BEGIN, END = "<!-- patches.py export writes this table -->\n", "<!-- end of the table -->\n"


def with_table(readme: str, messages: list[Message]) -> str:
    """The text of README.md with a table of all patches between BEGIN and END."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise Error(f"patches/README.md lacks the lines {BEGIN.strip()} and {END.strip()}")
    numbers = {message.path.stem: number for number, message in enumerate(messages, start=1)}
    lines = ["| | patch | kind | applies | tests of its own | forwarded |", "|--:|---|---|---|---|---|"]
    for message in messages:
        number, link = numbers[message.path.stem], f"[{message.subject}]({message.path.name})"
        earlier = sorted(numbers[name] for name in message.depends_on)
        ranges = f"1–{number - 1}" if len(earlier) == number - 1 > 1 else ", ".join(map(str, earlier))
        applies = f"after {ranges}" if earlier else "alone"
        tests = ", ".join(Path(test).stem for test in message.tests)
        lines.append(f"| {number} | {link} | {message.kind} | {applies} | {tests} | {message.forwarded} |")
    return before + begin + "\n".join(lines) + "\n" + end + after


# check


def check(with_tests: bool) -> None:
    series = read_series()
    messages = read_messages(series)
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
        readme = (PATCHES / "README.md").read_text()
        if with_table(readme, messages) != readme:
            raise Error("the table in patches/README.md is not what an export writes: run `apply` and `export`")
        print(f"patches: {len(series)} apply and re-export identically", flush=True)
        if with_tests:
            run_upstream_tests(tree)


def check_alone(names: list[str], with_tests: bool) -> None:
    """Applies each patch to the release, after what it depends on only; `with_tests`: runs its own tests there.

    All patches, or those of `names`. Goes on after a patch that fails, and raises Error at the end if one did.
    """
    messages = read_messages(read_series())
    names = [name.removesuffix(".patch") for name in names]
    if unknown := set(names).difference(message.path.stem for message in messages):
        raise Error(f"no patch has the name {min(unknown)}: see patches/series")
    chosen = [message for message in messages if not names or message.path.stem in names]
    failed = []
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory, "tree")
        tree.mkdir()
        unpack(fetch(), tree)
        for number, message in enumerate(chosen, start=1):
            try:
                result = try_alone(message, messages, tree, with_tests)
            except Error as error:
                failed.append(message.path.name)
                result = f"FAILED: {error}"
            if with_tests or message.path.name in failed:
                print(f"{number}/{len(chosen)} {message.path.stem}: {result}", flush=True)
    if failed:
        raise Error(f"{len(failed)} of {len(chosen)} patches fail alone: {', '.join(failed)}")
    alone = sum(not message.depends_on for message in chosen)
    print(f"patches: {alone} of {len(chosen)} apply alone to the release, the others after what they depend on")


def try_alone(message: Message, messages: list[Message], tree: Path, with_tests: bool) -> str:
    """Puts the release, what `message` depends on and its patch into `tree`; says what was shown, or raises Error."""
    git(tree, "reset", "--quiet", "--hard", check_release(tree))
    git(tree, "clean", "--quiet", "-dfx")
    for earlier in needed(message, messages):
        apply_for(message, earlier, tree)
    run_own_tests = with_tests and bool(message.tests)
    if run_own_tests and not fails_without(message, tree):
        raise Error("its tests pass without it")
    apply_for(message, message, tree)
    if not run_own_tests:
        return "applies, and has no test of its own"
    if not own_tests(message, tree):
        raise Error("its tests fail with what it depends on only")
    return "its tests fail without it and pass with it"


def apply_for(message: Message, patch: Message, tree: Path) -> None:
    try:
        git(tree, "apply", "--index", "--whitespace=nowarn", patch.path)
    except subprocess.CalledProcessError as failure:
        which = "does not apply" if message is patch else f"depends on {patch.path.name}, which does not apply"
        raise Error(f"it {which}: {first_error(failure.output)}") from None


def fails_without(message: Message, tree: Path) -> bool:
    """Whether the patch's tests fail where they are added alone; leaves the tree as it was."""
    git(tree, "apply", "--include=tests/*", "--whitespace=nowarn", message.path)
    failed = not own_tests(message, tree)
    git(tree, "apply", "--reverse", "--include=tests/*", "--whitespace=nowarn", message.path)
    git(tree, "status", "--porcelain")  # a test that was changed and changed back has another time than in the index
    return failed


PRELOADED = ["pytest", "torch", "transformers", "datasets", "deepspeed", "ray"]  # seconds, for each test otherwise


def own_tests(message: Message, tree: Path) -> bool:
    """Whether the patch's tests pass in `tree`."""
    # The release imports flash-attn wherever it trains, and few machines have it: an empty one is put in its place.
    empty = tree.parent / "empty"
    if not empty.exists():
        (empty / "flash_attn" / "utils").mkdir(parents=True)
        (empty / "flash_attn" / "__init__.py").touch()
        names = "index_first_axis = pad_input = rearrange = unpad_input = all_gather = None\n"
        for module in ("bert_padding.py", "utils/__init__.py", "utils/distributed.py"):
            (empty / "flash_attn" / module).write_text(names)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    process = processes.Process(target=run_quietly, args=(tree, message.tests, empty))
    process.start()
    process.join()
    return process.exitcode == 0


def run_quietly(tree: Path, tests: list[str], *directories: Path) -> None:
    """Exits with pytest's code; runs in a process of its own."""
    import pytest

    os.chdir(tree)
    os.environ |= {**TEST_VARIABLES, "PYTHONPATH": os.pathsep.join(map(str, directories))}
    sys.path[:0] = [str(tree), *map(str, directories)]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    sys.exit(pytest.main([*pytest_options(tree), *tests]))


TEST_VARIABLES = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def pytest_options(tree: Path) -> list[str]:
    # The empty settings file and the root keep pytest from finding this project's.
    return ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tree)]


def run_upstream_tests(tree: Path) -> None:
    """Runs upstream's own tests on the patched tree, with the Python that runs this file."""
    report = tree.parent / "tests.xml"
    command = [sys.executable, "-m", "pytest", *pytest_options(tree), f"--junitxml={report}", "tests"]
    if subprocess.run(command, cwd=tree, env=os.environ | TEST_VARIABLES).returncode != 0:
        raise Error("upstream's tests fail on the patched tree (pytest's output is above)")
    suite = xml.etree.ElementTree.parse(report).find("testsuite")
    passed = int(suite.get("tests")) - int(suite.get("skipped"))
    if passed < int(read_upstream()["tests"]):
        raise Error(f"only {passed} of upstream's {read_upstream()['tests']} tests ran on the patched tree")


# pull requests


def pull_request(name: str, checkout: Path) -> str:
    """Makes the branch `name` of a checkout of upstream, from its HEAD, with the patch and what it depends on.

    Returns the text of the pull request: the title, a blank line and the description.
    """
    messages = read_messages(read_series())
    name = name.removesuffix(".patch")
    [message] = [message for message in messages if message.path.stem == name] or [None]
    if message is None:
        raise Error(f"no patch has the name {name}: see patches/series")
    if not (checkout / ".git").exists():
        raise Error(f"{checkout} is not a git checkout: clone upstream's repository")
    if git(checkout, "status", "--porcelain", "--untracked-files=no"):
        raise Error(f"{checkout} holds changes that are not committed")
    if git(checkout, "branch", "--list", name):
        raise Error(f"{checkout} has a branch {name} already: delete it")
    base = git(checkout, "rev-parse", "--abbrev-ref", "HEAD").strip()
    git(checkout, "switch", "--quiet", "--create", name)
    earlier = needed(message, messages)
    for patch in [*earlier, message]:
        try:
            git(checkout, "am", "--quiet", "--3way", "--whitespace=nowarn", patch.path)
        except subprocess.CalledProcessError as failure:
            git(checkout, "am", "--abort")
            git(checkout, "switch", "--quiet", base)
            git(checkout, "branch", "--quiet", "-D", name)
            what = f"patches/{patch.path.name} does not apply to {checkout}"
            raise Error(f"{what}: {first_error(failure.output)}") from None
        # The fields are for this directory.
        signed_text = f"{patch.subject}\n\n{patch.text}\n\nSigned-off-by: {AUTHOR}\n"
        git(checkout, "commit", "--quiet", "--amend", "--message", signed_text)
    description = [message.text]
    if message.tests:
        description += [f"Without the change, its tests fail: `python -m pytest {' '.join(message.tests)}`"]
    if earlier:
        description += ["This branch begins with other pull requests, which come first:"]
        description += ["\n".join(f"- {patch.subject}" for patch in earlier)]
    kind = "fix" if message.kind == "fix" else "feat"  # upstream's titles have the conventional form
    title = f"{kind}: {message.subject[0].lower()}{message.subject[1:]}"
    return "\n\n".join([title, *description])


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
    check_parser = commands.add_parser("check")
    check_parser.add_argument("--tests", action="store_true")
    check_parser.add_argument("--alone", nargs="*", metavar="NAME")
    pr_parser = commands.add_parser("pr")
    pr_parser.add_argument("name")
    pr_parser.add_argument("checkout", type=Path)
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
                if arguments.alone is None:
                    check(arguments.tests)
                else:
                    check_alone(arguments.alone, arguments.tests)
            case "pr":
                print(pull_request(arguments.name, arguments.checkout.resolve()))
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
