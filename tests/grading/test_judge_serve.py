"""The judge's server as a child process; a small HTTP server takes vLLM's place."""

import argparse
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from kimi_plugins.grading.judge import serve

FAKE = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404); self.end_headers()
    def log_message(self, *_): pass
time.sleep(0.3)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def started(port):
    return serve.Server("model", "127.0.0.1", port, [], child=[sys.executable, "-c", FAKE, str(port)])


def test_it_is_there_when_it_answers_and_gone_when_stopped(port):
    server = started(port)
    assert server.url == f"http://127.0.0.1:{port}/v1"
    assert server._process.poll() is None
    server.stop()
    assert server.wait() != 0
    server.stop()  # a second time does nothing


def test_a_server_that_ends_is_told(port):
    with pytest.raises(serve.ServerFailed, match="exit code 3 before it answered"):
        serve.Server("model", "127.0.0.1", port, [], child=[sys.executable, "-c", "raise SystemExit(3)"])


def test_the_command_is_vllms(monkeypatch):
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    args = parser.parse_args("judge-serve dir --host 0.0.0.0 --port 8200 --vllm --max-model-len 64".split())
    monkeypatch.setattr(serve, "cuda_devices", lambda: 1)
    words = serve.command(args.model, args.host, args.port, args.vllm)
    vllm, flags = words[1:3], dict(zip(words[3::2], words[4::2], strict=True))
    assert vllm == ["-m", "vllm.entrypoints.openai.api_server"]
    assert flags == {
        "--model": "dir",
        "--served-model-name": "judge",
        "--host": "0.0.0.0",
        "--port": "8200",
        "--max-model-len": "64",
    }


def test_on_the_cpu_it_takes_little_memory_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(serve, "cuda_devices", lambda: 0)
    words = serve.command("dir", "0.0.0.0", 8100, ["--gpu-memory-utilization", "0.5"])
    assert "--enforce-eager" in words
    assert [words[i + 1] for i, word in enumerate(words) if word == "--gpu-memory-utilization"] == ["0.1", "0.5"]


@pytest.mark.parametrize("computes_bf16, dtype", [(True, []), (False, ["float32"])])
def test_on_a_cpu_without_bf16_it_computes_in_float32(monkeypatch, computes_bf16, dtype):
    monkeypatch.setattr(serve, "cuda_devices", lambda: 0)
    monkeypatch.setattr("openrlhf.utils.device.computes_bf16", lambda: computes_bf16)
    words = serve.command("dir", "0.0.0.0", 8100, [])
    assert [words[i + 1] for i, word in enumerate(words) if word == "--dtype"] == dtype


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_server_is_left_however_the_command_ends(port, ending):
    script = textwrap.dedent(f"""
        import argparse, sys
        from kimi_plugins.grading.judge import serve
        serve.command = lambda *_: [sys.executable, "-c", {FAKE!r}, "{port}"]
        args = argparse.Namespace(model="m", host="127.0.0.1", port={port}, vllm=[], ray_gpus=None)
        sys.exit(serve.run(args))
    """)
    environment = os.environ | {"PYTHONPATH": str(Path(serve.__file__).parents[3])}
    command = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert command.stdout.readline() == f"judge: http://127.0.0.1:{port}/v1 (model judge)\n"
    [child] = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    command.send_signal(ending)
    assert command.wait(30) == (-9 if ending == signal.SIGKILL else 0)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()
