"""What one run showed, on one clock.

A trace is plain data: what is drawn, told or explained is computed from it by functions that
take a trace, so a live trace, a recorded one and a capture from elsewhere go the same way.
All times are seconds since the trace's own zero; all sequence numbers are mod 2**32.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from .errors import TraceError
from .tcp import Endpoint, Flags, parse_frame, sequence_length

if TYPE_CHECKING:  # the methods below load these when they are called: a trace needs none of them
    from scapy.plist import PacketList

    from .explain import Reset

RECORDED = "recorded"  # the backend of a trace that is shown where nothing can run
_LAST = 253_402_300_799  # seconds: the end of the year 9999, after which datetime knows none


class Packet(NamedTuple):
    """A TCP segment seen on the wire.

    ``number`` counts from 1 in order of sending. ``sender`` is the host that sent it. ``sent``
    and ``arrived`` are in seconds; ``arrived`` is None where it was lost, and ``lost`` then
    says why. ``frame`` is the Ethernet frame; the other fields are read from it.
    """

    number: int
    sender: str
    sent: float
    arrived: float | None
    frame: bytes
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
    lost: str | None = None

    @classmethod
    def from_frame(
        cls, number: int, sender: str, sent: float, arrived: float | None, frame: bytes, lost: str | None = None
    ) -> Self | None:
        """The packet in an Ethernet frame, or None where the frame holds no TCP segment."""
        segment = parse_frame(frame)
        if segment is None:
            return None
        return cls(number, sender, sent, arrived, frame, *segment, lost)

    @property
    def next_seq(self) -> int:
        """The sequence number that follows this segment, mod 2**32."""
        return (self.seq + sequence_length(self.flags, self.length)) % 2**32

    @property
    def takes_numbers(self) -> bool:
        """Whether it uses up sequence numbers, so that an ACK can cover it: with data, SYN or FIN."""
        return sequence_length(self.flags, self.length) > 0

    @property
    def connection(self) -> frozenset[Endpoint]:
        """Both ends, whichever the direction: the same for all packets between the two."""
        return frozenset((self.source, self.destination))


@dataclass(frozen=True, slots=True)
class Call:
    """One socket call (or sleep) of a Python program.

    ``arguments`` and ``result`` are short texts made for reading. ``ended`` is None where the
    call had not returned when the run or the process ended. ``errno`` is the name of the
    error (``ECONNRESET``), ``error`` the exception in words. ``socket`` numbers the sockets of
    one process from 1 (0: no socket, as for sleep); ``local`` and ``peer`` are its ends where
    it has them. ``size`` is the number of bytes that a send or recv moved. ``implicit`` marks
    a close that the program never wrote: Python made it as the last reference went away.
    A close also tells what lay in the socket's queues as it began, in bytes as in `State`.
    """

    number: int
    host: str
    process: int
    name: str
    arguments: str
    began: float
    ended: float | None = None
    result: str | None = None
    errno: str | None = None
    error: str | None = None
    socket: int = 0
    size: int | None = None
    local: Endpoint | None = None
    peer: Endpoint | None = None
    implicit: bool = False
    unread: int | None = None
    unsent: int | None = None
    unacked: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """A socket's state at a moment, kept only when it differs from the sample before.

    ``state`` is the kernel's name (``FIN_WAIT2``), or ``CLOSED`` once the socket has left the
    kernel's tables. Bytes: ``unread`` arrived and not yet read by the program; ``unsent``
    written and not yet sent; ``unacked`` sent and not yet acknowledged. They are the kernel's own
    numbers, in which a SYN or FIN is one byte. For LISTEN, ``unread`` is the length of the accept
    queue. ``peer`` is None for LISTEN.
    """

    host: str
    at: float
    local: Endpoint
    peer: Endpoint | None
    state: str
    unread: int = 0
    unsent: int = 0
    unacked: int = 0

    @property
    def held(self) -> tuple[int, int, int]:
        """The program's bytes in the queues (unread, unsent, unacked): without SYN and FIN, which carry none.

        A FIN that arrived is last in the queue of what is unread, and our own last in that of
        what is unsent or unacknowledged (RFC 9293, 3.3.2 names the states).
        """
        unread, unsent, unacked = self.unread, self.unsent, self.unacked
        if self.state in ("CLOSE_WAIT", "CLOSING", "LAST_ACK"):
            unread -= 1
        if self.state in ("FIN_WAIT1", "CLOSING", "LAST_ACK") and unsent:
            unsent -= 1
        elif self.state in ("SYN_SENT", "SYN_RECV", "FIN_WAIT1", "CLOSING", "LAST_ACK"):
            unacked -= 1
        return max(unread, 0), max(unsent, 0), max(unacked, 0)


@dataclass(frozen=True, slots=True)
class Counter:
    """A kernel counter of one host, before and after the run: ``Tcp:OutRsts``, ``TcpExt:TCPAbortOnClose``."""

    host: str
    name: str
    before: int
    after: int

    @property
    def change(self) -> int:
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the kernel sent a RST, in its own word (``enum sk_rst_reason``, tracepoint tcp:tcp_send_reset)."""

    at: float
    source: Endpoint
    destination: Endpoint
    reason: str


