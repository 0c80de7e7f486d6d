"""A socket class that records each call, and the recorder that it writes to.

It stands in for `socket.socket` in a program's process, so the program is plain socket code. A
record is a JSON line on a pipe: ``["b", ...]`` as a call begins, ``["e", ...]`` as it ends, so a
call that never returns is seen as well. Times are CLOCK_MONOTONIC in nanoseconds.
"""

import array
import enum
import errno
import itertools
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from .clock import clock

if sys.platform == "linux":
    import fcntl

_SHOWN = 40  # bytes of data that a record shows
_TCP_CLOSE = 7  # net/tcp_states.h
_real_sleep = time.sleep
_SIOCINQ, _SIOCOUTQ, _SIOCOUTQNSD = 0x541B, 0x5411, 0x894B  # uapi/linux/sockios.h, asm-generic/ioctls.h


class Recorder:
    """Writes records to a pipe, as long as the descriptor is still that pipe.

    A program may close descriptors that it never opened; the number then may come to stand for
    a socket of its own, and nothing must be written there.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._inode = os.fstat(descriptor).st_ino
        self._numbers = itertools.count(1)
        self._sockets = itertools.count(1)
        self._lock = threading.Lock()

    def ready(self) -> None:
        """Tell that the program has been loaded: by an empty line, which is no record."""
        self._write(b"\n")

    def write(self, *record: Any) -> None:
        """Write one record: a JSON array on a line of its own."""
        self._write(json.dumps(record, separators=(",", ":")).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        with self._lock:
            try:
                if os.fstat(self._descriptor).st_ino == self._inode:
                    os.write(self._descriptor, line)
            except OSError:  # closed by the program
                pass

    def next_socket(self) -> int:
        return next(self._sockets)

    def call(
        self,
        of: "RecordedSocket | None",
        name: str,
        arguments: str,
        function: Callable[[], Any],
        show: Callable[[Any], str | None] = lambda _: None,
        size: Callable[[Any], int | None] = lambda _: None,
        *,
        implicit: bool = False,
    ) -> Any:
        """Run one call and record when it began and ended, and what came of it."""
        if of is not None and not of.of_ip:
            return function()
        number = next(self._numbers)
        which, local, peer = (of.number, of.local, of.peer) if of is not None else (0, None, None)
        here = os.getpid()
        queues = of.queues() if of is not None and name == "close" else None
        self.write("b", here, number, name, arguments, clock(), which, local, peer, implicit, queues)
        try:
            value = function()
        except BaseException as error:
            ended = clock()
            code = _code(error) if isinstance(error, OSError) else None
            self.write("e", here, number, ended, None, code, _cut(f"{type(error).__name__}: {error}"), None, *_ends(of))
            raise
        ended = clock()
        self.write("e", here, number, ended, _cut(show(value)), None, None, size(value), *_ends(of))
        return value


recorder: Recorder


class RecordedSocket(socket.socket):
    """`socket.socket`, with each call recorded."""

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:  # noqa: A002
        self.of_ip = family in (-1, socket.AF_INET, socket.AF_INET6)  # an event loop's own pair is no matter here
        self.number = recorder.next_socket() if self.of_ip else 0
        self.local: str | None = None
        self.peer: str | None = None

        def make() -> None:
            super(RecordedSocket, self).__init__(family, type, proto, fileno)

        if fileno is None:
            shown = ", ".join(
                _member(kind, value)
                for kind, value in ((socket.AddressFamily, family), (socket.SocketKind, type))
                if value != -1
            )
            recorder.call(self, "socket", shown, make)
        else:  # made from a descriptor: by accept, say, which is recorded itself
            make()
            self.find_ends()

    def find_ends(self) -> None:
        """Note both addresses, where the socket has them."""
        if not self.of_ip:
            return
        try:
            self.local = _address(super().getsockname())
            self.peer = _address(super().getpeername())
        except OSError:
            pass

    def queues(self) -> tuple[int, int, int] | None:
        """Bytes unread, unsent, and sent but not acknowledged (tcp(7)); None where it has none, or not on Linux."""
        if sys.platform != "linux":
            return None
        found = []
        for request in (_SIOCINQ, _SIOCOUTQNSD, _SIOCOUTQ):
            buffer = array.array("i", [0])
            try:
                fcntl.ioctl(self.fileno(), request, buffer)
            except OSError:  # a listener
                return None
            found.append(buffer[0])
        unread, unsent, unacked_too = found
        if super().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
            return unread, 0, 0  # the connection was reset: the numbers stand, but nothing will be sent any more
        return unread, unsent, unacked_too - unsent

    def bind(self, address: Any, /) -> None:
        recorder.call(self, "bind", _address(address), lambda: super(RecordedSocket, self).bind(address))

    def listen(self, *backlog: int) -> None:
        recorder.call(
            self, "listen", ", ".join(map(str, backlog)), lambda: super(RecordedSocket, self).listen(*backlog)
        )

    def accept(self) -> tuple[Self, Any]:
        def show(value: tuple[Self, Any]) -> str:
            return _address(value[1])

        accepted: tuple[Self, Any] = recorder.call(self, "accept", "", super().accept, show)
        return accepted

    def connect(self, address: Any, /) -> None:
        recorder.call(self, "connect", _address(address), lambda: super(RecordedSocket, self).connect(address))

    def connect_ex(self, address: Any, /) -> int:
        def show(code: int) -> str:
            return errno.errorcode.get(code, str(code))

        def run() -> int:
            return super(RecordedSocket, self).connect_ex(address)

        code: int = recorder.call(self, "connect_ex", _address(address), run, show)
        return code

    def send(self, data: Any, *flags: int) -> int:
        def run() -> int:
            return super(RecordedSocket, self).send(data, *flags)

        sent: int = recorder.call(self, "send", _data(data) + _more(flags), run, str, int)
        return sent

    def sendall(self, data: Any, *flags: int) -> None:
        def run() -> None:
            super(RecordedSocket, self).sendall(data, *flags)

        recorder.call(self, "sendall", _data(data) + _more(flags), run, size=lambda _: memoryview(data).nbytes)

    def recv(self, bufsize: int, *flags: int) -> bytes:
        def run() -> bytes:
            return super(RecordedSocket, self).recv(bufsize, *flags)

        data: bytes = recorder.call(self, "recv", f"{bufsize}{_more(flags)}", run, _data, len)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, *flags: int) -> int:
        def run() -> int:
            return super(RecordedSocket, self).recv_into(buffer, nbytes, *flags)

        def show(count: int) -> str:
            return _data(memoryview(buffer).cast("B")[:count])

        size = nbytes or memoryview(buffer).nbytes
        count: int = recorder.call(self, "recv_into", f"{size}{_more(flags)}", run, show, int)
        return count

    def shutdown(self, how: int, /) -> None:
        names = {socket.SHUT_RD: "SHUT_RD", socket.SHUT_WR: "SHUT_WR", socket.SHUT_RDWR: "SHUT_RDWR"}
        recorder.call(self, "shutdown", names.get(how, str(how)), lambda: super(RecordedSocket, self).shutdown(how))

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        def run() -> None:
            super(RecordedSocket, self).setsockopt(level, option, *value)

        recorder.call(self, "setsockopt", _option(level, option, value), run)

    def _real_close(self, *base: Any) -> None:
        """Close the descriptor: `socket.close` comes here once no file made by `makefile` is open."""
        if self.fileno() != -1:
            recorder.call(self, "close", "", lambda: super(RecordedSocket, self)._real_close(*base))  # type: ignore[misc]

    def __del__(self) -> None:
        """Record the close that Python makes when the last reference to an open socket goes."""
        if self.fileno() != -1:
            recorder.call(self, "close", "", lambda: super(RecordedSocket, self)._real_close(), implicit=True)  # type: ignore[misc]


def record_sleep(seconds: float, /) -> None:
    """`time.sleep`, recorded."""
    recorder.call(
        None,
        "sleep",
        f"{seconds:g}" if isinstance(seconds, int | float) else repr(seconds),
        lambda: _real_sleep(seconds),
    )


def install(descriptor: int) -> Recorder:
    """Record the calls of this process from now on, to a pipe."""
    global recorder  # noqa: PLW0603 - one process, one recorder
    recorder = Recorder(descriptor)
    socket.socket = RecordedSocket  # type: ignore[misc]
    time.sleep = record_sleep  # type: ignore[assignment]
    return recorder


def _ends(of: RecordedSocket | None) -> tuple[str | None, str | None]:
    if of is None:
        return None, None
    if of.peer is None and of.fileno() != -1:
        of.find_ends()
    return of.local, of.peer


def _member(kind: type[enum.IntEnum], value: int) -> str:
    try:
        return kind(value).name
    except ValueError:  # SOCK_STREAM with SOCK_NONBLOCK, say
        return str(int(value))


def _code(error: OSError) -> str | None:
    """The name of an error; on Windows without the prefix of its own, as in WSAECONNRESET."""
    name = errno.errorcode.get(error.errno or 0)
    return name and name.removeprefix("WSA")


def _cut(text: str | None, most: int = 300) -> str | None:
    return text if text is None or len(text) <= most else text[: most - 1] + "…"


def _address(address: Any) -> str:
    """An address as `Endpoint` writes it."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port, *_ = address
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return _cut(repr(address), 100) or ""


