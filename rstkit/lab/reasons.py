"""The kernel's own word on why it sent a RST: the tracepoint tcp:tcp_send_reset. It takes real root."""

import mmap
import os
import platform
import re
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from . import kernel

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
        self.drain()
        return sorted(self._found)

    def drain(self) -> None:
        """Take what the kernel has told, to make room: other labs' resets come here as well."""
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
