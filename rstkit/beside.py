"""What stands beside each lifeline of the diagram: the calls of the program, and the states of the socket."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from .dissect import call_hover, call_words, end_words, makes_ready, printable, program_hover
from .explain import Reset
from .tcp import Endpoint, Flags
from .trace import Call, Program, State, Trace

MOST = 24  # characters of a row
WAITING = ("accept", "recv", "recv_into")  # what such a call returns comes from the other side
NO_FAILURE = ("EAGAIN", "EINPROGRESS", "EALREADY")  # a socket that does not block says so


class Side(NamedTuple):
    """One host's half of the sheet; ``out`` is -1 where outside is left, 1 where it is right."""

    host: str
    out: int


class Note(NamedTuple):
    """A text beside a lifeline, in rows not escaped yet; ``colour`` is a name of the theme, ``of`` what it tells of."""

    side: Side
    at: float
    rows: tuple[str, ...]
    hover: str = ""
    colour: str = "text"
    of: Call | Program | None = None


class Span(NamedTuple):
    """A call that took a while; spans that overlap stand in different columns."""

    side: Side
    began: float
    ended: float
    column: int


class Band(NamedTuple):
    """A stretch of one state, with the samples taken in it; ``ended`` is None at the trace's end."""

    side: Side
    ended: float | None
    samples: tuple[State, ...]


def sides(trace: Trace) -> tuple[Side, Side]:
    """The host drawn left and the host drawn right: the client, or else the first to be seen, is left."""
    seen = list(dict.fromkeys([*trace.hosts, *(p.sender for p in trace.packets), *(c.host for c in trace.calls)]))
    seen += [host for host in ("client", "server") if host not in seen]
    left = "client" if "client" in seen[:2] else seen[0]
    return Side(left, -1), Side(next(host for host in seen if host != left), 1)


def drawn_connection(trace: Trace, resets: Sequence[Reset]) -> frozenset[Endpoint]:
    """The connection whose states are drawn: the first that was reset, or else the first."""
    for packet in (*(reset.packet for reset in resets), *trace.packets):
        return packet.connection
    for state in trace.states:
        return frozenset((state.local, state.peer or state.local))
    return frozenset()


def bands(trace: Trace, connection: frozenset[Endpoint], both: Sequence[Side]) -> list[Band]:
    """The states of a connection's sockets, and of the listening socket until the connection has one."""
    found = []
    ports = {end.port for end in connection}
    for side in both:
        own = [s for s in trace.states if s.host == side.host and {s.local, s.peer} == connection]
        first = own[0].at if own else None
        listening = [
            s
            for s in trace.states
            if s.host == side.host and s.peer is None and s.local.port in ports and (first is None or s.at < first)
        ]
        run: list[State] = []
        for state in sorted((*listening, *own), key=lambda s: s.at):
            if run and run[-1].state != state.state:
                found.append(Band(side, state.at, tuple(run)))
                run = []
            run.append(state)
        if run:
            found.append(Band(side, None, tuple(run)))
    return [band for band in found if band.samples[0].state != "CLOSED"]


