"""Pieces of a capture file: bounded parts of it in memory, and the packets that lie in them."""

import gzip
import struct
import zlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

PIECE = 8 << 20  # bytes of the file that are looked at together
_SLACK = 256  # bytes after them, so that a header can be copied whole where a packet is cut
_SAMPLE = 32  # records that tell how long records are
_FEW, _MOST_STEPS = 16, 4096  # so few cursors are no faster than one; so many steps are for pieces of usual packets

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Piece:
    """Some packets of a file, as columns.

    ``data`` are bytes of it from ``base`` on, and some that mean nothing after them; they are there
    until the next piece is asked for. ``starts`` (within ``data``) and ``captured`` (bytes),
    ``lengths`` on the wire, ``times`` in nanoseconds since 1970, and ``links``, the link types
    (LINKTYPE_*) of the interfaces, -1 where none is told.
    """

    data: memoryview
    base: int
    starts: Ints
    captured: Ints
    lengths: Ints
    times: Ints
    links: Ints


class Window:
    """The bytes of a file that are looked at; what is done with makes room for what comes, in one buffer.

    What is read is also written to ``copy``, where there is one. ``told`` gets a sentence where the
    compressed file is damaged.
    """

    def __init__(self, source: Any, size: int, copy: IO[bytes] | None, told: list[str]) -> None:
        self._source, self._copy, self._told = source, copy, told
        self._ended = False
        self._size = size
        self.buffer = bytearray(size + _SLACK)
        self.filled = 0  # bytes of the buffer
        self.base = 0  # where it begins in the file
        self.wanted = 0  # bytes that the next record is known to need
        self._fill()

    @property
    def data(self) -> memoryview:
        """The bytes from ``base`` on, and some after them that mean nothing; there until the window advances."""
        return memoryview(self.buffer)[: self.filled + _SLACK]

    def advance(self, done: int) -> bool:
        """Give up what is done with and read on; False where there is no more to read."""
        left = self.filled - done
        room = max(self._size, self.wanted) + _SLACK
        if len(self.buffer) < room:
            self.buffer = self.buffer[done : self.filled] + bytearray(room - left)
        else:
            self.buffer[:left] = self.buffer[done : self.filled]
        self.base, self.filled, self.wanted = self.base + done, left, 0
        return self._fill()

    def _fill(self) -> bool:
        before, room = self.filled, memoryview(self.buffer)[:-_SLACK]
        try:
            # part by part: what came before a damage in a compressed file is not lost
            while not self._ended and self.filled < len(room):
                read = self._source.readinto1 if self._copy else self._source.readinto
                size = read(room[self.filled :])
                self._ended = not size
                if self._copy:
                    self._copy.write(room[self.filled : self.filled + size])
                self.filled += size
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._told.append(f"The compressed file is damaged: {error}. What comes after that is not read.")
            self._ended = True
        if self._copy:
            self._copy.flush()
        return self.filled > before


