"""The command `openrlhf kimi sandbox-serve`."""

import argparse
import ipaddress
from pathlib import Path

from kimi_plugins.cli.command import add_command


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "sandbox-serve",
        run,
        help="grade programs over HTTP for machines that may not isolate them",
        description="Serve the code reward over HTTP: name http://:TOKEN@HOST:PORT/ in reward.remote_url of a run "
        "whose own machines may not isolate programs. Needs a token unless it listens on loopback only, which "
        "is the default. Exit code 2: invalid input, or programs cannot be isolated here.",
        example="sandbox-serve --host 0.0.0.0 --token-file token.txt --workers 16",
        unfinished=lambda args: "nothing is served any more",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8500, help="port to listen on; default: 8500")
    parser.add_argument("--token-file", type=Path, default=None, help="file with the token that clients must know")
    parser.add_argument("--workers", type=int, default=None, help="programs at a time; default: one a core")
    parser.add_argument("--queue", type=int, default=1024, help="responses that may wait; default: 1024")
    parser.add_argument("--cases", type=Path, default=None, help="directory from which labels FILE#ID are read")


def run(args: argparse.Namespace) -> None:
    """Serve until it is stopped."""
    import uvicorn

    from kimi_plugins.grading.programs_server import application
    from kimi_plugins.rewards.mixed_reward import response_of
    from kimi_plugins.sandbox.pool import Sandbox

    for name, least in (("workers", 1), ("queue", 0), ("port", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} is {value}: it must be at least {least}")
    token = None if args.token_file is None else args.token_file.read_text(encoding="utf-8").strip()
    if token == "":
        raise ValueError(f"--token-file: {args.token_file} is empty")
    if token is None and not _is_loopback(args.host):
        raise ValueError(f"--host {args.host} can be reached from other machines: set --token-file")
    if args.cases is not None and not args.cases.is_dir():
        raise ValueError(f"--cases: {args.cases} is not a directory")
    with Sandbox(args.workers) as sandbox:
        app = application(sandbox, response_of, token, args.queue, args.cases)
        uvicorn.run(app, host=args.host, port=args.port, log_level="warning")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
