"""The TCP segments to and from a port that go over the loopback interface, each frame once and with the kernel's time.

scapy sniffs wherever it can. On Linux its import, 1.8 s, would put off the first run, and the
kernel hands out frames without it: there the socket of the lab's own wire is used.
"""

import contextlib
import ctypes
import os
import select
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..tcp import parse_frame
from .clock import realtime_offset
from .observe import SocketTable
from .wire import ANCILLARY, IGNORE_OUTGOING, kernel_time, open_end

if TYPE_CHECKING:
    from scapy.packet import Packet

Keep = Callable[[int, bytes], None]
"""Takes the time of a frame (`clock`, nanoseconds) and the frame as Ethernet has it."""

_SO_ATTACH_FILTER = 26
_STATISTICS = 263, 6  # SOL_PACKET, PACKET_STATISTICS
_MOST = 1 << 17  # bytes: a frame of the loopback interface holds up to 64 KiB, unsegmented


class Sniffer(Protocol):
    """Something that sniffs from when it is made, on a thread of its own."""

    def stop(self) -> int:
        """Hand over what has gone by, and no more from then on; how many frames were missed, where that is known."""
        ...

    def close(self) -> None:
        """Release what it holds, after `stop`."""
        ...


class PacketSniffer:
    """Linux, by packet(7); OSError where the machine forbids it."""

    def __init__(self, port: int, keep: Keep) -> None:
        self._keep = keep
        self._socket = open_end("lo")
        _filter(self._socket, port)
        self._offset = realtime_offset()
        self._stopping, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._sniff, daemon=True)
        self._thread.start()

    def _sniff(self) -> None:
        stopping = False
        while not stopping:
            ready, _, _ = select.select([self._socket.fileno(), self._stopping], [], [])
            stopping = self._stopping in ready
            while True:
                try:
                    data, ancillary, _, _ = self._socket.recvmsg(_MOST, ANCILLARY)
                except BlockingIOError:
                    break
                self._keep(kernel_time(ancillary, self._offset), data)

    def stop(self) -> int:
        os.write(self._stop, b"s")
        self._thread.join()
        _, drops = struct.unpack("II", self._socket.getsockopt(*_STATISTICS, 8))
        return int(drops)

    def close(self) -> None:
        """Release the socket, which takes the kernel some 20 ms."""
        self._socket.close()
        os.close(self._stopping)
        os.close(self._stop)


class ScapySniffer:
    """Any system, by scapy; OSError or scapy's own exception where the machine forbids it."""

    def __init__(self, port: int, keep: Keep) -> None:
        from scapy.all import AsyncSniffer, conf, resolve_iface  # noqa: PLC0415 - the slow import

        offset = realtime_offset()

        def take(packet: "Packet") -> None:
            data = _as_ethernet(packet)
            segment = parse_frame(data)
            if segment and port in (segment.source.port, segment.destination.port):
                keep(round(float(packet.time) * 1e9) - offset, data)

        name = conf.loopback_name
        self._socket: Any = resolve_iface(name).l2listen()(iface=name)
        if sys.platform == "linux":  # it would show each frame as sent and as received
            self._socket.ins.setsockopt(*IGNORE_OUTGOING)
        started = threading.Event()
        self._sniffer = AsyncSniffer(opened_socket=self._socket, store=False, prn=take, started_callback=started.set)
        self._sniffer.start()
        started.wait()

    def stop(self) -> int:
        self._sniffer.stop()
        return 0  # scapy does not tell

    def close(self) -> None:
        self._socket.close()


def _filter(sniffer: socket.socket, port: int) -> None:
    """Have the kernel hand out the TCP segments of one port alone (classic BPF, linux/filter.h).

    A notebook's own messages go over the same interface, and would fill the socket's buffer.
    """
    half, byte, beyond, header, equal, end = 0x28, 0x30, 0x48, 0xB1, 0x15, 0x06
    program = (
        (half, 0, 0, 12),  # 0: the EtherType
        (equal, 0, 7, 0x0800),  # 1: IPv4? else 9
        (byte, 0, 0, 23),  # 2: its protocol
        (equal, 0, 13, socket.IPPROTO_TCP),  # 3: TCP? else 17
        (header, 0, 0, 14),  # 4: the length of its header
        (beyond, 0, 0, 14),  # 5: the source's port
        (equal, 9, 0, port),  # 6: then 16
        (beyond, 0, 0, 16),  # 7: the destination's port
        (equal, 7, 8, port),  # 8: then 16, else 17
        (equal, 0, 7, 0x86DD),  # 9: IPv6? else 17
        (byte, 0, 0, 20),  # 10: its next header
        (equal, 0, 5, socket.IPPROTO_TCP),  # 11: TCP? else 17
        (half, 0, 0, 54),  # 12: the source's port
        (equal, 2, 0, port),  # 13: then 16
        (half, 0, 0, 56),  # 14: the destination's port
        (equal, 0, 1, port),  # 15: then 16, else 17
        (end, 0, 0, _MOST),  # 16: keep so many bytes
        (end, 0, 0, 0),  # 17: keep nothing
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    sniffer.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))


def _as_ethernet(packet: "Packet") -> bytes:
    """A frame with an Ethernet header, also where the system's loopback interface has another (DLT_NULL)."""
    data = bytes(packet.original)
    if type(packet).__name__.startswith("Loopback"):
        data = data[4:]
        return bytes(12) + (b"\x86\xdd" if data[:1] >= b"\x60" else b"\x08\x00") + data
    return data


def try_sniffing() -> str | None:
    """Send one datagram over Linux's loopback interface, and see it go by; see a socket listen by sock_diag(7)."""
    address = "127.0.0.1"
    try:
        with open_end("lo") as sniffer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            datagram.bind((address, 0))
            word = os.urandom(16)
            datagram.sendto(word, datagram.getsockname())
            seen = False
            with contextlib.suppress(BlockingIOError):
                while not seen:
                    seen = sniffer.recv(1 << 17).endswith(word)
    except PermissionError as error:
        return f"sniffing takes the capability NET_RAW, which this process does not have ({error.strerror})"
    except OSError as error:
        return f"the loopback interface cannot be sniffed ({error.strerror})"
    if not seen:
        return "what goes over the loopback interface is not shown to a sniffer"
    try:
        with socket.create_server((address, 0)) as listener:
            state = SocketTable().look(listener.getsockname(), None).state
    except OSError as error:
        return f"the states of sockets cannot be read ({error.strerror})"
    return None if state == "LISTEN" else "the kernel does not tell the states of sockets (sock_diag)"


def try_bpf() -> str | None:
    """Open one of macOS's /dev/bpf* as scapy does (bpf(4)); those that others have open are busy."""
    for device in sorted(Path("/dev").glob("bpf*")):
        try:
            os.close(os.open(device, os.O_RDWR))
        except PermissionError as error:
            return f"this user may not sniff: {device} ({error.strerror})"
        except OSError:
            continue
        return None
    return "there is no /dev/bpf* that is free"
