"""Two runs taken apart into strands that can be compared one by one.

A strand is the calls of a process, what a host sent on a connection, or the end of a program.
Within a strand the order is the program's or TCP's own; between strands timing decides it. What
timing or chance decide as well is left out of the steps: times, ports and sequence numbers as
they were sent, acknowledgments, retransmissions, window probes, the repeats of a RST, and where
the bytes of a stream are cut, into segments or into what each recv returns. States are no steps:
samples miss the short ones, and the others follow from packets, calls and time.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from .beside import NO_FAILURE, WAITING
from .conversation import conversations, resets_of
from .dissect import call_words, clip, end_words, makes_ready, read_packets
from .tcp import Endpoint, Flags
from .trace import Call, Packet, Program, Trace
from .words import LONG, TEXT, outcome

NEVER = float("inf")
_READS = ("recv", "recv_into")

Thing = Call | Packet | Program


class Step(NamedTuple):
    """One step of a strand, with a sentence on it and what it consists of.

    ``asked`` is what a program or TCP set out to do, ``came`` what came of it: these are compared.
    ``began`` and ``ended`` are seconds of the step's own run.
    """

    asked: tuple[Any, ...]
    came: Any
    began: float
    ended: float
    words: str
    things: tuple[Thing, ...]


class Pair(NamedTuple):
    """The same strand of two runs; ``rest`` says of a run that it has no more steps there."""

    on_wire: bool
    rest: str
    first: Sequence[Step]
    second: Sequence[Step]


def pairs(first: Trace, second: Trace) -> list[Pair]:
    """The strands of two runs, those of the programs' calls before the others."""
    return [*_calls(first, second), *_packets(first, second), *_ends(first, second)]


def _calls(first: Trace, second: Trace) -> Iterator[Pair]:
    """The calls of each process; of each socket where a process has threads, which take turns as they like."""
    one, other = _processes(first), _processes(second)
    for key in dict.fromkeys([*one, *other]):
        if not (_recorded(first, key[0]) and _recorded(second, key[0])):
            continue
        a, b = one.get(key, []), other.get(key, [])
        sockets: Iterable[int | None] = [None]
        if _overlap(a) or _overlap(b):
            sockets = sorted({call.socket for call in (*a, *b)})
        for socket in sockets:
            strands = [
                _called(trace, [call for call in calls if socket in (None, call.socket)])
                for trace, calls in ((first, a), (second, b))
            ]
            yield Pair(False, f"the {key[0]} calls nothing more", *strands)


def _recorded(trace: Trace, host: str) -> bool:
    """Whether a host's calls would be in the trace."""
    program = trace.program(host)
    return program.recorded if program else any(call.host == host for call in trace.calls)


def _processes(trace: Trace) -> Mapping[tuple[str, int], list[Call]]:
    """The calls of each process of each host, the processes counted in the order of their first calls."""
    numbers: dict[tuple[str, int], int] = {}
    found: dict[tuple[str, int], list[Call]] = {}
    for call in sorted(trace.calls, key=lambda call: call.began):
        if not makes_ready(call):
            before = sum(host == call.host for host, _ in numbers)
            found.setdefault((call.host, numbers.setdefault((call.host, call.process), before)), []).append(call)
    return found


def _overlap(calls: Sequence[Call]) -> bool:
    """Whether a call began before the one before it had ended."""
    return any(b.began < (NEVER if a.ended is None else a.ended) for a, b in pairwise(calls))


def _called(trace: Trace, calls: Iterable[Call]) -> list[Step]:
    """The calls as steps. A call that only tries again, or reads on where the one before had read, is one with it."""
    ports = {packets[0].source.port for packets in conversations(trace.packets)}
    groups: list[list[Call]] = []
    for call in calls:
        if groups and _goes_on(groups[-1][-1], call):
            groups[-1].append(call)
        else:
            groups.append([call])
    return [_step(group, trace.hosts, ports) for group in groups]


def _goes_on(last: Call, call: Call) -> bool:
    if (last.name, last.arguments, last.socket) != (call.name, call.arguments, call.socket):
        return False
    return last.errno in NO_FAILURE or (call.name in _READS and bool(last.size and call.size))


def _step(group: Sequence[Call], hosts: Mapping[str, str], ports: Iterable[int]) -> Step:
    call = group[-1]
    asked = clip(call_words(call)[0].removesuffix(" by Python"), TEXT)
    words = f"the {call.host} calls {asked}"
    if call.implicit:
        words = f"Python calls {asked} for the {call.host}, which has let go of its socket"
    elif call.name == "sleep":
        words = f"the {call.host} sleeps {clip(call.arguments, TEXT)} s"
    came: Any = None
    if call.ended is None:
        words += ", which never returns"
    elif call.errno is not None or call.error is not None:
        words += f", which {outcome(call)}"
        came = call.errno or _plain(call.error or "", hosts, ports)
    elif call.name in _READS and call.size is not None:
        came = sum(call.size or 0 for call in group)
        reads = sum(bool(call.size) for call in group)
        words = (
            f"the {call.host} reads {came:,} B by {reads} calls of {asked}"
            if reads > 1
            else f"{words}, which {outcome(call)}"
        )
    elif call.name == "close":
        words += f" with {call.unread:,} B unread" if call.unread else ""
        came = "closed", bool(call.unread)
    elif call.name == "accept":
        came = "accepted"
    elif call.result is not None:
        words += f", which {outcome(call)}"
        came = _plain(call.result, hosts, ports)
    else:
        came = "returned"
    ended = NEVER if call.ended is None else call.ended
    short = ended - call.began < LONG and call.name not in WAITING
    request = (call.name, _plain(call.arguments, hosts, ports), call.implicit, call.peer is None)
    return Step(request, came, group[0].began, call.began if short else ended, words, tuple(group))


