"""The command `openrlhf kimi judge-serve`."""

import argparse
import signal

from kimi_plugins.cli.command import add_command


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "judge-serve",
        run,
        help="serve a judge that reasons, by vLLM",
        description="Serve MODEL by vLLM's OpenAI-compatible server under the name `judge`, say when it answers, "
        "and end it with Ctrl-C. A classic judge is served by OpenRLHF: python -m openrlhf.cli.serve_rm.",
        example="judge-serve runs/judge/model --port 8100 --vllm --max-model-len 8192",
        unfinished=lambda args: "nothing is served any more",
    )
    parser.add_argument("model", metavar="MODEL", help="directory or hub name")
    parser.add_argument("--port", type=int, default=8100, help="port to listen on; default: 8100")
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


def run(args: argparse.Namespace) -> int:
    """0 when it is interrupted.

    Raises:
        ServerFailed: the server did not start, or ended by itself.
    """
    from kimi_plugins.grading.judge import serve

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server: serve.Server | serve.Remote | None = None
    try:
        if args.ray_gpus is None:
            server = serve.Server(args.model, args.host, args.port, args.vllm)
        else:
            server = serve.in_ray(args.model, args.port, args.vllm, args.ray_gpus)
        print(f"judge: {server.url} (model judge)", flush=True)
        code = server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        if server is not None:
            server.stop()
    raise serve.ServerFailed(f"the server ended with exit code {code}; its output is above")
