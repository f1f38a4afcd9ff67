"""JSON messages over a stream socket, each after its length; for two processes of which one may be broken."""

import json
import socket
import struct
import time
from typing import Any

_LENGTH = struct.Struct("!I")
MOST_BYTES = 2**31


def send(connection: socket.socket, message: object, deadline: float | None = None) -> None:
    """Send a JSON value. Raises TimeoutError at the deadline (time.monotonic()), OSError if the other side is gone."""
    data = json.dumps(message).encode()  # ASCII: lone surrogates are escaped
    connection.settimeout(_remaining(deadline))
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket, deadline: float | None = None) -> Any:
    """The next JSON value. Raises as send, EOFError if the other side is gone, ValueError if it is not JSON."""
    [length] = _LENGTH.unpack(_exactly(connection, _LENGTH.size, deadline))
    if length > MOST_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return json.loads(_exactly(connection, length, deadline))


def _exactly(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        connection.settimeout(_remaining(deadline))
        part = connection.recv(min(size - len(data), 2**20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def _remaining(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining
