"""Programs that bring about each cause of a reset on the lab, with what `explain` must find.

Each scenario is a server and a client as plain socket code, the lab's values, and the resets that
must follow: sender and cause, in order.
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Address = tuple[str, int]
Program = Callable[..., None] | list[str]

LINGER_ZERO = struct.pack("ii", 1, 0)
TCP_LINGER2 = 8
TCP_USER_TIMEOUT = 18
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_SEND_QUEUE = 19, 20, 21, 2


def listen(address: Address, backlog: int = 8) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.create_server(address, family=family, backlog=backlog)


def accept(address: Address) -> socket.socket:
    """The first connection; the listener is closed."""
    with listen(address) as listener:
        return listener.accept()[0]


def wait_for_state(connection: socket.socket, state: int) -> None:
    """Wait until the kernel shows the connection in a state (TCP_INFO)."""
    while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != state:
        time.sleep(0.002)


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


def vanish(connection: socket.socket) -> None:
    """Forget a connection without FIN or RST, as a host that restarts does (TCP_REPAIR)."""
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    connection.close()


def checksum(data: bytes) -> Any:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def send_by_hand(source: Address, destination: Address, flags: int, seq: int, ack: int) -> None:
    """Send one segment that no socket of this host sent."""
    six = ":" in source[0]
    family = socket.AF_INET6 if six else socket.AF_INET
    tcp = struct.pack("!HHIIBBHHH", source[1], destination[1], seq, ack, 5 << 4, flags, 512, 0, 0)
    ends = socket.inet_pton(family, source[0]) + socket.inet_pton(family, destination[0])
    pseudo = ends + (struct.pack("!I3xB", len(tcp), 6) if six else struct.pack("!BBH", 0, 6, len(tcp)))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.sendto(tcp, (destination[0], 0))


# --- servers and clients -------------------------------------------------------------------


def serve(address: Address) -> None:
    """Read to the end, answer, close."""
    connection = accept(address)
    read_all(connection)
    connection.close()


def knock(address: Address) -> None:
    socket.create_connection(address)


def send_and_end(address: Address, words: bytes = b"hello") -> None:
    connection = socket.create_connection(address)
    connection.sendall(words)


def send_and_close(address: Address, words: bytes = b"hello", stay: float = 0.0) -> None:
    connection = socket.create_connection(address)
    connection.sendall(words)
    connection.close()
    time.sleep(stay)


def send_and_wait(address: Address, words: bytes = b"hello", stay: float = 0.3) -> None:
    """Send, wait, then look: recv, and if that fails, what a second one says."""
    connection = socket.create_connection(address)
    if words:
        connection.sendall(words)
    time.sleep(stay)
    try:
        while connection.recv(4096):
            pass
    except OSError:
        connection.recv(10)


def answer_late(address: Address, nap: float = 0.2, size: int = 11, times: int = 2) -> None:
    connection = accept(address)
    connection.recv(1024)
    time.sleep(nap)
    for _ in range(times):
        connection.send(bytes(size))
        time.sleep(0.1)


def stream(address: Address) -> None:
    """Send without end, in pieces."""
    connection = accept(address)
    while True:
        connection.send(bytes(1000))
        time.sleep(0.01)


def close_after_request(address: Address, read: int = 0, nap: float = 0.1) -> None:
    connection = accept(address)
    time.sleep(nap)
    if read:
        connection.recv(read)
    connection.close()


def answer_unread(address: Address) -> None:
    """Answer before the request was read, and close: HTTP 413."""
    connection = accept(address)
    time.sleep(0.1)
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 413 Content Too Large\r\n\r\n")
    connection.close()


def end_with_unread(address: Address) -> None:
    connection = accept(address)
    time.sleep(0.1)
    os._exit(0 if connection.fileno() > 0 else 1)


def killed_with_unread(address: Address) -> None:
    connection = accept(address)
    time.sleep(0.1)
    os.kill(os.getpid() if connection.fileno() > 0 else 0, signal.SIGKILL)


def abort(address: Address, write: int = 0, read: bool = True, nap: float = 0.05) -> None:
    connection = accept(address)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    if read:
        connection.recv(4096)
    if write:
        connection.setblocking(False)
        connection.send(bytes(write))
    else:
        time.sleep(nap)
    connection.close()


def abort_by_inheritance(address: Address) -> None:
    with listen(address) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.close()


def keepalive(connection: socket.socket, idle: int = 1, interval: int = 1, count: int = 9) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)


def only_probe(address: Address, stay: float = 3.6, count: int = 9) -> None:
    connection = accept(address)
    keepalive(connection, count=count)
    connection.recv(1024)
    time.sleep(stay)
    connection.recv(1024)


def shut_and_stay(address: Address, stay: float = 0.5) -> None:
    connection = socket.create_connection(address)
    connection.sendall(b"hello")
    connection.shutdown(socket.SHUT_RDWR)
    time.sleep(stay)


def no_fin_wait2(address: Address) -> None:
    connection = socket.create_connection(address)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_LINGER2, -1)
    connection.sendall(b"hello")
    connection.close()
    time.sleep(0.2)


def no_fin_wait2_after_shutdown(address: Address) -> None:
    connection = socket.create_connection(address)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_LINGER2, -1)
    connection.shutdown(socket.SHUT_WR)
    wait_for_state(connection, 5)
    connection.close()


def hold(address: Address, stay: float = 0.6) -> None:
    connection = accept(address)
    time.sleep(stay)
    connection.recv(100)


def leave_unaccepted(address: Address, stay: float = 0.2) -> None:
    listener = listen(address)
    time.sleep(stay)
    listener.close()
    time.sleep(0.1)


def end_unaccepted(address: Address) -> None:
    listener = listen(address)
    time.sleep(0.2)
    os._exit(0 if listener.fileno() > 0 else 1)


def leave_in_handshake(address: Address) -> None:
    """Close the listener between the SYN and the last ACK of the handshake."""
    listener = listen(address)
    table = Path("/proc/self/net", "tcp6" if ":" in address[0] else "tcp")
    while not re.search(r" 03 ", table.read_text()):  # SYN_RECV
        time.sleep(0.002)
    listener.close()
    time.sleep(0.6)


def dissolve(address: Address) -> None:
    connection = accept(address)
    connection.recv(100)
    unspecified = struct.pack("H14x", socket.AF_UNSPEC)
    assert ctypes.CDLL(None).connect(connection.fileno(), unspecified, 16) == 0
    time.sleep(0.2)


def destroy(connection: socket.socket) -> None:
    """What ss -K does: SOCK_DESTROY of sock_diag(7), for one connection."""
    (_, port), (_, peer_port) = connection.getsockname()[:2], connection.getpeername()[:2]
    family = connection.family
    local, peer = (
        socket.inet_pton(family, end()[0]).ljust(16, b"\0") for end in (connection.getsockname, connection.getpeername)
    )
    sockid = struct.pack("!HH", port, peer_port) + local + peer + bytes(4) + b"\xff" * 8
    body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + sockid
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(body), 21, 5, 1, 0) + body)
        (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
    if error:
        raise OSError(-error, os.strerror(-error))


def be_destroyed(address: Address) -> None:
    connection = accept(address)
    connection.recv(100)
    destroy(connection)
    try:
        connection.send(b"x")
    finally:
        time.sleep(0.1)


def give_up_connecting(address: Address) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(0.02)
        connection.connect(address)


def restart_and_listen_no_more(address: Address) -> None:
    connection = accept(address)
    connection.recv(100)
    vanish(connection)
    time.sleep(0.5)


def restart_and_listen(address: Address) -> None:
    with listen(address) as listener:
        connection, _ = listener.accept()
        connection.recv(100)
        vanish(connection)
        time.sleep(0.6)


def ask_twice(address: Address) -> None:
    connection = socket.create_connection(address)
    connection.sendall(b"one")
    time.sleep(0.3)
    connection.sendall(b"two")
    time.sleep(0.1)
    connection.recv(100)


def restart_and_connect_again(address: Address) -> None:
    """Lose a connection, then connect from the same port: the handshake recovers by itself."""
    first = socket.create_connection(address)
    first.sendall(b"one")
    time.sleep(0.1)
    source = first.getsockname()[:2]
    vanish(first)
    second = socket.create_connection(address, timeout=5, source_address=source)
    second.sendall(b"two")


def serve_two(address: Address) -> None:
    with listen(address) as listener:
        first, _ = listener.accept()
        first.recv(100)
        second, _ = listener.accept()
        second.recv(100)
        first.recv(100)


def ack_scan(address: Address, port: int = 8080) -> None:
    mine = "fd00::1" if ":" in address[0] else "10.0.0.1"
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address[0], 9))
        mine = probe.getsockname()[0]
    send_by_hand((mine, 40000), (address[0], port), 0x10, 1000, 2000)
    time.sleep(0.2)


def close_and_listen(address: Address) -> None:
    with listen(address) as listener:
        listener.accept()[0].close()
        time.sleep(0.6)


def vanish_and_knock(address: Address) -> None:
    """Forget the connection without a FIN, and ask for another from its port, with a number of its window."""
    connection = socket.create_connection(address)
    while connection.recv(1):
        pass
    time.sleep(0.1)
    source = connection.getsockname()[:2]
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
    (seq,) = struct.unpack("I", connection.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, 4))
    connection.close()
    send_by_hand(source, address[:2], 0x02, (seq + 100) % 2**32, 0)
    time.sleep(0.2)


def idle_listener(address: Address) -> None:
    with listen(address):
        time.sleep(0.4)


def overflows() -> int:
    """How often the accept queue of a listener of this host was full when a handshake ended."""
    names, values = [line.split() for line in Path("/proc/self/net/netstat").read_text().splitlines()[:2]]
    return int(values[names.index("ListenOverflows")])


def never_accept(address: Address) -> None:
    listener = listen(address, backlog=2)
    while not overflows():
        time.sleep(0.005)
    time.sleep(0.3)
    os._exit(0 if listener.fileno() > 0 else 1)  # closes it with connections that wait: more resets


def fill_the_queue(address: Address, stay: float = 0.2) -> None:
    """Two connections, then two at once: the second of these finds the queue full at its last ACK."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    kept = [socket.create_connection(address) for _ in range(2)]
    for _ in range(2):
        connection = socket.socket(family)
        connection.setblocking(False)
        connection.connect_ex(address)
        kept.append(connection)
    time.sleep(stay)
    for connection in kept:
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.send(b"x")
    time.sleep(0.1)