@dataclass(frozen=True, slots=True)
class Program:
    """A program on a host, from its start to its end.

    ``text`` is its source or its command line, ``recorded`` whether its calls were recorded (a
    Python function). ``status`` or ``signal`` (its name) tell how its process ended; both are
    None where the run's end ended it. ``traceback`` is that of an exception it did not catch.
    ``output`` is what it printed, cut to a sane length.
    """

    host: str
    name: str
    text: str
    recorded: bool
    started: float
    ended: float | None = None
    status: int | None = None
    signal: str | None = None
    traceback: str | None = None
    output: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything one run showed.

    ``hosts`` maps each host to its address. ``outcome`` tells how the run ended: ``completed``,
    ``never listened``, ``duration over`` or ``stopped``; ``problems`` are sentences for the
    person who ran it. ``epoch_ns`` is the wall clock at the trace's zero, in nanoseconds.
    """

    packets: tuple[Packet, ...]
    calls: tuple[Call, ...] = ()
    states: tuple[State, ...] = ()
    counters: tuple[Counter, ...] = ()
    reasons: tuple[Reason, ...] = ()
    programs: tuple[Program, ...] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "completed"
    problems: tuple[str, ...] = ()
    duration: float = 0.0
    epoch_ns: int = 0
    backend: str = ""
    kernel: str = ""
    version: str = ""

    def __repr__(self) -> str:
        resets = [p for p in self.packets if p.flags & Flags.RST]
        parts = [_count(len(self.packets), "packet"), _count(len(self.calls), "call")]
        if resets:
            first = resets[0]
            parts.insert(1, f"{_count(len(resets), 'RST')} (first: packet {first.number}, from the {first.sender})")
        else:
            parts.insert(1, "no RST")
        recorded = f"{self.origin}: " if self.origin else ""
        return f"<Trace: {recorded}{', '.join(parts)}, {self.duration:.3f} s, {self.outcome}>"

    @property
    def origin(self) -> str:
        """Where a recorded trace comes from, in a line that can be shown anywhere; empty for a live one."""
        if self.backend != RECORDED:
            return ""
        seconds = min(max(self.epoch_ns // 10**9, 0), _LAST)  # a file may say anything
        told = f"recorded on {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}, {self.kernel}, rstkit {self.version}"
        return "".join(c if c.isprintable() else "?" for c in told)

    def counter(self, host: str, name: str) -> int:
        """By how much a counter of a host changed; 0 where it was not seen to move."""
        return sum(c.change for c in self.counters if (c.host, c.name) == (host, name))

    def program(self, host: str) -> Program | None:
        """The program that ran on a host."""
        return next((p for p in self.programs if p.host == host), None)

    @property
    def resets(self) -> "list[Reset]":
        """Each reset with its explanation (`rstkit.explain.explain`)."""
        from .explain import explain

        return explain(self)

    def text(self, *, raw: bool = False) -> str:
        """The packets in tcpdump's notation; ``raw`` shows sequence numbers as they were sent."""
        from .text import tcpdump

        return tcpdump(self, raw=raw)

    def scapy(self) -> "PacketList":
        """The packets as a scapy PacketList, each with its time."""
        from .capture import to_scapy

        return to_scapy(self)

    def save(self, path: str | Path) -> None:
        """Write the trace to a file.

        ``.pcapng`` holds the packets for Wireshark, with comments on those that matter;
        ``.json`` and ``.json.gz`` hold the whole trace, for `Trace.load`.
        """
        path = Path(path)
        if path.suffix == ".pcapng":
            from .capture import write_pcapng

            write_pcapng(self, path)
        elif path.name.endswith((".json", ".json.gz")):
            from .stored import write

            write(self, path)
        else:
            raise TraceError(f"{path.name}: name it .pcapng (for Wireshark), .json or .json.gz (the whole trace).")

    @staticmethod
    def load(path: str | Path) -> "Trace":
        """Read a trace written by `save` as ``.json`` or ``.json.gz``; TraceError where it is none."""
        from .stored import read

        return read(Path(path))

    def to_dict(self) -> dict[str, Any]:
        """The trace as JSON types (`rstkit.stored`)."""
        from .stored import to_dict

        return to_dict(self)

    @staticmethod
    def from_dict(whole: Mapping[str, Any]) -> "Trace":
        """The trace that `to_dict` wrote; TraceError where ``whole`` is none."""
        from .stored import from_dict

        return from_dict(whole)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
