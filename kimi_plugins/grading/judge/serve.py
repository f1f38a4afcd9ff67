"""vLLM's OpenAI server as a child process, here or in a Ray cluster: what `openrlhf kimi judge-serve` starts."""

import ctypes
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from kimi_plugins.errors import Failed
from kimi_plugins.preflight.machine import cuda_devices

START_SECONDS = 1800.0  # to load a large model
ON_CPU = ("--enforce-eager", "--gpu-memory-utilization", "0.1")  # of the machine's memory; the model comes on top
STOP_SECONDS = 20.0  # from Ctrl-C to SIGKILL
_PR_SET_PDEATHSIG = 1


class ServerFailed(Failed):
    """The server did not start; the message says why."""


def command(model: str, host: str, port: int, flags: list[str]) -> list[str]:
    """The words that start the server; later flags win: those of the user.

    Its second name tells its weights from others served as `judge`, for caches of verdicts.
    """
    digest = weights_digest(model)
    names = ["judge"] if digest is None else ["judge", f"judge-{digest}"]
    words = ["--model", model, "--host", host, "--port", str(port), "--served-model-name", *names]
    on_cpu: tuple[str, ...] = ()
    if cuda_devices() == 0:
        from openrlhf.utils.device import computes_bf16

        on_cpu = ON_CPU if computes_bf16() else (*ON_CPU, "--dtype", "float32")
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words, *on_cpu, *flags]


def weights_digest(model: str) -> str | None:
    """Twelve hexadecimal digits of all files of a model's directory, or the commit of a model of the hub.

    None for a model of the hub that is not on this machine.
    """
    directory = Path(model)
    if not directory.is_dir():
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model, "config.json")
        return Path(found).parent.name[:12] if isinstance(found, str) else None
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.iterdir() if path.is_file()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


class Server:
    """The server as a child process, which ends with this one. The constructor returns when it answers.

    Raises:
        ServerFailed: it ended, or START_SECONDS passed.
    """

    def __init__(self, model: str, host: str, port: int, flags: list[str], *, child: list[str] | None = None) -> None:
        from openrlhf.cli.train_ppo_ray import cpu_env_vars

        here = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        self.url, self._port = f"http://{here}:{port}/v1", port
        _check_free(host, port)
        # Ctrl-C is handled here; libc's prctl has the child end with this process however that ends.
        self._process = subprocess.Popen(
            child or command(model, host, port, flags),
            stdin=subprocess.DEVNULL,
            env=os.environ | cpu_env_vars(),
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            self._wait_until_healthy(f"http://{here}:{port}/health")
        except BaseException:
            self.stop()
            raise

    def _wait_until_healthy(self, address: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                raise ServerFailed(f"vLLM ended with exit code {code} before it answered; its output is above")
            try:
                with urllib.request.urlopen(address, timeout=5):
                    if self._listens():
                        return
                    raise ServerFailed(f"another process answers at {address}; choose another --port")
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise ServerFailed(f"no answer at {address} within {START_SECONDS:g} s")

    def _listens(self) -> bool:
        """Whether it is this server, or a child of it, that listens on the port."""
        import psutil

        server = psutil.Process(self._process.pid)
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == self._port
            for process in (server, *server.children(recursive=True))
            for connection in process.net_connections("tcp")
        )

    def wait(self) -> int:
        return self._process.wait()

    def stop(self) -> None:
        """Ends it and what it started: SIGINT, as Ctrl-C, and SIGKILL after STOP_SECONDS."""
        group = self._process.pid
        for signal_number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            try:
                os.killpg(group, signal_number)
                self._process.wait(seconds)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def _check_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise ServerFailed(f"--port {port} of {host} cannot be used ({error.strerror}); choose another") from None


_LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def in_ray(model: str, port: int, flags: list[str], gpus: float) -> "Remote":
    """A Server in an actor of its own on the cluster. It ends with this driver."""
    import ray

    ray.init(address="auto", log_to_driver=True)
    actor: Any = ray.remote(num_gpus=gpus, num_cpus=1)(_Actor).remote()
    url: str = ray.get(actor.start.remote(model, port, flags))
    return Remote(actor, url)


class _Actor:
    def start(self, model: str, port: int, flags: list[str]) -> str:
        import ray

        self._server = Server(model, "0.0.0.0", port, flags)
        return f"http://{ray.util.get_node_ip_address()}:{port}/v1"

    def exit_code(self) -> int | None:
        return self._server._process.poll()

    def stop(self) -> None:
        self._server.stop()


class Remote:
    def __init__(self, actor, url: str) -> None:
        self._actor, self.url = actor, url

    def wait(self) -> int:
        import ray

        while (code := ray.get(self._actor.exit_code.remote())) is None:
            time.sleep(1)
        return code

    def stop(self) -> None:
        import ray

        ray.get(self._actor.stop.remote())
        ray.shutdown()
