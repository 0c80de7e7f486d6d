"""Frames that a capture holds twice, as one does that mirrors two ports or listens before and after a router."""

from collections.abc import Sequence

from .tcp import Flags
from .trace import Packet

_AT_ONCE = 0.002  # seconds; no system sends a segment again so soon
_SHARE = 0.4  # of the segments that take up sequence numbers: one in two is a copy where each came twice

Key = tuple[object, ...]


def without_copies(packets: Sequence[Packet]) -> tuple[Sequence[Packet], dict[int, Packet]]:
    """The packets without copies, and the copies, each by the number of the packet that it copies.

    Only where every frame seems to have been captured twice: a few segments alike are sent again, or
    answered alike.
    """
    if not _captured_twice(packets):
        return packets, {}
    kept, copies = [], {}
    first: dict[Key, Packet] = {}
    for packet in packets:
        key = _key(packet)
        same = first.pop(key, None)
        if same and packet.sent - same.sent <= _AT_ONCE:
            copies[same.number] = packet
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
        if at is None:
            first[key] = packet.sent
        elif packet.sent - at <= _AT_ONCE:
            found += 1
    return found > 0 and found >= _SHARE * total


def _key(packet: Packet) -> Key:
    """All that a router on the way does not change."""
    headers = (packet.seq, packet.ack, packet.flags, packet.window, packet.length, packet.ip_id)
    return (packet.source, *headers, packet.options)
