import pytest
from real_runs import Run, write_prompts

from kimi_plugins.quickstart.model import build_model


@pytest.fixture
def start(tmp_path):
    """Start runs that are ended with the test."""
    runs = []

    def start(words, plugins=""):
        runs.append(Run(tmp_path, words, plugins))
        return runs[-1]

    write_prompts(tmp_path, rows=1200)
    yield start
    for run in runs:
        run.end()


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Directories of two untrained models, one with a tied and one with an untied output head."""
    directory = tmp_path_factory.mktemp("models")
    for name in ("tied", "untied"):
        build_model(directory / name, seed=0, tie=name == "tied")
    return directory
