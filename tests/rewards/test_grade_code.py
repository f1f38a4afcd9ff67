"""`openrlhf kimi grade code`."""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from leftovers import control_groups, wait_until

from kimi_plugins import cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LABEL = {"cases": [{"input": "1 2", "output": "3"}]}
RIGHT = {"response": "```python\nprint(3)\n```", "label": LABEL}
WRONG = {"response": "```python\nprint(4)\n```", "label": json.dumps(LABEL)}


def grade(*arguments) -> int:
    parser = argparse.ArgumentParser()
    cli.add_commands(parser)
    args = parser.parse_args(["grade", "code", *map(str, arguments)])
    return args.func(args)


def written(path: Path, rows: list) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_verdicts_in_the_order_of_the_rows(sandbox, tmp_path, capsys):
    file = written(tmp_path / "rows.jsonl", [RIGHT, WRONG, {"response": "3", "label": LABEL}])
    assert grade(file, "--workers", 2) == 0
    verdicts = [json.loads(line) for line in (tmp_path / "rows.verdicts.jsonl").read_text().splitlines()]
    assert [(v["row"], v["correct"], v["reason"]) for v in verdicts] == [
        (1, True, "passed"),
        (2, False, "case 1: wrong output"),
        (3, False, "no program: no fenced block of python"),
    ]
    assert "1 right, 2 wrong, 0 not graded" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "rows.verdicts.jsonl"}


@pytest.mark.parametrize(
    "row, named",
    [
        ("{", "row 2: "),
        ("[]", "row 2: list instead of an object"),
        ({"label": LABEL}, "row 2: it must be an object with response"),
        ({"response": "", "label": {}}, "row 2: cases: it must be a list"),
        ({"response": "", "label": "42"}, "row 2: the label must be a problem"),
    ],
)
def test_bad_input(tmp_path, capsys, row, named):
    file = written(tmp_path / "rows.jsonl", [RIGHT, row])
    assert grade(file) == 2
    assert f"{file} {named}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_no_rows_no_file_no_workers(tmp_path, capsys):
    assert grade(written(tmp_path / "empty.jsonl", [])) == 2
    assert grade(tmp_path / "none.jsonl") == 2
    assert grade(tmp_path / "none.jsonl", "--workers", 0) == 2
    assert "no rows; give a file with data" in capsys.readouterr().err


def test_ctrl_c_leaves_nothing(sandbox, tmp_path):
    sleep = {"response": "```python\nimport time; print('x', flush=True); time.sleep(30)\n```", "label": LABEL}
    file = written(tmp_path / "rows.jsonl", [RIGHT] + [sleep] * 20)
    program = "import argparse; from kimi_plugins import cli; p = argparse.ArgumentParser(); cli.add_commands(p); "
    program += f"args = p.parse_args(['grade', 'code', {str(file)!r}]); raise SystemExit(args.func(args))"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        pids = [directory / "pids.current" for directory in control_groups(process.pid)]
        while not any(file.exists() and int(file.read_text()) >= 4 for file in pids):  # a program is running
            assert process.poll() is None
            time.sleep(0.02)
            pids = [directory / "pids.current" for directory in control_groups(process.pid)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    wait_until(lambda: control_groups(process.pid) == [])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
