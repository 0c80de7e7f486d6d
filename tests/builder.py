"""Traces made by hand, for the functions of a trace that need no kernel to be tested."""

import struct
from typing import Any

from rstkit.tcp import Flags
from rstkit.trace import Call, Packet, Program, State, Trace

ADDRESSES = {"client": "10.0.0.1", "server": "10.0.0.2"}
PORTS = {"client": 54892, "server": 8080}
ISN = {"client": 3_000_000_000, "server": 4_294_967_290}  # the server's wraps within a few bytes


def frame(
    sender: str, flags: Flags, seq: int, ack: int, payload: bytes = b"", window: int = 502, options: bytes = b""
) -> bytes:
    """An Ethernet frame from one host to the other; checksums are left at zero."""
    receiver = "server" if sender == "client" else "client"
    header = (20 + len(options)) // 4 << 4
    tcp = struct.pack("!HHIIBBHHH", PORTS[sender], PORTS[receiver], seq, ack, header, flags, window, 0, 0) + options
    addresses = [bytes(map(int, ADDRESSES[host].split("."))) for host in (sender, receiver)]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp) + len(payload), 7, 0x4000, 64, 6, 0, *addresses)
    return bytes(12) + b"\x08\x00" + ip + tcp + payload


def packet(
    number: int,
    sender: str,
    sent: float,
    arrived: float | None,
    flags: Flags,
    seq: int,
    ack: int = 0,
    payload: bytes = b"",
    lost: str | None = None,
    window: int = 502,
    options: bytes = b"",
) -> Packet:
    """A packet; ``seq`` and ``ack`` are relative to the initial sequence numbers above."""
    receiver = "server" if sender == "client" else "client"
    absolute_seq = (ISN[sender] + seq) % 2**32
    absolute_ack = (ISN[receiver] + ack) % 2**32 if flags & Flags.ACK else 0
    made = Packet.from_frame(
        number,
        sender,
        sent,
        arrived,
        frame(sender, flags, absolute_seq, absolute_ack, payload, window, options),
        lost,
    )
    assert made is not None
    return made


def data_after_close() -> Trace:
    """The client's process ends after sending; the server answers a second later and is reset."""
    syn, ack, fin, psh, rst = Flags.SYN, Flags.ACK, Flags.FIN, Flags.PSH, Flags.RST
    packets = (
        packet(1, "client", 0.0010, 0.0210, syn, 0),
        packet(2, "server", 0.0211, 0.0411, syn | ack, 0, 1),
        packet(3, "client", 0.0412, 0.0612, ack, 1, 1),
        packet(4, "client", 0.0414, 0.0614, psh | ack, 1, 1, b"hello world"),
        packet(5, "client", 0.0416, 0.0616, fin | ack, 12, 1),
        packet(6, "server", 0.0615, 0.0815, ack, 1, 12),
        packet(7, "server", 0.1020, 0.1220, ack, 1, 13),
        packet(8, "server", 1.0620, 1.0820, psh | ack, 1, 13, b"receive msg"),
        packet(9, "client", 1.0821, 1.1021, rst, 13),
    )
    here, there = packets[0].source, packets[0].destination

    def call(number: int, host: str, name: str, arguments: str, began: float, ended: float, **more: Any) -> Call:
        return Call(number, host, 100 if host == "client" else 101, name, arguments, began, ended, **more)

    calls = (
        call(1, "server", "listen", "", 0.0002, 0.0003, socket=1, local=there),
        call(2, "client", "connect", str(there), 0.0009, 0.0411, result="ok", socket=1, local=here, peer=there),
        call(
            3,
            "client",
            "sendall",
            "b'hello world'",
            0.0413,
            0.0414,
            result="ok",
            size=11,
            socket=1,
            local=here,
            peer=there,
        ),
        call(4, "client", "close", "", 0.0415, 0.0416, socket=1, local=here, peer=there, implicit=True),
        call(5, "server", "accept", "", 0.0004, 0.0613, result=str(here), socket=1, local=there),
        call(
            6,
            "server",
            "recv",
            "1024",
            0.0614,
            0.0615,
            result="b'hello world'",
            size=11,
            socket=2,
            local=there,
            peer=here,
        ),
        call(7, "server", "sleep", "1", 0.0616, 1.0617),
        call(
            8,
            "server",
            "send",
            "b'receive msg'",
            1.0618,
            1.0619,
            result="11",
            size=11,
            socket=2,
            local=there,
            peer=here,
        ),
        call(9, "server", "sleep", "0.1", 1.0620, 1.1630),
        call(
            10,
            "server",
            "send",
            "b'again'",
            1.1631,
            1.1632,
            errno="EPIPE",
            error="BrokenPipeError: [Errno 32] Broken pipe",
            socket=2,
            local=there,
            peer=here,
        ),
    )
    states = (
        State("server", 0.0003, there, None, "LISTEN"),
        State("client", 0.0010, here, there, "SYN_SENT"),
        State("server", 0.0211, there, here, "SYN_RECV"),
        State("client", 0.0411, here, there, "ESTABLISHED"),
        State("client", 0.0414, here, there, "ESTABLISHED", unacked=11),
        State("client", 0.0416, here, there, "FIN_WAIT1", unacked=12),
        State("server", 0.0612, there, here, "ESTABLISHED"),
        State("server", 0.0614, there, here, "ESTABLISHED", unread=11),
        State("server", 0.0615, there, here, "ESTABLISHED"),
        State("server", 0.0616, there, here, "CLOSE_WAIT"),
        State("client", 0.1220, here, there, "FIN_WAIT2"),
        State("client", 1.0821, here, there, "CLOSED"),
        State("server", 1.0620, there, here, "CLOSE_WAIT", unacked=11),
        State("server", 1.1021, there, here, "CLOSED"),
    )
    traceback = "Traceback (most recent call last):\n  ...\nBrokenPipeError: [Errno 32] Broken pipe\n"
    programs = (
        Program("server", "server", "def server(address):\n    ...\n", True, 0.0001, 1.1640, 1, None, traceback),
        Program("client", "client", "def client(address):\n    ...\n", True, 0.0008, 0.0417, 0, None),
    )
    return Trace(
        packets=packets,
        calls=calls,
        states=states,
        programs=programs,
        hosts=ADDRESSES,
        values={"rtt": 40, "nap": 1.0},
        duration=1.17,
        epoch_ns=1_790_000_000_000_000_000,
        backend="namespaces",
        kernel="Linux 6.18",
        version="0.1.0",
    )
