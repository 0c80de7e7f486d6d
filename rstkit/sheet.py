"""The sheet of a diagram: which things of a trace are drawn, and where each of them stands.

Its width in pixels is the narrowest at which all texts fit, and grows with the page; heights are
pixels, whatever the width.
"""

import re
from bisect import bisect
from typing import Any

from .beside import Band, Side, bands, calls, drawn_connection, last_moment, programs, queues, sides
from .dissect import clip, read_packets
from .explain import explain
from .layers import BAND, HEADER_SIZE, LABEL_SIZE, NOTE_CHARACTER, NOTE_SIZE
from .tcp import Endpoint
from .timeline import Mark, lay_out, text_width, typical_flight
from .trace import Packet, Trace

NARROWEST = 720.0  # pixels: what JupyterLab leaves of a window of 900
_BETWEEN = 200.0  # pixels between the lifelines, at least
ROW = 18.0  # pixels of a line of text
TICKS = 72.0  # pixels of the column with the times
_LOST_AT = 0.4  # where on its way the arrow of a lost packet ends


def names(band: Band) -> tuple[str, str]:
    """A state's name, and the shortest that will do where there is little room (``ss`` writes ESTAB)."""
    name = band.samples[0].state
    return name, {"ESTABLISHED": "ESTAB"}.get(name, name)


def _prefixes(trace: Trace) -> dict[frozenset[Endpoint], str]:
    """The port by which to tell each connection from the others; nothing where there is only one."""
    connections = list(dict.fromkeys(packet.connection for packet in trace.packets))
    if len(connections) < 2:
        return {}
    shared = frozenset.intersection(*connections)
    return {connection: f"{min(connection - shared or connection).port}: " for connection in connections}


def _label_rows(label: str, packet: Packet, width: float) -> tuple[str, ...]:
    """A packet's label in as few rows as there is room for between the lifelines; then why it was lost."""
    width = width if packet.arrived is not None else width / 2
    first, *parts = re.split(r"(?<=,) | (?=seq )", label)
    rows = [first]
    for part in parts:
        if text_width(f"{rows[-1]} {part}", LABEL_SIZE) <= width:
            rows[-1] += f" {part}"
        else:
            rows.append(part)
    return tuple(rows) if packet.arrived is not None else (*rows, clip(packet.lost or "lost", 30))


