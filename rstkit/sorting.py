"""Which segments belong to one connection, and which of them matter: those of connections with a RST.

Segments come part by part. What is kept of all of them fits in memory; beyond a bound it goes to a
file that has no name.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import fields
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .columns import Segments, UInts, joined
from .pieces import Ints
from .tcp import Flags

_SYN, _ACK, _RST = int(Flags.SYN), int(Flags.ACK), int(Flags.RST)
_MOST = 3_000_000  # segments whose columns are in memory together, some 40 bytes each
_SLOTS = 1 << 20  # of a table in which a key's place is its last bits
_NONE = np.uint32(0xFFFFFFFF)
_LONG = 5_000  # segments of a connection, of which all are kept; of a longer one
_BEGINNING, _BEFORE, _AFTER, _RESETS = 1_000, 1_000, 100, 32  # the first, and those around so many RSTs


class Sorting:
    """Takes the segments of a capture in, and gives back those of the connections that hold a RST.

    ``segments`` and ``resets`` count what was taken in.
    """

    def __init__(self) -> None:
        self.segments = self.resets = 0
        self._parts: list[Segments] = []
        self._held = 0  # segments in memory
        self._file: IO[bytes] | None = None
        self._sizes: list[int] = []  # of the parts in the file
        self._keys: list[UInts] = []  # those of each part, each once
        self._matter: list[UInts] = []  # keys of segments that make a closer look needed
        self._first = np.full(_SLOTS, _NONE)  # for each slot the number of the first frame
        self._syns: list[tuple[UInts, npt.NDArray[np.uint32]]] = []

    def add(self, part: Segments) -> None:
        """Take in the next segments of the file."""
        if not len(part.keys):
            return
        self.segments += len(part.keys)
        ordered = np.sort(part.keys)
        self._keys.append(ordered[np.append(True, ordered[1:] != ordered[:-1])])
        resets = np.flatnonzero(part.flags & _RST)
        self.resets += len(resets)
        self._matter.append(part.keys[resets])
        slots = _slots(part.keys)
        new = np.flatnonzero(self._first[slots] == _NONE)[::-1]  # the last one that is put down stays
        self._first[slots[new]] = part.numbers[new]
        syns = np.flatnonzero(is_syn(part.flags))
        again = self._first[slots[syns]] != part.numbers[syns]
        self._matter.append(part.keys[syns[again]])  # perhaps another connection on ports that were used before
        self._parts.append(part)
        self._held += len(part.keys)
        if self._held > _MOST:
            self._put_away()

    def connections(self) -> tuple[int, Segments, Ints, Ints]:
        """How many connections there are, and those that hold a RST: segments, where each begins, and its size.

        The segments of a connection stand together, in order of time; connections are in the order of
        their first frames. Of a long connection only the segments are kept that tell how it began and
        why it was reset; its size counts all.
        """
        keys = _once(self._keys)
        matter = _once(self._matter)
        table = np.zeros(_SLOTS, bool)
        table[_slots(matter)] = True
        kept = []
        for part in self._all():
            rows = np.flatnonzero(table[_slots(part.keys)])
            places = np.minimum(np.searchsorted(matter, part.keys[rows]), len(matter) - 1)
            kept.append(taken(part, rows[matter[places] == part.keys[rows]]))
        self._parts = []
        columns, begins = _arranged(joined(kept))
        count = len(keys) - len(matter) + len(begins)
        return count, *_shortened(*_with_resets(columns, begins))

    def _put_away(self) -> None:
        """Write the parts that are in memory to the file."""
        self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115 - it is needed until all is read
        for part in self._parts:
            self._sizes.append(len(part.keys))
            for field in fields(Segments):
                getattr(part, field.name).tofile(self._file)
        self._parts, self._held = [], 0

    def _all(self) -> Iterator[Segments]:
        """All that was taken in, in the order of the file."""
        if self._file:
            self._file.seek(0)
            kinds = [(field.name, getattr(joined([]), field.name).dtype) for field in fields(Segments)]
            for size in self._sizes:
                yield Segments(**{name: np.fromfile(self._file, kind, size) for name, kind in kinds})
            self._file.close()
        while self._parts:
            yield self._parts.pop(0)


def is_syn(flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Whether segments ask for a connection: SYN without ACK."""
    found: npt.NDArray[np.bool_] = flags & (_SYN | _ACK | _RST) == _SYN
    return found


