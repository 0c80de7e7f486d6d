"""What a capture shows, grouped as a person would tell it: a port scan is one finding, not ten thousand.

Resets of one cause belong together where they share a service, a server or a client. Of the
connections that `explain` cannot tell apart (`Connection.shape`) one is explained for all.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from .causes import CAUSES, Cause
from .evidence import Evidence
from .explain import Reset, explain
from .grouping import HARMS, MANY, PROBES, Occurrence, Seen, Told, parted, scans, tell
from .tcp import Endpoint

if TYPE_CHECKING:
    from .captures import Capture, Connection

_KEPT = 50_000  # packets whose explanations are kept until the examples are chosen
_REFUSALS = ("no-listener", "firewall-reject")
_ON_THE_WAY = ("firewall-reject", "injected")  # made by a device in another's name


@dataclass(frozen=True, slots=True)
class Finding:
    """Resets of one cause that belong together.

    ``sender`` is ``client`` or ``server``: who sent the RSTs. ``harm`` is one of `HARMS`, that
    of the worst reset. ``alternatives`` are the causes that remain possible for some of them.
    ``occurrences`` are in order of time; ``example`` is one of those that most others are like.
    """

    cause: Cause
    confidence: str
    harm: str
    sender: str
    alternatives: tuple[Cause, ...]
    occurrences: tuple[Occurrence, ...]
    example: Occurrence
    reset: Reset

    @property
    def count(self) -> int:
        """How many resets."""
        return len(self.occurrences)

    @property
    def connections(self) -> "tuple[Connection, ...]":
        """The connections, each once."""
        return tuple({id(o.connection): o.connection for o in self.occurrences}.values())

    @property
    def first(self) -> float:
        """When the first of the connections was reset, in seconds since 1970."""
        return self.occurrences[0].connection.reset

    @property
    def last(self) -> float:
        return self.occurrences[-1].connection.reset

    @property
    def clients(self) -> tuple[str, ...]:
        """The addresses of the clients, the busiest first."""
        return tuple(address for address, _ in Counter(c.client.address for c in self.connections).most_common())

    @property
    def servers(self) -> tuple[Endpoint, ...]:
        """The servers' addresses and ports, the busiest first."""
        return tuple(server for server, _ in Counter(c.server for c in self.connections).most_common())

    @property
    def title(self) -> str:
        ports, hosts = {s.port for s in self.servers}, {s.address for s in self.servers}
        if self.harm != "probed" or max(len(ports), len(hosts)) < MANY:
            return self.cause.title
        what = f"{len(ports):,} ports" if len(ports) >= MANY else f"{len(hosts):,} hosts"
        joint = "" if self.cause.key == "half-open-scan" else ": it looks like a scan"
        return f"{self.cause.title}{joint} of {what}"

    @property
    def who(self) -> str:
        """Who reset whom, in a sentence."""
        count = len(self.connections)
        connections = "a connection" if count == 1 else f"{count:,} connections"
        verb = "refused" if HARMS.index(self.harm) in (2, 3) and self.sender == "server" else "reset"
        clients, servers = several(self.clients, "client"), _services(self.servers)
        if self.sender == "server":
            return f"{servers} {verb} {connections} from {clients}."
        return f"{clients[0].upper()}{clients[1:]} {verb} {connections} to {servers.rstrip(',')}."

    @property
    def why(self) -> str:
        """Why the example was reset, with the numbers that frames have in the file."""
        return self.framed(self.reset.why)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The evidence for the example, with the numbers that frames have in the file."""
        numbers = self.example.connection.frames
        return tuple(
            Evidence(e.kind, self.framed(e.text), None if e.packet is None else numbers[e.packet - 1])
            for e in self.reset.evidence
        )

    @property
    def next(self) -> str:
        """What to do."""
        remedy = self.framed(self.reset.remedy)
        if self.harm == "probed" and self.cause.key in _REFUSALS:
            return "Refusing is right: nothing, if you know who does it."
        if self.harm == "harmless" and not remedy.startswith("Harmless"):
            return f"Harmless: nothing was lost.{f' {remedy}' if remedy != 'None needed.' else ''}"
        return remedy

    @property
    def check(self) -> str:
        """Where to look for more than the packets tell; empty where no more is needed."""
        if HARMS.index(self.harm) > HARMS.index("refused"):
            return ""
        causes = (self.cause, *self.alternatives)
        counters: dict[str, list[str]] = {}
        for cause in causes:
            for name in cause.counters:
                counters.setdefault(name.replace(":", ""), []).append(cause.key)
        texts = [f"{name} grows with {' and '.join(keys)}" for name, keys in counters.items()]
        texts = [f"on {self.reset.packet.source.address}, {', '.join(texts)} (nstat -az)"] if texts else []
        texts += ["the tracepoint tcp:tcp_send_reset gives the kernel's reason (Linux 6.10 and newer)"]
        if any(cause.key in _ON_THE_WAY for cause in causes):
            texts += ["a capture on the host itself shows whether it sent the RST at all"]
        told = "; ".join(texts)
        return f"{told[0].upper()}{told[1:]}."

    def framed(self, text: str) -> str:
        """A text about the example that names packets of its trace, naming frames of the file instead."""
        return framed(text, self.example.connection.frames)


def findings(capture: "Capture", progress: Callable[[float], None] | None = None) -> tuple[Finding, ...]:
    """What a capture shows, the worst first: by `HARMS`, then by how often.

    ``progress`` is told now and then which part is done, from 0 to 1.
    """
    told: dict[bytes, list[Told]] = {}
    kept: dict[Connection, list[Reset]] = {}
    room = _KEPT
    groups: dict[tuple[str, str, str], list[Seen]] = defaultdict(list)
    whole = len(capture.reset_connections)
    for number, connection in enumerate(capture.reset_connections):
        if connection.shape not in told:
            trace = connection.trace()
            resets = explain(trace)
            told[connection.shape] = [tell(reset, trace) for reset in resets]
            if (room := room - connection.count) > 0:
                kept[connection] = resets
        shares = (0, connection.server), (1, connection.client.address), (2, connection.server.address)
        for place, one in enumerate(told[connection.shape]):
            groups[one.cause, one.confidence, one.sender].append(Seen(Occurrence(connection, place), one, shares))
        if progress:
            progress((number + 1) / whole)
    found: list[Finding] = []
    for (cause, _, _), group in groups.items():
        scanned, rest = scans(group) if cause in PROBES else ([], group)
        found += [_finding(scan, kept, "probed") for scan in scanned]
        found += [_finding(part, kept) for part in parted(rest)]
    return tuple(sorted(found, key=lambda f: (HARMS.index(f.harm), -f.count, f.first)))


def framed(text: str, frames: Sequence[int]) -> str:
    """A text that names packets of a trace, with their numbers in the file (as Wireshark shows them).

    ``frames`` holds these in the order of the trace's packets.
    """

    def number(match: re.Match[str]) -> str:
        place = int(match[0]) - 1
        return str(frames[place]) if 0 <= place < len(frames) else match[0]

    def rename(match: re.Match[str]) -> str:
        frame = "Frame" if match[0][0] == "P" else "frame"
        return frame + re.sub(r"\d+", number, match[0][len("packet") :])

    return re.sub(r"\b[Pp]acket(?: \d+|s \d+(?:(?:, | and | to | or )\d+)*)\b", rename, text)


def several(names: Sequence[object], noun: str, most: int = 3) -> str:
    """One name as it is, or how many there are with the first few."""
    if len(names) == 1:
        return str(names[0])
    shown = ", ".join(map(str, names[:most]))
    return f"{len(names):,} {noun}s ({shown}{', …' if len(names) > most else ''})"


def _finding(group: list[Seen], explained: "dict[Connection, list[Reset]]", harm: str = "") -> Finding:
    """A finding of resets of one cause, whose harm is that of the worst; the example is of the commonest shape."""
    group.sort(key=lambda seen: seen.occurrence.connection.reset)
    (shape, place), _ = Counter((s.occurrence.connection.shape, s.occurrence.place) for s in group).most_common(1)[0]
    like = [o for o, *_ in group if (o.connection.shape, o.place) == (shape, place)]
    example = next((o for o in like if o.connection in explained), like[0])
    told = group[0].told
    others = dict.fromkeys(chain.from_iterable(seen.told.alternatives for seen in group))
    return Finding(
        cause=CAUSES[told.cause],
        confidence=told.confidence,
        harm=harm or min((seen.told.harm for seen in group), key=HARMS.index),
        sender=told.sender,
        alternatives=tuple(CAUSES[key] for key in others),
        occurrences=tuple(seen.occurrence for seen in group),
        example=example,
        reset=explained[example.connection][example.place] if example.connection in explained else example.reset(),
    )


def _services(servers: Sequence[Endpoint]) -> str:
    """The servers: one with its port or ports, or how many there are."""
    addresses = list(dict.fromkeys(server.address for server in servers))
    if len(servers) == 1:
        return str(servers[0])
    ports = sorted({server.port for server in servers})
    if len(addresses) == 1:
        return f"{addresses[0]}, {_ports(ports)},"
    if len(ports) == 1:
        return f"{several(addresses, 'server')} on port {ports[0]}"
    return several(servers, "service")


def _ports(ports: Sequence[int]) -> str:
    """Port numbers in ranges; only how many and between which where there are many ranges."""
    ranges: list[list[int]] = []
    for port in ports:
        if ranges and port == ranges[-1][1] + 1:
            ranges[-1][1] = port
        else:
            ranges.append([port, port])
    if len(ranges) > 4:
        return f"{len(ports):,} ports between {ports[0]} and {ports[-1]}"
    return "ports " + ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges)
