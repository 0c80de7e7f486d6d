"""The states of the sockets that a run is about: each connection is watched from its first frame on."""

import time
from collections.abc import Callable

from ..tcp import parse_frame
from .observe import CLOSED, SocketState

_SAMPLE_EVERY = 5_000_000  # nanoseconds
_SAMPLE_AT_MOST_EVERY = 1_000_000
_MOST_ENDS = 200  # connection ends whose states are sampled
_AT_REST = ("CLOSED", "TIME_WAIT", "FIN_WAIT2", "LISTEN")  # states in which an orphan sends nothing by itself

Address = tuple[str, int]


class Watch:
    """Samples states; ``look`` gives that of a host's socket by its two ends, the second None for a listener."""

    def __init__(self, look: Callable[[str, Address, Address | None], SocketState]) -> None:
        self._look = look
        self.states: list[tuple[str, int, Address, Address | None, SocketState]] = []
        self._active: dict[tuple[str, Address, Address | None], SocketState] = {}
        self._seen: set[bytes] = set()
        self._sampled = 0
        self._moved = False

    def listens(self, host: str, local: Address) -> bool:
        """Whether a socket listens there; it is watched from then on."""
        found = self._look(host, local, None)
        if found.state != "LISTEN":
            return False
        self._active[host, local, None] = found
        self.states.append((host, time.monotonic_ns(), local, None, found))
        return True

    def note(self, sender: str, receiver: str, data: bytes) -> None:
        """Have both ends of a frame's connection watched, and looked at soon."""
        self._moved = True
        key = data[14:58] if data[12:14] == b"\x86\xdd" else data[26:38]  # addresses, ports
        if key in self._seen or len(self._active) >= _MOST_ENDS:
            return
        self._seen.add(key)
        segment = parse_frame(data)
        if segment:
            self._active.setdefault((sender, segment.source, segment.destination), CLOSED)
            self._active.setdefault((receiver, segment.destination, segment.source), CLOSED)

    def next_sample(self, delivery: int | None = None) -> int:
        """When to look next (CLOCK_MONOTONIC, nanoseconds); ``delivery`` is when the next frame will arrive."""
        if self._moved:
            return self._sampled + _SAMPLE_AT_MOST_EVERY
        due = self._sampled + _SAMPLE_EVERY
        # a look just before a frame arrives would put off the one that is wanted right after it
        return delivery if delivery and due < delivery < due + _SAMPLE_AT_MOST_EVERY else due

    def sample(self) -> None:
        """Look at each watched socket, and keep what has changed since the last look."""
        self._sampled, self._moved = time.monotonic_ns(), False
        for end, last in list(self._active.items()):
            found = self._look(*end)
            if found == last:
                continue
            self.states.append((end[0], time.monotonic_ns(), end[1], end[2], found))
            if found == CLOSED:
                del self._active[end]
                self._seen.clear()  # the same addresses and ports may come to be another connection's
            else:
                self._active[end] = found

    @property
    def at_rest(self) -> bool:
        """Whether no watched socket, as of the last look, will send anything by itself."""
        return all(state.state in _AT_REST for state in self._active.values())
