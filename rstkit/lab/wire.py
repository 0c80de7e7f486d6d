"""The wire: carries frames between the two hosts, and delays or drops them.

It sees each frame when the sender's kernel hands it over and when it hands it to the receiver,
so it knows both ends of every arrow. Broadcasts and multicasts are left lying: between two hosts
that know each other's addresses they belong to no lesson.
"""

import contextlib
import random
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .clock import realtime_offset

_ETH_P_ALL = 3
IGNORE_OUTGOING = 263, 23, 1  # SOL_PACKET, PACKET_IGNORE_OUTGOING
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
_BUFFER = 8 << 20
ANCILLARY = 64  # bytes: room for a timestamp
MOST_FRAMES = 50_000
_BATCH = 64


@dataclass(slots=True)
class Frame:
    """A frame that was carried: times are CLOCK_MONOTONIC in nanoseconds, ``arrived`` None if lost or on its way."""

    sender: str
    sent: int
    data: bytes
    arrived: int | None = None
    lost: str | None = None


class Wire:
    """Two ends, named as the hosts they lead to; made in the network namespace that holds the devices."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self.ends = {host: open_end(host) for host in hosts}
        self._other = dict(zip(hosts, reversed(hosts), strict=True))
        self._queue: deque[tuple[int, Frame]] = deque()
        self.frames: list[Frame] = []
        self.not_kept = 0
        self._delay = 0
        self._loss = 0.0
        self._drop: Collection[tuple[str, int]] = ()
        self._random = random.Random()  # noqa: S311 - which frames are lost is no secret
        self._sent: Counter[str] = Counter()
        self._realtime_offset = 0

    def set_up(self, rtt: float, loss: float, seed: int, drop: Collection[tuple[str, int]]) -> None:
        """Set the round-trip time (milliseconds), the loss (per cent) and the frames to drop.

        ``drop`` names frames by sender and number: ``("client", 1)`` is the first that the client sends.
        """
        self._delay = round(rtt * 1e6 / 2)
        self._loss = loss / 100
        self._random.seed(seed)
        self._drop = drop
        self._realtime_offset = realtime_offset()

    @property
    def in_flight(self) -> int:
        """How many frames are on their way."""
        return len(self._queue)

    @property
    def next_delivery(self) -> int | None:
        """When the next frame is due (CLOCK_MONOTONIC, nanoseconds)."""
        return self._queue[0][0] if self._queue else None

    def take(self, host: str) -> list[Frame]:
        """Take what a host has sent, up to a batch; deliver at once what has no delay."""
        taken = []
        for _ in range(_BATCH):
            try:
                data, ancillary, _, _ = self.ends[host].recvmsg(65536, ANCILLARY)
            except (BlockingIOError, InterruptedError):
                break
            if data[0] & 1:  # the group bit of the destination's MAC address
                continue
            frame = Frame(host, kernel_time(ancillary, self._realtime_offset), data)
            self._sent[host] += 1
            if (host, self._sent[host]) in self._drop:
                frame.lost = "dropped: on the list of frames to drop"
            elif self._loss and self._random.random() < self._loss:
                frame.lost = "lost at random"
            elif self._delay:
                self._queue.append((frame.sent + self._delay, frame))
            else:
                self._hand_over(frame)
            taken.append(frame)
            if len(self.frames) < MOST_FRAMES:
                self.frames.append(frame)
            else:
                self.not_kept += 1
        return taken

    def deliver(self) -> list[Frame]:
        """Hand over the frames that are due."""
        delivered = []
        while self._queue and self._queue[0][0] <= time.monotonic_ns():
            frame = self._queue.popleft()[1]
            self._hand_over(frame)
            delivered.append(frame)
        return delivered

    def _hand_over(self, frame: Frame) -> None:
        frame.arrived = time.monotonic_ns()  # before: the receiver may answer within the call
        try:
            self.ends[self._other[frame.sender]].send(frame.data)
        except OSError as error:  # ENOBUFS: the receiving device's queue is full
            frame.arrived, frame.lost = None, f"lost: the receiver's queue was full ({error.strerror})"


def kernel_time(ancillary: list[tuple[int, int, bytes]], offset: int) -> int:
    """The kernel's timestamp of a frame on CLOCK_MONOTONIC; ``offset`` is how far the wall clock is ahead of that.

    It is never later than now: the wall clock, which the kernel's timestamps follow, may be set back.
    """
    now = time.monotonic_ns()
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("=qq", data)
            return min(int(seconds * 10**9 + nanoseconds - offset), now)
    return now


def open_end(device: str) -> socket.socket:
    """A socket for all frames that a device receives, each with the kernel's timestamp (packet(7))."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    end.setsockopt(*IGNORE_OUTGOING)
    end.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    with contextlib.suppress(PermissionError):  # beyond net.core.rmem_max, where that is allowed
        end.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    end.bind((device, _ETH_P_ALL))
    return end
