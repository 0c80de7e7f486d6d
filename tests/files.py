"""Capture files made by hand, byte for byte: any link, format and byte order."""

import ipaddress
import struct
from collections.abc import Callable, Iterable, Sequence

SYN, ACK, PSH, FIN, RST = 2, 16, 8, 1, 4
LINKS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {}
"""By name: the link type (LINKTYPE_*), and what makes a frame of an IP packet."""


def _ethertype(packet: bytes) -> bytes:
    return b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"


_MACS = bytes.fromhex("020000000001020000000002")
LINKS["ethernet"] = (1, lambda p: _MACS + _ethertype(p) + p)
LINKS["vlan"] = (1, lambda p: _MACS + b"\x81\x00\x00\x05" + _ethertype(p) + p)
LINKS["qinq"] = (1, lambda p: _MACS + b"\x88\xa8\x00\x05\x81\x00\x00\x06" + _ethertype(p) + p)
LINKS["cooked"] = (113, lambda p: bytes.fromhex("0000 0001 0006 0200 0000 0001 0000") + _ethertype(p) + p)
LINKS["cooked vlan"] = (113, lambda p: bytes(14) + b"\x81\x00\x00\x05" + _ethertype(p) + p)
LINKS["cooked v2"] = (276, lambda p: _ethertype(p) + bytes(2) + struct.pack("!IHBB", 1, 1, 0, 6) + bytes(8) + p)
LINKS["raw"] = (101, lambda p: p)
LINKS["raw of BSD"] = (12, lambda p: p)
LINKS["null"] = (0, lambda p: struct.pack("<I", 2 if p[0] >> 4 == 4 else 30) + p)
LINKS["null of another machine"] = (0, lambda p: struct.pack(">I", 2 if p[0] >> 4 == 4 else 24) + p)
LINKS["loop"] = (108, lambda p: struct.pack(">I", 2 if p[0] >> 4 == 4 else 28) + p)


def tcp(
    sport: int, dport: int, flags: int, seq: int = 0, ack: int = 0, payload: bytes = b"", options: bytes = b""
) -> bytes:
    """A TCP segment; its checksum is left at zero."""
    offset = (20 + len(options)) // 4 << 4
    return struct.pack("!HHIIBBHHH", sport, dport, seq, ack, offset, flags, 502, 0, 0) + options + payload


def ip(
    source: str, destination: str, segment: bytes, *, options: bytes = b"", fragment: int = 0x4000, total: int = -1
) -> bytes:
    """An IPv4 packet, or an IPv6 one with ``options`` as its extension headers (the first's type before them)."""
    here, there = (ipaddress.ip_address(address).packed for address in (source, destination))
    if len(here) == 4:
        size = 20 + len(options)
        total = size + len(segment) if total < 0 else total
        head = struct.pack("!BBHHHBBH", 0x40 | size // 4, 0, total, 7, fragment, 64, 6, 0)
        return head + here + there + options + segment
    kind, rest = (options[0], options[1:]) if options else (6, b"")
    return struct.pack("!IHBB", 6 << 28, len(rest) + len(segment), kind, 64) + here + there + rest + segment


def pcap(
    frames: Iterable[tuple[int, bytes]], link: int = 1, *, order: str = "<", nano: bool = False, snap: int = 262_144
) -> bytes:
    """A pcap file of frames with their times in nanoseconds since 1970."""
    out = [struct.pack(order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, snap, link)]
    for time, frame in frames:
        seconds, rest = divmod(time, 10**9)
        head = struct.pack(order + "IIII", seconds, rest if nano else rest // 1000, len(frame[:snap]), len(frame))
        out.append(head + frame[:snap])
    return b"".join(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A pcapng block."""
    body += bytes(-len(body) % 4)
    size = 12 + len(body)
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    link: int = 1, order: str = "<", *, snap: int = 0, resolution: int | None = None, offset: int | None = None
) -> bytes:
    body = struct.pack(order + "HHI", link, 0, snap)
    if resolution is not None:
        body += struct.pack(order + "HHB3x", 9, 1, resolution)
    if offset is not None:
        body += struct.pack(order + "HHq", 14, 8, offset)
    return block(1, body + bytes(4), order)


def enhanced(frame: bytes, ticks: int, order: str = "<", *, number: int = 0, snap: int = 262_144) -> bytes:
    cut = frame[:snap]
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(cut), len(frame))
    comment = b"a packet"
    return block(6, head + cut + bytes(-len(cut) % 4) + struct.pack(order + "HH", 1, 8) + comment + bytes(4), order)


def simple(frame: bytes, order: str = "<", snap: int = 262_144) -> bytes:
    return block(3, struct.pack(order + "I", len(frame)) + frame[:snap], order)


def old(frame: bytes, ticks: int, order: str = "<", *, number: int = 0) -> bytes:
    """A packet block, which the format had before the enhanced ones."""
    head = struct.pack(order + "HHIIII", number, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(2, head + frame, order)


def pcapng(frames: Sequence[tuple[int, bytes]], link: int = 1, order: str = "<") -> bytes:
    """A pcapng file of one section and one interface, with times in microseconds."""
    packets = [enhanced(frame, time // 1000, order) for time, frame in frames]
    return section(order) + interface(link, order) + b"".join(packets)
