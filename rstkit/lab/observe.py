"""What the kernel of a host tells: the states of its sockets, and its counters."""

import errno
import os
import socket
import struct
from ipaddress import ip_address
from typing import NamedTuple

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_INET_DIAG_INFO = 2
_NO_COOKIE = b"\xff" * 8
_TCPI_NOTSENT_BYTES = 144  # offset in struct tcp_info (uapi/linux/tcp.h)

# include/net/tcp_states.h; NEW_SYN_RECV is a request that has no full socket yet
STATES = [
    "UNKNOWN",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSED",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "SYN_RECV",
]
_LISTEN = STATES.index("LISTEN")


class SocketState(NamedTuple):
    """A socket at a moment; bytes as in `rstkit.trace.State`."""

    state: str
    unread: int
    unsent: int
    unacked: int


CLOSED = SocketState("CLOSED", 0, 0, 0)


class SocketTable:
    """The TCP sockets of the network namespace that is current when it is made (sock_diag(7)).

    It asks for one connection by its four-tuple, which costs some 10 us. /proc/net/tcp walks the
    machine's whole hash table instead: 1.7 ms a read where there is much memory.
    """

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)

    def look(self, local: tuple[str, int], peer: tuple[str, int] | None) -> SocketState:
        """The state of a connection's end, or of the listener at ``local`` where ``peer`` is None."""
        source = ip_address(local[0]).packed
        family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
        destination = ip_address(peer[0]).packed if peer else bytes(len(source))
        self._send(family, 0, 0xFFFFFFFF, local[1], peer[1] if peer else 0, source, destination)
        answer = self._netlink.recv(65536)
        length, kind = struct.unpack_from("=IH", answer)
        if kind == _NLMSG_ERROR:
            (error,) = struct.unpack_from("=i", answer, 16)
            if -error == errno.ENOENT:
                return CLOSED
            raise OSError(-error, f"sock_diag: {os.strerror(-error)}")
        found = _read(answer[16:length])
        if peer and found.state == "LISTEN":  # no such connection: the lookup fell through to its listener
            return CLOSED
        return found

    def listening_ports(self) -> list[int]:
        """The ports on which anything listens, in order."""
        ports = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            self._send(family, _NLM_F_DUMP, 1 << _LISTEN, 0, 0, b"", b"")
            done = False
            while not done:
                answer = self._netlink.recv(65536)
                while answer:
                    length, kind = struct.unpack_from("=IH", answer)
                    if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                        done = True
                        break
                    ports.add(int.from_bytes(answer[20:22]))
                    answer = answer[(length + 3) & ~3 :]
        return sorted(ports)

    def _send(
        self, family: int, flags: int, states: int, source_port: int, peer_port: int, source: bytes, peer: bytes
    ) -> None:
        sockid = struct.pack("!HH16s16s", source_port, peer_port, source, peer) + bytes(4) + _NO_COOKIE
        body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), states) + sockid
        header = struct.pack("=IHHII", 16 + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | flags, 1, 0)
        self._netlink.send(header + body)


def _read(message: bytes) -> SocketState:
    """A struct inet_diag_msg with its attributes (uapi/linux/inet_diag.h)."""
    number = message[1]
    _, unread, queued = struct.unpack_from("=III", message, 52)
    unsent = 0
    rest = message[72:]
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        if kind == _INET_DIAG_INFO and length >= 4 + _TCPI_NOTSENT_BYTES + 4:
            (unsent,) = struct.unpack_from("=I", rest, 4 + _TCPI_NOTSENT_BYTES)
        rest = rest[max((length + 3) & ~3, 4) :]
    state = STATES[number] if number < len(STATES) else STATES[0]
    if state == "LISTEN":  # there the second number is the limit of the accept queue
        return SocketState(state, unread, 0, 0)
    return SocketState(state, unread, unsent, max(queued - unsent, 0))


class Counters:
    """The kernel's counters of the network namespace that is current when it is made (RFC 4022 and Linux's own)."""

    def __init__(self) -> None:
        self._files = [os.open(f"/proc/self/net/{name}", os.O_RDONLY) for name in ("snmp", "netstat")]

    def read(self) -> dict[str, int]:
        """All TCP counters, as ``Tcp:OutRsts`` or ``TcpExt:TCPAbortOnClose``."""
        counters = {}
        for file in self._files:
            lines = os.pread(file, 1 << 16, 0).decode().splitlines()
            for names, values in zip(lines[::2], lines[1::2], strict=True):
                group, *rest = names.split()
                if group in ("Tcp:", "TcpExt:"):
                    numbers = map(int, values.split()[1:])
                    counters.update({group + name: number for name, number in zip(rest, numbers, strict=True)})
        return counters
