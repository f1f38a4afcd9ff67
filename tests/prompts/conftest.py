import json
from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "shared/data"


@pytest.fixture
def data():
    """The directory with GSM8K, MATH-500 and multiple-choice sets."""
    if not DATA.is_dir():
        pytest.skip(f"no real data in {DATA}")
    return DATA


@pytest.fixture
def write_rows(tmp_path):
    """write_rows(name, rows): the path of a JSONL file; a row that is text is a line as it stands."""

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write
