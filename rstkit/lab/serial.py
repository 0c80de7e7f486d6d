"""The notebook's end of a guest's serial line: each connection to a supervisor is a channel on it."""

import contextlib
import itertools
import os
import queue
import select
import socket
import threading
from collections import deque
from collections.abc import Callable

from .line import ACK, CLOSE, DATA, MOST, OPEN, Frames, frame


class SerialLine:
    """Carries what comes and goes, in a thread of its own, until the guest ends.

    ``reader``, ``writer`` and ``process``, a pidfd of the guest, are closed with it. ``first`` is
    what the guest is told before all else; ``ready`` is called when it has taken that, ``gone`` when
    it has ended.
    """

    def __init__(
        self, reader: int, writer: int, process: int, first: bytes, ready: Callable[[], None], gone: Callable[[], None]
    ) -> None:
        self._reader, self._writer, self._process = reader, writer, process
        self._ready, self._gone = ready, gone
        self._fresh: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._numbers = itertools.count(1)
        self._ends: dict[int, socket.socket] = {}  # by channel
        self._talking: dict[socket.socket, int] = {}  # those whose other side may still say something
        parts = [first[at : at + MOST] for at in range(0, len(first), MOST)]
        # One frame is on its way at a time (see `line`). The guest's own first ACK lets the first one go.
        self._waiting = deque([*(frame(0, DATA, part) for part in parts), frame(0, CLOSE)])
        self._on_its_way = True
        self.thread = threading.Thread(target=self._carry, name="rstkit guest", daemon=True)
        self.thread.start()

    def connect(self) -> socket.socket:
        """A connection to a new supervisor; it ends at once where the guest has ended."""
        ours, theirs = socket.socketpair()
        self._fresh.put(theirs)
        with contextlib.suppress(OSError):
            self._wake.send(b"w")
        return ours

    def _carry(self) -> None:
        frames = Frames()
        try:
            while self._step(frames):
                pass
        except OSError:  # the guest ended while something was on its way to it
            pass
        self._gone()
        self._wake.close()  # from now on what connects is closed below, or by `connect` itself
        self._woken.close()
        while not self._fresh.empty():
            self._fresh.get().close()
        for end in self._ends.values():
            end.close()
        for descriptor in (self._reader, self._writer, self._process):
            os.close(descriptor)

    def _step(self, frames: Frames) -> bool:
        """Wait for something, and carry it; False when the guest has ended."""
        # while something waits to be sent, no more is taken
        talking = {} if self._waiting or self._on_its_way else {end.fileno(): end for end in self._talking}
        for source in select.select([self._process, self._reader, self._woken.fileno(), *talking], [], [])[0]:
            if source == self._process:
                return False
            if source == self._reader:
                for received in frames.feed(os.read(self._reader, 1 << 16)):
                    self._inwards(*received)
            elif source in talking:
                self._outwards(talking[source])
            else:
                self._woken.recv(4096)
                self._open()
        if self._waiting and not self._on_its_way:
            os.write(self._writer, self._waiting.popleft())  # a pipe takes this much at once
            self._on_its_way = True
        return True

    def _open(self) -> None:
        while not self._fresh.empty():
            end, channel = self._fresh.get(), next(self._numbers)
            self._ends[channel], self._talking[end] = end, channel
            self._waiting.append(frame(channel, OPEN))

    def _inwards(self, channel: int, kind: int, payload: bytes) -> None:
        if kind == ACK:
            self._on_its_way = False
            if not self._waiting:
                self._ready()
        elif end := self._ends.get(channel):
            if kind == DATA:
                with contextlib.suppress(OSError):  # nobody waits for it any more
                    end.sendall(payload)
            else:
                self._talking.pop(end, None)
                del self._ends[channel]
                end.close()

    def _outwards(self, end: socket.socket) -> None:
        channel = self._talking.get(end)
        if channel is None:  # its supervisor has ended a moment ago
            return
        try:
            data = end.recv(MOST)
        except OSError:
            data = b""
        self._waiting.append(frame(channel, DATA if data else CLOSE, data))
        if not data:
            del self._talking[end]
