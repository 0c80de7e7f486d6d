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
    return length + bool(flags & Flags.SYN) + bool(flags & Flags.FIN)


_FLAGS = tuple(map(Flags, range(256)))  # made once: an enum makes them slowly
_ETHERTYPE_IPV4 = b"\x08\x00"
_ETHERTYPE_IPV6 = b"\x86\xdd"
_TCP = 6


class _Carried(NamedTuple):
    """What an IP header tells of the TCP segment behind it; ``tcp`` may be cut, ``length`` is the whole."""

    source: str
    destination: str
    ttl: int
    ip_id: int
    length: int
    tcp: bytes


@functools.lru_cache(4096)
def _address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _unwrap(frame: bytes) -> _Carried | None:
    """The TCP segment in an Ethernet frame, without the headers before it."""
    ethertype, packet = frame[12:14], frame[14:]
    if ethertype == _ETHERTYPE_IPV4 and len(packet) >= 20:
        header, total = (packet[0] & 0x0F) * 4, int.from_bytes(packet[2:4])
        fragment_offset = int.from_bytes(packet[6:8]) & 0x1FFF
        if packet[0] >> 4 != 4 or header < 20 or packet[9] != _TCP or fragment_offset:
            return None
        source, destination = _address(packet[12:16]), _address(packet[16:20])
        ip_id, ttl = int.from_bytes(packet[4:6]), packet[8]
    elif ethertype == _ETHERTYPE_IPV6 and len(packet) >= 40:
        header, total = 40, 40 + int.from_bytes(packet[4:6])
        if packet[0] >> 4 != 6 or packet[6] != _TCP:
            return None
        source, destination = _address(packet[8:24]), _address(packet[24:40])
        ip_id, ttl = 0, packet[7]
    else:
        return None
    return _Carried(source, destination, ttl, ip_id, total - header, packet[header:total])


def parse_frame(frame: bytes) -> Segment | None:
    """The TCP segment in an Ethernet frame; None where the frame holds none or is cut too short.

    A header that claims less than its 20 bytes, or more than the segment has, makes no segment:
    a receiver drops it as well (tcp_v4_rcv).
    """
    carried = _unwrap(frame)
    if carried is None or len(carried.tcp) < 20:
        return None
    tcp = carried.tcp
    source_port, destination_port, seq, ack, offset, bits, window = struct.unpack_from("!HHIIBBH", tcp)
    data = (offset >> 4) * 4
    if not 20 <= data <= carried.length:
        return None
    return Segment(
        source=Endpoint(carried.source, source_port),
        destination=Endpoint(carried.destination, destination_port),
        ttl=carried.ttl,
        ip_id=carried.ip_id,
        seq=seq,
        ack=ack,
        flags=_FLAGS[bits],
        window=window,
        options=parse_options(tcp[20:data]),
        length=carried.length - data,
        payload=tcp[data:],
    )


def tcp_header(frame: bytes) -> bytes:
    """The TCP header in a frame that `parse_frame` can read, options and padding included."""
    carried = _unwrap(frame)
    return carried.tcp[: (carried.tcp[12] >> 4) * 4] if carried and len(carried.tcp) >= 20 else b""


def parse_options(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """The options of a TCP header (RFC 9293, 3.2); stops where they are malformed."""
    options = []
    while data and data[0] != 0:  # 0 ends the list
        if data[0] == 1:  # no operation: padding
            data = data[1:]
            continue
        if len(data) < 2 or not 2 <= data[1] <= len(data):
            break
        options.append((data[0], data[2 : data[1]]))
        data = data[data[1] :]
    return tuple(options)
