"""Lines that survive a process killed while it wrote."""

import hashlib
import io
import json

import pytest

from kimi_plugins.data.journal import append, digest, records


def test_what_was_added_is_read_again(tmp_path):
    path = tmp_path / "journal"
    rows = [{"a": 1}, ["text \udc80", None], "é\n"]
    with path.open("ab") as file:
        for row in rows:
            append(file, row)
    assert path.read_bytes().isascii()
    with path.open("r+b") as file:
        positions, found = zip(*records(file), strict=True)
    assert list(found) == rows
    assert [json.loads(path.read_bytes()[position:].splitlines()[0]) for position in positions] == rows


def test_a_line_cut_off_at_any_byte_is_removed():
    whole = json.dumps({"key": 1}).encode() + b"\n"
    for end in range(1, len(whole)):
        file = io.BytesIO(whole + whole[:end])
        assert [record for _, record in records(file)] == [{"key": 1}]
        assert file.getvalue() == whole


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b"1\n\nx\n")
    with path.open("r+b") as file, pytest.raises(ValueError, match=f"{path}, byte 3: not a JSON line"):
        list(records(file))


def test_the_digest_of_a_value_is_that_of_its_sorted_json():
    assert digest({"b": 1, "a": 2}) == digest(b'{"a": 2, "b": 1}')
    assert digest(b"x") == hashlib.blake2b(b"x", digest_size=12).hexdigest() != digest(b"y")
