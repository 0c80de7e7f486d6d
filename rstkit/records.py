"""The records of a capture file: where each packet's bytes lie, when it was captured, on which kind of link.

pcap (draft-ietf-opsawg-pcap) is read here, pcapng in `rstkit.blocks`; either byte order, also
compressed by gzip. A file is read in pieces of bounded size, whatever lengths it claims. What is
damaged ends the reading: all before it is used, and a sentence tells of it.
"""

import gzip
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from .blocks import SECTION, Blocks
from .errors import TraceError
from .pieces import PIECE, Chain, Ints, Piece, Window, rows

MOST = 1 << 18  # bytes of a packet; the most that libpcap and Wireshark take
_MAGICS = {0xA1B2C3D4: 1_000, 0xA1B23C4D: 1}  # nanoseconds of a unit of the fraction of a second
_GZIP = b"\x1f\x8b"


@dataclass(slots=True)
class Records:
    """The records of one file, read once from its beginning; ``told`` are sentences on what is damaged in it."""

    path: Path
    told: list[str] = field(default_factory=list)
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
                raise TraceError(f"{self.path} is no file on disk. Name a pcap or pcapng file; save a stream as one.")
            file = self._content = self.path.open("rb")
            size = max(self.path.stat().st_size, 1)
            compressed = file.read(2) == _GZIP
            file.seek(0)
            if compressed:
                self._content = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the capture does
                window = Window(gzip.GzipFile(fileobj=file), PIECE, self._content, self.told)
            else:
                window = Window(file, min(PIECE, size), None, self.told)
            for piece in self._walk(window):
                yield piece
                if progress:
                    progress(min(file.tell() / size, 1.0))
            if compressed:
                file.close()
        except OSError as error:
            raise TraceError(f"{self.path} cannot be read ({error.strerror or error}).") from error
        if progress:
            progress(1.0)

    def _walk(self, window: Window) -> Iterator[Piece]:
        head = bytes(window.buffer[: min(window.filled, 4)])
        if not head:
            raise TraceError(f"{self.path} is empty. {' '.join(self.told)}".strip())
        for order in "<>":
            (magic,) = struct.unpack(order + "I", head.ljust(4, b"\0"))
            if magic in _MAGICS:
                return self._pcap(window, order, _MAGICS[magic])
        if head == struct.pack("<I", SECTION):
            return Blocks(window, self._damaged).pieces()
        raise TraceError(
            f"{self.path} is no capture in pcap or pcapng, as it is or compressed by gzip. Wireshark's editcap makes "
            f"one of other captures: editcap OTHER NEW.pcapng."
        )

    def _damaged(self, what: str, at: int) -> None:
        self.told.append(f"The file is damaged at byte {at:,}: {what}. What comes after that is not read.")

    def _pcap(self, window: Window, order: str, unit: int) -> Iterator[Piece]:
        if window.filled < 24:
            raise TraceError(f"{self.path} is cut within its header: it holds no packet.")
        (network,) = struct.unpack_from(order + "I", window.buffer, 20)
        link = network & 0xFFFF  # the bits above tell of frame check sequences
        position = 24
        while True:
            starts = _chain(window, position, order).follow(window.buffer, position, window.filled)
            if starts.size:
                headers = rows(window.data, starts, 16).view(order + "u4").astype(np.int64)
                ends = starts + 16 + headers[:, 2]
                empty = (headers[:, 2] == 0) & (headers[:, 3] == 0) & (headers[:, 0] == 0) & (headers[:, 1] == 0)
                wrong = np.flatnonzero((headers[:, 2] > MOST) | empty)
                whole = int(wrong[0]) if wrong.size else len(starts) - int(ends[-1] > window.filled)
                position = int(starts[whole] if whole < len(starts) else ends[-1])
                if whole:
                    yield _piece(window, starts[:whole] + 16, headers[:whole], unit, link)
                if wrong.size:
                    what = "zeros follow" if empty[wrong[0]] else "a packet claims an impossible length"
                    self._damaged(what, window.base + position)
                    return
            if not window.advance(position):
                if window.filled:
                    self._damaged("the last packet is cut off", window.base)
                return
            position = 0


def _piece(window: Window, starts: Ints, headers: Ints, unit: int, link: int) -> Piece:
    times = headers[:, 0] * 1_000_000_000 + headers[:, 1] * unit
    links = np.full(len(starts), link, np.int64)
    return Piece(window.data, window.base, starts, headers[:, 2], headers[:, 3], times, links)


def _chain(window: Window, position: int, order: str) -> Chain:
    """Records of pcap: the upper half of their times' seconds changes but twice a day."""
    before = 2 if order == "<" else 0
    pattern = bytes(window.buffer[position + before : position + before + 2]).ljust(2, b"\0")
    (same,) = struct.unpack("<H", pattern)

    def fits(buffer: bytearray, begins: Ints) -> Ints:
        heads = rows(buffer, begins, 16)
        numbers = heads.view(order + "u4").astype(np.int64)
        good = heads[:, before : before + 2].copy().view("<u2").ravel() == same
        good &= (numbers[:, 1] < 10**9) & (numbers[:, 2] <= np.minimum(numbers[:, 3], MOST))
        return np.where(good, 16 + numbers[:, 2], 0)

    return Chain(order, header=16, at=8, step=16, least=0, pattern=pattern, before=before, fits=fits)
