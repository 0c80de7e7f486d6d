"""A run of the lab as a capture at one point would show it: near a host or between them, cut, or of one side."""

import dataclasses
import random
from collections import Counter
from collections.abc import Iterable

from rstkit.tcp import Endpoint, Flags
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
        packet._replace(number=number, sent=at, arrived=at, lost=None) for number, (at, packet) in enumerate(kept, 1)
    )
    return Trace(packets, hosts=trace.hosts, duration=trace.duration, epoch_ns=trace.epoch_ns, backend="capture")


def captured_twice(capture: Trace) -> Trace:
    """As a mirror of two ports has it: each frame again, a moment later and one router on."""
    copies = (p._replace(sent=p.sent + 2e-5, arrived=p.sent + 2e-5, ttl=p.ttl - 1) for p in capture.packets)
    return _in_order(capture, (*capture.packets, *copies))


def out_of_order(capture: Trace, seed: int, most: float = 1e-4) -> Trace:
    """As two receiving queues of a network card have it: times that are wrong by up to ``most`` seconds."""
    chance = random.Random(seed)
    late = [packet.sent + chance.uniform(0, most) for packet in capture.packets]
    moved = (p._replace(sent=at, arrived=at) for p, at in zip(capture.packets, late, strict=True))
    return _in_order(capture, moved)


def incomplete(capture: Trace, seed: int, share: float = 0.03) -> Trace:
    """As a capture that cannot keep up has it: some packets are missing, of the RSTs none."""
    chance = random.Random(seed)
    return _in_order(capture, (p for p in capture.packets if p.flags & Flags.RST or chance.random() > share))


def _in_order(capture: Trace, packets: Iterable[Packet]) -> Trace:
    ordered = sorted(packets, key=lambda packet: packet.sent)
    numbered = tuple(packet._replace(number=number) for number, packet in enumerate(ordered, 1))
    return dataclasses.replace(capture, packets=numbered)


def _passes(packet: Packet, point: str) -> float | None:
    if packet.sender == point:
        return packet.sent
    if packet.arrived is None:
        return None
    return packet.arrived if point in POINTS[:2] else (packet.sent + packet.arrived) / 2