def give_up_silently(address: Address) -> None:
    """TCP_USER_TIMEOUT ends the connection without RST, the listener is gone."""
    connection = accept(address)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 400)
    connection.sendall(b"lost")
    try:
        connection.recv(100)
    except OSError:
        time.sleep(0.6)


def speak_late(address: Address, nap: float = 1.2) -> None:
    connection = socket.create_connection(address)
    time.sleep(nap)
    connection.send(b"hello?")
    time.sleep(0.1)
    connection.send(b"hello??")


def half_close_with_unread(address: Address) -> None:
    connection = accept(address)
    connection.shutdown(socket.SHUT_WR)
    time.sleep(0.2)
    connection.close()


def abort_after_answer(address: Address) -> None:
    """A client in a hurry: it reads the answer to its end, and aborts."""
    connection = socket.create_connection(address)
    connection.sendall(b"question")
    connection.shutdown(socket.SHUT_WR)
    read_all(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    connection.close()


def hurry(address: Address) -> None:
    connection = socket.create_connection(address)
    connection.sendall(b"question")
    connection.recv(10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    connection.close()


def answer_and_close(address: Address) -> None:
    connection = accept(address)
    connection.recv(100)
    connection.sendall(b"answer")
    connection.close()


def both_ways(address: Address) -> None:
    """Two connections of one host, reset for different causes."""
    with listen(address) as listener:
        first, _ = listener.accept()
        second, _ = listener.accept()
        time.sleep(0.1)
        first.close()
        second.recv(100)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        second.close()


def ask_on_two(address: Address) -> None:
    first, second = (socket.create_connection(address) for _ in range(2))
    first.sendall(b"one")
    second.sendall(b"two")
    time.sleep(0.3)


def abort_twice_from_one_port(address: Address) -> None:
    source = None
    for _ in range(2):
        connection = socket.create_connection(address, source_address=source)
        source = connection.getsockname()[:2]
        connection.sendall(b"x")
        time.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        connection.close()
        time.sleep(0.05)


def serve_all(address: Address, count: int = 2) -> None:
    with listen(address) as listener:
        for _ in range(count):
            connection, _ = listener.accept()
            with contextlib.suppress(OSError):
                read_all(connection)
            connection.close()


@dataclass(frozen=True)
class Scenario:
    """A run of the lab, and the resets that must follow: (sender, cause) in order.

    ``decided`` tells whether packets alone must find the cause first (otherwise it may be among
    the alternatives).
    """

    name: str
    server: Program | None
    client: Program
    resets: tuple[tuple[str, str], ...]
    values: dict[str, Any] = field(default_factory=dict)
    decided: bool = True
    repeats: bool = False


def _command(*lines: str) -> list[str]:
    code = "import socket, time, os, struct\naddress = ('{host}', {port})\n" + "\n".join(lines)
    return [sys.executable, "-c", code]


_DROP_CLIENT = [("client", number) for number in range(3, 60)]

SCENARIOS = (
    Scenario("closed port", None, knock, (("server", "no-listener"),)),
    Scenario("keepalive", only_probe, send_and_end, (("client", "fin-wait2-timed-out"),), {"fin_timeout": 1}),
    Scenario(
        "late data",
        answer_late,
        send_and_end,
        (("client", "fin-wait2-timed-out"),),
        {"fin_timeout": 1, "nap": 2.5},
        decided=False,
    ),
    Scenario("data after end", answer_late, send_and_end, (("client", "data-after-close"),)),
    Scenario("data after close", answer_late, send_and_close, (("client", "data-after-close"),), {"stay": 0.6}),
    Scenario("much data after close", answer_late, send_and_end, (("client", "data-after-close"),), {"size": 50_000}),
    Scenario(
        "data crosses the FIN", answer_late, send_and_close, (("client", "data-after-close"),), {"nap": 0, "rtt": 60}
    ),
    Scenario("unread request", close_after_request, send_and_wait, (("server", "unread-data"),), decided=False),
    Scenario("half read", close_after_request, send_and_wait, (("server", "unread-data"),), {"read": 3}, decided=False),
    Scenario("413", answer_unread, send_and_wait, (("server", "unread-data"),), {"words": bytes(5000)}, decided=False),
    Scenario("end with unread data", end_with_unread, send_and_wait, (("server", "unread-data"),), decided=False),
    Scenario("killed with unread data", killed_with_unread, send_and_wait, (("server", "unread-data"),), decided=False),
    Scenario("unread after FIN", close_after_request, send_and_end, (("server", "unread-data"),), decided=False),
    Scenario("unread, half closed", half_close_with_unread, send_and_wait, (("server", "unread-data"),), decided=False),
    Scenario("linger zero", abort, send_and_wait, (("server", "linger-zero"),), decided=False),
    Scenario(
        "linger zero, nothing received",
        abort,
        send_and_wait,
        (("server", "linger-zero"),),
        {"words": b"", "read": False},
        decided=False,
    ),
    Scenario(
        "linger zero with unsent data",
        abort,
        send_and_wait,
        (("server", "linger-zero"),),
        {"write": 500_000},
        decided=False,
    ),
    Scenario(
        "linger zero with unread data",
        abort,
        send_and_wait,
        (("server", "unread-data"),),
        {"read": False},
        decided=False,
    ),
    Scenario("linger zero inherited", abort_by_inheritance, send_and_wait, (("server", "linger-zero"),), decided=False),
    Scenario("hurry", answer_and_close, hurry, (("client", "linger-zero"),), decided=False),
    Scenario(
        "accept queue",
        never_accept,
        fill_the_queue,
        (("server", "accept-queue-overflow"), *[("server", "listener-closed")] * 3),
        {"sysctls": {"server": {"net.ipv4.tcp_abort_on_overflow": 1}}},
        decided=False,
    ),
    Scenario("shutdown", answer_late, shut_and_stay, (("client", "data-after-shutdown"),), decided=False),
    Scenario("negative TCP_LINGER2", hold, no_fin_wait2, (("client", "linger2-negative"),)),
    Scenario(
        "negative TCP_LINGER2 after shutdown",
        hold,
        no_fin_wait2_after_shutdown,
        (("client", "linger2-negative"),),
        decided=False,
    ),
    Scenario(
        "keepalive unanswered",
        only_probe,
        send_and_wait,
        (("server", "keepalive-timeout"),),
        {"count": 2, "words": b"", "stay": 5, "drop": _DROP_CLIENT[1:]},
    ),
    Scenario(
        "listener closed",
        leave_unaccepted,
        send_and_wait,
        (("server", "listener-closed"),),
        {"stay": 0.3},
        decided=False,
    ),
    Scenario(
        "listener closed, nothing sent",
        leave_unaccepted,
        send_and_wait,
        (("server", "listener-closed"),),
        {"stay": 0.3, "words": b""},
        decided=False,
    ),
    Scenario(
        "server ended, nothing accepted", end_unaccepted, send_and_wait, (("server", "listener-closed"),), decided=False
    ),
    Scenario(
        "listener closed in the handshake",
        leave_in_handshake,
        send_and_wait,
        (("server", "listener-closed"),),
        {"rtt": 300},
        decided=False,
    ),
    Scenario("AF_UNSPEC", dissolve, send_and_wait, (("server", "disconnect"),), decided=False),
    Scenario("SOCK_DESTROY", be_destroyed, send_and_wait, (("server", "socket-killed"),), decided=False),
    Scenario("connect given up", hold, give_up_connecting, (("client", "connect-aborted"),), {"rtt": 100}),
    Scenario("restarted", restart_and_listen_no_more, ask_twice, (("server", "unknown-connection"),)),
    Scenario("restarted and listening", restart_and_listen, ask_twice, (("server", "unknown-connection"),)),
    Scenario("half-open", serve_two, restart_and_connect_again, (("client", "unacceptable-ack"),)),
    Scenario("SYN to an orphan", close_and_listen, vanish_and_knock, (("server", "syn-to-orphan"),)),
    Scenario("ACK scan of an open port", idle_listener, ack_scan, (("server", "ack-to-listener"),), decided=False),
    Scenario("ACK scan of a closed port", None, ack_scan, (("server", "unknown-connection"),), decided=False),
    Scenario(
        "gave up",
        give_up_silently,
        speak_late,
        (("server", "gave-up"),),
        {"drop": [("server", n) for n in range(2, 30)]},
    ),
    Scenario(
        "two connections", both_ways, ask_on_two, (("server", "unread-data"), ("server", "linger-zero")), decided=False
    ),
    Scenario(
        "port used again", serve_all, abort_twice_from_one_port, (("client", "linger-zero"), ("client", "linger-zero"))
    ),
)
