"""The sheet of a diagram: which things of a trace are drawn, and where each of them stands.

Its width in pixels is the narrowest at which all texts fit, and grows with the page; heights are
pixels, whatever the width.
"""

import re
from bisect import bisect
from collections.abc import Iterable, Mapping
from dataclasses import replace

from .beside import Band, Note, Side, bands, calls, drawn_connection, last_moment, programs, queues, sides
from .dissect import Reading, clip, read_packets
from .explain import explain
from .layers import BAND, HEADER_SIZE, LABEL_SIZE, NOTE_CHARACTER, NOTE_SIZE
from .tcp import Endpoint
from .timeline import Mark, Timeline, lay_out, text_width, typical_flight
from .trace import Packet, Trace

NARROWEST = 720.0  # pixels: what JupyterLab leaves of a window of 900
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


def label_rows(label: str, packet: Packet, width: float) -> tuple[str, ...]:
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
    """Where a trace's packets, calls and states stand: the columns at once, the heights by `arrange`."""

    narrowest, between, ticks = NARROWEST, 200.0, TICKS  # pixels: in all, between the lifelines, left of all
    density = 1.0  # how much closer together packets may stand than their labels ask

    def __init__(self, trace: Trace, *, raw: bool = False) -> None:
        self.trace = trace
        self.readings = read_packets(trace.packets, raw=raw)
        self.resets = explain(trace)
        self.left, self.right = both = sides(trace)
        self.connection = drawn_connection(trace, self.resets)
        self.bands = bands(trace, self.connection, both)
        self.flight = typical_flight(p.arrived - p.sent for p in trace.packets if p.arrived is not None)
        self.notes, self.spans = calls(trace, both, self.resets, self.flight / 3)
        self.notes += [*programs(trace, both), *queues(trace, self.bands, self.connection)]
        self.notes = [self.note(note) for note in self.notes]
        self.prefixes = _prefixes(trace)
        self._set_columns()
        between = self.lifeline[1] - self.lifeline[-1] - BAND - 30
        self.labels = {reading.packet.number: self.label(reading, between) for reading in self.readings}
        self.timeline = Timeline((), (), 0.0, 1.0)
        self.height: dict[tuple[str, int], float] = {}

    def note(self, note: Note) -> Note:
        """A note as it is written beside a lifeline."""
        return note

    def label(self, reading: Reading, width: float) -> tuple[str, ...]:
        """What is written on an arrow, in as few rows as its width allows."""
        prefix = self.prefixes.get(reading.packet.connection, "")
        return label_rows(prefix + reading.label, reading.packet, width)

    def marks(self) -> dict[tuple[str, int], Mark]:
        """The moments that need heights, each under what it is and its number."""
        marks: dict[tuple[str, int], Mark] = {}
        for i, note in enumerate(self.notes):
            room = ROW * len(note.rows) / 2
            marks["note", i] = Mark(note.at, f"{note.side.host} notes", room, room)
        for packet in self.trace.packets:
            room = ROW * len(self.labels[packet.number]) / 2 / self.density
            if packet.arrived is None:
                marks["sent", packet.number] = Mark(packet.sent, f"{packet.sender} wire", ROW / 2, 2 * ROW)
                continue
            marks["sent", packet.number] = Mark(packet.sent, f"{packet.sender} wire", room, room, 1)
            lane = f"{self.other(self.side(packet)).host} wire"
            room = ROW / 2 / self.density
            marks["arrived", packet.number] = Mark(packet.arrived, lane, room, room, -1)
        last = last_moment(self.trace)
        for i, band in enumerate(self.bands):
            lane = f"{band.side.host} band"
            room = text_width(names(band)[1], NOTE_SIZE) + 14
            marks["began", i] = Mark(band.samples[0].at, lane, 0, room)
            marks["ended", i] = Mark(last if band.ended is None else band.ended, lane)
        for i, span in enumerate(self.spans):
            marks["span", i] = Mark(span.began)
            marks["span end", i] = Mark(span.ended)
        marks["end", 0] = Mark(last)
        return marks

    def place(self, timeline: Timeline, marks: Mapping[tuple[str, int], Mark], heights: Iterable[float]) -> None:
        """Take the heights of the marks, and the timeline that they are from."""
        self.timeline = timeline
        self.height = dict(zip(marks, heights, strict=True))
        self.known = sorted((mark.at, self.height[key]) for key, mark in marks.items())

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
            lines_at[side.out] = max(beside + (self.ticks if side is self.left else 0), header)
        self.width = max(self.narrowest, sum(lines_at.values()) + BAND + self.between)
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


def arrange(*sheets: Sheet, true_scale: bool = False, bar: tuple[float, float] | None = None) -> None:
    """Give all that stands on the sheets its height, on one time scale.

    ``bar`` asks for room across the sheets: before which moment (seconds), and how much (pixels).
    """
    marks = [
        {key: mark._replace(lane=mark.lane and f"{n} {mark.lane}") for key, mark in sheet.marks().items()}
        for n, sheet in enumerate(sheets)
    ]
    all_marks = [mark for of_sheet in marks for mark in of_sheet.values()]
    bars = []
    if bar is not None:
        lanes = sorted({"bar"} | {mark.lane for mark in all_marks if mark.lane})
        bars = [Mark(bar[0], "bar"), *(Mark(bar[0], lane, bar[1]) for lane in lanes)]
        bars += [Mark(bar[0], lane, 0, ROW / 2) for lane in lanes]  # now all lanes are at the same height
    flight = typical_flight(p.arrived - p.sent for s in sheets for p in s.trace.packets if p.arrived is not None)
    timeline = lay_out([*bars, *all_marks], flight, true_scale=true_scale)
    if bar is not None:
        bottom = timeline.heights[len(bars) - 1]
        timeline = replace(timeline, bars=((bottom - bar[1], bottom),))
    heights = iter(timeline.heights[len(bars) :])
    for sheet, of_sheet in zip(sheets, marks, strict=True):
        sheet.place(timeline, of_sheet, [next(heights) for _ in of_sheet])
