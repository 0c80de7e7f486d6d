"""The sequence diagram of a trace: time runs down, the client stands left, the server right.

What stands where is computed in `sheet`, and drawn in `drawing`; here it becomes a plotly Figure.
"""

import json
from typing import Any

import plotly.graph_objects as go

from .drawing import Canvas, Drawing
from .sheet import TICKS, Sheet, arrange
from .theme import STYLE
from .trace import Trace

MIME = "application/vnd.plotly.v1+json"


class Diagram(go.Figure):  # type: ignore[misc]  # plotly has no types
    """A plotly Figure that follows JupyterLab's theme, and shows itself without the mode bar.

    ``words`` stand in its place where no figure can be shown.
    """

    def __init__(self, figure: dict[str, Any], words: str) -> None:
        super().__init__(figure)
        self._words = words

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, Any]:
        # The theme finds the traces by their uids. JupyterLab resizes figures itself; with plotly's
        # own "responsive" as well, a figure loses its height at the first resize.
        figure = json.loads(self.to_json(remove_uids=False))
        return {MIME: figure | {"config": {"displayModeBar": False}}, "text/plain": self._words}

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
    sheet = Sheet(trace, raw=raw)
    arrange(sheet, true_scale=true_scale)
    canvas = Canvas(len(trace.packets))
    Drawing(sheet, canvas).draw()
    canvas.times(sheet, at="time-left", x=TICKS - 4)
    words = f"<sequence diagram{trace.origin and f', {trace.origin}'}>"
    return Diagram(canvas.figure(sheet.width, sheet.timeline), words)
