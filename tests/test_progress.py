"""Progress where the output is a file: lines, not a bar that is drawn again and again."""

import io
import sys

from kimi_plugins import progress as module
from kimi_plugins.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_each_state_is_a_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(module, "SECONDS", 0.0)
    assert list(progress(range(3), desc="rows", unit="row", miniters=1)) == [0, 1, 2]
    lines = sys.stderr.getvalue().splitlines()
    assert [line.split("|")[0] for line in lines[:3]] == ["rows:   0%", "rows:  33%", "rows:  67%"]
    assert "3/3" in lines[-1] and "\r" not in sys.stderr.getvalue()


def test_lines_are_ten_seconds_apart(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress(total=1000) as bar:
        for _ in range(1000):
            bar.update()
        assert len(sys.stderr.getvalue().splitlines()) == 1  # the first
    assert "1000/1000" in sys.stderr.getvalue().splitlines()[-1]


def test_states_that_are_shown_between_the_lines_wait_for_the_next_one(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress(total=1000, desc="steps") as bar:
        for step in range(1000):
            bar.update()
            bar.set_postfix(step=step)  # asks to be drawn at once
            bar.refresh()
    first, last = sys.stderr.getvalue().splitlines()
    assert "0/1000" in first and "1000/1000" in last and "step=999" in last


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(progress(range(3))) == [0, 1, 2]
    assert "\r" in sys.stderr.getvalue()
