"""A run of the lab as a capture at one point would show it: near a host or between them, cut, or of one side."""

import dataclasses
from collections import Counter

from rstkit.tcp import Endpoint
from rstkit.trace import Packet, Trace

POINTS = ("client", "server", "between")


def captured(trace: Trace, point: str, *, after: int = 0, side: str | None = None) -> Trace:
    """The packets alone, as seen at a point: each at the moment when it passed there.

    A packet that was lost passed near its sender only. ``after`` leaves out so many packets at the
    beginning of each connection; ``side`` keeps those that one host sent.
    """
    seen = [(_passes(packet, point), packet) for packet in trace.packets]
    passed = sorted(((at, packet) for at, packet in seen if at is not None), key=lambda pair: (pair[0], pair[1].number))
    count: Counter[frozenset[Endpoint]] = Counter()
    kept = []
    for at, packet in passed:
        count[packet.connection] += 1
        if count[packet.connection] > after and side in (None, packet.sender):
            kept.append((at, packet))
    packets = tuple(
        dataclasses.replace(packet, number=number, sent=at, arrived=at, lost=None)
        for number, (at, packet) in enumerate(kept, 1)
    )
    return Trace(packets, hosts=trace.hosts, duration=trace.duration, epoch_ns=trace.epoch_ns, backend="capture")


def _passes(packet: Packet, point: str) -> float | None:
    if packet.sender == point:
        return packet.sent
    if packet.arrived is None:
        return None
    return packet.arrived if point in POINTS[:2] else (packet.sent + packet.arrived) / 2
