"""A file is replaced when it is whole, and left alone when writing it fails."""

import pytest

from kimi_plugins.data.files import new_directory, replacing


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_new_directory_appears_when_it_is_whole(tmp_path):
    out = tmp_path / "out"
    with new_directory(out) as partial:
        (partial / "a").write_text("whole")
        assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and (out / "a").read_text() == "whole"
    with pytest.raises(FileExistsError, match="out: is there already"), new_directory(out):
        pass
    assert (out / "a").exists()


def test_a_directory_that_was_not_finished_is_removed(tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/left").touch()  # by a process that was killed
    with pytest.raises(RuntimeError), new_directory(tmp_path / "out") as partial:
        assert not list(partial.iterdir())
        raise RuntimeError
    assert not list(tmp_path.iterdir())
