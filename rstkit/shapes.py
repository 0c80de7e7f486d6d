"""Shapes of connections: alike are those that differ in nothing that an explanation could rest on.

So ten thousand refused SYNs of a scan are explained once.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .columns import Segments
from .pieces import Ints, rows

MOST_PACKETS = 8  # longer connections are each like no other
_WIDTH = 81  # bytes of a packet that are looked at: both headers with the usual options, and the first of the data
# Seconds between two packets that are told apart; among them are those that explanations turn on.
_STEPS = np.array(
    [1e-5, 1e-4, 1e-3, 2e-3, 0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 45, 60, 90, 120, 300, 1e3]
)


def shapes(
    columns: Segments, begins: Sequence[int], ends: Sequence[int], read: Callable[[Sequence[int], int], list[bytes]]
) -> list[bytes]:
    """The shape of each connection, given as rows of the columns from one to before another, in order of time.

    ``read`` gives so many bytes of the packets of rows, from their IP headers on.
    """
    found = [number.to_bytes(8) for number in range(len(begins))]
    short = [number for number, (a, b) in enumerate(zip(begins, ends, strict=True)) if b - a <= MOST_PACKETS]
    if not short:
        return found
    of_all = np.concatenate([np.arange(begins[number], ends[number]) for number in short])
    sizes = [ends[number] - begins[number] for number in short]
    table = _table(
        columns, of_all, sizes, b"".join(head.ljust(_WIDTH, b"\0") for head in read(of_all.tolist(), _WIDTH))
    )
    width, at, data = table.shape[1] * table.itemsize, 0, table.tobytes()
    for number, size in zip(short, sizes, strict=True):
        found[number] = data[at : at + size * width]
        at += size * width
    return found


def _table(columns: Segments, of_all: Ints, sizes: list[int], heads: bytes) -> np.ndarray:
    """A row of small numbers for each packet."""
    head = np.frombuffer(heads, np.uint8).reshape(-1, _WIDTH)
    v6 = head[:, 0] >> 4 == 6
    at = np.where(v6, 40, (head[:, 0] & 15).astype(np.int64) * 4)
    at = np.where(at + 20 <= _WIDTH, at, 0)
    tcp = rows(heads, np.arange(len(head)) * _WIDTH + at, 20)
    total = np.where(v6, _number(head[:, 4:6]) + 40, _number(head[:, 2:4]))
    offset = (tcp[:, 12] >> 4).astype(np.int64) * 4
    first = np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)  # the place of its connection's first packet
    place = np.arange(len(head))
    flips = columns.flips[of_all] ^ columns.flips[of_all][first]
    seqs, acks = columns.seqs[of_all].astype(np.int64), _number(tcp[:, 8:12])
    times = columns.times[of_all]
    gaps = np.where(place == first, 0, times - times[place - 1])
    steps = np.searchsorted(_STEPS, gaps / 1e9)
    since = np.searchsorted(_STEPS, (times - times[first]) / 1e9)
    content = rows(heads, np.arange(len(head)) * _WIDTH + np.minimum(at + offset, _WIDTH - 1), 1)[:, 0]
    base = {side: _first_of(seqs, place, first, flips == side) for side in (False, True)}
    own, other = np.where(flips, base[True], base[False]), np.where(flips, base[False], base[True])
    # what the other side acknowledges, told from where it begins; where only one side was captured, as it stands
    fields = (
        flips, columns.flags[of_all], (seqs - own) % 2**32, np.where(other < 0, acks > 0, (acks - other) % 2**32),
        seqs == 0, total - at - offset, offset, _number(tcp[:, 14:16]), np.where(v6, head[:, 7], head[:, 8]),
        np.where(v6, 0, _number(head[:, 4:6]) == 0), steps, since, v6,
        np.where(total > at + offset, content, 0),  # a TLS alert, say
    )  # fmt: skip
    return np.stack([f.astype(np.int64) for f in fields], axis=1)


def _first_of(seqs: Ints, place: Ints, first: Ints, which: np.ndarray) -> Ints:
    """For each packet, the first sequence number of one side of its connection; -1 where it has none."""
    nearest = np.full(len(seqs), len(seqs))
    np.minimum.at(nearest, first[which], place[which])
    begin = nearest[first]
    return np.where(begin < len(seqs), seqs[np.minimum(begin, len(seqs) - 1)], -1)


def _number(columns: np.ndarray) -> Ints:
    """Big-endian numbers, a row each."""
    found = np.zeros(len(columns), np.int64)
    for place in range(columns.shape[1]):
        found = found << 8 | columns[:, place]
    return found
