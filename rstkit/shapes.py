"""Shapes of connections: alike are those that differ in nothing that an explanation could rest on.

So ten thousand refused SYNs of a scan are explained once, and ten thousand downloads that a client cut
off. In a shape sequence numbers stand by their order, and times by what explanations compare them with;
of a long exchange in which nothing happened it tells only who sent data.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .aborts import ONE_READ
from .columns import Segments
from .missing import NEAR
from .pieces import Ints
from .saw import IN_FLIGHT
from .signs import MEASURABLE, TOO_SOON
from .streams import ACK, PSH, WIDTH, Bools, Floats, Streams
from .suspects import FIN_TIMEOUT, IDLE, SHORTEST_TIMEOUT
from .view import ABOUT_TO_SEND, DISORDER

_AT_ONCE = 50_000  # packets whose connections are looked at together
_MOST = 1_000  # packets: a longer connection is like no other
_HEAD, _TAIL = 4, 8  # packets at the beginning, and before the first RST, that are never passed over
_MOST_KEPT = 40  # packets that matter: a connection with more is like no other
# Seconds that explanations tell apart: from a packet to a RST that comes after it, and from a RST to what comes then.
_AHEAD = np.array([ABOUT_TO_SEND, SHORTEST_TIMEOUT, IDLE, FIN_TIMEOUT])
_SINCE = np.array([DISORDER, 0.005, 0.01, 0.05, IN_FLIGHT, IDLE])
_SHARES = np.array([TOO_SOON, 1])  # of a round trip
_ROUND_TRIPS = np.array([1e-9, MEASURABLE])  # seconds: none is known; and what can be measured
_NOT_LATE = 1  # seconds from one packet to the next in which nothing happened
_WINDOWS = np.array([1 << bit for bit in range(12)])  # as they stand in headers: a small one may stop its sender
_USUAL_WINDOW = 128


def shapes(
    columns: Segments, begins: Sequence[int], ends: Sequence[int], read: Callable[[Ints, int], npt.NDArray[np.uint8]]
) -> list[bytes]:
    """The shape of each connection, given as rows of the columns from one to before another, in order of time.

    ``read`` gives so many bytes of the packets of some rows, from their IP headers on.
    """
    found = [number.to_bytes(8) for number in range(len(begins))]  # like no other
    for numbers in _batches([b - a for a, b in zip(begins, ends, strict=True)]):
        of_all = np.concatenate([np.arange(begins[number], ends[number]) for number in numbers])
        sizes = np.array([ends[number] - begins[number] for number in numbers])
        streams = Streams(columns, of_all, sizes, read(of_all, WIDTH))
        for number, shape in zip(numbers, _shapes(streams), strict=True):
            found[number] = shape or found[number]
    return found


def _batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """The numbers of connections that are not too long, so many together that memory is bounded."""
    batch, total = [], 0
    for number, size in enumerate(sizes):
        if size > _MOST:
            continue
        batch.append(number)
        total += size
        if total >= _AT_ONCE:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _shapes(streams: Streams) -> Iterator[bytes]:
    """The shape of each connection; empty for one that is like no other."""
    resets = np.flatnonzero(streams.is_rst)
    first_rst = np.full(len(streams.sizes), len(streams.place))
    np.minimum.at(first_rst, streams.owner[resets], resets)
    later = streams.place >= streams.first + _HEAD
    passed = later & (streams.place < first_rst[streams.owner] - _TAIL)
    # what is sent again after some were passed over may be one of these
    eventful = (passed & ~_is_ordinary(streams)) | (later & streams.again & streams.any(passed)[streams.owner])
    kept = np.bincount(streams.owner[~passed], minlength=len(streams.sizes))
    alone = streams.any(eventful | ~streams.readable) | (kept > _MOST_KEPT)
    table = _table(streams, passed, ~passed & ~alone[streams.owner])
    data, width = table.tobytes(), table.shape[1] * table.itemsize
    sizes = np.where(alone, 0, kept * width)
    for begin, end in pairwise([0, *np.cumsum(sizes).tolist()]):
        yield hashlib.blake2b(data[begin:end], digest_size=16).digest() if end > begin else b""


def _is_ordinary(streams: Streams) -> Bools:
    """Whether a packet says nothing but what the one before it in its stream lets one expect."""
    before = streams.before
    ordinary = (streams.flags & ~PSH == ACK) & (before >= 0) & (streams.seq == streams.expected)
    ordinary &= streams.acks_seen & (streams.ack >= streams.ack[before]) & (streams.window >= _USUAL_WINDOW)
    ordinary &= (streams.ttl == streams.ttl[before]) & (streams.header == streams.header[before])
    found: Bools = ordinary & (streams.id_step < 2) & (streams.times - streams.times[streams.place - 1] < _NOT_LATE)
    return found


def _table(streams: Streams, passed: Bools, kept: Bools) -> npt.NDArray[np.int32]:
    """A row of small numbers for each packet that is kept."""
    ttl, first_ttl = streams.ttl, streams.ttl[streams.opener]
    columns = [
        streams.side, streams.flags, streams.bare, streams.again, streams.header, streams.alert,
        np.minimum(streams.length, 2), np.where(streams.has_ack, 0, streams.acks > 0),
        np.searchsorted(_WINDOWS, streams.window, "right"), np.where(ttl == first_ttl, 0, ttl << 8 | first_ttl),
        streams.id_step, _gone_by(streams, passed), _is_much(streams)[streams.stream],
        *_ranks(streams, kept), *_times(streams),
    ]  # fmt: skip
    return np.stack([column[kept].astype(np.int32) for column in columns], axis=1)


def _is_much(streams: Streams) -> Bools:
    """For each stream, whether it has more data than a program reads at once."""
    found: Bools = np.bincount(streams.stream, streams.length, len(streams.sizes) * 2) > ONE_READ
    return found


def _gone_by(streams: Streams, passed: Bools) -> Ints:
    """For the packet after those that are passed over, which sides sent data in these, and which as the last."""
    found = np.zeros(len(passed), np.int64)
    after = np.flatnonzero(passed[:-1] & ~passed[1:]) + 1
    data = np.flatnonzero(passed & (streams.length > 0))
    sent = np.bincount(streams.stream[data], minlength=len(streams.sizes) * 2) > 0
    last = np.zeros(len(streams.sizes), np.int64)
    last[streams.owner[data]] = streams.side[data]
    of = streams.owner[after]
    found[after] = 1 + sent[of * 2] + 2 * sent[of * 2 + 1] + 4 * last[of]
    return found


def _ranks(streams: Streams, kept: Bools) -> Iterator[Ints]:
    """Seq, next seq and ack of the packets that are kept, by their order in the stream that they count.

    Numbers that follow each other are told from those that are farther apart, or very far; -1 where there is none.
    """
    whose = [
        (streams.seq, streams.in_stream, 0),
        (streams.next, streams.in_stream, 0),
        (streams.ack, streams.has_ack, 1),
    ]
    which = [np.flatnonzero(kept & has) for _, has, _ in whose]
    values = np.concatenate([numbers[at] for (numbers, _, _), at in zip(whose, which, strict=True)])
    stream = np.concatenate([streams.stream[at] ^ other for (_, _, other), at in zip(whose, which, strict=True)])
    order = np.lexsort((values, stream))
    values, stream = values[order], stream[order]
    same = np.diff(stream, prepend=-1) == 0
    gaps = np.diff(values, prepend=0)
    total = np.cumsum(np.where(same, np.minimum(gaps, 2) + (gaps >= NEAR), 0))
    begin = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
    ranks = np.empty_like(total)
    ranks[order] = total - total[begin]
    for part, at in zip(np.split(ranks, np.cumsum([len(at) for at in which])[:-1]), which, strict=True):
        found = np.full(len(kept), -1)
        found[at] = part
        yield found


def _times(streams: Streams) -> Iterator[npt.NDArray[np.generic]]:
    """How far packets are from the first RST of each side, in steps, and what is sent again more finely."""
    trips = streams.round_trips()
    yield np.where(streams.again, _moment(streams.times - streams.times[streams.before]), 0)
    for side in (0, 1):
        of_side = streams.is_rst & (streams.side == side)
        when, heard = np.full(len(streams.sizes), np.inf), np.zeros(len(streams.sizes))
        np.minimum.at(when, streams.owner[of_side], streams.times[of_side])
        ahead = np.where(np.isfinite(when), when, -1e6)[streams.owner] - streams.times
        steps = np.searchsorted(_AHEAD, ahead)
        steps = np.where(streams.is_rst | (ahead < 0), -1 - np.searchsorted(_SINCE, -ahead), steps)
        yield np.where(streams.again, np.copysign(1_000 + _moment(np.abs(ahead)), ahead), steps)
        # what explanations count from may be the packet that the RST answers
        theirs = (streams.side != side) & (ahead >= 0)
        np.maximum.at(heard, streams.owner[theirs], streams.times[theirs])
        yield np.where(ahead < 0, 0, np.searchsorted(_AHEAD, heard[streams.owner] - streams.times))
        trip = trips[streams.owner * 2 + side]
        shares = [np.searchsorted(_SHARES, x / np.maximum(trip, 1e-9)) for x in (ahead, ahead + DISORDER)]
        yield np.where(streams.side == side, 0, shares[0] * 3 + shares[1])
        yield np.searchsorted(_ROUND_TRIPS, trip)


def _moment(seconds: Floats) -> Ints:
    """A number for a time, alike for times that differ by less than about a twentieth."""
    found: Ints = np.round(np.log(np.maximum(seconds, 1e-6)) * 20).astype(np.int64) + 300
    return found
