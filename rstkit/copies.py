"""Frames that a capture holds more than once, as one does that mirrors several ports or listens on each of a host's."""

from collections.abc import Sequence

from .tcp import Flags
from .trace import Packet

_AT_ONCE = 0.002  # seconds; no system sends a segment again so soon
_SHARE = 0.4  # of the segments that take up sequence numbers: one in two is a copy where each came twice

Key = tuple[object, ...]


def without_copies(packets: Sequence[Packet]) -> tuple[Sequence[Packet], dict[int, list[Packet]]]:
    """The packets without copies, and the copies of each, by its number.

    Only where every frame seems to have been captured more than once: a few segments alike are sent again, or
    answered alike.
    """
    if not _captured_twice(packets):
        return packets, {}
    kept: list[Packet] = []
    copies: dict[int, list[Packet]] = {}
    first: dict[Key, Packet] = {}
    for packet in packets:
        key = _key(packet)
        same = first.get(key)
        if same and packet.sent - same.sent <= _AT_ONCE:
            copies.setdefault(same.number, []).append(packet)
        else:
            first[key] = packet
            kept.append(packet)
    return kept, copies


def _captured_twice(packets: Sequence[Packet]) -> bool:
    total = found = 0
    first: dict[Key, float] = {}
    for packet in packets:
        if packet.flags & Flags.RST or not packet.takes_numbers:
            continue
        total += 1
        key = (packet.source, packet.seq, packet.length)
        at = first.get(key)
        if at is None or packet.sent - at > _AT_ONCE:  # new, or sent again
            first[key] = packet.sent
        else:
            found += 1
    return found > 0 and found >= _SHARE * total


def _key(packet: Packet) -> Key:
    """All that a router on the way does not change."""
    headers = (packet.seq, packet.ack, packet.flags, packet.window, packet.length, packet.ip_id)
    return (packet.source, *headers, packet.options)
