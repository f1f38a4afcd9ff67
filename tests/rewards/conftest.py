import pytest

from kimi_plugins.rewards.sandbox import pool


@pytest.fixture(scope="session")
def sandbox():
    """One for all tests: what a program did to it would be seen by the next."""
    try:
        made = pool.Sandbox(workers=1)
    except pool.SandboxUnavailable as error:
        pytest.skip(f"programs cannot be isolated here: {error}")
    with made:
        yield made
