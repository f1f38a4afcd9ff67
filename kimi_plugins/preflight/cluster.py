"""Which Ray cluster a run joins, and whether that has room for it."""

import math
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

TIMEOUT = 2  # seconds
# What a client of HTTP/2 says first (RFC 9113, 3.4), with an empty SETTINGS frame; a server answers with its own.
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS = 4  # the type of that frame, its fourth byte


def connection_error(host: str, port: int) -> OSError | None:
    """Why host:port takes no TCP connection, None if it does."""
    try:
        socket.create_connection((host, port), timeout=TIMEOUT).close()
    except OSError as error:
        return error
    return None


def speaks_http2(host: str, port: int) -> bool:
    """Whether a server of HTTP/2, as gRPC's and so Ray's is, listens at host:port; OSError if nothing does."""
    with socket.create_connection((host, port), timeout=TIMEOUT) as connection:
        connection.sendall(HTTP2_PREFACE)
        answer = b""
        try:
            while len(answer) < 4 and (more := connection.recv(4)):
                answer += more
        except OSError:  # it said nothing in time, or hung up
            return False
    return len(answer) >= 4 and answer[3] == SETTINGS


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


def key_and_fix() -> tuple[str, str]:
    """What named the cluster that ray.init() will join, and how to name none."""
    if os.environ.get("RAY_ADDRESS", "") in ("", "auto"):
        return str(session_file()), f"run `ray stop`, or `rm {session_file()}`"
    return "RAY_ADDRESS", "start that cluster, or unset RAY_ADDRESS to let the run start its own"


def check_ray(args) -> Iterator[str]:
    """A stale address makes ray.init() wait for minutes, one of another program for ever."""
    variable = os.environ.get("RAY_ADDRESS", "")
    address = ray_address()
    if variable == "auto" and any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"])):
        return  # Ray looks for its own processes first
    if address is None:
        if variable == "auto":
            yield "RAY_ADDRESS: auto, but no Ray cluster runs here; run `ray start --head`, or unset RAY_ADDRESS"
        return
    key, fix = key_and_fix()
    scheme, _, rest = address.rpartition("://")
    if scheme not in ("", "ray"):
        return
    try:
        url = urlsplit(f"//{rest}")
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or port is None:
        yield f"{key}: {address!r} is not host:port; {fix}"
    elif (error := connection_error(host, port)) is not None:
        yield f"{key}: no Ray cluster answers at {address} any more ({error}); {fix}"
    elif not speaks_http2(host, port):
        yield (
            f"{key}: another program than Ray has the port at {address}; find it with `ss -tlnp 'sport = :{port}'` "
            f"there, and end it or give `ray start --head --port` another"
        )


@dataclass(frozen=True)
class Node:
    """A living node of a cluster: what it offers to Ray in all, what is free of that, and the actors there."""

    address: str
    gpus: float
    cpus: float
    free_gpus: float
    free_cpus: float
    accelerator: bool = False  # whether Ray found the GPUs itself; else they are only declared
    actors: tuple[str, ...] = ()  # each as "class (pid)"


def places(gpus: float, cpus: float) -> int:
    """Actors with a GPU and a CPU each that fit on one node."""
    return int(min(gpus, cpus))


def room_problem(asks: str, needed: int, nodes: list[Node], address: str) -> str | None:
    """Why a run would wait for ever, in one line; None if it has room.

    The placement groups of a run are made of places of 1 GPU and 1 CPU (strategy PACK: any node will do), and the
    trainer starts where a CPU is left.

    Args:
        asks: what of the run needs the places, in words.
        needed: places, machine.gpus_needed().
        nodes: of the cluster.
        address: of the cluster, as it was given.
    """
    if large_enough(needed, nodes):
        if _fits(needed, [(node.free_gpus, node.free_cpus) for node in nodes]):
            return None
        used = ", ".join(f"{actor} on {node.address}" for node in nodes for actor in node.actors)
        why = f"in use{used and f' by {used}'}; free are"
        fix = "end what uses them, or wait for it with --wait"
        offers = [(node.address, node.free_gpus, node.free_cpus) for node in nodes]
    else:
        why, fix = "too small,", _more_room(needed, nodes, address)
        offers = [(node.address, node.gpus, node.cpus) for node in nodes]
    has = ", ".join(f"{name} (GPU {gpus:g}, CPU {cpus:g})" for name, gpus, cpus in offers) or "no node lives"
    return (
        f"actor.num_nodes: {asks} need {needed} GPUs with a CPU each, and the trainer a CPU; the Ray cluster at "
        f"{address} is {why} {has}; {fix}"
    )


def large_enough(needed: int, nodes: list[Node]) -> bool:
    """Whether the cluster has room for the run once nothing else uses it."""
    return _fits(needed, [(node.gpus, node.cpus) for node in nodes])


def _fits(needed: int, offers: list[tuple[float, float]]) -> bool:
    return sum(places(*offer) for offer in offers) >= needed and int(sum(cpus for _, cpus in offers)) > needed


def _more_room(needed: int, nodes: list[Node], address: str) -> str:
    if any(node.accelerator for node in nodes):
        return f"add hosts (`ray start --address={address}`), or ask for fewer; --wait waits for them"
    share = -(-needed // max(1, len(nodes)))
    return (
        f"hosts without GPUs offer none unless told: on each, `ray stop`, then `ray start … --num-gpus {share} "
        f"--num-cpus {share + 1}`, or add hosts (`ray start --address={address}`); --wait waits for them"
    )


def wait_for_room(
    problem: Callable[[], str | None],
    seconds: float,
    say: Callable[[str], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    every: float = 10.0,
) -> str | None:
    """problem() asked once a second until it is None or the seconds are over; what it said last.

    say(line): told at once, and then every `every` seconds, that it waits, and for what if that has changed.
    """
    start, last, known = clock(), -math.inf, None
    while (found := problem()) is not None and (now := clock()) - start < seconds:
        if now - last >= every:
            waited = f"waiting for the Ray cluster, {now - start:.0f} s"
            say(waited if found == known else f"{waited}: {found}")
            last, known = now, found
        sleep(1.0)
    return found