def taken(columns: Segments, rows: Any) -> Segments:
    """Some rows of columns."""
    return Segments(*(getattr(columns, field.name)[rows] for field in fields(Segments)))


def _slots(keys: UInts) -> Ints:
    return (keys & np.uint64(_SLOTS - 1)).astype(np.int64)


def _once(keys: list[UInts]) -> UInts:
    """Each key once, in order."""
    ordered = np.sort(np.concatenate(keys)) if keys else np.zeros(0, np.uint64)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def _arranged(columns: Segments) -> tuple[Segments, Ints]:
    """The segments in an order in which connections stand together, and where each connection begins.

    A SYN with another sequence number than its side began with begins a connection of its own. It
    belongs to what came before only if that is the other side's SYN, or a SYN ACK that was captured
    too early (both sides may open at once: RFC 9293, 3.5).
    """
    columns = taken(columns, np.argsort(columns.keys, kind="stable"))
    keys, flips, flags = columns.keys, columns.flips, columns.flags
    if not len(keys):
        return columns, np.zeros(0, np.int64)
    new = np.append(True, keys[1:] != keys[:-1])
    group = np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))
    of_side = [np.flatnonzero(flips == side) for side in (False, True)]
    no_syn = np.flatnonzero(~is_syn(flags))
    bases = columns.seqs - (flags & _SYN == 0)  # mod 2**32: a SYN takes one number before the first byte
    began: dict[int, int] = {}
    for place in np.flatnonzero(is_syn(flags) & ~new).tolist():
        whole = int(group[place])
        begin = began.get(whole, whole)
        own = _next(of_side[int(flips[place])], begin)
        if own < place:
            other = bases[own] != columns.seqs[place]
        else:  # nothing of this side yet
            before = _next(no_syn, begin)
            other = before < place and flags[before] & (_SYN | _ACK) != _SYN | _ACK
        if other:
            new[place] = True
            began[whole] = place
    return columns, np.flatnonzero(new)


def _next(places: Ints, begin: int) -> int:
    """The first of the places that is not before this one; a great number where there is none."""
    at = int(np.searchsorted(places, begin))
    return int(places[at]) if at < len(places) else 1 << 62


def _with_resets(columns: Segments, begins: Ints) -> tuple[Segments, Ints]:
    """The segments of connections that hold a RST, in the order that `Sorting.connections` tells."""
    if not len(begins):
        return columns, begins
    has = np.add.reduceat((columns.flags & _RST > 0).astype(np.int64), begins) > 0
    sizes = np.diff(np.append(begins, len(columns.keys)))
    first = np.minimum.reduceat(columns.numbers, begins)
    rank = np.repeat(first, sizes)
    rows = np.flatnonzero(np.repeat(has, sizes))
    rows = rows[np.lexsort((columns.numbers[rows], columns.times[rows], rank[rows]))]
    columns, rank = taken(columns, rows), rank[rows]
    return columns, np.flatnonzero(np.append(True, rank[1:] != rank[:-1])) if len(rows) else rows


def _shortened(columns: Segments, begins: Ints) -> tuple[Segments, Ints, Ints]:
    """The segments without the middle of long connections, where each begins, and how many it had."""
    sizes = np.diff(np.append(begins, len(columns.keys)))
    if not (sizes > _LONG).any():
        return columns, begins, sizes
    ends, rows = begins + sizes, np.arange(len(columns.keys))
    owner = np.repeat(np.arange(len(begins)), sizes)
    keep = (sizes <= _LONG)[owner] | (rows < (begins + _BEGINNING)[owner]) | (rows == (ends - 1)[owner])
    resets = np.flatnonzero(columns.flags & _RST)
    of = owner[resets]
    resets = resets[np.arange(len(resets)) - np.searchsorted(of, of) < _RESETS]
    border = np.zeros(len(rows) + 1, np.int64)
    np.add.at(border, np.maximum(resets - _BEFORE, begins[owner[resets]]), 1)
    np.add.at(border, np.minimum(resets + _AFTER, ends[owner[resets]]), -1)
    keep |= np.cumsum(border[:-1]) > 0
    kept = owner[keep]
    return taken(columns, keep), np.flatnonzero(np.append(True, kept[1:] != kept[:-1])), sizes
