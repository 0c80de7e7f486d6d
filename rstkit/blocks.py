"""The blocks of a pcapng file (draft-ietf-opsawg-pcapng), in several sections and of several interfaces."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .pieces import Chain, Ints, Piece, Window, rows, values

SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_BYTE_ORDER = 0x1A2B3C4D
_TSRESOL, _TSOFFSET = 9, 14  # options of an interface
_MOST = 1 << 18  # bytes of a packet; the most that libpcap and Wireshark take
_MOST_BLOCK = 64 << 20  # bytes of a block; others than packets may be long
_LATEST = 9 * 10**9  # seconds: within the year 2255, before nanoseconds in 64 bits end


class Blocks:
    """The blocks of a file, from one window to the next; ``damaged`` is told what ends the reading, and where."""

    def __init__(self, window: Window, damaged: Callable[[str, int], None]) -> None:
        self._window, self._damaged = window, damaged
        self._order = "<"
        self._interfaces: list[_Interface] = []  # of this section

    def pieces(self) -> Iterator[Piece]:
        """The packets, piece by piece."""
        window, position = self._window, 0
        while True:
            if self._at_section(position) and not self._section(position):
                return
            starts = self._chain().follow(window.buffer, position, window.filled)
            kinds, totals = self._heads(starts)
            sections = np.flatnonzero(kinds[1:] == SECTION)
            count = int(sections[0]) + 1 if sections.size else len(starts)
            wrong = np.flatnonzero(self._wrong(starts[:count], totals[:count]))
            count = int(wrong[0]) if wrong.size else count
            cut = np.flatnonzero(starts[:count] + totals[:count] > window.filled)
            count = int(cut[0]) if cut.size else count
            if count:
                position = int(starts[count - 1] + totals[count - 1])
                piece, harmed = self._piece(starts[:count], kinds[:count], totals[:count])
                if piece:
                    yield piece
                if harmed:
                    return
            if wrong.size and not cut.size:
                self._damaged("a block claims an impossible length", window.base + position)
                return
            if count and self._at_section(position):  # of another byte order perhaps, and with other interfaces
                continue
            if cut.size:
                window.wanted = int(totals[cut[0]])
            if not window.advance(position):
                if window.filled:
                    self._damaged("the last block is cut off", window.base)
                return
            position = 0

    def _at_section(self, position: int) -> bool:
        window = self._window
        return position + 12 <= window.filled and window.buffer[position : position + 4] == struct.pack("<I", SECTION)

    def _section(self, position: int) -> bool:
        """Begin a section; whether it is one."""
        for order in "<>":
            if self._window.buffer[position + 8 : position + 12] == struct.pack(order + "I", _BYTE_ORDER):
                self._order, self._interfaces = order, []
                return True
        self._damaged("a section begins without its byte order", self._window.base + position)
        return False

    def _chain(self) -> Chain:
        def fits(_: bytearray, begins: Ints) -> Ints:
            totals = self._heads(begins)[1]
            return np.where((totals <= _MOST) & ~self._wrong(begins, totals), totals, 0)

        pattern = struct.pack(self._order + "I", _PACKET)
        return Chain(self._order, header=12, at=4, step=0, least=12, pattern=pattern, before=0, fits=fits)

    def _heads(self, starts: Ints) -> tuple[Ints, Ints]:
        """Types and lengths of blocks."""
        heads = rows(self._window.data, starts, 8).view(self._order + "u4").astype(np.int64)
        return heads[:, 0], heads[:, 1]

    def _wrong(self, starts: Ints, totals: Ints) -> npt.NDArray[np.bool_]:
        """Whether a block's length is none: it stands at its end once more."""
        wrong = (totals < 12) | (totals % 4 > 0) | (totals > _MOST_BLOCK)
        there = np.flatnonzero(~wrong & (starts + totals <= self._window.filled))
        again = rows(self._window.data, starts[there] + totals[there] - 4, 4).view(self._order + "u4").ravel()
        wrong[there] = again != totals[there]
        return wrong

    def _piece(self, starts: Ints, kinds: Ints, totals: Ints) -> tuple[Piece | None, bool]:
        """The packets in blocks, and whether one is damaged."""
        data, base = self._window.data, self._window.base
        for number in np.flatnonzero((kinds == _INTERFACE) & (totals >= 20)).tolist():
            body = bytes(data[starts[number] + 8 : starts[number] + totals[number] - 4])
            self._interfaces.append(_Interface.read(body, self._order))
        parts = [self._columns(data, kind, starts[kinds == kind]) for kind in (_PACKET, _OLD_PACKET, _SIMPLE)]
        parts = [part for part in parts if part.size]
        if not parts:
            return None, False
        columns = np.concatenate(parts, axis=1)
        columns = columns[:, np.argsort(columns[0], kind="stable")] if len(parts) > 1 else columns
        wrong = np.flatnonzero((columns[1] > _MOST) | (columns[1] > columns[5]))
        if wrong.size:
            self._damaged("a packet claims an impossible length", base + int(columns[0, wrong[0]]))
            columns = columns[:, : wrong[0]]
        begin, captured, lengths, times, links, _ = columns
        return Piece(data, base, begin, captured, lengths, times, links), bool(wrong.size)

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
            for number in values(interface[interface < len(self._interfaces)]):
                of_this = interface == number
                times[of_this] = self._interfaces[number].nanoseconds(ticks[of_this])
        table = np.array([*(known.link for known in self._interfaces), -1], np.int64)
        links = table[np.minimum(interface, len(table) - 1)]
        return np.stack([begin, captured, lengths, times, links, room])


@dataclass(frozen=True, slots=True)
class _Interface:
    """An interface of a section: its link type, its snapping length, and what its times mean."""

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
        return cls(link, snapped, ticks, min(max(offset, -_LATEST), _LATEST))

    def nanoseconds(self, ticks: npt.NDArray[np.uint64]) -> Ints:
        """Since 1970; what lies beyond what 64 bits hold is put there."""
        seconds, rest = np.divmod(ticks, np.uint64(self.ticks))
        whole = np.clip(np.minimum(seconds, np.uint64(_LATEST)).astype(np.int64) + self.offset, 0, _LATEST)
        return whole * 1_000_000_000 + (rest.astype(np.float64) * (1e9 / self.ticks)).round().astype(np.int64)
