"""What goes over the loopback interface, each frame once and with the kernel's time.

scapy sniffs wherever it can. On Linux its import, 1.8 s, would put off the first run, and the
kernel hands out frames without it: there the socket of the lab's own wire is used.
"""

import contextlib
import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .clock import realtime_offset
from .observe import SocketTable
from .wire import ANCILLARY, IGNORE_OUTGOING, kernel_time, open_end

if TYPE_CHECKING:
    from scapy.packet import Packet

Keep = Callable[[int, bytes], None]
"""Takes the time of a frame (`clock`, nanoseconds) and the frame as Ethernet has it."""

_MOST = 1 << 17  # bytes: a frame of the loopback interface holds up to 64 KiB, unsegmented


class Sniffer(Protocol):
    """Something that sniffs from when it is made, on a thread of its own."""

    def stop(self) -> None:
        """Hand over what has gone by, and no more from then on."""
        ...

    def close(self) -> None:
        """Release what it holds, after `stop`."""
        ...


class PacketSniffer:
    """Linux, by packet(7); OSError where the machine forbids it."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._socket = open_end("lo")
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

    def stop(self) -> None:
        os.write(self._stop, b"s")
        self._thread.join()

    def close(self) -> None:
        """Release the socket, which takes the kernel some 20 ms."""
        self._socket.close()
        os.close(self._stopping)
        os.close(self._stop)


class ScapySniffer:
    """Any system, by scapy; OSError or scapy's own exception where the machine forbids it."""

    def __init__(self, keep: Keep) -> None:
        from scapy.all import AsyncSniffer, conf, resolve_iface  # noqa: PLC0415 - the slow import

        offset = realtime_offset()

        def take(packet: "Packet") -> None:
            keep(round(float(packet.time) * 1e9) - offset, _as_ethernet(packet))

        name = conf.loopback_name
        self._socket: Any = resolve_iface(name).l2listen()(iface=name)
        if sys.platform == "linux":  # it would show each frame as sent and as received
            self._socket.ins.setsockopt(*IGNORE_OUTGOING)
        started = threading.Event()
        self._sniffer = AsyncSniffer(opened_socket=self._socket, store=False, prn=take, started_callback=started.set)
        self._sniffer.start()
        started.wait()

    def stop(self) -> None:
        self._sniffer.stop()

    def close(self) -> None:
        self._socket.close()


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
