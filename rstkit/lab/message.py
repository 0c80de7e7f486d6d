"""Messages between the notebook's process and a supervisor: JSON, with its length before it.

Not pickle: a supervisor hands on what a learner's program wrote, and that is data.
"""

import json
import socket
import struct
from typing import Any


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one message; OSError where the other side is gone."""
    data = json.dumps(message, separators=(",", ":")).encode()
    connection.sendall(struct.pack("!Q", len(data)) + data)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """The next message, or None where the other side has closed."""
    header = _read(connection, 8)
    data = _read(connection, struct.unpack("!Q", header)[0]) if header else None
    return json.loads(data) if data else None


def _read(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            return None
        data += part
    return bytes(data)
