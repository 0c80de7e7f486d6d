"""Programs put together at random from the calls that bear on a reset."""

import os
import random
import signal
import socket
import struct
import time
from typing import Any

from .scenarios import TCP_LINGER2, Address, keepalive, listen, read_all

Step = tuple[Any, ...]


def perform(connection: socket.socket, steps: list[Step]) -> None:
    """Do the steps; what fails is passed over, as by a program that never looks."""
    connection.settimeout(0.6)
    for name, *values in steps:
        try:
            match name:
                case "send":
                    connection.sendall(bytes(values[0]))
                case "fill":
                    connection.setblocking(False)
                    connection.send(bytes(values[0]))
                case "recv":
                    connection.recv(values[0])
                case "read_all":
                    read_all(connection)
                case "sleep":
                    time.sleep(values[0])
                case "shutdown":
                    connection.shutdown(values[0])
                case "linger":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", *values))
                case "linger2":
                    connection.setsockopt(socket.IPPROTO_TCP, TCP_LINGER2, values[0])
                case "keepalive":
                    keepalive(connection, count=values[0])
                case "close":
                    connection.close()
                case "exit":
                    os._exit(0)
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
        except OSError:
            connection.settimeout(0.6)


def varied_server(address: Address, of_server: list[Step], listener: str) -> None:
    """``listener``: closed after the first connection, kept open, or closed before anything is accepted."""
    listening = listen(address)
    listening.settimeout(1)
    if listener == "never accepts":
        time.sleep(0.15)
        listening.close()
        return
    connection, _ = listening.accept()
    if listener == "closed":
        listening.close()
    perform(connection, of_server)


def varied_client(address: Address, of_client: list[Step]) -> None:
    perform(socket.create_connection(address, timeout=1), of_client)


_MIDDLE: list[tuple[float, list[Step]]] = [
    (0.30, [("send", size) for size in (1, 5, 100, 3000, 60_000)]),
    (0.06, [("fill", 200_000), ("fill", 2_000_000)]),
    (0.24, [("recv", size) for size in (1, 3, 100, 65_536)]),
    (0.08, [("read_all",)]),
    (0.22, [("sleep", seconds) for seconds in (0, 0.001, 0.01, 0.03, 0.06, 0.12, 0.25)]),
    (0.05, [("shutdown", how) for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)]),
    (0.05, [("linger", 1, 0), ("close",)]),
]
_LAST: list[list[Step]] = [[("close",)], [("close",), ("sleep", 0.3)], [("exit",)], [("kill",)], [("sleep", 0.3)], []]


def _steps(chance: random.Random) -> list[Step]:
    steps: list[Step] = []
    if chance.random() < 0.2:
        steps.append(chance.choice([("linger", 1, 0), ("linger", 1, 0), ("linger", 1, 1)]))
    if chance.random() < 0.04:
        steps.append(("linger2", -1))
    if chance.random() < 0.05:
        steps.append(("keepalive", chance.choice([1, 2])))
    weights = [weight for weight, _ in _MIDDLE]
    for _, kinds in chance.choices(_MIDDLE, weights, k=chance.randint(1, 6)):
        steps.append(chance.choice(kinds))
    return [*steps, *chance.choice(_LAST)]


def varied(seed: int) -> dict[str, Any]:
    """The programs' values and the lab's for a seed."""
    chance = random.Random(seed)
    values = {
        "of_server": _steps(chance),
        "of_client": _steps(chance),
        "listener": chance.choice(["closed", "closed", "open", "open", "never accepts"]),
        "rtt": chance.choice([0, 1, 10, 40, 100]),
        "ip": chance.choice([4, 6]),
        "loss": chance.choice([0, 0, 0, 3, 15]),
        "seed": seed,
        "duration": 4,
    }
    if chance.random() < 0.1:
        host = chance.choice(["client", "server"])
        values["drop"] = [(host, number) for number in range(chance.randint(2, 6), chance.choice([7, 12, 100]))]
    return values
