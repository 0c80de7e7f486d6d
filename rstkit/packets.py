"""Single packets of a capture: as the Ethernet frame that a trace holds, and their two ends."""

import struct

from .tcp import Endpoint, endpoint

EXTENSIONS = (0, 43, 60, 135)  # IPv6 headers whose length is in units of 8 bytes, the first not counted
TCP, FRAGMENT, AUTHENTICATION = 6, 44, 51  # the other protocol numbers that matter here
_NO_ADDRESSES = bytes(12)  # a captured packet may never have had any of Ethernet's


def ethernet(packet: bytes) -> bytes:
    """An IP packet as a frame, as `rstkit.trace.Packet.from_frame` reads it.

    An IPv4 packet that was captured before the network card cut it into segments (TSO) tells no
    length: it gets the one that was captured. IPv6 extension headers are left out.
    """
    if packet[0] >> 4 == 4:
        if packet[2:4] == b"\0\0":
            packet = packet[:2] + struct.pack("!H", min(len(packet), 0xFFFF)) + packet[4:]
        return _NO_ADDRESSES + b"\x08\x00" + packet
    at, _ = _transport(packet)
    if at > 40:
        length = max(int.from_bytes(packet[4:6]) - (at - 40), 0)
        packet = packet[:4] + struct.pack("!HB", length, TCP) + packet[7:40] + packet[at:]
    return _NO_ADDRESSES + b"\x86\xdd" + packet


def endpoints(packet: bytes) -> tuple[Endpoint, Endpoint]:
    """The source and the destination of a TCP segment in an IP packet."""
    at, addresses = _transport(packet)
    half = len(addresses) // 2
    source, destination = struct.unpack_from("!HH", packet, at)
    return endpoint(addresses[:half], source), endpoint(addresses[half:], destination)


def _transport(packet: bytes) -> tuple[int, bytes]:
    """Where TCP's header begins, and both addresses."""
    if packet[0] >> 4 == 4:
        return (packet[0] & 15) * 4, packet[12:20]
    at, kind = 40, packet[6]
    while kind != TCP and at + 2 <= len(packet):
        if kind in EXTENSIONS:
            step = (packet[at + 1] + 1) * 8
        else:
            step = (packet[at + 1] + 2) * 4 if kind == AUTHENTICATION else 8
        at, kind = at + step, packet[at]
    return at, packet[8:40]
