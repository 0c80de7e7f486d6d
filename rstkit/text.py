"""A trace as text: its packets in tcpdump's notation, and the whole diagram in words.

What programs and packets brought along is data: characters that could steer a terminal come out
as escapes.
"""

import struct
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from .dissect import clip, printable
from .explain import Reset, explain
from .tcp import Endpoint, Flags, tcp_header
from .timeline import typical_flight
from .trace import Packet, Trace
from .words import BEGINNING, TEXT, Event, Tags, connection_tags, events, span

_WIDTH = 100  # characters of a line, where it can be broken
_PAUSE = 0.1  # seconds without any event that are worth a line
_ROUTINE, _KEPT = 12, 3  # a longer stretch of routine is summed up, but for this many lines at its ends


def tcpdump(trace: Trace, *, raw: bool = False) -> str:
    """The packets as ``tcpdump -n`` prints them, or ``tcpdump -nS`` with ``raw``; lost ones are marked.

    Times are seconds since the trace's zero. As in tcpdump, sequence numbers are absolute where
    a segment has no ACK flag and in the first one of a connection that has it, and count from
    there in the others. tcpdump's guess at what the payload is (``: HTTP``) is left out. A recorded
    trace begins with a line that says so.
    """
    known: dict[frozenset[Endpoint], dict[Endpoint, int]] = {}
    lines = [f"({trace.origin})"] if trace.origin else []
    for p in trace.packets:
        mine = theirs = edges = 0  # what sequence numbers count from
        if p.flags & Flags.ACK and not raw:
            if p.flags & Flags.SYN or p.connection not in known:
                known[p.connection] = {p.source: p.seq, p.destination: p.ack - 1}
            else:
                mine, theirs = known[p.connection][p.source], known[p.connection][p.destination]
            edges = known[p.connection][p.destination]
        seq, ack = (p.seq - mine) % 2**32, (p.ack - theirs) % 2**32
        header = tcp_header(p.frame)
        version = "IP6" if ":" in p.source.address else "IP"
        line = f"{p.sent:.6f} {version} {_ends(p)}: Flags [{p.flags}]"
        if p.length:
            line += f", seq {seq}:{(seq + p.length) % 2**32}"
        elif p.flags & (Flags.SYN | Flags.FIN | Flags.RST):
            line += f", seq {seq}"
        if p.flags & Flags.ACK:
            line += f", ack {ack}"
        line += f", win {p.window}"
        if p.flags & Flags.URG:
            line += f", urg {int.from_bytes(header[18:20])}"
        if len(header) > 20:
            line += f", options [{_options(header[20:], edges)}]"
        line += f", length {p.length}"
        if p.lost is not None:
            line += f" ({clip(p.lost, TEXT)})"
        lines.append(line)
    return "\n".join(lines)


def _ends(packet: Packet) -> str:
    return " > ".join(f"{end.address}.{end.port}" for end in (packet.source, packet.destination))


def _options(data: bytes, edges: int) -> str:
    """The options of a TCP header; the edges of SACK blocks count from ``edges``."""
    shown = []
    while data:
        kind = data[0]
        if kind <= 1:
            shown.append(("eol", "nop")[kind])
            if kind == 0:
                break
            data = data[1:]
            continue
        if len(data) < 2 or not 2 <= data[1] <= len(data):
            return ",".join([*shown, "[bad opt]"])
        value, data = data[2 : data[1]], data[data[1] :]
        match kind, len(value):
            case 2, 2:
                shown.append(f"mss {int.from_bytes(value)}")
            case 3, 1:
                shown.append(f"wscale {value[0]}")
            case 4, 0:
                shown.append("sackOK")
            case 5, size if size % 8 == 0:
                blocks = [
                    f"{{{(a - edges) % 2**32}:{(b - edges) % 2**32}}}" for a, b in struct.iter_unpack("!II", value)
                ]
                shown.append(f"sack {len(blocks)} {''.join(blocks)}")
            case 8, 8:
                shown.append("TS val {} ecr {}".format(*struct.unpack("!II", value)))
            case _:
                shown.append(f"unknown-{kind}" + (f" 0x{value.hex()}" if value else ""))
    return ",".join(shown)


