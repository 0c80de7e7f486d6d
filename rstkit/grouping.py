"""Which resets of a capture belong together, and how bad what they do is."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from .explain import Reset, explain
from .saw import IN_FLIGHT
from .tcp import Flags
from .trace import Trace

if TYPE_CHECKING:
    from .captures import Connection

HARMS = ("data loss", "cut off", "refused", "probed", "harmless")
"""What resets do, the worst first.

Bytes that a program had sent were not read; a connection that one end thought alive was ended;
a connection did not come about; somebody tried many ports or hosts, and was refused as is right;
nothing was lost.
"""

_HARM = {
    "data-after-close": "data loss",
    "data-after-shutdown": "data loss",
    "unread-data": "data loss",
    "linger-zero": "data loss",
    "disconnect": "data loss",
    "orphan-memory": "data loss",
    "gave-up": "data loss",
    "no-listener": "refused",
    "firewall-reject": "refused",
    "connect-aborted": "harmless",
    "unacceptable-ack": "harmless",
    "after-normal-close": "harmless",
    "hurried-close": "harmless",
    "half-open-scan": "probed",
}  # any other cause cuts off
PROBES = ("no-listener", "firewall-reject", "connect-aborted", "half-open-scan")  # what a scan's SYNs get
MANY, _HARDLY = 10, 2  # so many ports or hosts that one client tried, each no more often, make a scan
_GROUPS = 8  # groups of one cause by service, server or client; what is left after them makes one more
_KEEPALIVE = 1  # bytes that a keepalive may carry, which no program sent


class Occurrence(NamedTuple):
    """A reset of a capture: the connection, and which of its resets it is, from 0."""

    connection: "Connection"
    place: int

    def reset(self) -> Reset:
        """The reset with its explanation; the numbers of packets are those of the connection's trace."""
        return explain(self.connection.trace())[self.place]


class Told(NamedTuple):
    """What is kept of a reset's explanation."""

    cause: str
    confidence: str
    sender: str
    alternatives: tuple[str, ...]
    harm: str


class Seen(NamedTuple):
    occurrence: Occurrence
    told: Told
    shares: tuple[tuple[int, object], ...]  # what it may have in common with others


def tell(reset: Reset, trace: Trace) -> Told:
    """What is kept of the explanation of a reset of this trace."""
    alternatives = tuple(cause.key for cause in reset.alternatives)
    return Told(reset.cause.key, reset.confidence, reset.sender, alternatives, _harm(reset, trace))


def _harm(reset: Reset, trace: Trace) -> str:
    """What a reset did; data that provokes one is data that nobody reads."""
    harm, trigger = _HARM.get(reset.cause.key, "cut off"), reset.trigger
    if reset.remedy.startswith("Harmless") or _went_on(reset, trace):
        return "harmless"
    if harm == "data loss" and not any(p.length and not p.flags & Flags.RST for p in trace.packets):
        return (
            "harmless" if reset.sender == "client" else "cut off"
        )  # a client that only looks whether somebody answers
    if trigger and trigger.length > _KEEPALIVE and not trigger.flags & Flags.SYN and harm != "harmless":
        return "data loss"
    if harm == "refused" and trigger and trigger.flags & (Flags.SYN | Flags.ACK) == Flags.ACK:  # in mid-connection
        return "cut off"
    return harm


def _went_on(reset: Reset, trace: Trace) -> bool:
    """Whether both ends went on as if the RST had not come: then one did not accept it, or it did not arrive."""
    late = max(packet.sent for packet in reset.packets) + IN_FLIGHT
    later = (p for p in trace.packets if p.sent > late and not p.flags & (Flags.SYN | Flags.RST))
    return {reset.packet.source, reset.packet.destination} <= {packet.source for packet in later}


def scans(group: list[Seen]) -> tuple[list[list[Seen]], list[Seen]]:
    """The scans among resets that SYNs got, and what is left: a scan tries many services, and each hardly twice."""
    tries = Counter(seen.shares[:2] for seen in group)
    by_client: dict[object, list[Seen]] = defaultdict(list)
    left: list[Seen] = []
    for seen in group:
        rare = tries[seen.shares[:2]] <= _HARDLY and seen.told.harm != "data loss"
        (by_client[seen.shares[1]] if rare else left).append(seen)
    found = []
    for part in by_client.values():
        if len({seen.shares[0] for seen in part}) >= MANY:
            found.append(part)
        else:
            left += part
    return found, left


def parted(group: list[Seen]) -> Iterator[list[Seen]]:
    """The resets of one cause, by what most of them share: a service, a client or a server's address."""
    shared = Counter(chain.from_iterable(seen.shares for seen in group))
    left = group
    for _ in range(_GROUPS):
        if not left:
            return
        most = max(shared.values())
        # Where a service, a client and a server have as many, the most telling is the service.
        what = min((key for key, count in shared.items() if count == most), key=lambda key: key[0])
        yield (part := [seen for seen in left if what in seen.shares])
        left = [seen for seen in left if what not in seen.shares]
        shared.subtract(chain.from_iterable(seen.shares for seen in part))
    if left:
        yield left
