"""Locks of builds: live ones are left alone whatever happens meanwhile, those of killed builds are removed."""

import os
import sys

import pytest
from openrlhf.cli import train_ppo_ray
from openrlhf.utils import build_cache


@pytest.fixture
def lock(tmp_path, monkeypatch):
    monkeypatch.setenv(build_cache.VARIABLE, str(tmp_path))
    monkeypatch.setattr(build_cache.time, "sleep", lambda seconds: None)
    lock = tmp_path / "py311_cpu" / "some_op" / "lock"
    lock.parent.mkdir(parents=True)
    return lock


def test_a_lock_that_a_killed_build_left_is_removed(lock, capsys):
    lock.touch()
    build_cache.prepare()
    assert not lock.exists()
    assert f"removed {lock}, which a killed build of some_op had left" in capsys.readouterr().err


def test_a_lock_of_a_live_build_is_left_and_named(lock, capsys):
    with lock.open("w"):
        build_cache.prepare()
        assert lock.exists()
    assert f"process {os.getpid()} builds some_op; waiting for it" in capsys.readouterr().err


@pytest.mark.parametrize("then", ["released", "taken by the next build"])
def test_a_lock_that_changes_hands_while_the_processes_are_listed_is_left(lock, monkeypatch, capsys, then):
    lock.touch()

    def meanwhile(seconds):
        lock.rename(lock.with_name("kept"))  # so that its inode is not used again
        if then != "released":
            lock.touch()

    monkeypatch.setattr(build_cache.time, "sleep", meanwhile)
    build_cache.prepare()
    assert lock.exists() == (then != "released")
    assert capsys.readouterr().err == ""


def test_operators_are_kept_in_the_environment(monkeypatch):
    monkeypatch.setenv(build_cache.VARIABLE, "")
    build_cache.prepare()
    if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        assert train_ppo_ray.build_env_vars() == {build_cache.VARIABLE: f"{sys.prefix}/torch_extensions"}
    monkeypatch.setenv(build_cache.VARIABLE, "/elsewhere")
    build_cache.prepare()
    assert train_ppo_ray.build_env_vars() == {build_cache.VARIABLE: "/elsewhere"}
