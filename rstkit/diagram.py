"""The sequence diagram of a trace: time runs down, the client stands left, the server right.

What stands where is computed in `sheet`; here it is drawn and becomes a plotly Figure.
"""

import json
from bisect import bisect
from typing import Any

import plotly.graph_objects as go

from .dissect import KINDS, Reading, clip, escape, lines, state_hover
from .layers import BAND, LABEL_SIZE, MONO, NOTE_CHARACTER, NOTE_SIZE, SANS, Layers
from .sheet import ROW, TICKS, Sheet, names
from .theme import COLOURS, STYLE
from .timeline import Box, Ground, clock, text_width
from .trace import Trace

MIME = "application/vnd.plotly.v1+json"
_HEAD, _FOOT = 70.0, 34.0  # pixels above the first event and below the last
_STATES = {
    "LISTEN": "listening",
    "SYN_SENT": "opening",
    "SYN_RECV": "opening",
    "ESTABLISHED": "open",
    "FIN_WAIT1": "closing",
    "CLOSING": "closing",
    "FIN_WAIT2": "closed",
    "TIME_WAIT": "closed",
    "CLOSE_WAIT": "waiting",
    "LAST_ACK": "waiting",
}
_IMPORTANCE = ("RST", "SYN", "FIN", "retransmission", "data", "keepalive", "ACK")  # whose label is placed first


class Diagram(go.Figure):  # type: ignore[misc]  # plotly has no types
    """A plotly Figure that follows JupyterLab's theme, and shows itself without the mode bar."""

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, Any]:
        # The theme finds the traces by their uids. JupyterLab resizes figures itself; with plotly's
        # own "responsive" as well, a figure loses its height at the first resize.
        figure = json.loads(self.to_json(remove_uids=False))
        return {MIME: figure | {"config": {"displayModeBar": False}}, "text/plain": "<sequence diagram>"}

    def _ipython_display_(self) -> None:
        from IPython.display import display  # noqa: PLC0415 - only a notebook has it, and needs it

        display({"text/html": STYLE, "text/plain": ""}, raw=True)  # type: ignore[no-untyped-call]
        display(self._repr_mimebundle_(), raw=True)  # type: ignore[no-untyped-call]


def sequence_diagram(trace: Trace, *, true_scale: bool = False, raw: bool = False) -> Diagram:
    """Draw a trace as a sequence diagram.

    Silences are folded, and time is stretched where much happens at once, unless ``true_scale``
    asks for a second to be as long as any other. ``raw`` shows sequence numbers as they were
    sent instead of relative to the connection's first. Where a trace holds several connections,
    the socket states are those of the first one that was reset, or of the first one. Calls that
    only make ready a socket (socket, bind, SO_REUSEADDR) are left out unless they failed.
    """
    drawing = _Drawing(Sheet(trace, true_scale=true_scale, raw=raw))
    drawing.lifelines()
    drawing.folds()
    drawing.states()
    drawing.programs()
    drawing.resets()
    drawing.packets()
    drawing.times()
    return Diagram(drawing.figure())


