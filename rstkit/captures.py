"""A capture file: its TCP connections, and those of them that hold a RST.

Only connections with a RST are looked at one by one, and their packets are read from the file again
when they are asked for.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from .columns import Odd, Segments, segments
from .errors import TraceError
from .explain import CAPTURE
from .packets import endpoints, ethernet
from .pieces import Ints
from .records import Records
from .shapes import shapes
from .sorting import Sorting, is_syn
from .tcp import Endpoint, Flags
from .trace import Packet, Trace

_SYN, _RST = int(Flags.SYN), int(Flags.RST)
_HEADERS = 140  # bytes in which both ends of a packet stand, but for extraordinary extension headers
_SPAN, _SEVERAL = 1 << 16, 8  # bytes of the file that are read at once where so many headers lie in them
_SERVICES = 1024  # ports below are servers'


@dataclass(eq=False, slots=True, weakref_slot=True)
class Connection:
    """A connection of a capture that holds a RST.

    ``client`` sent the SYN; where the capture has none, ``complete`` is False and it is a guess.
    Connections of the same ``shape`` differ in nothing that an explanation rests on (`rstkit.shapes`).
    ``count`` is how many packets it has.
    """

    client: Endpoint
    server: Endpoint
    complete: bool
    shape: bytes
    count: int
    _capture: "Capture" = field(repr=False)
    _begin: int = field(repr=False)  # its rows of the columns, in order of time
    _end: int = field(repr=False)
    _rst: int = field(repr=False)
    _flip: bool = field(repr=False)  # the direction in which the client sends, as the columns have it

    @property
    def first(self) -> float:
        """When the first packet was captured, in seconds since 1970."""
        return float(self._capture.columns.times[self._begin]) / 1e9

    @property
    def last(self) -> float:
        """When the last packet was captured, in seconds since 1970."""
        return float(self._capture.columns.times[self._end - 1]) / 1e9

    @property
    def reset(self) -> float:
        """When the first RST was captured, in seconds since 1970."""
        return float(self._capture.columns.times[self._rst]) / 1e9

    @property
    def frames(self) -> tuple[int, ...]:
        """The number in the file of each packet of `trace`, from 1, as Wireshark shows it."""
        return tuple(self._capture.columns.numbers[self._begin : self._end].tolist())

    def trace(self) -> Trace:
        """The connection as a trace, each packet with the one time at which it was captured.

        Of thousands of packets it holds the first ones and those around the RSTs; ``problems`` tells so.
        """
        columns, rows = self._capture.columns, slice(self._begin, self._end)
        zero = int(columns.times[self._begin])
        times = ((columns.times[rows] - zero) / 1e9).tolist()
        senders = np.where(columns.flips[rows] == self._flip, "client", "server").tolist()
        found = zip(times, senders, self._capture.packets_of(rows), strict=True)
        packets = []
        for number, (at, sender, data) in enumerate(found, 1):
            packet = Packet.from_frame(number, sender, at, at, ethernet(data))
            if packet is None:
                raise TraceError(f"{self._capture.path} changed while it was in use. Read it again.")
            packets.append(packet)
        left = self.count - len(packets)
        return Trace(
            packets=tuple(packets),
            hosts={"client": self.client.address, "server": self.server.address},
            duration=packets[-1].sent,
            epoch_ns=zero,
            backend=CAPTURE,
            problems=(f"{left:,} packets from the middle of the connection are left out.",) if left else (),
        )


class Capture:
    """What a capture file holds; made by `read`.

    ``packets`` counts all frames, ``segments`` those with TCP, ``connections`` and ``resets`` (RST
    segments) are counts too. ``first`` and ``last`` are seconds since 1970. ``told`` are sentences
    on what was damaged or left out. ``columns`` are the segments of the connections with a RST.
    """

    def __init__(self, path: Path, file: IO[bytes], sorting: Sorting, packets: int, span: tuple[int, int]) -> None:
        self.path = path
        self.packets = packets
        self.segments, self.resets = sorting.segments, sorting.resets
        self.first, self.last = span[0] / 1e9, span[1] / 1e9
        self.told: tuple[str, ...] = ()
        self._file = file
        self.columns: Segments
        self.connections, self.columns, self._begins, self._counts = sorting.connections()

    def packets_of(self, rows: slice) -> list[bytes]:
        """The IP packets of some rows of the columns, as far as they were captured."""
        file, sizes = self._file.fileno(), self.columns.captured[rows].tolist()
        found = [os.pread(file, size, at) for size, at in zip(sizes, self.columns.offsets[rows].tolist(), strict=True)]
        if any(len(data) < size for data, size in zip(found, sizes, strict=True)):
            raise self._shorter()
        return found

    def _shorter(self) -> TraceError:
        return TraceError(f"{self.path} became shorter while it was in use. Read it again.")

    def heads_of(self, rows: Ints, width: int) -> npt.NDArray[np.uint8]:
        """So many bytes of the IP packets of some rows, a row each; after the end of one they mean nothing."""
        file, heads = self._file.fileno(), []
        order = np.argsort(self.columns.offsets[rows], kind="stable")
        offsets = self.columns.offsets[rows[order]]
        # where several lie near each other, one reading is faster than one for each
        near = np.append(offsets[_SEVERAL:] - offsets[:-_SEVERAL] < _SPAN, np.zeros(min(_SEVERAL, len(rows)), bool))
        data, begin, last = b"", 0, -1
        for at, several in zip(offsets.tolist(), near.tolist(), strict=True):
            if at > last:
                data, begin = os.pread(file, _SPAN if several else width, at), at
                if not data:
                    raise self._shorter()
                data = data.ljust(width, b"\0")
                last = begin + len(data) - width
            heads.append(data[at - begin : at - begin + width])
        found = np.empty((len(rows), width), np.uint8)
        found[order] = np.frombuffer(b"".join(heads), np.uint8).reshape(-1, width)
        return found

    @cached_property
    def reset_connections(self) -> tuple[Connection, ...]:
        """The connections that hold a RST, in the order in which their first packets stand in the file."""
        begins = self._begins.tolist()
        ends = [*begins[1:], len(self.columns.keys)][: len(begins)]
        told = shapes(self.columns, begins, ends, self.heads_of)
        syns, any_syns = self._firsts(is_syn(self.columns.flags)), self._firsts(self.columns.flags & _SYN > 0)
        resets = self._firsts(self.columns.flags & _RST > 0)
        found = list(zip(begins, ends, syns, any_syns, resets, strict=True))
        rows = [syn if syn < end else any_syn if any_syn < end else begin for begin, end, syn, any_syn, _ in found]
        heads = map(bytes, self.heads_of(np.array(rows, np.int64), _HEADERS))
        return tuple(map(self._connection, found, self._counts.tolist(), told, rows, heads))

    def _firsts(self, which: np.ndarray) -> list[int]:
        """The first of these rows in each connection; one after all rows where it has none."""
        rows = np.where(which, np.arange(len(which)), len(which))
        return np.minimum.reduceat(rows, self._begins).tolist() if len(rows) else []

    def _connection(
        self, of: tuple[int, int, int, int, int], count: int, shape: bytes, row: int, head: bytes
    ) -> Connection:
        """One connection: where it begins and ends, its first SYNs and RST, and the packet that tells its ends."""
        begin, end, syn, any_syn, rst = of
        try:
            source, destination = endpoints(head)
        except struct.error:  # they stand behind long extension headers
            source, destination = endpoints(*self.packets_of(slice(row, row + 1)))
        complete = any_syn < end
        from_server = syn >= end if complete else source.port < _SERVICES <= destination.port
        client, server = (destination, source) if from_server else (source, destination)
        flip = bool(self.columns.flips[row]) ^ from_server
        shape += b"client" if self.columns.flips[begin] == flip else b"server"  # whose packet is the first
        return Connection(client, server, complete, shape, count, self, begin, end, rst, flip)


def read(path: str | Path, progress: Callable[[float], None] | None = None) -> Capture:
    """Read a pcap or pcapng file, compressed by gzip or not; ``progress`` is told the part that is done.

    TraceError where it cannot be read or is no capture. Where it is damaged, all before that is used,
    and ``told`` says so.
    """
    path = Path(path)
    records, odd, sorting, packets, span = Records(path), Odd(), Sorting(), 0, (0, 0)
    try:
        for piece in records.pieces(progress):
            sorting.add(segments(piece, packets + 1, odd))
            if len(piece.times):
                least, most = int(piece.times.min()), int(piece.times.max())
                span = (min(span[0], least), max(span[1], most)) if packets else (least, most)
            packets += len(piece.starts)
        if _kinds(odd) and odd.unknown == packets:
            raise TraceError(f"{path}: all packets came over a link of a kind that rstkit cannot read{_kinds(odd)}.")
        capture = Capture(path, records.content(), sorting, packets, span)
    except BaseException:
        records.close()
        raise
    capture.told = (*records.told, *_odd(odd))
    return capture


def _odd(odd: Odd) -> Iterator[str]:
    if odd.fragments:
        told = _packets(odd.fragments, "is a fragment of an IP packet", "are fragments of IP packets")
        yield f"{told}, not put together."
    if odd.cut:
        yield f"{_packets(odd.cut, 'was', 'were')} cut off before the end of TCP's header, and left out."
    if odd.malformed:
        told = _packets(odd.malformed, "has a TCP header of a wrong length", "have TCP headers of a wrong length")
        yield f"{told}: left out, as a receiver drops them."
    if odd.unknown:
        told = _packets(odd.unknown, "came", "came")
        yield f"{told} over a link of a kind that rstkit cannot read{_kinds(odd)}: left out."


def _kinds(odd: Odd) -> str:
    numbers = ", ".join(str(link) for link in sorted(odd.links) if link >= 0)
    return f" (LINKTYPE {numbers})" if numbers else ""


def _packets(count: int, one: str, more: str) -> str:
    return f"{count:,} packet {one}" if count == 1 else f"{count:,} packets {more}"
