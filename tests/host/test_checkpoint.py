"""Checkpoints on a real file system: interrupted, truncated, replaced, and found again."""

import json
import os

import pytest
from openrlhf.utils import checkpoint


def write(directory, tag, files=("model.pt", "zero/rank_0.pt"), size=100):
    for name in files:
        path = directory / (tag + checkpoint.PARTIAL) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def save(directory, step):
    write(directory, f"global_step{step}")
    checkpoint.publish(str(directory), f"global_step{step}")


def test_a_finished_checkpoint_has_its_name_and_is_latest(tmp_path):
    save(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["global_step1", "latest"]
    assert (tmp_path / "latest").read_text() == "global_step1"
    sizes = json.loads((tmp_path / "global_step1" / checkpoint.MANIFEST).read_text())
    assert sizes == {"model.pt": 100, "zero/rank_0.pt": 100}
    assert checkpoint.find_whole(str(tmp_path)) == "global_step1"


@pytest.mark.parametrize("name", ["fsync", "rename", "replace"])
def test_a_save_killed_anywhere_leaves_a_whole_checkpoint(tmp_path, monkeypatch, name):
    """Killed at the nth call that touches the disk, for every n until the save gets through."""
    save(tmp_path, 1)

    class Killed(BaseException):
        pass

    for allowed in range(100):
        calls, real = iter(range(allowed)), getattr(os, name)

        def until_killed(*args, calls=calls, real=real):
            if next(calls, None) is None:
                raise Killed
            return real(*args)

        write(tmp_path, "global_step2")
        with monkeypatch.context() as patched:
            patched.setattr(os, name, until_killed)
            try:
                checkpoint.publish(str(tmp_path), "global_step2")
            except Killed:
                assert checkpoint.find_whole(str(tmp_path)) in ("global_step1", "global_step2")
            else:
                break
        checkpoint.discard_partial(str(tmp_path))
        assert checkpoint.find_whole(str(tmp_path)) in ("global_step1", "global_step2")
    assert allowed > 0
    assert (tmp_path / "latest").read_text() == "global_step2"
    assert not list(tmp_path.glob("*" + checkpoint.PARTIAL))


def test_a_step_done_again_replaces_its_checkpoint(tmp_path):
    save(tmp_path, 3)
    before = (tmp_path / "global_step3" / "model.pt").read_bytes()
    save(tmp_path, 3)
    assert (tmp_path / "global_step3" / "model.pt").read_bytes() != before
    assert checkpoint.find_whole(str(tmp_path)) == "global_step3"


def truncate(path):
    os.truncate(path / "model.pt", 99)


def lose_a_file(path):
    (path / "zero" / "rank_0.pt").unlink()


def break_the_manifest(path):
    (path / checkpoint.MANIFEST).write_text("{")


@pytest.mark.parametrize(
    "damage, told",
    [
        (truncate, "model.pt has 99 of 100 bytes"),
        (lose_a_file, "zero/rank_0.pt is missing"),
        (break_the_manifest, "its manifest.json is broken"),
    ],
)
def test_a_damaged_one_is_named_and_the_newest_whole_one_taken(tmp_path, monkeypatch, damage, told):
    warnings = []
    monkeypatch.setattr(checkpoint.logger, "warning", warnings.append)
    for step in (2, 4, 10):
        save(tmp_path, step)
    damage(tmp_path / "global_step10")
    assert checkpoint.find_whole(str(tmp_path)) == "global_step4"
    assert len(warnings) == 1 and "global_step10 cannot be used" in warnings[0] and told in warnings[0]

    for step in (2, 4):
        damage(tmp_path / f"global_step{step}")
    with pytest.raises(FileNotFoundError, match="no whole checkpoint in .*global_step10.*global_step4.*global_step2"):
        checkpoint.find_whole(str(tmp_path))


def test_latest_chooses_among_whole_ones(tmp_path):
    for step in (2, 4):
        save(tmp_path, step)
    (tmp_path / "latest").write_text("global_step2\n")
    assert checkpoint.find_whole(str(tmp_path)) == "global_step2"
    (tmp_path / "latest").unlink()
    assert checkpoint.find_whole(str(tmp_path)) == "global_step4"


def test_all_models_of_a_run_resume_from_the_same_step(tmp_path):
    for name, steps in (("_actor", (2, 4)), ("_critic", (2,))):
        (tmp_path / name).mkdir()
        for step in steps:
            save(tmp_path / name, step)
    assert checkpoint.find_whole_of_run(str(tmp_path)) == "global_step2"


def test_a_checkpoint_from_before_there_were_manifests(tmp_path):
    (tmp_path / "global_step5").mkdir()
    with pytest.raises(FileNotFoundError, match="has no manifest.json"):
        checkpoint.find_whole(str(tmp_path))
    (tmp_path / "latest").write_text("global_step5")
    assert checkpoint.find_whole(str(tmp_path)) == "global_step5"


def test_nothing_to_resume_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="no whole checkpoint"):
        checkpoint.find_whole(str(tmp_path))