class _Drawing:
    """One diagram in the making. Texts take their place in the order in which they are drawn."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.trace = sheet.trace
        self.layers = Layers()
        self.ground = Ground()
        self.names: list[dict[str, Any]] = []
        self.points = max(1, min(5, 500 // max(len(self.trace.packets), 1)))  # on an arrow, to hover over

    @property
    def crowded(self) -> bool:
        """Whether some texts may find no place."""
        return self.sheet.true_scale or self.sheet.timeline.scale < 1

    @property
    def middle(self) -> float:
        return sum(self.sheet.lifeline.values()) / 2

    def hover(self, x: float, y: float, words: str) -> None:
        self.layers("text", "hover").say(x, y, words)

    def announce(self, y: float, words: str) -> None:
        """Write between the lifelines."""
        long = text_width(words, LABEL_SIZE) + 16
        if self.ground.take(_box(self.middle - long / 2, y, long, ROW / 2)):
            self.layers("muted", "text").say(self.middle, y, escape(words))

    def lifelines(self) -> None:
        timeline = self.sheet.timeline
        for side in (self.sheet.left, self.sheet.right):
            x = self.sheet.lifeline[side.out]
            for a, b in timeline.pieces(-14, timeline.bottom + 12):
                self.layers("lifeline", "life").line((x, a), (x, b))
            name, _, address = self.sheet.header(side).partition(" ")
            self.layers("text", "header").say(x, 20 - _HEAD, f"<b>{escape(name)}</b> {escape(address)}")
        remark = self._remark()
        if remark:
            self.layers("muted", "text").say(self.middle, 43 - _HEAD, escape(remark))

    def _remark(self) -> str:
        remarks = []
        if self.sheet.prefixes:
            of = self.sheet.prefixes.get(self.sheet.connection, "").removesuffix(": ")
            remarks.append(f"{len(self.sheet.prefixes)} connections" + (f", states of port {of}" if of else ""))
        if not self.trace.packets:
            remarks.append("no packets")
        if self.crowded:
            remarks.append("drag to zoom, hover for hidden labels")
        return "; ".join(remarks)

    def folds(self) -> None:
        for fold in self.sheet.timeline.folds:
            self.announce((fold.top + fold.bottom) / 2, f"⋯ {_length(fold.seconds)} of silence ⋯")
        if self.trace.outcome != "completed":
            self.announce(self.sheet.timeline.bottom + 14, clip(f"the run ended: {self.trace.outcome}", 40))

    def states(self) -> None:
        """The states of the sockets as bands on the lifelines; what each sample showed is hovered."""
        sheet = self.sheet
        for i, band in enumerate(sheet.bands):
            state = band.samples[0].state
            x, top, bottom = sheet.lifeline[band.side.out], sheet.height["began", i], sheet.height["ended", i]
            pieces = sheet.timeline.pieces(top + 1, bottom - 1)
            for a, b in pieces:
                self.layers(_STATES.get(state, "listening"), "band").line((x, a), (x, b))
            a, b = max(pieces, key=lambda piece: piece[1] - piece[0])
            name = next((name for name in names(band) if b - a >= text_width(name, NOTE_SIZE) + 6), None)
            if name is not None:
                self.names.append({"x": x, "y": (a + b) / 2, "text": escape(name)})
            ends: list[float | None] = [*(sample.at for sample in band.samples[1:]), band.ended]
            for sample, ended in zip(band.samples, ends, strict=True):
                first = sheet.y_at(sample.at) + 4
                last = sheet.timeline.bottom if ended is None else sheet.y_at(ended)
                for step in range(max(1, min(int((last - first) / 24), 40))):
                    self.hover(x, first + 24 * step, state_hover(sample, ended))

    def programs(self) -> None:
        """The calls and ends of the programs, beside the lifelines."""
        sheet = self.sheet
        for i, span in enumerate(sheet.spans):
            x = sheet.x(span.side, BAND / 2 + 5 + 7 * span.column)
            for a, b in sheet.timeline.pieces(sheet.height["span", i], sheet.height["span end", i]):
                self.layers("muted", "dots").line((x, a), (x, b))
        for i, note in sorted(enumerate(sheet.notes), key=lambda item: item[1].colour != "RST"):
            out = note.side.out
            x, y = sheet.x(note.side, sheet.out[out]), sheet.height["note", i]
            length = max(map(len, note.rows)) * NOTE_CHARACTER
            if self.ground.take(_box(x, y, out * length, ROW * len(note.rows) / 2 - 1)):
                kind = "note-right" if out > 0 else "note-left"
                self.layers(note.colour, kind).say(x, y, "<br>".join(map(escape, note.rows)))
            for step in range(10, int(length) + 10, 50):
                self.hover(x + out * step, y, note.hover)

    def resets(self) -> None:
        """An area behind each RST and what provoked it, and a line that joins the two."""
        sheet, inner = self.sheet, -(BAND / 2 + 4)
        for reset in sheet.resets:
            side = sheet.side(reset.packet)
            x, began, bottom = (
                sheet.x(side, inner),
                sheet.height["sent", reset.packet.number],
                sheet.arrow(reset.packet)[3],
            )
            top = began
            if reset.trigger is not None and reset.trigger.arrived is not None:
                top = sheet.height["sent", reset.trigger.number]
                self._join((x, began), (x, sheet.height["arrived", reset.trigger.number]))
            elif reset.call is not None:
                called = [i for i, note in enumerate(sheet.notes) if note.call == reset.call]
                if called:
                    top = sheet.height["note", called[0]]
                    self._join((x, began), (x, top), (sheet.x(side, sheet.out[side.out] - 5), top))
            corners = [(sheet.x(sheet.left, inner), y) for y in (top - 12, bottom + 12)]
            corners += [(sheet.x(sheet.right, inner), y) for y in (bottom + 12, top - 12)]
            self.layers("highlight", "area").line(*corners)

    def _join(self, *points: tuple[float, float]) -> None:
        self.layers("RST", "join").line(*points)
        self.layers("RST", "dot").line(points[-1])

    def packets(self) -> None:
        """The arrows. Labels are placed first, those that matter most before the others; lines leave them room."""
        sheet = self.sheet
        triggers = {reset.trigger.number for reset in sheet.resets if reset.trigger is not None}
        why = {packet.number: reset.why for reset in sheet.resets for packet in reset.packets}

        def importance(reading: Reading) -> tuple[bool, int]:
            return reading.kind != "RST" and reading.packet.number not in triggers, _IMPORTANCE.index(reading.kind)

        arrows = {reading.packet.number: sheet.arrow(reading.packet) for reading in sheet.readings}
        for reading in sorted(sheet.readings, key=importance):
            self._label(reading, *arrows[reading.packet.number])
        for reading in sorted(sheet.readings, key=lambda reading: KINDS.index(reading.kind)):
            packet, kind = reading.packet, reading.kind
            x0, y0, x1, y1 = arrows[packet.number]
            for a, b, c, d in self.ground.cut(x0, y0, x1, y1):
                self.layers(kind, "line").line((a, b), (c, d))
            self.layers(kind, "cross" if packet.arrived is None else "head").line((x0, y0), (x1, y1))
            words = reading.hover + (f"<br>{lines(why[packet.number])}" if packet.number in why else "")
            for i in range(1, self.points + 1):
                f = i / (self.points + 1)
                self.hover(x0 + f * (x1 - x0), y0 + f * (y1 - y0), words)

    def _label(self, reading: Reading, x0: float, y0: float, x1: float, y1: float) -> None:
        """Write on an arrow, nearer to its tail, where nothing else stands; nowhere in a crowd."""
        rows = self.sheet.labels[reading.packet.number]
        text = "<br>".join(map(escape, rows))
        long = max(text_width(row, LABEL_SIZE + 2 * (reading.kind == "RST")) for row in rows)
        half = ROW * len(rows) / 2 - 2
        if reading.packet.arrived is None:  # behind its cross, where the way is free
            out = 1 if x1 > x0 else -1
            if self.ground.take(_box(x1 + 12 * out, y1, long * out, half)):
                self.layers(reading.kind, "text-right" if out > 0 else "text-left").say(x1 + 12 * out, y1, text)
            return
        long += 6
        low, high = sorted((x0, x1))
        boxes = {}
        for fraction in (0.3, 0.4, 0.22, 0.5, 0.6, 0.7):
            x = min(max(x0 + fraction * (x1 - x0), low + long / 2 + 4), max(high - long / 2 - 14, low + long / 2 + 4))
            y = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
            boxes[_box(x - long / 2, y, long, half)] = (x, y)
        box = self.ground.take(*boxes, apart=1 + 12 * (1 - self.sheet.timeline.scale))
        if box is not None:
            self.layers(reading.kind, "text").say(*boxes[box], f"<b>{text}</b>" if reading.kind == "RST" else text)

    def times(self) -> None:
        """The column of times: of each packet's sending, then of what else there is room for."""
        sheet = self.sheet
        wanted = [(p.sent, sheet.height["sent", p.number]) for p in self.trace.packets]
        wanted += [(p.arrived, sheet.height["arrived", p.number]) for p in self.trace.packets if p.arrived is not None]
        wanted += [(note.at, sheet.height["note", i]) for i, note in enumerate(sheet.notes)]
        least = max(sheet.flight / 40, 2e-5)  # seconds: moments nearer to one another need one time only
        column = Ground()
        shown: list[tuple[float, float]] = []
        for t, y in wanted:
            i = bisect(shown, (t, y))
            apart = all(abs(t - other) > least for other, _ in shown[max(i - 1, 0) : i + 1])
            if apart and column.take(Box(0, y - 10, 1, y + 10)):
                shown.insert(i, (t, y))
        for i, (t, y) in enumerate(shown):
            gap = min((abs(t - other) for other, _ in shown[max(i - 1, 0) : i + 2] if other != t), default=0.01)
            self.layers("muted", "time-left").say(TICKS - 4, y, clock(t, gap))

    def figure(self) -> dict[str, Any]:
        """The Figure as data."""
        bottom = self.sheet.timeline.bottom + _FOOT
        axis = {"visible": False, "fixedrange": True}
        font = {"family": SANS, "size": NOTE_SIZE, "color": COLOURS["text"].light}
        return {
            "data": self.layers.plotly(),
            "layout": {
                "template": "none",
                "autosize": True,
                "height": round(bottom + _HEAD),
                "margin": dict.fromkeys("lrtb", 0),
                "paper_bgcolor": COLOURS["paper"].light,
                "plot_bgcolor": "rgba(0,0,0,0)",
                "font": font,
                "showlegend": False,
                "hovermode": "closest",
                "hoverdistance": 200 // (self.points + 1),
                "dragmode": "zoom" if self.crowded else False,
                "xaxis": axis | {"range": [0, self.sheet.width]},
                "yaxis": axis | {"range": [bottom, -_HEAD], "fixedrange": not self.crowded},
                "hoverlabel": {
                    "bgcolor": COLOURS["paper"].light,
                    "bordercolor": COLOURS["muted"].light,
                    "align": "left",
                    "font": font | {"family": MONO},
                },
                "annotations": [{"showarrow": False, "textangle": -90, **name} for name in self.names],
            },
        }


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"


def _box(x: float, y: float, width: float, half: float) -> Box:
    """The box of a text that begins at x, and runs to the left where its width is negative."""
    return Box(min(x, x + width), y - half, max(x, x + width), y + half)
