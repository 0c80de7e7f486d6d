"""A capture file: its TCP connections, and those of them that hold a RST.

All segments are kept as columns of numbers, some 40 bytes each. Only connections with a RST are
looked at one by one, and their packets are read from the file again when they are asked for.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np

from .columns import Odd, Segments, joined, segments
from .errors import TraceError
from .explain import CAPTURE
from .packets import endpoints, ethernet
from .records import Ints, Records
from .shapes import shapes
from .tcp import Endpoint, Flags
from .trace import Packet, Trace

_SYN, _ACK, _RST = int(Flags.SYN), int(Flags.ACK), int(Flags.RST)
_HEADERS = 140  # bytes in which both ends of a packet stand: IPv6 with extension headers
_SERVICES = 1024  # ports below are servers'


@dataclass(eq=False, slots=True, weakref_slot=True)
class Connection:
    """A connection of a capture that holds a RST.

    ``client`` sent the SYN; where the capture has none, ``complete`` is False and it is a guess.
    Connections of the same ``shape`` are alike in all but addresses, ports, absolute numbers and
    small differences of time.
    """

    client: Endpoint
    server: Endpoint
    complete: bool
    shape: bytes
    _capture: "Capture" = field(repr=False)
    _rows: Ints = field(repr=False)  # in order of time
    _flip: bool = field(repr=False)  # the direction in which the client sends, as the columns have it

    @property
    def count(self) -> int:
        """How many packets."""
        return len(self._rows)

    @property
    def first(self) -> float:
        """When the first packet was captured, in seconds since 1970."""
        return float(self._capture.columns.times[self._rows[0]]) / 1e9

    @property
    def last(self) -> float:
        """When the last packet was captured, in seconds since 1970."""
        return float(self._capture.columns.times[self._rows[-1]]) / 1e9

    @property
    def frames(self) -> tuple[int, ...]:
        """The number in the file of each packet of `trace`, from 1, as Wireshark shows it."""
        return tuple(self._capture.columns.numbers[self._rows].tolist())

    def trace(self) -> Trace:
        """The connection as a trace, each packet with the one time at which it was captured."""
        columns, rows = self._capture.columns, self._rows
        times = columns.times[rows] - columns.times[rows[0]]
        senders = np.where(columns.flips[rows] == self._flip, "client", "server").tolist()
        packets = []
        for number, (row, nanoseconds, sender) in enumerate(
            zip(rows.tolist(), times.tolist(), senders, strict=True), 1
        ):
            at = nanoseconds / 1e9
            packet = Packet.from_frame(number, sender, at, at, ethernet(self._capture.packet(row)))
            assert packet, "the columns hold what is a segment"
            packets.append(packet)
        return Trace(
            packets=tuple(packets),
            hosts={"client": self.client.address, "server": self.server.address},
            duration=packets[-1].sent,
            epoch_ns=int(columns.times[rows[0]]),
            backend=CAPTURE,
        )


class Capture:
    """What a capture file holds; made by `read`.

    ``packets`` counts all frames, ``segments`` those with TCP, ``connections`` and ``resets`` (RST
    segments) are counts too. ``first`` and ``last`` are seconds since 1970. ``told`` are sentences
    on what was damaged or left out.
    """

    def __init__(self, path: Path, file: IO[bytes], columns: Segments, packets: int, span: tuple[int, int]) -> None:
        self.path = path
        self.columns = columns
        self.packets = packets
        self.segments = len(columns.keys)
        self.first, self.last = span[0] / 1e9, span[1] / 1e9
        self.told: tuple[str, ...] = ()
        self._file = file
        self._order, self._begins = _arrange(columns)
        self.connections = len(self._begins)
        self.resets = int((columns.flags & _RST > 0).sum())

    def packet(self, row: int, most: int = 1 << 18) -> bytes:
        """The IP packet of a row of the columns, as far as it was captured."""
        size = min(int(self.columns.captured[row]), most)
        data = os.pread(self._file.fileno(), size, int(self.columns.offsets[row]))
        if len(data) < min(size, 20):
            raise TraceError(f"{self.path} became shorter while it was in use. Read it again.")
        return data

    @cached_property
    def reset_connections(self) -> tuple[Connection, ...]:
        """The connections that hold a RST, in the order in which their first packets stand in the file."""
        columns = self.columns
        ends = np.append(self._begins[1:], len(self._order))
        resets = np.flatnonzero(columns.flags[self._order] & _RST)
        which = np.unique(np.searchsorted(self._begins, resets, side="right") - 1)
        found = [self._order[self._begins[one] : ends[one]] for one in which.tolist()]
        found = [rows[np.argsort(columns.times[rows], kind="stable")] for rows in found]
        found.sort(key=lambda rows: int(rows.min()))
        told = shapes(columns, found, self.packet)
        return tuple(self._connection(rows, shape) for rows, shape in zip(found, told, strict=True))

    def _connection(self, rows: Ints, shape: bytes) -> Connection:
        flags = self.columns.flags[rows] & (_SYN | _ACK)
        asked, answered = np.flatnonzero(flags == _SYN), np.flatnonzero(flags == _SYN | _ACK)
        row = int(rows[[*asked, *answered, 0][0]])
        source, destination = endpoints(self.packet(row, _HEADERS))
        from_server = bool(answered.size) if not asked.size else False
        if not asked.size and not answered.size:
            from_server = source.port < _SERVICES <= destination.port
        client, server = (destination, source) if from_server else (source, destination)
        flip = bool(self.columns.flips[row]) ^ from_server
        return Connection(client, server, bool(asked.size or answered.size), shape, self, rows, flip)


def read(path: str | Path, progress: Callable[[float], None] | None = None) -> Capture:
    """Read a pcap or pcapng file, compressed by gzip or not; ``progress`` is told the part that is done.

    TraceError where it cannot be read or is no capture. Where it is damaged, all before that is used,
    and ``told`` says so.
    """
    path = Path(path)
    records, odd, parts, packets, span = Records(path), Odd(), [], 0, (0, 0)
    try:
        for piece in records.pieces(progress):
            parts.append(segments(piece, packets + 1, odd))
            if len(piece.times):
                least, most = int(piece.times.min()), int(piece.times.max())
                span = (min(span[0], least), max(span[1], most)) if packets else (least, most)
            packets += len(piece.starts)
        capture = Capture(path, records.content(), joined(parts), packets, span)
    except BaseException:
        records.close()
        raise
    capture.told = (*records.told, *_odd(odd))
    return capture


def _odd(odd: Odd) -> Iterator[str]:
    if odd.fragments:
        yield f"{odd.fragments:,} packets are fragments of IP packets. They are not put together."
    if odd.cut:
        yield f"{odd.cut:,} packets were cut off before the end of TCP's header, and are left out."
    if odd.malformed:
        yield f"{odd.malformed:,} TCP headers have a wrong length, and are left out, as a receiver drops them."
    if odd.unknown:
        yield f"{odd.unknown:,} packets came over links of a kind that rstkit cannot read, and are left out."


def _arrange(columns: Segments) -> tuple[Ints, Ints]:
    """The rows in an order in which connections stand together, and where each connection begins in it.

    A SYN with another sequence number than its side began with begins a connection of its own.
    """
    order = np.argsort(columns.keys, kind="stable")
    if not order.size:
        return order, order
    keys = columns.keys[order]
    new = np.append(True, keys[1:] != keys[:-1])
    begins = np.flatnonzero(new)
    syns = np.flatnonzero((columns.flags[order] & (_SYN | _ACK | _RST) == _SYN) & ~new)
    seqs, flips = columns.seqs[order], columns.flips[order]
    current: dict[int, int] = {}
    for place, group in zip(
        syns.tolist(), begins[np.searchsorted(begins, syns, side="right") - 1].tolist(), strict=True
    ):
        begin = current.get(group, group)
        own = np.flatnonzero(flips[begin:place] == flips[place])[:1]
        if own.size and seqs[begin + own[0]] != seqs[place]:
            new[place] = True
            current[group] = place
    return order, np.flatnonzero(new)