class Sheet:
    """Where a trace's packets, calls and states stand: first they get their heights, then the columns their widths."""

    def __init__(self, trace: Trace, *, true_scale: bool, raw: bool) -> None:
        self.trace = trace
        self.true_scale = true_scale
        self.readings = read_packets(trace.packets, raw=raw)
        self.resets = explain(trace)
        self.left, self.right = both = sides(trace)
        self.connection = drawn_connection(trace, self.resets)
        self.bands = bands(trace, self.connection, both)
        self.flight = typical_flight(p.arrived - p.sent for p in trace.packets if p.arrived is not None)
        self.notes, self.spans = calls(trace, both, self.resets, self.flight / 3)
        self.notes += [*programs(trace, both), *queues(trace, self.bands, self.connection)]
        self._set_columns()
        between = self.lifeline[1] - self.lifeline[-1] - BAND - 30
        self.prefixes = _prefixes(trace)
        self.labels = {
            p.number: _label_rows(self.prefixes.get(p.connection, "") + label, p, between)
            for p, _, label, _ in self.readings
        }
        self._set_heights()

    def _set_heights(self) -> None:
        keys: list[tuple[str, int]] = []
        marks: list[Mark] = []

        def mark(what: str, which: int, *mark: Any) -> None:
            keys.append((what, which))
            marks.append(Mark(*mark))

        for i, note in enumerate(self.notes):
            room = ROW * len(note.rows) / 2
            mark("note", i, note.at, f"{note.side.host} notes", room, room)
        for packet in self.trace.packets:
            room = ROW * len(self.labels[packet.number]) / 2
            if packet.arrived is None:
                mark("sent", packet.number, packet.sent, f"{packet.sender} wire", ROW / 2, 2 * ROW)
                continue
            mark("sent", packet.number, packet.sent, f"{packet.sender} wire", room, room, 1)
            lane = f"{self.other(self.side(packet)).host} wire"
            mark("arrived", packet.number, packet.arrived, lane, ROW / 2, ROW / 2, -1)
        last = last_moment(self.trace)
        for i, band in enumerate(self.bands):
            lane = f"{band.side.host} band"
            mark("began", i, band.samples[0].at, lane, 0, text_width(names(band)[1], NOTE_SIZE) + 14)
            mark("ended", i, last if band.ended is None else band.ended, lane, 0, 0)
        for i, span in enumerate(self.spans):
            mark("span", i, span.began)
            mark("span end", i, span.ended)
        mark("end", 0, last)
        self.timeline = lay_out(marks, self.flight, true_scale=self.true_scale)
        self.height = dict(zip(keys, self.timeline.heights, strict=True))
        self.known = sorted(zip((mark.at for mark in marks), self.timeline.heights, strict=True))

    def _set_columns(self) -> None:
        """Where the lifelines stand: as far in as the longest note beside them asks."""
        self.out: dict[int, float] = {}  # the distance of the notes from the lifeline
        lines_at = {}
        for side in (self.left, self.right):
            columns = max((span.column + 1 for span in self.spans if span.side == side), default=0)
            self.out[side.out] = BAND / 2 + 6 + 7 * columns
            rows = [len(row) for note in self.notes if note.side == side for row in note.rows]
            beside = self.out[side.out] + max(rows, default=0) * NOTE_CHARACTER + 6
            header = text_width(self.header(side), HEADER_SIZE) / 2 + 12
            lines_at[side.out] = max(beside + (TICKS if side is self.left else 0), header)
        self.width = max(NARROWEST, sum(lines_at.values()) + BAND + _BETWEEN)
        self.lifeline = {-1: lines_at[-1], 1: self.width - lines_at[1]}

    def side(self, packet: Packet) -> Side:
        """The side of the host that sent a packet."""
        return self.left if packet.sender == self.left.host else self.right

    def other(self, side: Side) -> Side:
        return self.right if side is self.left else self.left

    def header(self, side: Side) -> str:
        """The host's name, and its address with the port where it used one only."""
        ends = {end for p in self.trace.packets for end in ((p.source,) if p.sender == side.host else (p.destination,))}
        address = str(next(iter(ends))) if len(ends) == 1 else self.trace.hosts.get(side.host, "")
        return clip(f"{side.host} {address}", 50)

    def x(self, side: Side, outside: float) -> float:
        """A place so many pixels outside a lifeline; inside where negative."""
        return self.lifeline[side.out] + side.out * outside

    def y_at(self, moment: float) -> float:
        """The height of any moment, between those of the marks around it."""
        i = bisect(self.known, (moment, float("inf")))
        if i in (0, len(self.known)):
            return self.known[min(i, len(self.known) - 1)][1]
        (t0, y0), (t1, y1) = self.known[i - 1], self.known[i]
        return y0 + (y1 - y0) * (moment - t0) / (t1 - t0) if t1 > t0 else y0

    def arrow(self, packet: Packet) -> tuple[float, float, float, float]:
        """Where a packet's arrow begins and ends: at the other lifeline, or midway where it was lost."""
        begin = self.side(packet)
        end = self.other(begin)
        x, y = self.x(begin, -BAND / 2 - 3), self.height["sent", packet.number]
        if packet.arrived is not None:
            return x, y, self.x(end, -BAND / 2 - 8), self.height["arrived", packet.number]
        far, near = self.x(end, 0), self.x(begin, 0)
        fallen = self.y_at(packet.sent + _LOST_AT * self.flight)
        return x, y, near + _LOST_AT * (far - near), max(fallen, y + 10)