def _data(data: Any) -> str:
    """Bytes in short: the beginning, and how many there are."""
    view = memoryview(data).cast("B")
    if len(view) <= _SHOWN:
        return repr(bytes(view))
    return f"{bytes(view[: _SHOWN // 2])!r}… {len(view):,} B"


def _more(flags: tuple[int, ...]) -> str:
    return "".join(f", {_name('MSG_', flag) or flag}" for flag in flags if flag)


def _option(level: int, option: int, value: tuple[Any, ...]) -> str:
    levels = {
        socket.SOL_SOCKET: ("SOL_SOCKET", "SO_"),
        socket.IPPROTO_TCP: ("IPPROTO_TCP", "TCP_"),
        socket.IPPROTO_IP: ("IPPROTO_IP", "IP_"),
        socket.IPPROTO_IPV6: ("IPPROTO_IPV6", "IPV6_"),
    }
    name, prefix = levels.get(level, (str(level), ""))
    shown = [name, (prefix and _name(prefix, option)) or str(option)]
    if shown[1] == "SO_LINGER" and isinstance(value[0], bytes) and len(value[0]) == 8:
        on, seconds = struct.unpack("ii", value[0])
        return ", ".join([*shown, f"on, {seconds} s" if on else "off"])
    return ", ".join([*shown, *(_cut(repr(part), 60) or "" for part in value)])


def _name(prefix: str, number: int) -> str | None:
    names = [n for n in vars(socket) if n.startswith(prefix) and getattr(socket, n) == number]
    return min(names, key=len, default=None)  # SO_REUSEADDR, not SO_J1939_PROMISC
