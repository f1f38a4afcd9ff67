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

from kimi_plugins.cli import judge_serve
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


def test_another_server_on_the_port_is_not_taken_for_it(port, monkeypatch):
    server = started(port)
    with pytest.raises(serve.ServerFailed, match=f"--port {port} of 127.0.0.1 cannot be used"):
        started(port)
    idle = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(serve, "_check_free", lambda *_: None)  # the other one came up in between
    with pytest.raises(serve.ServerFailed, match="another process answers at"):
        serve.Server("model", "127.0.0.1", port, [], child=idle)
    server.stop()


def test_a_second_name_tells_weights_apart(tmp_path):
    names = []
    for content in (b"1", b"1", b"2"):
        (tmp_path / "model.safetensors").write_bytes(content)
        words = serve.command(str(tmp_path), "127.0.0.1", 8100, [])
        at = words.index("--served-model-name")
        names.append(words[at + 1 : at + 3])
    assert names[0] == names[1] != names[2]
    assert names[0][0] == "judge" and names[0][1].startswith("judge-")
    assert serve.weights_digest("no/such-model") is None


def test_a_server_that_ends_is_told(port):
    with pytest.raises(serve.ServerFailed, match="exit code 3 before it answered"):
        serve.Server("model", "127.0.0.1", port, [], child=[sys.executable, "-c", "raise SystemExit(3)"])


def test_the_command_is_vllms(monkeypatch):
    parser = argparse.ArgumentParser()
    judge_serve.add_parser(parser.add_subparsers())
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
        from kimi_plugins.cli import judge_serve
        from kimi_plugins.grading.judge import serve
        serve.command = lambda *_: [sys.executable, "-c", {FAKE!r}, "{port}"]
        args = argparse.Namespace(model="m", host="127.0.0.1", port={port}, vllm=[], ray_gpus=None)
        sys.exit(judge_serve.run(args))
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