def describe(trace: Trace) -> str:
    """The diagram in words: what happened in order of time, then each reset and its cause.

    For a screen reader, a terminal and a printed notebook: one plain sentence a line, each with
    its time. Sequence numbers are relative. Long stretches of routine are summed up.
    """
    resets = explain(trace)
    tags = connection_tags(trace)
    parts = ["\n".join(_heading(trace, resets, tags)), "\n".join(_timeline(trace, resets, tags))]
    parts += ["\n".join(map(_wrap, str(reset).split("\n"))) for reset in resets]
    return "\n\n".join(part for part in parts if part)


def _heading(trace: Trace, resets: Sequence[Reset], tags: Tags) -> Iterator[str]:
    hosts = " and ".join(f"{name} {address}" for name, address in trace.hosts.items())
    counted = {0: "no reset"}.get(len(resets), _count(len(resets), "reset"))
    yield printable(f"{hosts or 'Packets'}: {_count(len(trace.packets), 'packet')}, {counted}, {trace.duration:.3f} s.")
    if trace.origin:
        yield _wrap(f"Not live: {trace.origin}.")
    values = [f"{name}={value!r}" for name, value in trace.values.items() if value not in (None, [], {}, ())]
    if values:
        yield _wrap(f"Run with {', '.join(values)}.")
    for program in trace.programs:
        if not program.recorded:
            yield printable(f"The {program.host} runs {clip(program.text, TEXT)}. Its calls were not recorded.")
    opening: dict[frozenset[Endpoint | None], Packet] = {p.connection: p for p in reversed(trace.packets)}
    for connection, tag in tags.items():
        yield f"{tag}{opening[connection].source} to {opening[connection].destination}."
    for problem in trace.problems:
        yield _wrap(problem)


def _timeline(trace: Trace, resets: Sequence[Reset], tags: Tags) -> Iterator[str]:
    """The lines of the timeline, with pauses told and routine summed up."""
    told = events(trace, resets, tags)
    flight = typical_flight(p.arrived - p.sent for p in trace.packets if p.arrived is not None)
    digits = 1 if flight >= 0.001 else 3
    width = max((len(_time(event.at, digits)) for event in told), default=0)
    before = None
    for stretch in _stretches(told):
        if before is not None and stretch[0].at - before >= _PAUSE:
            yield f"{'':{width}}  {span(stretch[0].at - before)} pass."
        lines = [printable(f"{_time(event.at, digits):>{width}}  {event.text}") for event in stretch]
        if len(stretch) > _ROUTINE:
            lines[_KEPT:-_KEPT] = [f"{'':{width}}  {_sum_up(stretch[_KEPT:-_KEPT])}"]
        yield from lines
        before = stretch[-1].at


def _stretches(told: Sequence[Event]) -> Iterator[list[Event]]:
    """The events in order: each by itself, but routine that follows on routine without a pause together."""
    stretch: list[Event] = []
    for event in told:
        if stretch and not (stretch[-1].routine and event.routine and event.at - stretch[-1].at < _PAUSE):
            yield stretch
            stretch = []
        stretch.append(event)
    if stretch:
        yield stretch


def _sum_up(stretch: Sequence[Event]) -> str:
    counted = Counter(event.routine for event in stretch)
    told = [_count(number, name) for name, number in counted.most_common() if name != BEGINNING]
    lost = sum(event.lost for event in stretch)
    return f"In the next {span(stretch[-1].at - stretch[0].at)}: {', '.join(told)}{f'; {lost:,} lost' if lost else ''}."


def _wrap(text: str) -> str:
    """A text in lines, the second and later ones indented by two more than the first."""
    indent = " " * (len(text) - len(text.lstrip(" ")))
    return textwrap.fill(printable(text), _WIDTH, subsequent_indent=f"{indent}  ", break_on_hyphens=False)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _time(seconds: float, digits: int) -> str:
    """A moment: milliseconds in the first second, then seconds; ``digits`` are those of a millisecond."""
    return f"{seconds * 1000:.{digits}f} ms" if seconds < 1 else f"{seconds:.{digits + 2}f} s"