def _plain(text: str, hosts: Mapping[str, str], ports: Iterable[int]) -> str:
    """A text without what differs from run to run: the hosts' addresses, and the ports of those who connect."""
    for name, address in hosts.items():
        text = text.replace(f"[{address}]", name).replace(address, name)
    return re.sub(rf":({'|'.join(map(str, ports))})\b", ":*", text) if ports else text


def _packets(first: Trace, second: Trace) -> Iterator[Pair]:
    """What each host sent on each connection, the connections counted in the order in which they were opened."""
    one, other = _sent(first), _sent(second)
    for key in dict.fromkeys([*one, *other]):
        both = one.get(key, []), other.get(key, [])
        edges = {edge for steps in both for step in steps if step.asked[0] == "data" for edge in step.asked[1:]}
        yield Pair(True, f"the {key[1]} sends nothing more", *(list(_cut(steps, edges)) for steps in both))


def _sent(trace: Trace) -> Mapping[tuple[int, str], list[Step]]:
    """What each host sent on each connection: SYN, data, FIN and RST, in relative sequence numbers, and keepalives."""
    readings = {reading.packet.number: reading for reading in read_packets(trace.packets)}
    found: dict[tuple[int, str], list[Step]] = {}
    for which, packets in enumerate(conversations(trace.packets)):
        repeats = {packet.number for resets in resets_of(packets) for packet in resets[1:]}
        bases: dict[Endpoint, int] = {}
        known: dict[Endpoint, int] = {}  # the end of what was sent already
        for packet in packets:
            flags, source = packet.flags, packet.source
            base = bases.setdefault(source, packet.seq - (not flags & (Flags.SYN | Flags.RST)))
            if flags & Flags.ACK:
                bases.setdefault(packet.destination, packet.ack - 1)
            begin = (packet.seq + bool(flags & Flags.SYN) - base) % 2**32
            end = begin + packet.length
            _, kind, label, _ = readings[packet.number]
            asked: list[tuple[Any, ...]] = []
            if kind == "keepalive":
                asked += [("keepalive",)] if label.startswith("keepalive") else []
            elif kind != "retransmission" and packet.number not in repeats:
                asked += [("SYN", bool(flags & Flags.ACK))] if flags & Flags.SYN else []
                if packet.length and end > known.get(source, 0):
                    asked.append(("data", max(begin, known.get(source, 0)), end))
                    known[source] = end
                asked += [("FIN", end)] if flags & Flags.FIN else []
                asked += [("RST", bool(flags & Flags.ACK), begin)] if flags & Flags.RST else []
            lost = packet.lost is not None
            words = f"the {packet.sender} sends {label} (packet {packet.number}){', which is lost' if lost else ''}"
            found.setdefault((which, packet.sender), []).extend(
                Step(what, lost, packet.sent, packet.sent, words, (packet,)) for what in asked
            )
    return found


def _cut(strand: Iterable[Step], edges: Iterable[int]) -> Iterator[Step]:
    """The strand with its data cut at the edges as well, so that the same bytes are the same steps."""
    for step in strand:
        if step.asked[0] == "data":
            _, begin, end = step.asked
            for a, b in pairwise(sorted({begin, end} | {edge for edge in edges if begin < edge < end})):
                yield step._replace(asked=("data", a, b))
        else:
            yield step


def _ends(first: Trace, second: Trace) -> Iterator[Pair]:
    """How each program ended, and then the run."""
    known = bool(first.programs and second.programs)
    for host in dict.fromkeys(program.host for trace in (first, second) if known for program in trace.programs):
        yield Pair(False, f"the {host} runs no program", *(_ended(trace, host) for trace in (first, second)))
    yield Pair(False, "", *([_run_ended(trace)] for trace in (first, second)))


def _ended(trace: Trace, host: str) -> list[Step]:
    program = trace.program(host)
    if program is None:
        return []
    words, at = "process still runs as the run ends", trace.duration
    if program.ended is not None:
        words, at = clip(" ".join(end_words(program)[0]), TEXT), program.ended
    return [Step((words,), None, at, at, f"the {host}'s {words}", (program,))]


def _run_ended(trace: Trace) -> Step:
    words = "the run is complete" if trace.outcome == "completed" else f"the run ends: {clip(trace.outcome, TEXT)}"
    return Step((words,), None, trace.duration, trace.duration, words, ())
