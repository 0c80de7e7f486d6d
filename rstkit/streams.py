"""Connections packet by packet, many at once, in columns: what each packet carries, and what was expected of it.

A stream is what one side of one connection sends.
"""

import numpy as np
import numpy.typing as npt

from .columns import Segments
from .conversation import EARLIEST, SAMPLES
from .pieces import Ints, big_endian, rows
from .signs import NEAR_ID
from .tcp import Flags

WIDTH = 128  # bytes of a packet that are needed: the headers of IP and TCP, and the first of the data
SYN, FIN, RST, ACK, PSH = (int(flag) for flag in (Flags.SYN, Flags.FIN, Flags.RST, Flags.ACK, Flags.PSH))
_LOWEST = -(1 << 33)  # below any relative sequence number

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Streams:
    """The packets of some connections: connection by connection, each in order of time.

    ``owner`` numbers the connections, ``first`` is where each begins, and ``place`` where each packet
    stands. A connection's ``side`` 0 sent its first packet; ``stream`` is twice the owner and the side.
    ``times`` are in seconds since the connection's first packet. ``seq``, ``next`` and ``ack`` count
    from the first number of the stream that was seen; ``bare`` tells of a seq that is 0 as it stands,
    ``again`` of a seq that the stream had passed. ``before`` is the place of the packet before it in
    its stream, -1 where there is none, and ``opener`` that of the first. ``alert`` tells of data that
    look like a TLS alert. ``id_step`` is 0 where the IP id is that of the packet before, 1 where it
    counts up, 2 where neither.
    """

    def __init__(self, columns: Segments, of_all: Ints, sizes: Ints, heads: npt.NDArray[np.uint8]) -> None:
        """Of the rows ``of_all`` of the columns, so many for each connection, whose packets begin with ``heads``."""
        self.sizes = sizes
        self.owner = np.repeat(np.arange(len(sizes)), sizes)
        self.first = (np.cumsum(sizes) - sizes)[self.owner]
        self.place = np.arange(len(of_all))
        self.side = (columns.flips[of_all] ^ columns.flips[of_all][self.first]).astype(np.int64)
        self.stream = self.owner * 2 + self.side
        self.flags = columns.flags[of_all].astype(np.int64)
        self.is_rst, self.has_ack = self.flags & RST > 0, self.flags & ACK > 0
        times = columns.times[of_all]
        self.times: Floats = (times - times[self.first]) / 1e9
        self._read_headers(heads, columns.captured[of_all].astype(np.int64))
        self._count(columns.seqs[of_all].astype(np.int64))
        self._follow()

    def _read_headers(self, head: npt.NDArray[np.uint8], captured: Ints) -> None:
        v6 = head[:, 0] >> 4 == 6
        at = np.where(v6, 40, (head[:, 0] & 15).astype(np.int64) * 4)
        self.readable = (at + 20 <= WIDTH) & (~v6 | (head[:, 6] == 6))  # no header between
        flat, begin = head.data.cast("B"), self.place * WIDTH + np.where(self.readable, at, 0)
        tcp = rows(flat, begin, 20)
        total = np.where(v6, big_endian(head[:, 4:6]) + 40, big_endian(head[:, 2:4]))
        total = np.where(total == 0, captured, total)  # the network card is to cut it into segments (TSO)
        self.header = (tcp[:, 12] >> 4).astype(np.int64) * 4
        self.length = np.maximum(total - at - self.header, 0)
        data = rows(flat, begin + self.header, 5)
        size = np.where(captured >= at + self.header + 5, self.length - 5, -1)
        known = (data[:, 1] == 3) & (big_endian(data[:, 3:5]) == size)
        # as `rstkit.story.is_tls_alert`
        self.alert: Bools = known & ((data[:, 0] == 0x15) | ((data[:, 0] == 0x17) & (size == 19)))
        self.acks = big_endian(tcp[:, 8:12])  # as they stand in the header
        self.window = big_endian(tcp[:, 14:16])
        self.ttl = np.where(v6, head[:, 7], head[:, 8]).astype(np.int64)
        self.ip_id = np.where(v6, 0, big_endian(head[:, 4:6]))

    def _count(self, seqs: Ints) -> None:
        """Sequence numbers, as each stream counts them."""
        self.bare = seqs == 0
        self.in_stream = ~(self.bare & self.is_rst)  # a RST that answers a SYN has no number of its own
        other = self.stream ^ 1
        base = np.full(len(self.sizes) * 2, -1)
        for streams, numbers, which in ((other, self.acks, self.has_ack), (self.stream, seqs, self.in_stream)):
            base[streams[which][::-1]] = numbers[which][::-1]  # the first that is seen stays, its own before an ACK's
        self.seq, self.ack = _apart(seqs, base[self.stream]), _apart(self.acks, base[other])
        self.takes = self.length + (self.flags & SYN > 0) + (self.flags & FIN > 0)
        self.next = self.seq + self.takes

    def _follow(self) -> None:
        """What each packet follows in its stream, and how far both streams had come."""
        ordered = np.lexsort((self.place, self.stream))  # each stream's packets together
        opens = np.diff(self.stream[ordered], prepend=-1) > 0
        self.before, self.opener = np.empty_like(ordered), np.empty_like(ordered)
        self.before[ordered] = np.where(opens, -1, np.append(-1, ordered[:-1]))
        self.opener[ordered] = ordered[np.maximum.accumulate(np.where(opens, self.place, 0))]
        lift = self.stream[ordered] << 35  # each stream's numbers above those of the streams before it
        reached = np.empty_like(ordered)
        reached[ordered] = np.maximum.accumulate(np.where(self.is_rst, _LOWEST, self.next)[ordered] + lift) - lift
        step = (self.ip_id - self.ip_id[self.before]) % 65536
        self.id_step = np.where(self.before < 0, 0, np.where(step < NEAR_ID, np.minimum(step, 1), 2))
        self.expected = np.where(self.before >= 0, reached[self.before], self.seq)
        self.again = ~self.is_rst & (self.seq < self.expected)
        latest = [np.maximum.accumulate(np.where(self.side == side, self.place, -1)) for side in (1, 0)]
        theirs = np.where(self.side == 0, *latest)
        self.acks_seen: Bools = (theirs >= self.first) & (self.ack <= reached[theirs])  # it acknowledges no more

    def round_trips(self) -> Floats:
        """For each stream how long its side takes to answer, in seconds, as `rstkit.conversation.round_trip` has it."""
        asked, answers = (np.flatnonzero(~self.is_rst & which) for which in (self.takes > 0, self.has_ack))
        place = np.concatenate([asked, answers])
        stream = np.concatenate([self.stream[asked], self.stream[answers] ^ 1])
        number = np.concatenate([self.next[asked], self.ack[answers]])
        is_answer = np.repeat([False, True], [len(asked), len(answers)])
        order = np.lexsort((place, number, stream))
        place, stream, number, is_answer = place[order], stream[order], number[order], is_answer[order]
        pair = np.flatnonzero(is_answer[1:] & ~is_answer[:-1] & (np.diff(stream) == 0) & (np.diff(number) == 0))
        ends = stream[pair] ^ 1
        took = np.full(len(self.sizes) * 2, np.inf)
        np.minimum.at(took, ends, self.times[place[pair + 1]] - self.times[place[pair]])
        enough = np.bincount(ends, minlength=len(took)) >= SAMPLES
        enough[self.stream[~self.is_rst & (self.flags & SYN > 0)] ^ 1] = True
        return np.where(np.isfinite(took) & enough, np.maximum(took * EARLIEST, 0.0), 0.0)

    def any(self, which: Bools) -> Bools:
        """For each connection, whether one of these packets is its."""
        found: Bools = np.bincount(self.owner[which], minlength=len(self.sizes)) > 0
        return found


def _apart(numbers: Ints, base: Ints) -> Ints:
    """How far sequence numbers are from others, mod 2**32, to either side."""
    found: Ints = (numbers - base + 2**31) % 2**32 - 2**31
    return found
