"""The records of a capture file: where each packet's bytes lie, when it was captured, on which kind of link.

pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng), in either byte order, also
compressed by gzip. A file is read in pieces of bounded size, whatever lengths it claims. What is
damaged ends the reading: all before it is used, and a sentence tells of it.
"""

import gzip
import stat
import struct
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .errors import TraceError

_PIECE = 16 << 20  # bytes of the file that are looked at together
_SLACK = 256  # bytes after them, so that a header can be copied whole where a packet is cut
_MOST = 1 << 18  # bytes of a packet; the most that libpcap and Wireshark take
_MOST_BLOCK = 64 << 20  # bytes of a pcapng block; others than packets may be long
_MAGICS = {0xA1B2C3D4: 1_000, 0xA1B23C4D: 1}  # nanoseconds of a unit of the fraction of a second
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_BYTE_ORDER = 0x1A2B3C4D
_TSRESOL, _TSOFFSET = 9, 14  # options of an interface
_GZIP = b"\x1f\x8b"

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Piece:
    """Some packets of a file, as columns.

    ``data`` are bytes of it from ``base`` on, and some that mean nothing after them; they are there
    until the next piece is asked for. ``starts`` (within ``data``) and ``captured`` (bytes),
    ``lengths`` on the wire, ``times`` in nanoseconds since 1970, and ``links``, the link types
    (LINKTYPE_*) of the interfaces.
    """

    data: memoryview
    base: int
    starts: Ints
    captured: Ints
    lengths: Ints
    times: Ints
    links: Ints


@dataclass(slots=True)
class Records:
    """The records of one file, read once from its beginning; ``told`` are sentences on what is damaged in it."""

    path: Path
    told: list[str] = field(default_factory=list)
    compressed: bool = False
    _content: IO[bytes] | None = None

    def content(self) -> IO[bytes]:
        """The file that was read, to read from it again: of a compressed one a copy that is not, on no path."""
        assert self._content
        return self._content

    def close(self) -> None:
        """Give the file up."""
        if self._content:
            self._content.close()

    def pieces(self, progress: Callable[[float], None] | None = None) -> Iterator[Piece]:
        """The packets, piece by piece; ``progress`` is told the part of the file that is done.

        TraceError where the file cannot be read or is no capture.
        """
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise TraceError(f"{self.path} is no file. Name a pcap or pcapng file.")
            file = self._content = self.path.open("rb")
            size = max(self.path.stat().st_size, 1)
            self.compressed = file.read(2) == _GZIP
            file.seek(0)
            if self.compressed:
                self._content = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the capture does
            source = gzip.GzipFile(fileobj=file) if self.compressed else file
            for piece in self._walk(_Window(source, self)):
                yield piece
                if progress:
                    progress(min(file.tell() / size, 1.0))
        except OSError as error:
            raise TraceError(f"{self.path} cannot be read ({error.strerror or error}).") from error
        if progress:
            progress(1.0)

    def _walk(self, window: "_Window") -> Iterator[Piece]:
        head = window.need(4)
        if not head:
            raise TraceError(f"{self.path} is empty.")
        for order in "<>":
            (magic,) = struct.unpack(order + "I", bytes(head).ljust(4, b"\0"))
            if magic in _MAGICS:
                return self._pcap(window, order, _MAGICS[magic])
        if head[:4] == struct.pack("<I", _SECTION):
            return self._pcapng(window)
        raise TraceError(f"{self.path} is no capture: it begins neither like pcap nor like pcapng.")

    def damaged(self, what: str, at: int) -> None:
        """Tell that the file can be read no further than here."""
        self.told.append(f"The file is damaged at byte {at:,}: {what}. What comes after that is not read.")

    def _pcap(self, window: "_Window", order: str, unit: int) -> Iterator[Piece]:
        if len(window.need(24)) < 24:
            raise TraceError(f"{self.path} is cut within its header: it holds no packet.")
        (network,) = struct.unpack_from(order + "I", window.data, 20)
        link = network & 0xFFFF  # the bits above tell of frame check sequences
        position, length = 24, struct.Struct(order + "I").unpack_from
        while True:
            data, base = window.data, window.base
            starts = array("q")
            add, end, wrong = starts.append, len(data) - 16, False
            while position <= end:
                (captured,) = length(data, position + 8)
                if captured > _MOST:
                    wrong = True
                    break
                if position + captured > end:
                    break
                add(position + 16)
                position += 16 + captured
            if starts:
                yield self._columns(window.padded, base, np.frombuffer(starts, np.int64), order, unit, link)
            if wrong:
                self.damaged("a packet claims an impossible length", base + position)
                return
            if not window.advance(position):
                if position < len(data):
                    self.damaged("the last packet is cut off", base + position)
                return
            position = 0

    @staticmethod
    def _columns(data: memoryview, base: int, starts: Ints, order: str, unit: int, link: int) -> Piece:
        """The columns of pcap records, whose headers are the 16 bytes before each packet."""
        headers = rows(data, starts - 16, 16).view(order + "u4").astype(np.int64)
        times = headers[:, 0] * 1_000_000_000 + headers[:, 1] * unit
        return Piece(data, base, starts, headers[:, 2], headers[:, 3], times, np.full(len(starts), link, np.int64))

    def _pcapng(self, window: "_Window") -> Iterator[Piece]:
        blocks = _Blocks(self, window)
        while True:
            found = blocks.walk()
            if found is not None:
                yield found
            if blocks.over or not window.advance(blocks.position):
                if not blocks.over and blocks.position < len(window.data):
                    self.damaged("the last block is cut off", window.base + blocks.position)
                return
            blocks.position = 0


