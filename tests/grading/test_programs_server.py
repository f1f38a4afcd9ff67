"""The code reward over HTTP, as the client of reward servers asks it."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from leftovers import wait_until
from starlette.testclient import TestClient

from kimi_plugins import cli
from kimi_plugins.grading.programs_server import application
from kimi_plugins.grading.servers import Servers
from kimi_plugins.rewards.mixed_reward import response_of
from kimi_plugins.sandbox.pool import SandboxError

PROMPT = "Add.\n"
LABEL = {"cases": [{"input": "1 2", "output": "3"}]}
RIGHT, WRONG = (f"```python\nprint({number})\n```" for number in (3, 4))
ROOT = Path(__file__).parents[2]


def asked(responses, label=LABEL) -> dict:
    queries = [PROMPT + response for response in responses]
    return {"query": queries, "prompts": [PROMPT] * len(queries), "labels": [label] * len(queries)}


@pytest.fixture
def client(sandbox, tmp_path):
    return TestClient(application(sandbox, response_of, None, 2, tmp_path))


def test_rewards(client):
    answer = client.post("/", json=asked([RIGHT, WRONG])).json()
    assert answer["rewards"] == answer["scores"] == [1.0, 0.0]
    assert (answer["extra_logs"], answer["reasons"]) == (
        {"grader_failed": [0.0, 0.0]},
        ["passed", "case 1: wrong output"],
    )
    assert client.get("/health").json() == {"workers": 1, "waiting": 0}


@pytest.mark.parametrize(
    "label, reason",
    [("42", "JSON objects, or FILE#ID"), ("/etc/passwd#root", "JSON objects, or FILE#ID"), ({"cases": []}, "cases: ")],
)
def test_labels_that_cannot_be_used_are_failures(client, label, reason):
    answer = client.post("/", json=asked([RIGHT], label)).json()
    assert answer["extra_logs"] == {"grader_failed": [1.0]} and reason in answer["reasons"][0]


def test_labels_in_a_file(client, tmp_path):
    (tmp_path / "cases.jsonl").write_text(json.dumps({"id": "a"} | LABEL) + "\n")
    assert client.post("/", json=asked([RIGHT], f"{tmp_path}/cases.jsonl#a")).json()["rewards"] == [1.0]
    outside = f"{tmp_path}/../{tmp_path.name}x/cases.jsonl#a"
    assert client.post("/", json=asked([RIGHT], outside)).json()["extra_logs"] == {"grader_failed": [1.0]}


def test_a_failing_sandbox_is_a_failure(client, sandbox, monkeypatch):
    def run(*_, **__):
        raise SandboxError("no cores left")

    monkeypatch.setattr(sandbox, "run_python", run)
    assert client.post("/", json=asked([RIGHT])).json()["extra_logs"] == {"grader_failed": [1.0]}


@pytest.mark.parametrize("body", [[], {}, {"query": ["a"], "prompts": [], "labels": []}, asked([]) | {"labels": 1}])
def test_bad_requests(client, body):
    answer = client.post("/", json=body)
    assert answer.status_code == 400 and answer.json()["error"]
    assert client.post("/", content=b"{").status_code == 400


def test_the_queue_is_bounded(client, sandbox, monkeypatch):
    hold, run = threading.Event(), type(sandbox).run_python
    monkeypatch.setattr(sandbox, "run_python", lambda *a, **k: hold.wait(20) and run(sandbox, *a, **k))
    answers = []
    with client:
        first = threading.Thread(target=lambda: answers.append(client.post("/", json=asked([RIGHT] * 3))))
        first.start()
        wait_until(lambda: client.get("/health").json()["waiting"] == 3)
        refused = client.post("/", json=asked([RIGHT]))
        hold.set()
        first.join(30)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert answers[0].json()["rewards"] == [1.0] * 3


def test_the_token(sandbox):
    client = TestClient(application(sandbox, response_of, "secret", 9, None))
    for headers, auth in (({}, None), ({"Authorization": "Bearer wrong"}, None), ({}, ("", "wrong"))):
        assert client.post("/", json=asked([RIGHT]), headers=headers, auth=auth).status_code == 401
    for headers, auth in (({"Authorization": "Bearer secret"}, None), ({}, ("", "secret"))):
        assert client.post("/", json=asked([RIGHT]), headers=headers, auth=auth).json()["rewards"] == [1.0]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--host", "0.0.0.0"), "can be reached from other machines: set --token-file"),
        (("--workers", "0"), "--workers is 0"),
        (("--cases", "/no/such"), "--cases: /no/such is not a directory"),
        (("--token-file", os.devnull), "is empty"),
    ],
)
def test_bad_arguments(capsys, arguments, said):
    parser = argparse.ArgumentParser()
    cli.add_commands(parser)
    args = parser.parse_args(["sandbox-serve", *arguments])
    assert args.func(args) == 2 and said in capsys.readouterr().err


@pytest.mark.slow
def test_the_command(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = "import argparse; from kimi_plugins import cli; p = argparse.ArgumentParser(); cli.add_commands(p); "
    words = ["sandbox-serve", "--port", str(port), "--token-file", str(tmp_path / "token"), "--workers", "1"]
    program += f"args = p.parse_args({words!r}); raise SystemExit(args.func(args))"
    servers = Servers([f"http://:secret@127.0.0.1:{port}/"], timeout=60)
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as process:
        try:
            graded = [servers.grade(PROMPT + response, PROMPT, LABEL) for response in (RIGHT, WRONG)]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    assert [(found.reward, found.logs) for found in graded] == [
        (1.0, {"grader_failed": 0.0}),
        (0.0, {"grader_failed": 0.0}),
    ]
