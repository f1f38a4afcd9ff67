import importlib
import json
import os
import signal
from pathlib import Path

import pytest

# Before torch is imported: tests reach no model hub, and two cores are shared by several processes.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Tests started in the background of a script ignore Ctrl-C, and so would the processes they send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Modules that start the stack come first, then the slow ones: what is short fills up the workers at the end."""
    rank = {}
    for item in items:
        marks = [name for name in ("stack", "slow") if item.get_closest_marker(name)]
        rank[item.path] = min(rank.get(item.path, 2), {"stack": 0, "slow": 1}[marks[0]] if marks else 2)
    items.sort(key=lambda item: rank[item.path])


@pytest.fixture
def data():
    """The directory with GSM8K, MATH-500 and multiple-choice sets."""
    path = Path(__file__).parents[2] / "shared/data"
    if not path.is_dir():
        pytest.skip(f"no real data in {path}")
    return path


@pytest.fixture
def benchmark(monkeypatch):
    """A module of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def write_rows(tmp_path):
    """write_rows(name, rows): the path of a JSONL file; a row that is text is a line as it stands."""

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


@pytest.fixture(scope="session")
def sandbox():
    """One sandbox for all tests, so that a test would see what an earlier program did to it.

    Where programs cannot be isolated the tests fail; KIMI_TESTS_WITHOUT_SANDBOX=1 skips them instead.
    """
    from kimi_plugins.sandbox import pool

    try:
        made = pool.Sandbox(workers=1)
    except pool.SandboxUnavailable as error:
        message = f"programs cannot be isolated here: {error}"
        if os.environ.get("KIMI_TESTS_WITHOUT_SANDBOX") == "1":
            pytest.skip(message)
        pytest.fail(f"{message}. KIMI_TESTS_WITHOUT_SANDBOX=1 skips these tests")
    with made:
        yield made
