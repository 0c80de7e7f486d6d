"""A question to answer before a run, and the answer of the run to put beside it."""

import html
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from IPython.display import DisplayHandle
from ipywidgets import HTML, Layout, RadioButtons, VBox

from .trace import Trace

if TYPE_CHECKING:
    from .panel import Panel


def predict(question: str, answers: Mapping[str, Callable[[Trace], bool]]) -> "Prediction":
    """Ask a question; each answer comes with a function that tells whether a trace bears it out."""
    prediction = Prediction(question, answers)
    prediction._show()
    return prediction


class Prediction:
    """What `predict` shows; `compare` puts a run beside it."""

    def __init__(self, question: str, answers: Mapping[str, Callable[[Trace], bool]]) -> None:
        self._question = question
        self._answers = dict(answers)
        self._choice = RadioButtons(options=list(answers), value=None, layout=Layout(width="auto"))
        self._box = VBox([HTML(f"<b>{html.escape(question)}</b>"), self._choice])
        self._verdict: Any = DisplayHandle()  # type: ignore[no-untyped-call]
        self._trace: Trace | None = None

    def compare(self, run: "Trace | Panel") -> None:
        """Show what a run showed beside what was predicted; the choice may still be made afterwards."""
        first = self._trace is None
        self._trace = run if isinstance(run, Trace) else run.trace
        if first:
            self._choice.observe(lambda _: self._verdict.update(self._told(), raw=True), "value")
        self._verdict.display(self._told(), raw=True)

    def _show(self) -> None:
        bundle = self._box._repr_mimebundle_()
        bundle["text/plain"] = "\n".join([self._question, *(f"- {answer}" for answer in self._answers)])
        DisplayHandle().display(bundle, raw=True)  # type: ignore[no-untyped-call]

    def _told(self) -> dict[str, str]:
        assert self._trace is not None
        shown = [answer for answer, holds in self._answers.items() if holds(self._trace)]
        showed = (
            f"The {'recorded ' if self._trace.origin else ''}run showed: "
            + (" / ".join(shown) or "none of these")
            + "."
        )
        choice = self._choice.value
        if choice is None:
            said = "You have not chosen an answer yet."
        else:
            said = f"{'Right' if choice in shown else 'Not so'}. You said: {choice}."
        text = f"{said} {showed}" if choice is not None else said
        return {"text/plain": f"{said} {showed}", "text/html": f"<p>{html.escape(text)}</p>"}

    def _ipython_display_(self) -> None:
        """Show nothing as the value of a cell: `predict` has shown it all."""
