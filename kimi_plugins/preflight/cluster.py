"""Ports and Ray sessions."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil

TIMEOUT = 2  # seconds


def connection_error(host: str, port: int) -> OSError | None:
    """Why host:port takes no TCP connection, None if it does."""
    try:
        socket.create_connection((host, port), timeout=TIMEOUT).close()
    except OSError as error:
        return error
    return None


def session_file() -> Path:
    """Where `ray start` leaves the address of its cluster, as ray._common.utils.get_ray_address_file finds it."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"


def ray_address() -> str | None:
    """The address ray.init() will join, None if it will start a cluster (canonicalize_bootstrap_address in Ray)."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address == "local":
        return None
    if address not in ("", "auto"):
        return address
    return session_file().read_text().strip() if session_file().exists() else None


def check_ray(args) -> Iterator[str]:
    """A stale address makes ray.init() wait for minutes."""
    variable = os.environ.get("RAY_ADDRESS", "")
    if variable == "auto" and any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"])):
        return  # Ray looks for its own processes first
    address = ray_address()
    if address is None:
        if variable == "auto":
            yield "RAY_ADDRESS: auto, but no Ray cluster runs here; run `ray start --head`, or unset RAY_ADDRESS"
        return
    if variable in ("", "auto"):
        key, fix = str(session_file()), f"run `ray stop`, or `rm {session_file()}`"
    else:
        key, fix = "RAY_ADDRESS", "start that cluster, or unset RAY_ADDRESS to let the run start its own"
    scheme, _, rest = address.rpartition("://")
    if scheme not in ("", "ray"):
        return
    try:
        url = urlsplit(f"//{rest}")
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or port is None:
        yield f"{key}: {address!r} is no host:port; {fix}"
    elif (error := connection_error(host, port)) is not None:
        yield f"{key}: no Ray cluster answers at {address} any more ({error}); {fix}"
