"""Process 1 of a guest kernel: makes it ready for labs, and connects its serial line with their supervisors.

The guest shares the machine's files (hostfs) and nothing else. The standard library and rstkit's
lab are all that is loaded here: each import takes many times as long as outside.
"""

import contextlib
import json
import os
import select
import socket
import sys
import tty
from typing import NoReturn

from . import kernel
from .line import ACK, CLOSE, DATA, MOST, OPEN, Frames, frame

_DEVICE = "/dev/ttyS0"
_PAGE = 4096


def main(modules: list[str]) -> NoReturn:
    """Get ready, say so, learn where Python's packages are, and relay until the machine ends this guest."""
    kernel.mount("proc", "/proc")
    for module in modules:
        kernel.load_module(module)
    line = os.open(_DEVICE, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    os.write(line, frame(0, ACK))
    frames, path, told = Frames(), bytearray(), False
    while not told:
        for channel, kind, payload in frames.feed(os.read(line, _PAGE)):
            os.write(line, frame(channel, ACK))
            path += payload
            told = kind == CLOSE
    sys.path[:] = json.loads(path)
    _Relay(line, frames, _start_fork_server(line)).run()


def _start_fork_server(line: int) -> socket.socket:
    """The fork server, as on any machine; the socket over which it hands out supervisors."""
    from . import forkserver  # noqa: PLC0415 - needs the path that has come by now

    ours, theirs = socket.socketpair()
    parent = os.getpid()
    if os.fork() == 0:
        try:
            ours.close()
            os.close(line)
            forkserver.main(theirs.detach(), parent)
        finally:
            os._exit(1)
    theirs.close()
    return ours


class _Relay:
    """Between the serial line and the supervisors, each on a channel of its own."""

    def __init__(self, line: int, frames: Frames, control: socket.socket) -> None:
        self._line, self._frames, self._control = line, frames, control
        self._supervisors: dict[int, socket.socket] = {}

    def run(self) -> NoReturn:
        while True:
            channels = {supervisor.fileno(): channel for channel, supervisor in self._supervisors.items()}
            for ready in select.select([self._line, *channels], [], [])[0]:
                if ready == self._line:
                    self._inwards(os.read(self._line, _PAGE))
                else:
                    self._outwards(channels[ready])

    def _inwards(self, data: bytes) -> None:
        for channel, kind, payload in self._frames.feed(data):
            if kind == OPEN:
                self._control.send(b"s")
                self._supervisors[channel] = socket.socket(fileno=socket.recv_fds(self._control, 1, 1)[1][0])
            elif supervisor := self._supervisors.get(channel):
                with contextlib.suppress(OSError):  # it has ended, which is told when its end is read
                    supervisor.sendall(payload) if kind == DATA else supervisor.shutdown(socket.SHUT_WR)
            self._say(frame(channel, ACK))

    def _outwards(self, channel: int) -> None:
        supervisor = self._supervisors[channel]
        try:
            data = supervisor.recv(MOST)
        except ConnectionResetError:
            data = b""
        self._say(frame(channel, DATA if data else CLOSE, data))
        if not data:
            supervisor.close()
            del self._supervisors[channel]

    def _say(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._line, data) :]
