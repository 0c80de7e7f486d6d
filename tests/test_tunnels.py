"""Connections inside tunnels: tshark counts as many, and the packets read back as they went in."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from rstkit.captures import read
from rstkit.explain import explain

from .files import ACK, PSH, RST, SYN, ip, pcap, tcp
from .test_captures import NOW, by_tshark, counts

V4, V6 = ("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")
OUTER = ("192.0.2.1", "192.0.2.2")
OUTER6 = ("fd00::1", "fd00::2")


def ethernet(packet: bytes, kind: int | None = None) -> bytes:
    kind = kind or (0x0800 if packet[0] >> 4 == 4 else 0x86DD)
    return bytes(12) + struct.pack("!H", kind) + packet


def carried(protocol: int, inside: bytes, ends: tuple[str, str] = OUTER) -> bytes:
    """An IP packet with another protocol than TCP."""
    packet = bytearray(ip(*ends, inside))
    packet[9 if packet[0] >> 4 == 4 else 6] = protocol
    return bytes(packet)


def udp(port: int, inside: bytes) -> bytes:
    return struct.pack("!HHHH", 50_000, port, 8 + len(inside), 0) + inside


def kind_of(packet: bytes) -> int:
    return 0x0800 if packet[0] >> 4 == 4 else 0x86DD


def gre(packet: bytes, bits: int = 0, fields: bytes = b"") -> bytes:
    return carried(47, struct.pack("!HH", bits, kind_of(packet)) + fields + packet)


def erspan(packet: bytes, version: int) -> bytes:
    head = bytes([version - 1 << 4, 0]) + bytes(6 if version == 2 else 10)
    kind = 0x88BE if version == 2 else 0x22EB
    return carried(47, struct.pack("!HHI", 0x1000, kind, 7) + head + ethernet(packet))


def mpls(packet: bytes, labels: int) -> bytes:
    stack = b"".join(struct.pack("!I", 100 + n << 12 | (n == labels - 1) << 8 | 64) for n in range(labels))
    return ethernet(stack + packet, 0x8847)


def pppoe(packet: bytes) -> bytes:
    kind = 0x21 if packet[0] >> 4 == 4 else 0x57
    return ethernet(struct.pack("!BBHHH", 0x11, 0, 1, 2 + len(packet), kind) + packet, 0x8864)


def vxlan(inside: bytes) -> bytes:
    return udp(4789, b"\x08\0\0\0" + b"\0\0\x07\0" + inside)


def geneve(packet: bytes, options: bytes = b"") -> bytes:
    return udp(6081, struct.pack("!BBHI", len(options) // 4, 0, 0x6558, 7 << 8) + options + ethernet(packet))


def gtp(packet: bytes, bits: int = 0) -> bytes:
    rest = (b"\0\x01\0\0" if bits else b"") + packet
    return udp(2152, struct.pack("!BBHI", 0x30 | bits, 255, len(rest), 9) + rest)


TUNNELS: dict[str, Callable[[bytes], bytes]] = {
    "ip in ip": lambda p: ethernet(carried(4 if p[0] >> 4 == 4 else 41, p)),
    "ip in ipv6": lambda p: ethernet(carried(4 if p[0] >> 4 == 4 else 41, p, OUTER6)),
    "gre": lambda p: ethernet(gre(p)),
    "gre with all fields": lambda p: ethernet(gre(p, 0xB000, bytes(4) + b"\0\0\0\x07" + b"\0\0\0\x01")),
    "erspan 2": lambda p: ethernet(erspan(p, 2)),
    "erspan 3": lambda p: ethernet(erspan(p, 3)),
    "vxlan": lambda p: ethernet(carried(17, vxlan(ethernet(p)))),
    "vxlan over ipv6": lambda p: ethernet(carried(17, vxlan(ethernet(p)), OUTER6)),
    "vlan in vxlan": lambda p: ethernet(carried(17, vxlan(ethernet(struct.pack("!HH", 5, kind_of(p)) + p, 0x8100)))),
    "vxlan in a vlan": lambda p: ethernet(struct.pack("!HH", 5, 0x0800) + carried(17, vxlan(ethernet(p))), 0x8100),
    "geneve": lambda p: ethernet(carried(17, geneve(p))),
    "geneve with options": lambda p: ethernet(carried(17, geneve(p, bytes(8)))),
    "gtp": lambda p: ethernet(carried(17, gtp(p))),
    "gtp with a number": lambda p: ethernet(carried(17, gtp(p, 2))),
    "pppoe": pppoe,
    "mpls": lambda p: mpls(p, 1),
    "three labels": lambda p: mpls(p, 3),
    "a tunnel in a tunnel": lambda p: ethernet(gre(carried(17, vxlan(ethernet(p))))),
}


def story(ends: tuple[str, str]) -> list[bytes]:
    here, there = ends
    return [
        ip(here, there, tcp(40_000, 80, SYN, 99)),
        ip(there, here, tcp(80, 40_000, SYN | ACK, 499, 100)),
        ip(here, there, tcp(40_000, 80, ACK, 100, 500)),
        ip(here, there, tcp(40_000, 80, PSH | ACK, 100, 500, b"hello")),
        ip(there, here, tcp(80, 40_000, RST | ACK, 500, 105)),
    ]


@pytest.mark.parametrize("ends", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("name", TUNNELS)
def test_what_a_tunnel_carries(tmp_path: Path, name: str, ends: tuple[str, str]) -> None:
    path = tmp_path / "tunnel.pcap"
    path.write_bytes(pcap([(NOW + n * 1_000_000, TUNNELS[name](packet)) for n, packet in enumerate(story(ends))]))
    capture = read(path)
    assert counts(capture) == by_tshark(path) == (5, 5, 1, 1)
    (connection,) = capture.reset_connections
    assert (connection.client.address, connection.server.address) == ends
    trace = connection.trace()
    assert [(p.seq, p.ack, p.length) for p in trace.packets] == [
        (99, 0, 0), (499, 100, 0), (100, 500, 0), (100, 500, 5), (500, 105, 0)
    ]  # fmt: skip
    (reset,) = explain(trace)
    assert reset.cause.key == "unread-data"


@pytest.mark.parametrize("cut", [16, 30, 36, 44, 52, 60, 70])
@pytest.mark.parametrize("name", TUNNELS)
def test_a_tunnel_that_is_cut_off(tmp_path: Path, name: str, cut: int) -> None:
    frames = [(NOW + n, TUNNELS[name](packet)[:cut]) for n, packet in enumerate(story(V4))]
    (tmp_path / "cut.pcap").write_bytes(pcap(frames))
    assert read(tmp_path / "cut.pcap").packets == 5


def test_what_is_no_tunnel(tmp_path: Path) -> None:
    """Other protocols on UDP, a later fragment of a tunnel, PPTP's GRE, and labels without an end."""
    packet = story(V4)[0]
    later = bytearray(carried(47, struct.pack("!HH", 0, 0x0800) + packet))
    later[6:8] = struct.pack("!H", 100)
    frames = [
        ethernet(carried(17, udp(53, b"\x08\0\0\0" + bytes(4) + ethernet(packet)))),
        ethernet(carried(17, udp(4789, bytes(8) + ethernet(packet)))),
        ethernet(bytes(later)),
        ethernet(carried(47, struct.pack("!HHHH", 1, 0x880B, 0, 0) + packet)),
        ethernet(struct.pack("!I", 64) * 20 + packet, 0x8847),
        ethernet(bytes(28), 0x0806),
    ]
    (tmp_path / "none.pcap").write_bytes(pcap([(NOW, frame) for frame in frames]))
    capture = read(tmp_path / "none.pcap")
    assert (capture.packets, capture.segments) == (6, 0)