class _Window:
    """The bytes of a file that are looked at; what is done with makes room for what comes, in one buffer."""

    def __init__(self, source: Any, records: Records) -> None:
        self._source = source
        self._records = records
        self._ended = False
        self._buffer = bytearray(_PIECE + _SLACK)
        self._filled = 0
        self.base = 0
        self.wanted = 0  # bytes that the next record is known to need

    @property
    def data(self) -> memoryview:
        """The bytes from ``base`` on; they are there until the window advances."""
        return memoryview(self._buffer)[: self._filled]

    @property
    def padded(self) -> memoryview:
        """The same, and what lies after them."""
        return memoryview(self._buffer)[: self._filled + _SLACK]

    def need(self, size: int) -> memoryview:
        """The first bytes of the window, so many if there are."""
        self._fill()
        return self.data[:size]

    def advance(self, done: int) -> bool:
        """Give up what is done with and read on; False at the end of the file."""
        left = self._filled - done
        room = max(_PIECE, self.wanted) + _SLACK
        if len(self._buffer) < room:
            self._buffer = self._buffer[done : self._filled] + bytearray(room - left)
        else:
            self._buffer[:left] = self._buffer[done : self._filled]
        self.base, self._filled, self.wanted = self.base + done, left, 0
        return self._fill()

    def _fill(self) -> bool:
        before, room = self._filled, memoryview(self._buffer)[:-_SLACK]
        try:
            # part by part: what came before a damage in a compressed file is not lost
            while not self._ended and self._filled < len(room):
                size = self._read(room[self._filled :])
                self._ended = not size
                if self._records.compressed:
                    self._records.content().write(room[self._filled : self._filled + size])
                self._filled += size
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._records.told.append(f"The compressed file is damaged: {error}. What comes after that is not read.")
            self._ended = True
        if self._records.compressed:
            self._records.content().flush()
        return self._filled > before

    def _read(self, room: memoryview) -> int:
        size: int = self._source.readinto1(room) if self._records.compressed else self._source.readinto(room)
        return size


