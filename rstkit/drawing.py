"""How a sheet is drawn: lines, arrows and texts on a canvas, which becomes the data of a plotly Figure."""

from bisect import bisect
from typing import Any

from .dissect import KINDS, Reading, clip, escape, lines, state_hover
from .layers import BAND, LABEL_SIZE, MONO, NOTE_CHARACTER, NOTE_SIZE, SANS, Layers
from .sheet import ROW, Sheet, names
from .theme import COLOURS
from .timeline import Box, Ground, Timeline, clock, text_width

HEAD, FOOT = 70.0, 34.0  # pixels above the first event and below the last
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


class Canvas:
    """What drawings are made on. Texts take their place in the order in which they are drawn."""

    def __init__(self, packets: int) -> None:
        self.layers = Layers()
        self.ground = Ground()
        self.names: list[dict[str, Any]] = []
        self.points = max(1, min(5, 500 // max(packets, 1)))  # on an arrow, to hover over

    def times(self, *sheets: Sheet, x: float, at: str) -> None:
        """The column of times at ``x``: of each packet's sending, then of what else there is room for."""
        wanted = [(p.sent, sheet.height["sent", p.number]) for sheet in sheets for p in sheet.trace.packets]
        for sheet in sheets:
            packets = [p for p in sheet.trace.packets if p.arrived is not None]
            wanted += [(p.arrived or 0, sheet.height["arrived", p.number]) for p in packets]
            wanted += [(note.at, sheet.height["note", i]) for i, note in enumerate(sheet.notes)]
        least = max(min(sheet.flight for sheet in sheets) / 40, 2e-5)  # seconds: nearer moments need one time only
        column = Ground()
        for top, bottom in sheets[0].timeline.bars:
            column.take(Box(0, top, 1, bottom))
        shown: list[tuple[float, float]] = []
        for t, y in wanted:
            i = bisect(shown, (t, y))
            apart = all(abs(t - other) > least for other, _ in shown[max(i - 1, 0) : i + 1])
            if apart and column.take(Box(0, y - 10, 1, y + 10)):
                shown.insert(i, (t, y))
        for i, (t, y) in enumerate(shown):
            gap = min((abs(t - other) for other, _ in shown[max(i - 1, 0) : i + 2] if other != t), default=0.01)
            self.layers("muted", at).say(x, y, clock(t, gap))

    def figure(self, width: float, timeline: Timeline, head: float = HEAD, foot: float = FOOT) -> dict[str, Any]:
        """The Figure as data."""
        bottom = timeline.bottom + foot
        axis = {"visible": False, "fixedrange": True}
        font = {"family": SANS, "size": NOTE_SIZE, "color": COLOURS["text"].light}
        return {
            "data": self.layers.plotly(),
            "layout": {
                "template": "none",
                "autosize": True,
                "height": round(bottom + head),
                "margin": dict.fromkeys("lrtb", 0),
                "paper_bgcolor": COLOURS["paper"].light,
                "plot_bgcolor": "rgba(0,0,0,0)",
                "font": font,
                "showlegend": False,
                "hovermode": "closest",
                "hoverdistance": 200 // (self.points + 1),
                "dragmode": "zoom" if timeline.crowded else False,
                "xaxis": axis | {"range": [0, width]},
                "yaxis": axis | {"range": [bottom, -head], "fixedrange": not timeline.crowded},
                "hoverlabel": {
                    "bgcolor": COLOURS["paper"].light,
                    "bordercolor": COLOURS["muted"].light,
                    "align": "left",
                    "font": font | {"family": MONO},
                },
                "annotations": [{"showarrow": False, "textangle": -90, **name} for name in self.names],
            },
        }


class Drawing:
    """The drawing of one trace on a canvas."""

    def __init__(self, sheet: Sheet, canvas: Canvas) -> None:
        self.sheet = sheet
        self.trace = sheet.trace
        self.canvas = canvas
        self.layers, self.ground = canvas.layers, canvas.ground

    def draw(self) -> None:
        self.lifelines()
        self.folds()
        self.states()
        self.programs()
        self.resets()
        self.packets()

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
            self.layers("text", "header").say(x, 20 - HEAD, f"<b>{escape(name)}</b> {escape(address)}")
        remark = self._remark()
        if remark:
            self.layers("muted", "text").say(self.middle, 43 - HEAD, escape(remark))

    def _remark(self) -> str:
        room = int(self.sheet.width / text_width("0", LABEL_SIZE)) - 4
        remarks = [clip(self.trace.origin, room)] if self.trace.origin else []
        if self.sheet.prefixes:
            of = self.sheet.prefixes.get(self.sheet.connection, "").removesuffix(": ")
            remarks.append(f"{len(self.sheet.prefixes)} connections" + (f", states of port {of}" if of else ""))
        if not self.trace.packets:
            remarks.append("no packets")
        if self.sheet.timeline.crowded:
            remarks.append("drag to zoom, hover for hidden labels")
        return "; ".join(remarks)

    def folds(self) -> None:
        for fold in self.sheet.timeline.folds:
            words = f"⋯ {_length(fold.seconds)} of silence ⋯"
            if text_width(words, LABEL_SIZE) > self.sheet.lifeline[1] - self.sheet.lifeline[-1] - BAND:
                words = words.replace(" of silence", "")
            self.announce((fold.top + fold.bottom) / 2, words)
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
                self.canvas.names.append({"x": x, "y": (a + b) / 2, "text": escape(name)})
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
                called = [i for i, note in enumerate(sheet.notes) if note.of == reset.call]
                if called:
                    top = sheet.height["note", called[0]]
                    self._join((x, began), (x, top), (sheet.x(side, sheet.out[side.out] - 5), top))
            corners = [(sheet.x(sheet.left, inner), y) for y in (top - 12, bottom + 12)]
            corners += [(sheet.x(sheet.right, inner), y) for y in (bottom + 12, top - 12)]
            self.layers("highlight", "area").line(*corners)

    def _join(self, *points: tuple[float, float]) -> None:
        """Join the points: the first two of them lie above each other."""
        (x, bottom), (_, top), *more = points
        *pieces, (begin, end) = self.sheet.timeline.pieces(top, bottom)[::-1]
        for a, b in pieces:
            self.layers("RST", "join").line((x, a), (x, b))
        self.layers("RST", "join").line((x, end), (x, begin), *more)
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
            for i in range(1, self.canvas.points + 1):
                f = i / (self.canvas.points + 1)
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


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"


def _box(x: float, y: float, width: float, half: float) -> Box:
    """The box of a text that begins at x, and runs to the left where its width is negative."""
    return Box(min(x, x + width), y - half, max(x, x + width), y + half)
