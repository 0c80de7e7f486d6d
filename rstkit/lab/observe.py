"""What the kernel of a host tells: socket states, counters, and the reason of each RST."""

import errno
import mmap
import os
import platform
import re
import socket
import struct
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from . import kernel

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

    def close(self) -> None:
        self._netlink.close()

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

    def close(self) -> None:
        for file in self._files:
            os.close(file)

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


_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "riscv64": 241}
_PERF_TYPE_TRACEPOINT = 2
_PERF_SAMPLE_TIME, _PERF_SAMPLE_RAW = 1 << 2, 1 << 10
_USE_CLOCKID = 1 << 25
_PERF_FLAG_FD_CLOEXEC = 8
_PERF_RECORD_SAMPLE = 9
_CLOCK_MONOTONIC = 1
_DATA_HEAD = 1024  # offset in struct perf_event_mmap_page
_PAGES = 8
_TRACEPOINT = "events/tcp/tcp_send_reset"


ResetEvent = tuple[int, tuple[str, int], tuple[str, int], str]
"""A reset as the kernel tells it: CLOCK_MONOTONIC in nanoseconds, source, destination, reason."""


class Tracepoint(NamedTuple):
    """The tracepoint tcp:tcp_send_reset: its number, its fields' offsets, its reasons by number."""

    number: int
    offsets: dict[str, int]
    reasons: dict[int, str]


def read_tracepoint() -> Tracepoint | None:
    """The tracepoint's description from tracefs, or None where this machine does not show it.

    Where tracefs is not mounted, a child mounts it in a mount namespace of its own, so that
    nothing on the machine changes. Needs real root, and kernel 6.10 for the reason.
    """
    texts = _read_tracefs("/sys/kernel/tracing") or _in_a_child()
    if not texts:
        return None
    number, layout = texts
    offsets = {name: int(offset) for name, offset in re.findall(r"\s(\w+)(?:\[\d+\])?;\s*offset:(\d+);", layout)}
    symbols = layout.partition("REC->reason, ")[2]
    reasons = {int(value): name for value, name in re.findall(r'\{ (\d+), "(\w+)" \}', symbols)}
    if not {"reason", "saddr", "daddr"} <= offsets.keys() or not reasons:
        return None
    return Tracepoint(int(number), offsets, reasons)


def _read_tracefs(root: str) -> tuple[str, str] | None:
    with suppress(OSError):
        folder = Path(root, _TRACEPOINT)
        return (folder / "id").read_text(), (folder / "format").read_text()
    return None


def _in_a_child() -> tuple[str, str] | None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kernel.unshare(kernel.CLONE_NEWNS)
            kernel.make_mounts_private()
            kernel.mount("tracefs", "/sys/kernel/tracing")
            texts = _read_tracefs("/sys/kernel/tracing")
            if texts:
                os.write(writer, "\0".join(texts).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read().decode()
    os.waitpid(child, 0)
    number, found, layout = data.partition("\0")
    return (number, layout) if found else None


class ResetReasons:
    """Listens to the tracepoint tcp:tcp_send_reset by perf_event_open(2), for the whole machine.

    A perf event lives as long as its descriptor; a tracefs instance would outlive a killed
    process. The events of others are told apart by address and port when they are read.
    """

    def __init__(self, tracepoint: Tracepoint) -> None:
        self._tracepoint = tracepoint
        self._buffers: list[mmap.mmap] = []
        self._found: list[ResetEvent] = []
        attributes = struct.pack(
            "=IIQQQQQIIQQQQIi",
            *(_PERF_TYPE_TRACEPOINT, 112, tracepoint.number, 1, _PERF_SAMPLE_TIME | _PERF_SAMPLE_RAW, 0),
            *(_USE_CLOCKID, 1, 0, 0, 0, 0, 0, 0, _CLOCK_MONOTONIC),
        ).ljust(112, b"\0")
        number = _PERF_EVENT_OPEN[platform.machine()]
        for cpu in sorted(os.sched_getaffinity(0) | set(range(os.cpu_count() or 1))):
            with suppress(OSError):  # a processor that is offline
                descriptor = kernel.syscall(number, attributes, -1, cpu, -1, _PERF_FLAG_FD_CLOEXEC)
                self._buffers.append(mmap.mmap(descriptor, mmap.PAGESIZE * (1 + _PAGES)))
                os.close(descriptor)  # the mapping keeps the event alive

    def read(self) -> list[ResetEvent]:
        """Each reset since this was made, in order of time."""
        size = mmap.PAGESIZE * _PAGES
        for buffer in self._buffers:
            head, tail = struct.unpack_from("=QQ", buffer, _DATA_HEAD)
            if head == tail:
                continue
            ring = buffer[mmap.PAGESIZE :] * 2  # a record may wrap round the end
            while tail < head:
                kind, _, length = struct.unpack_from("=IHH", ring, tail % size)
                if kind == _PERF_RECORD_SAMPLE:
                    self._take(ring[tail % size : tail % size + length])
                tail += length
            struct.pack_into("=Q", buffer, _DATA_HEAD + 8, tail)
        return sorted(self._found)

    def _take(self, record: bytes) -> None:
        (at,) = struct.unpack_from("=Q", record, 8)
        raw = record[20:]  # after the header, the time, and the length of the raw data
        offsets = self._tracepoint.offsets
        (reason,) = struct.unpack_from("=I", raw, offsets["reason"])
        source, destination = (_sockaddr(raw[offsets[end] :]) for end in ("saddr", "daddr"))
        if source and destination:
            self._found.append((at, source, destination, self._tracepoint.reasons.get(reason, str(reason))))


def _sockaddr(data: bytes) -> tuple[str, int] | None:
    """A struct sockaddr_in or sockaddr_in6."""
    family = int.from_bytes(data[:2], "little" if struct.pack("=H", 1)[0] else "big")
    port = int.from_bytes(data[2:4])
    if family == socket.AF_INET:
        return socket.inet_ntop(family, data[4:8]), port
    if family == socket.AF_INET6:
        return socket.inet_ntop(family, data[8:24]), port
    return None