class _Blocks:
    """The blocks of a pcapng file, from one window to the next."""

    def __init__(self, records: Records, window: _Window) -> None:
        self._records, self._window = records, window
        self._order = "<"
        self._interfaces: list[_Interface] = []  # of this section
        self.position = 0
        self.over = False  # whether damage ends the reading

    def walk(self) -> Piece | None:
        """The packets from here to the end of the window, or to the next section."""
        data, base = self._window.data, self._window.base
        starts: dict[int, array[int]] = {_PACKET: array("q"), _OLD_PACKET: array("q"), _SIMPLE: array("q")}
        add, header = starts[_PACKET].append, struct.Struct(self._order + "II").unpack_from
        position, end = self.position, len(data) - 12
        while position <= end:
            kind, total = header(data, position)
            if kind == _SECTION:
                if any(starts.values()):  # another section may have another byte order, and other interfaces
                    break
                if not self._section(data, position):
                    break
                header = struct.Struct(self._order + "II").unpack_from
                _, total = header(data, position)
            if total < 12 or total % 4 or total > _MOST_BLOCK:
                self._damaged("a block claims an impossible length", base + position)
                break
            if position + total > len(data):
                self._window.wanted = total
                break
            if kind == _PACKET:
                add(position)
            elif kind in starts:
                starts[kind].append(position)
            elif kind == _INTERFACE and total >= 20:
                self._interfaces.append(_Interface.read(bytes(data[position + 8 : position + total - 4]), self._order))
            position += total
        self.position = position
        data = self._window.padded
        parts = [self._columns(data, kind, np.frombuffer(found, np.int64)) for kind, found in starts.items() if found]
        if not parts:
            return None
        columns = np.concatenate(parts, axis=1)
        columns = columns[:, np.argsort(columns[0], kind="stable")] if len(parts) > 1 else columns
        begin, captured, block = columns[0], columns[1], columns[5]
        wrong = np.flatnonzero((captured > _MOST) | (captured > block))
        if wrong.size:
            self._damaged("a packet claims an impossible length", base + int(begin[wrong[0]]))
            columns = columns[:, : wrong[0]]
        begin, captured, lengths, times, links, _ = columns
        return Piece(data, base, begin, captured, lengths, times, links)

    def _damaged(self, what: str, at: int) -> None:
        self._records.damaged(what, at)
        self.over = True

    def _section(self, data: memoryview, position: int) -> bool:
        """Begin a section; whether it is one."""
        for order in "<>":
            if data[position + 8 : position + 12] == struct.pack(order + "I", _BYTE_ORDER):
                self._order, self._interfaces = order, []
                return True
        self._damaged("a section begins without its byte order", self._window.base + position)
        return False

    def _columns(self, data: memoryview, kind: int, starts: Ints) -> Ints:
        """For blocks of one kind: where packets begin, bytes captured and on the wire, times, links, bytes of room."""
        words = rows(data, starts + 4, 24).view(self._order + "u4").astype(np.int64)
        room, first = words[:, 0], words[:, 1]
        if kind == _SIMPLE:
            room, interface, lengths = room - 16, np.zeros_like(first), first
            snapped = self._interfaces[0].snapped if self._interfaces else 0
            captured = np.minimum(lengths, room)
            captured = np.minimum(captured, snapped) if snapped else captured
            begin, times = starts + 12, np.zeros_like(first)
        else:
            if kind == _OLD_PACKET:  # two numbers of 16 bits: the interface, and packets that were dropped
                first = rows(data, starts + 8, 2).view(self._order + "u2").astype(np.int64)[:, 0]
            room, interface, captured, lengths = room - 32, first, words[:, 4], words[:, 5]
            begin, times = starts + 28, np.zeros_like(first)
            ticks = words[:, 2].astype(np.uint64) << np.uint64(32) | words[:, 3].astype(np.uint64)
            for number, known in enumerate(self._interfaces):
                of_this = interface == number
                if of_this.any():
                    times[of_this] = known.nanoseconds(ticks[of_this])
        table = np.array([*(known.link for known in self._interfaces), -1], np.int64)
        links = table[np.minimum(interface, len(table) - 1)]
        return np.stack([begin, captured, lengths, times, links, room])


@dataclass(frozen=True, slots=True)
class _Interface:
    """An interface of a pcapng section: its link type, its snapping length, and what its times mean."""

    link: int
    snapped: int
    ticks: int  # of its clock in a second
    offset: int  # seconds

    @classmethod
    def read(cls, body: bytes, order: str) -> "_Interface":
        link, _, snapped = struct.unpack_from(order + "HHI", body)
        ticks, offset, at = 1_000_000, 0, 8
        while at + 4 <= len(body):
            option, length = struct.unpack_from(order + "HH", body, at)
            value = body[at + 4 : at + 4 + length]
            if option == 0 or len(value) < length:
                break
            if option == _TSRESOL and length == 1:
                exponent = value[0] & 0x7F
                ticks = 2 ** min(exponent, 63) if value[0] & 0x80 else 10 ** min(exponent, 19)
            elif option == _TSOFFSET and length == 8:
                (offset,) = struct.unpack(order + "q", value)
            at += 4 + (length + 3 & ~3)
        return cls(link, snapped, ticks, offset)

    def nanoseconds(self, ticks: npt.NDArray[np.uint64]) -> Ints:
        """Since 1970; what lies beyond the year 2262 is put there."""
        seconds, rest = np.divmod(ticks, np.uint64(self.ticks))
        whole = np.clip(np.minimum(seconds, np.uint64(9 * 10**9)).astype(np.int64) + self.offset, 0, 9 * 10**9)
        return whole * 1_000_000_000 + (rest.astype(np.float64) * (1e9 / self.ticks)).round().astype(np.int64)


def rows(data: bytes | memoryview, starts: Ints, width: int) -> npt.NDArray[np.uint8]:
    """A copy of ``width`` bytes from each start, zeros after the end of the data."""
    padded = np.frombuffer(data, np.uint8)
    last = int(starts.max()) if len(starts) else 0
    if last + width > len(padded):
        padded = np.concatenate([padded, np.zeros(last + width - len(padded), np.uint8)])
    return np.lib.stride_tricks.sliding_window_view(padded, width)[starts]
