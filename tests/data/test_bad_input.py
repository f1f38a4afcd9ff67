"""What commands say of data they cannot read: one line with file and fix, exit code 2, and nothing is written."""

import argparse
import gzip
import importlib
import json

import pytest

ROW = {"question": "What is 1 + 1?", "answer": "2", "reference": "2", "response": "\\boxed{2}", "correct": True}
SHARD = gzip.compress(b"".join(json.dumps(ROW | {"id": n}).encode() + b"\n" for n in range(500)))
BAD = {
    "ends.jsonl.gz": (SHARD[: len(SHARD) // 2], "ends.jsonl.gz: cannot be read"),
    "cut.jsonl": (json.dumps(ROW).encode() + b'\n{"question": "W', "cut.jsonl: ends in the middle of row 2"),
    "page.jsonl": (b"<!DOCTYPE html><html></html>", "page.jsonl: a web page, not data; download the file itself"),
    "x.parquet": (b"PAR1 and no more", "x.parquet: not a whole Parquet file"),
    "binary.dat": (b"\0\1\2\3", "binary.dat: unknown format; convert it to JSONL"),
    "shape.jsonl": (b'{"task": "1 + 1?", "key": "2"}\n', "task, key"),  # the columns there are
}
COMMANDS = {
    "curate": ("kimi_plugins.cli.curate", ["--workers", "1"]),
    "vision-prepare": ("kimi_plugins.cli.vision_prepare", []),
    "judge-data": ("kimi_plugins.cli.judge_data", []),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_not_whole_or_not_known(tmp_path, capsys, command, name):
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    module, words = COMMANDS[command]
    parser = argparse.ArgumentParser()
    importlib.import_module(module).add_parser(parser.add_subparsers())
    words = [command, str(tmp_path / name), "--out", str(tmp_path / "out"), *words]
    args = parser.parse_args(words)
    assert args.func(args) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(error) == 1 and error[0].startswith(f"openrlhf kimi {command}: error: ") and message in error[0]
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in left if "prompts" in path or "partial" in path or path.endswith("cot.jsonl")]


def test_a_set_without_a_prompt_ends_with_code_2(tmp_path, capsys, write_rows):
    from kimi_plugins.cli import curate

    path = write_rows("x.jsonl", [{"question": "Is four even?", "answer": "yes"}])
    parser = argparse.ArgumentParser()
    curate.add_parser(parser.add_subparsers())
    args = parser.parse_args(["curate", str(path), "--out", str(tmp_path / "out"), "--workers", "1"])
    assert args.func(args) == 2
    assert "error: 0 prompts are left of 1 rows; " in capsys.readouterr().err
    [reject] = map(json.loads, (tmp_path / "out/rejects.jsonl").open())
    assert reject["stage"] == "exclude"
