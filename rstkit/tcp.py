"""TCP as data: flags, sequence arithmetic, and the layout of a frame's headers (RFC 9293, 3.1).

What is here knows nothing of labs or traces.
"""

import functools
import ipaddress
import struct
from enum import IntFlag
from typing import NamedTuple


class Flags(IntFlag):
    """The control bits of a TCP header (RFC 9293, 3.1; ECN bits of RFC 3168)."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80

    # IntFlag's own makes a member of each result, which is ten times as slow, and asked all the time.
    __and__ = int.__and__  # type: ignore[assignment]

    def __str__(self) -> str:
        """tcpdump's letters, for example ``S.`` for SYN ACK and ``none`` for no flag at all."""
        return "".join(letter for bit, letter in _LETTERS if self & bit) or "none"


# tcpdump's order: print-tcp.c, tcp_flag_values
_LETTERS = (
    (Flags.FIN, "F"),
    (Flags.SYN, "S"),
    (Flags.RST, "R"),
    (Flags.PSH, "P"),
    (Flags.ACK, "."),
    (Flags.URG, "U"),
    (Flags.ECE, "E"),
    (Flags.CWR, "W"),
)


class Endpoint(NamedTuple):
    """One end of a connection: an IP address as text and a port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Segment(NamedTuple):
    """The headers of one TCP segment, as they stood on the wire.

    ``length`` counts the payload bytes that the IP header announces; ``payload`` holds those
    that were captured, which are fewer in a snapped capture. ``window`` is the field as sent,
    not scaled. ``options`` are pairs of kind and data (RFC 9293, 3.2), padding left out.
    """

    source: Endpoint
    destination: Endpoint
    ttl: int
    ip_id: int
    seq: int
    ack: int
    flags: Flags
    window: int
    options: tuple[tuple[int, bytes], ...]
    length: int
    payload: bytes


def after(a: int, b: int) -> bool:
    """Whether sequence number ``a`` comes after ``b``, mod 2**32 (``after`` in include/net/tcp.h)."""
    return 0 < (a - b) % 2**32 < 2**31


def sequence_length(flags: Flags, length: int) -> int:
    """How many sequence numbers a segment uses up: its bytes, and one each for SYN and FIN."""
    return length + _SYN_AND_FIN[flags & 3]


_FLAGS = tuple(map(Flags, range(256)))  # made once: an enum makes them slowly
_SYN_AND_FIN = tuple(bool(flags & Flags.SYN) + bool(flags & Flags.FIN) for flags in _FLAGS[:4])
_ETHERTYPE_IPV4 = b"\x08\x00"
_ETHERTYPE_IPV6 = b"\x86\xdd"
_IPV4 = struct.Struct("!BxHHHBB2x4s4s").unpack_from
_IPV6 = struct.Struct("!B3xHBB16s16s").unpack_from
_HEADER = struct.Struct("!HHIIBBH").unpack_from
_TCP = 6


_Carried = tuple[bytes, bytes, int, int, int, bytes]


@functools.lru_cache(1 << 16)
def _address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


@functools.lru_cache(1 << 16)
def endpoint(packed: bytes, port: int) -> Endpoint:
    """An end, of whose address there are 4 or 16 bytes."""
    return Endpoint(_address(packed), port)


def _unwrap(frame: bytes) -> _Carried | None:
    """Both addresses, TTL, IP id, how long the TCP segment is by the IP header, and what is there of it."""
    ethertype = frame[12:14]
    if ethertype == _ETHERTYPE_IPV4 and len(frame) >= 34:
        version, total, ip_id, fragment, ttl, protocol, here, there = _IPV4(frame, 14)
        header = (version & 0x0F) * 4
        if version >> 4 != 4 or header < 20 or protocol != _TCP or fragment & 0x1FFF:
            return None
    elif ethertype == _ETHERTYPE_IPV6 and len(frame) >= 54:
        version, length, protocol, ttl, here, there = _IPV6(frame, 14)
        if version >> 4 != 6 or protocol != _TCP:
            return None
        header, total, ip_id = 40, 40 + length, 0
    else:
        return None
    tcp = frame[14 + header : 14 + total]
    return here, there, ttl, ip_id, total - header, tcp


def parse_frame(frame: bytes) -> Segment | None:
    """The TCP segment in an Ethernet frame; None where the frame holds none or is cut too short.

    A header that claims less than its 20 bytes, or more than the segment has, makes no segment:
    a receiver drops it as well (tcp_v4_rcv).
    """
    carried = _unwrap(frame)
    if carried is None:
        return None
    source, destination, ttl, ip_id, length, tcp = carried
    if len(tcp) < 20:
        return None
    source_port, destination_port, seq, ack, offset, bits, window = _HEADER(tcp)
    data = (offset >> 4) * 4
    if not 20 <= data <= length:
        return None
    options = parse_options(tcp[20:data]) if data > 20 else ()
    ends = endpoint(source, source_port), endpoint(destination, destination_port)
    return Segment(*ends, ttl, ip_id, seq, ack, _FLAGS[bits], window, options, length - data, tcp[data:])


def tcp_header(frame: bytes) -> bytes:
    """The TCP header in a frame that `parse_frame` can read, options and padding included."""
    carried = _unwrap(frame)
    if carried is None or len(carried[-1]) < 20:
        return b""
    tcp = carried[-1]
    return tcp[: (tcp[12] >> 4) * 4]


def parse_options(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """The options of a TCP header (RFC 9293, 3.2); stops where they are malformed."""
    options, at, end = [], 0, len(data)
    while at < end and data[at] != 0:  # 0 ends the list
        if data[at] == 1:  # no operation: padding
            at += 1
            continue
        if at + 1 == end or not 2 <= data[at + 1] <= end - at:
            break
        options.append((data[at], data[at + 2 : at + data[at + 1]]))
        at += data[at + 1]
    return tuple(options)