def calls(trace: Trace, both: Sequence[Side], resets: Sequence[Reset], wait: float) -> tuple[list[Note], list[Span]]:
    """The calls of the programs, but for those that make ready a socket; one of more than ``wait`` seconds has a span.

    A call with a span is written where it began, and what came of it where it ended.
    """
    notes: list[Note] = []
    spans: list[Span] = []
    provoking = [reset.call for reset in resets]
    side_of = {side.host: side for side in both}
    listeners = {(call.process, call.socket) for call in trace.calls if call.name == "listen"}
    last = last_moment(trace)
    for call in sorted(trace.calls, key=lambda c: c.began):
        side = side_of.get(call.host)
        if side is None or makes_ready(call):
            continue
        program = trace.program(call.host)
        ended = call.ended if call.ended is not None else (program and program.ended) or last
        asked, came = call_words(call)
        if call.name == "close" and (call.process, call.socket) in listeners:
            asked += " of the listener"
        failed = (call.errno or call.error or call.ended is None) and call.errno not in NO_FAILURE
        provoked = call in provoking
        asking = Note(side, call.began, (), call_hover(call), "RST" if provoked else "text", call)
        coming = Note(side, ended, (), call_hover(call), "RST" if failed or provoked else "text", call)
        if ended - call.began > wait:
            busy = {span.column for span in spans if span.side == side and span.ended > call.began}
            spans.append(Span(side, call.began, ended, next(i for i in range(len(busy) + 1) if i not in busy)))
            notes.append(asking._replace(rows=_rows(asked)))
            if call.name != "sleep" or failed:
                notes.append(coming._replace(rows=_rows(*(came or ("→ ok",)))))
        else:
            at = ended if call.name in WAITING else call.began
            notes.append(coming._replace(at=at, rows=_rows(asked, *came)))
    return notes, spans


def _rows(*parts: str) -> tuple[str, ...]:
    """The parts of a text in as few rows as their length allows, each part in two rows at the most."""
    rows: list[str] = []
    for part in map(printable, parts):
        if rows and len(rows[-1]) + 1 + len(part) <= MOST:
            rows[-1] += f" {part}"
        else:
            rows += textwrap.wrap(part, MOST, max_lines=2, placeholder="…", break_on_hyphens=False) or [""]
    return tuple(rows)


def programs(trace: Trace, both: Sequence[Side]) -> list[Note]:
    """The ends of the programs, and a word on those whose calls were not recorded."""
    notes = []
    side_of = {side.host: side for side in both}
    for program in trace.programs:
        side = side_of.get(program.host)
        if side is None:
            continue
        hover = program_hover(program)
        if not program.recorded:
            notes.append(Note(side, program.started, _rows(f"{program.name}:", "calls not recorded"), hover, "muted"))
        if program.ended is not None:
            words, failed = end_words(program)
            notes.append(Note(side, program.ended, _rows(*words), hover, "RST" if failed else "muted", program))
    return notes


def queues(trace: Trace, both: Sequence[Band], connection: frozenset[Endpoint]) -> list[Note]:
    """The bytes that a socket held as it was closed, or when it was last seen before a reset."""
    reset = any(p.flags & Flags.RST and p.connection == connection for p in trace.packets)
    notes = []
    for side in dict.fromkeys(band.side for band in both):
        closes = [
            c for c in trace.calls if c.name == "close" and c.host == side.host and {c.local, c.peer} == connection
        ]
        last = [band for band in both if band.side == side][-1]
        state = last.samples[-1]
        note = None
        if closes:
            rows = _held(closes[0].unread, closes[0].unsent, closes[0].unacked if reset else 0)
            note = Note(side, closes[0].began, rows, "in the socket's queues as close() began", "FIN")
        if not (note and note.rows) and reset and last.ended is not None and state.peer is not None:
            hover = f"in the socket's queues when it was last seen, at {state.at:.6f} s"
            note = Note(side, last.ended, _held(*state.held), hover, "FIN")
        if note and note.rows:
            notes.append(note)
    return notes


def _held(*counts: int | None) -> tuple[str, ...]:
    return tuple(
        f"{count:,} B {word}"
        for count, word in zip(counts, ("unread", "unsent", "unacknowledged"), strict=True)
        if count
    )


def last_moment(trace: Trace) -> float:
    """When the last thing happened; the end of the run where that was no end of its own."""
    moments = [0.0]
    for packet in trace.packets:
        moments.append(packet.sent if packet.arrived is None else packet.arrived)
    moments += [moment for call in trace.calls for moment in (call.began, call.ended) if moment is not None]
    moments += [state.at for state in trace.states]
    moments += [program.ended for program in trace.programs if program.ended is not None]
    return max(moments) if trace.outcome == "completed" else max(*moments, trace.duration)
