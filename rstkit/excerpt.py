"""A connection of a capture as a person looks at it: numbered as in the file, and no longer than can be drawn."""

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from .tcp import Flags
from .trace import Trace

if TYPE_CHECKING:
    from .captures import Connection

MOST = 300  # packets that are drawn
_BEGINNING, _BEFORE, _AFTER = 20, 150, 20  # packets: of the connection, and around each RST


def numbered(connection: "Connection") -> Trace:
    """The connection as a trace in which packets have the numbers of their frames in the file.

    Where the file does not hold them in order of time, they keep the numbers that tell that order.
    """
    trace, frames = connection.trace(), connection.frames
    if any(a >= b for a, b in pairwise(frames)):
        return trace
    packets = zip(trace.packets, frames, strict=True)
    return replace(trace, packets=tuple(packet._replace(number=number) for packet, number in packets))


def excerpt(trace: Trace) -> Trace:
    """What is drawn of a long trace: how it began, and what stands around its first RSTs."""
    packets = trace.packets
    if len(packets) <= MOST:
        return trace
    kept = set(range(_BEGINNING))
    for place in (place for place, packet in enumerate(packets) if packet.flags & Flags.RST):
        around = range(max(place - _BEFORE, 0), min(place + _AFTER, len(packets)))
        if len(kept.union(around)) > MOST:
            break
        kept.update(around)
    return replace(trace, packets=tuple(packets[place] for place in sorted(kept)))
