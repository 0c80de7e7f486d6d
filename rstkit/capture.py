"""Packets as other tools have them: a pcapng file, and scapy's list.

The format is that of draft-ietf-opsawg-pcapng. scapy writes pcapng as well, but neither
nanoseconds nor a comment on the file.
"""

import struct
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from .explain import explain
from .trace import Packet, Trace

if TYPE_CHECKING:
    from scapy.plist import PacketList

# Blocks and options of the draft: sections 4.1 to 4.3 and 3.5
SECTION_HEADER, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
_END, COMMENT = 0, 1
SHB_OS, SHB_USERAPPL = 3, 4
IF_NAME, IF_TSRESOL = 2, 9
_ETHERNET = 1  # LINKTYPE_ETHERNET
_MOST = 0xFFFC  # bytes of an option, whose length is a 16-bit number


def write_pcapng(trace: Trace, path: str | Path) -> None:
    """Write the packets to a pcapng file that Wireshark opens, in order of sending.

    The time of a packet is when it was sent, on the wall clock, in nanoseconds. Each RST has a
    comment that says why it was sent, the packet that provoked it has one that points at it, and
    a lost packet one that says so; the comment on the file tells how it was made. OSError where
    the file cannot be written.
    """
    comments = _comments(trace)
    blocks = [_section_header(trace), _interface()]
    blocks += [_packet(p, trace.epoch_ns, comments[p.number]) for p in trace.packets]
    Path(path).write_bytes(b"".join(blocks))


def to_scapy(trace: Trace) -> "PacketList":
    """The packets as a scapy PacketList, lost ones included; ``time`` is when each was sent, on the wall clock."""
    # scapy.all takes three times as long to import
    from scapy.layers import inet, inet6  # noqa: F401 - they teach Ether what it carries
    from scapy.layers.l2 import Ether
    from scapy.packet import Packet as ScapyPacket
    from scapy.plist import PacketList
    from scapy.utils import EDecimal

    packets: list[ScapyPacket] = []
    for p in trace.packets:
        packet = Ether(p.frame)
        packet.time = EDecimal(Decimal(_nanoseconds(p, trace.epoch_ns)).scaleb(-9))
        packets.append(packet)
    return PacketList(packets, f"rstkit, {trace.origin}" if trace.origin else "rstkit")


def _nanoseconds(packet: Packet, epoch_ns: int) -> int:
    return epoch_ns + round(packet.sent * 1e9)


def _comments(trace: Trace) -> dict[int, list[str]]:
    """The comments on each packet, by its number, which is its place in the file."""
    comments: dict[int, list[str]] = defaultdict(list)
    for reset in explain(trace):
        first, *repeats = (packet.number for packet in reset.packets)
        told = f"{reset.cause.title} ({reset.confidence})."
        comments[first].append(f"RST: {told} {reset.why}")
        for number in repeats:
            comments[number].append(f"One more RST of the same reset as packet {first}.")
        if reset.trigger:
            comments[reset.trigger.number].append(f"Provoked the RST, packet {first}: {told}")
    for packet in trace.packets:
        if packet.lost is not None:
            comments[packet.number].append(f"Never arrived ({packet.lost}).")
    return comments


def _section_header(trace: Trace) -> bytes:
    values = ", ".join(f"{name}={value!r}" for name, value in trace.values.items())
    made = f"Made by rstkit {trace.version} in the backend {trace.backend!r} on {trace.kernel}. Values: {values}."
    if trace.origin:
        made = " ".join([f"Not live: {trace.origin}. Values: {values}.", *trace.problems])
    return block(
        SECTION_HEADER,
        struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1),  # byte order, version 1.0, a length that is not told
        (COMMENT, made),
        (SHB_OS, trace.kernel),
        (SHB_USERAPPL, f"rstkit {trace.version}"),
    )


def _interface() -> bytes:
    body = struct.pack("<HHI", _ETHERNET, 0, 0)  # 0: packets may be of any length
    return block(INTERFACE, body, (IF_NAME, "wire"), (IF_TSRESOL, bytes([9])))


def _packet(packet: Packet, epoch_ns: int, comments: list[str]) -> bytes:
    time = _nanoseconds(packet, epoch_ns) % 2**64
    size = len(packet.frame)
    whole = size + packet.length - len(packet.payload)  # a capture may have cut the frame
    head = struct.pack("<IIIII", 0, time >> 32, time & 0xFFFFFFFF, size, whole)
    return block(PACKET, head + padded(packet.frame), *((COMMENT, comment) for comment in comments))


def block(kind: int, body: bytes, *options: tuple[int, str | bytes]) -> bytes:
    """A block of a pcapng file with its options; a text is cut to what an option can hold."""
    for code, value in options:
        data = value if isinstance(value, bytes) else _encoded(value)
        body += struct.pack("<HH", code, len(data)) + padded(data)
    if options:
        body += struct.pack("<HH", _END, 0)
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length


def padded(data: bytes) -> bytes:
    """To a multiple of four bytes."""
    return data + bytes(-len(data) % 4)


def _encoded(text: str) -> bytes:
    """The text in UTF-8, cut to what an option can hold."""
    return text.encode(errors="backslashreplace")[:_MOST].decode(errors="ignore").encode()
