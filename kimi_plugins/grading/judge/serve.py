"""The command `openrlhf kimi judge-serve`: vLLM's OpenAI server as a child, here or in a Ray cluster."""

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from kimi_plugins.preflight.machine import cuda_devices

START_SECONDS = 1800.0  # to load a large model
ON_CPU = ("--enforce-eager", "--gpu-memory-utilization", "0.1")  # of the machine's memory; the model comes on top
STOP_SECONDS = 20.0  # from Ctrl-C to SIGKILL
_PR_SET_PDEATHSIG = 1


def add_parser(commands) -> None:
    """Add the parser of `judge-serve` to those of `openrlhf kimi`."""
    parser = commands.add_parser(
        "judge-serve",
        help="serve a judge that reasons, by vLLM",
        description="Serve MODEL by vLLM's OpenAI-compatible server under the name `judge`, say when it answers, "
        "and end it with Ctrl-C. A classic judge is served by OpenRLHF: python -m openrlhf.cli.serve_rm.",
    )
    parser.add_argument("model", metavar="MODEL", help="directory or hub name")
    parser.add_argument("--port", type=int, default=8100, help="default: 8100")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address it listens on; default: 127.0.0.1, this machine only"
    )
    parser.add_argument(
        "--ray-gpus",
        type=float,
        default=None,
        metavar="N",
        help="start it on a node of the running Ray cluster with N GPUs free, on all its addresses; default: here",
    )
    parser.add_argument(
        "--vllm",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="FLAG",
        help="all that follows are flags of vLLM's server: --vllm --max-model-len 8192",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Returns when interrupted: 0; 1 when the server ended by itself."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = None
    try:
        server = Server(args.model, args.host, args.port, args.vllm) if args.ray_gpus is None else _in_ray(args)
        print(f"judge: {server.url} (model judge)", flush=True)
        code = server.wait()
    except KeyboardInterrupt:
        return 0
    except ServerFailed as error:
        print(f"openrlhf kimi judge-serve: error: {error}", file=sys.stderr)
        return 1
    finally:
        if server is not None:
            server.stop()
    print(f"openrlhf kimi judge-serve: the server ended with exit code {code}; its output is above", file=sys.stderr)
    return 1


class ServerFailed(RuntimeError):
    """The server did not start; the message says why."""


def command(model: str, host: str, port: int, flags: list[str]) -> list[str]:
    """Later flags win: those of the user."""
    words = ["--model", model, "--served-model-name", "judge", "--host", host, "--port", str(port)]
    on_cpu: tuple[str, ...] = ()
    if cuda_devices() == 0:
        from openrlhf.utils.device import computes_bf16

        on_cpu = ON_CPU if computes_bf16() else (*ON_CPU, "--dtype", "float32")
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words, *on_cpu, *flags]


class Server:
    """The server as a child process, which ends with this one. The constructor returns when it answers.

    Raises:
        ServerFailed: it ended, or START_SECONDS passed.
    """

    def __init__(self, model: str, host: str, port: int, flags: list[str], *, child: list[str] | None = None) -> None:
        from openrlhf.cli.train_ppo_ray import cpu_env_vars

        here = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        self.url = f"http://{here}:{port}/v1"
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
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise ServerFailed(f"no answer at {address} within {START_SECONDS:g} s")

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


_LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _in_ray(args: argparse.Namespace):
    """A Server in an actor of its own on the cluster. It ends with this driver."""
    import ray

    ray.init(address="auto", log_to_driver=True)
    actor = ray.remote(num_gpus=args.ray_gpus, num_cpus=1)(_Actor).remote()
    return _Remote(actor, ray.get(actor.start.remote(args.model, args.port, args.vllm)))


class _Actor:
    def start(self, model: str, port: int, flags: list[str]) -> str:
        import ray

        self._server = Server(model, "0.0.0.0", port, flags)
        return f"http://{ray.util.get_node_ip_address()}:{port}/v1"

    def exit_code(self) -> int | None:
        return self._server._process.poll()

    def stop(self) -> None:
        self._server.stop()


class _Remote:
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
