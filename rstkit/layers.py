"""The layers of a diagram: lines, markers or texts of one colour, each of which becomes one plotly trace.

Few traces keep a diagram of many packets usable in the browser. They are made as plain dicts:
thousands of plotly's own objects would take seconds.
"""

from dataclasses import dataclass, field
from typing import Any

from .theme import COLOURS, UID

SANS = "Helvetica, Arial, sans-serif"
MONO = 'Menlo, Consolas, "DejaVu Sans Mono", monospace'
LABEL_SIZE, NOTE_SIZE, HEADER_SIZE = 14, 13, 16
NOTE_CHARACTER = 7.85  # pixels of a character of a note, in the widest usual monospace font
BAND = 22.0  # pixels: how wide a state's band is
_TEXTS = {"text": LABEL_SIZE, "bar": LABEL_SIZE, "note": NOTE_SIZE, "time": NOTE_SIZE, "header": HEADER_SIZE}
_ORDER = ("area", "life", "band", "dots", "line", "head", "cross", "join", "dot", *_TEXTS, "hover")  # back to front
_MARKERS: dict[str, dict[str, Any]] = {
    "head": {"symbol": "arrow", "angleref": "previous", "line": {"width": 0}},
    "cross": {"symbol": "x-thin"},
    "dot": {"symbol": "circle", "size": 11, "line": {"width": 0}},
}
_LINES: dict[str, dict[str, Any]] = {
    "band": {"width": BAND},
    "dots": {"width": 2.5, "dash": "2px,3px"},
    "join": {"width": 4},
    "RST": {"width": 4},
    "ACK": {"width": 1.5},
    "retransmission": {"dash": "7px,4px"},
    "keepalive": {"dash": "2px,3px"},
}


@dataclass
class Layer:
    """What becomes one plotly trace: lines, markers at the ends of lines, or texts, all of one colour."""

    x: list[float | None] = field(default_factory=list)
    y: list[float | None] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def line(self, *points: tuple[float, float]) -> None:
        """A line through the points, apart from the lines before it."""
        self.x += [*(round(x, 1) for x, _ in points), None]
        self.y += [*(round(y, 1) for _, y in points), None]

    def say(self, x: float, y: float, text: str) -> None:
        self.x.append(round(x, 1))
        self.y.append(round(y, 1))
        self.text.append(text)


class Layers:
    """The layers of one diagram by their colour (a name of the theme) and kind.

    A kind may end in ``-left`` or ``-right``: the side of the point on which its texts stand.
    """

    def __init__(self) -> None:
        self._layers: dict[tuple[str, str], Layer] = {}

    def __call__(self, colour: str, kind: str) -> Layer:
        return self._layers.setdefault((colour, kind), Layer())

    def plotly(self) -> list[dict[str, Any]]:
        """The plotly traces, from the back to the front."""
        order = sorted(self._layers.items(), key=lambda item: _ORDER.index(item[0][1].partition("-")[0]))
        return [_plotly(colour, kind, layer) for (colour, kind), layer in order if layer.x]


def _plotly(colour: str, kind: str, layer: Layer) -> dict[str, Any]:
    """One plotly trace; its uid becomes the class by which `theme.STYLE` finds it."""
    shade = COLOURS[colour].light
    trace: dict[str, Any] = {"type": "scatter", "uid": f"{UID}{colour}-{kind}", "x": layer.x, "y": layer.y}
    trace |= {"hoverinfo": "skip", "cliponaxis": False}
    what, _, side = kind.partition("-")
    if what == "hover":
        marker = {"opacity": 0, "size": 12, "color": shade}
        return trace | {"mode": "markers", "marker": marker, "hoverinfo": "text", "hovertext": layer.text}
    if what in _TEXTS:
        size = _TEXTS[what] + ((colour, what) == ("RST", "text"))
        font = {"family": MONO if what == "note" else SANS, "color": shade, "size": size}
        place = f"middle {side or 'center'}"
        return trace | {"mode": "text", "text": layer.text, "textposition": place, "textfont": font}
    if what in _MARKERS:
        marker = {"color": shade, "opacity": 1} | _MARKERS[what]
        if what == "head":  # turned the way from the tail to the head; the tail itself is not seen
            marker["size"] = [0, 16 if colour == "RST" else 12, 0] * (len(layer.x) // 3)
        elif what == "cross":
            marker |= {"size": [0, 11, 0] * (len(layer.x) // 3), "line": {"width": 2.5, "color": shade}}
        return trace | {"mode": "markers", "marker": marker}
    if what == "area":
        return trace | {"mode": "lines", "fill": "toself", "fillcolor": shade, "line": {"width": 0}}
    line = {"color": shade, "simplify": False, "width": 2} | _LINES.get(what, {})
    if what == "line":
        line |= _LINES.get(colour, {})
    return trace | {"mode": "lines", "line": line}