@dataclass(frozen=True, slots=True)
class Chain:
    """How records follow each other: each ``step`` bytes and the number that stands ``at`` bytes into it.

    A step is ``least`` bytes at the least; ``header`` are the bytes of a record that must be there.
    ``order`` is the byte order. ``pattern`` are bytes that stand ``before`` bytes into nearly every
    record; ``fits`` tells how long records are that seem to begin at some places, 0 where none does.
    """

    order: str
    header: int
    at: int
    step: int
    least: int
    pattern: bytes
    before: int
    fits: Callable[[bytearray, Ints], Ints]

    def follow(self, buffer: bytearray, first: int, filled: int) -> Ints:
        """Where each record begins, from the first one to the last whose header is there.

        Records are followed from many places at once. These are guessed; that a record begins there
        is known once those before it have led to it.
        """
        end = filled - self.header + 1  # no record begins here or later
        if first >= end:
            return np.zeros(0, np.int64)
        begins = self._guesses(buffer, first, end)
        if len(begins) < _FEW:
            return self._one_by_one(buffer, first, end)[0]
        numbers: npt.NDArray[np.uint32] = np.ndarray((end + 1,), self.order + "u4", buffer, self.at, strides=(1,))
        cursors = np.array(begins)
        stops = np.append(cursors[1:], end)
        steps = [cursors]
        while len(steps) < _MOST_STEPS and (len(steps) % 16 or not (cursors >= stops).all()):
            step = numbers[cursors]
            cursors = cursors + (np.maximum(step, self.least) if self.least else step)
            cursors += self.step
            np.minimum(cursors, end, out=cursors)
            steps.append(cursors)
        table = np.stack(steps, axis=1)
        counts = (table < stops[:, None]).sum(axis=1)
        number_of = {begin: number for number, begin in enumerate(begins)}
        parts, position = [], first
        while position < end:
            number = number_of.get(position)
            if number is None or counts[number] == table.shape[1]:
                part, position = self._one_by_one(buffer, position, end, number_of)
                parts.append(part)
            else:
                parts.append(table[number, : counts[number]])
                position = int(table[number, counts[number]])
        return np.concatenate(parts)

    def _guesses(self, buffer: bytearray, first: int, end: int) -> list[int]:
        """Places, in order, at which records seem to begin; the first does."""
        stride = self._stride(buffer, first, end)
        borders = range(first + stride, end, stride)
        found = np.array([buffer.find(self.pattern, border, border + stride) for border in borders], np.int64)
        begins = found[found >= 0] - self.before
        begins = begins[(begins < end) & (np.diff(begins, prepend=first) > 0)]
        steps = self.fits(buffer, begins)
        begins, steps = begins[steps > 0], steps[steps > 0]
        nexts = np.minimum(begins + steps, end)
        follows = nexts == end
        follows[~follows] = self.fits(buffer, nexts[~follows]) > 0
        return [first, *begins[follows].tolist()]

    def _stride(self, buffer: bytearray, first: int, end: int) -> int:
        """How far apart the cursors best begin: one more costs about as much as four steps of all."""
        position, number = first, struct.Struct(f"{self.order}{self.at}xI").unpack_from
        for count in range(1, _SAMPLE + 1):  # noqa: B007
            position += max(number(buffer, position)[0], self.least) + self.step
            if position >= end:
                break
        length = (position - first) // count
        return max(int(((end - first) * length / 4) ** 0.5), 2 * length)

    def _one_by_one(
        self, buffer: bytearray, position: int, end: int, until: dict[int, int] | None = None
    ) -> tuple[Ints, int]:
        """Where records begin, and where the first begins that is not among them: one of ``until``, or the end."""
        found = array("q")
        add, number = found.append, struct.Struct(f"{self.order}{self.at}xI").unpack_from
        least, step, known = self.least, self.step, until or {}
        while position < end:
            add(position)
            position += max(number(buffer, position)[0], least) + step
            if position in known:
                break
        return np.frombuffer(found, np.int64), position


def values(column: Ints) -> list[int]:
    """Each value of a column that seldom changes."""
    return list(set(column[np.append(True, column[1:] != column[:-1])].tolist())) if len(column) else []


def rows(data: bytes | bytearray | memoryview, starts: Ints, width: int) -> npt.NDArray[np.uint8]:
    """A copy of ``width`` bytes from each start, zeros after the end of the data."""
    last = int(starts.max()) if len(starts) else 0
    if last + width > len(data):
        data = bytes(data).ljust(last + width, b"\0")
    # as items of opaque bytes, one from each place: three times as fast to copy as rows of a matrix
    items: npt.NDArray[np.void] = np.ndarray((len(data) - width + 1,), f"V{width}", data, strides=(1,))
    return items[starts].view(np.uint8).reshape(-1, width)


def big_endian(columns: npt.NDArray[np.uint8]) -> Ints:
    """Numbers from big-endian bytes, one in each row."""
    found: Ints = columns[:, 0].astype(np.int64)
    for place in range(1, columns.shape[1]):
        found = found << 8 | columns[:, place]
    return found
