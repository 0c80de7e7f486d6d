"""The panel: controls, a Run button and the outcome, in a notebook."""

import html
import inspect
import os
import traceback
from _thread import allocate_lock  # unlike threading, at home in a browser's Python too
from typing import Any, Protocol

from IPython import get_ipython
from IPython.display import display
from ipywidgets import HTML, Box, Button, Checkbox, DOMWidget, FloatProgress, Layout, ToggleButton, VBox, Widget
from ipywidgets.widgets.interaction import interactive
from traitlets import TraitError

from .card import Place
from .compare import compare
from .diagram import sequence_diagram
from .errors import LabError, RstkitError, SettingError
from .lab import SETTINGS, Lab, Program
from .lab.recorded import RECORD
from .runs import runs_for
from .trace import Trace

_PIN, _UNPIN = "Pin this run", "Unpin the run"


def explore(server: Program | None, client: Program, **controls: Any) -> "Panel":
    """Show controls for two programs on a lab, run them once, and show what happened.

    Each of ``controls`` becomes a control as in ``ipywidgets.interact``: ``(min, max, step)``, a
    list, a dict, a bool, a string, a number, a widget, or ``fixed(value)``. Its value goes to the
    program that has a parameter of that name, or to the lab (``rtt`` in ms, ``loss`` in per cent,
    ``duration`` in s, ...), and a change runs the programs again. SettingError, before anything
    is shown, where a name is unknown or missing or a value is wrong; what goes wrong in a run is
    shown in place of the outcome.
    """
    panel = Panel(server, client, controls)
    replace_older(panel)
    panel._show()
    if RECORD in os.environ:
        from .record import grid, run_all  # noqa: PLC0415 - it starts threads, and few record

        run_all(server, client, grid(panel._controls))
    return panel


class Panel:
    """What `explore` shows; ``trace`` is what the last run showed."""

    def __init__(self, server: Program | None, client: Program, controls: dict[str, Any]) -> None:
        self._programs = (server, client)
        self._lab = Lab(tell=self._waiting)
        self._runs = runs_for(self, self._lab, server, client)
        self._trace: Trace | None = None
        self._pinned: Trace | None = None
        self._place = Place()
        self._drawing = allocate_lock()
        self._own: list[Widget] = []
        self._label_width = f"{max(map(len, controls), default=0) * 0.55 + 2:.0f}rem"
        self._controls: dict[str, Any] = {}
        try:
            for name, given in controls.items():
                self._controls[name] = self._control(name, given)
            self._lab.check(server, client, **self.values())
            self._build(self._disable())
        except BaseException:
            self.close()
            raise

    @property
    def trace(self) -> Trace:
        """What the last run showed; LabError where none has shown anything yet."""
        if self._trace is None:
            raise LabError("No run of this panel has shown anything yet: see the message under its controls.")
        return self._trace

    def close(self) -> None:
        """End a run, and give up the controls and the threads behind them."""
        if self._runs.closed:
            return
        self._runs.close()
        for control in self._controls.values():
            if isinstance(control, DOMWidget):  # a widget of the caller's lives on
                control.unobserve(self._changed, "value")
        for widget in self._own:
            for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
                if part is not None:
                    part.close()

    def _ipython_display_(self) -> None:
        """Show nothing as the value of a cell: `explore` has shown it all."""

    def _show(self) -> None:
        """Show everything, and wait for the first run to be over."""
        bundle = self._box._repr_mimebundle_()
        bundle["text/plain"] = ", ".join(f"{name} = {value!r}" for name, value in self.values().items())
        display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        self._place.open("Running for the first time…")
        self._runs.first()

    # The controls

    def _control(self, name: str, given: Any) -> Any:
        """The control that an abbreviation stands for, as in ipywidgets.interact."""
        try:
            control = interactive.widget_from_abbrev(given, self._default(name))
        except (TypeError, ValueError, TraitError) as error:
            raise SettingError(f"{name}={given!r} makes no control: {error}") from error
        if control is None:
            raise SettingError(f"{name}={given!r} makes no control. Give (min, max, step), a list, or fixed(value).")
        if not isinstance(control, DOMWidget):
            return control  # fixed
        setting = SETTINGS.get(name)
        if control is not given:
            self._keep(control)
            control.layout.width = "min(30rem, 100% - 4px)"  # less the margins
            if setting and getattr(control, "min", 0) < 0:
                control.min = 0  # of a lone number, interact makes a range on both sides of zero
        if control is not given or not control.description:
            control.description = f"{name} ({setting.unit})" if setting and setting.unit else name
            control.style.description_width = self._label_width
        if setting and not control.tooltip:
            control.tooltip = setting.about
        if control.has_trait("continuous_update"):
            control.continuous_update = False
        control.observe(self._changed, "value")
        return control

    def _default(self, name: str) -> Any:
        """The value that a parameter or setting has of itself: there its control starts."""
        for program in self._programs:
            if callable(program):
                parameter = inspect.signature(program).parameters.get(name)
                if parameter and parameter.default is not parameter.empty:
                    return parameter.default
        if name in SETTINGS and SETTINGS[name].default is not None:
            return SETTINGS[name].default
        return inspect.Parameter.empty

    def _disable(self) -> str:
        """Disable the controls of what this machine's lab does not have; the reasons, as HTML."""
        lacks = self._lab.backend_for(**self.values()).lacks
        reasons: dict[str, list[str]] = {}
        for name, control in self._controls.items():
            if name in lacks and isinstance(control, DOMWidget):
                control.disabled = True
                reasons.setdefault(lacks[name], []).append(name)
        told = [f"{', '.join(names)}: {why}." for why, names in reasons.items()]
        return "<br>".join(html.escape(text) for text in told)

    def _build(self, disabled: str) -> None:
        """The widgets under the controls, and the box that holds them all."""
        self._run = self._keep(Button(description="Run", icon="play", button_style="primary"))
        self._stop = self._keep(Button(description="Stop", icon="stop", disabled=True))
        self._progress = self._keep(FloatProgress(max=1.0, layout=Layout(width="18rem", display="none")))
        self._status, self._hint = self._keep(HTML()), self._keep(HTML())
        self._true_scale = self._keep(Checkbox(description="true time scale", indent=False))
        self._raw = self._keep(Checkbox(description="raw sequence numbers", indent=False))
        self._progress.style.description_width = "initial"
        for button in (self._run, self._stop):
            button.layout.width = "6rem"
        for switch in (self._true_scale, self._raw):
            switch.layout.width = "auto"
            switch.observe(self._switched, "value")
        self._pin = self._keep(ToggleButton(description=_PIN, icon="thumb-tack", disabled=True))
        self._pin.observe(self._pin_switched, "value")
        self._run.on_click(self._changed)
        self._stop.on_click(lambda _: self._runs.stop())
        stop = [] if self._lab.backend.instant else [self._stop]
        row = Layout(flex_flow="row wrap", align_items="center", grid_gap="0 0.75rem")
        self._box = self._keep(
            VBox(
                [
                    *(control for control in self._controls.values() if isinstance(control, DOMWidget)),
                    *([self._keep(HTML(disabled))] if disabled else []),
                    self._keep(Box([self._run, *stop, self._status, self._progress, self._hint], layout=row)),
                    self._keep(Box([self._pin, self._true_scale, self._raw], layout=row)),
                ]
            )
        )

    def _keep(self, widget: Any) -> Any:
        """Note a widget as the panel's own, to be closed with it."""
        self._own.append(widget)
        return widget

    def _changed(self, _: Any) -> None:
        self._runs.again()

    def _switched(self, _: Any) -> None:
        if self._trace:
            self._draw()

    def _pin_switched(self, _: Any) -> None:
        """Compare the runs to come with the one that is shown, or no longer."""
        compared = self._compares
        self._pinned = self._trace if self._pin.value else None
        self._pin.description = _UNPIN if self._pinned else _PIN
        if self._pinned:
            self._say("Pinned: the next run will be compared with this one.")
        elif compared:
            self._draw()
        self._allow()

    def _allow(self) -> None:
        """Let the switches be used that have something to switch."""
        self._pin.disabled = not (self._trace or self._pinned)
        self._true_scale.disabled = self._raw.disabled = self._compares

    @property
    def _compares(self) -> bool:
        """Whether two runs are shown: the pinned one and another."""
        return self._pinned is not None and self._trace is not None and self._trace is not self._pinned

    # The outcome: what `Runs` asks and tells

    def values(self) -> dict[str, Any]:
        """The values of the controls."""
        return {name: control.get_interact_value() for name, control in self._controls.items()}

    def started(self, clicks: bool) -> None:
        """Show that a run is under way; the page dims the outcome of the run before."""
        self._stop.disabled = not clicks
        hint = "" if clicks or self._lab.backend.instant else " To stop it, interrupt the kernel (■)."
        self._say(f"Running…{hint}", running=True)

    def _waiting(self, text: str) -> None:
        """Say what a run waits for before it can begin."""
        self._say(html.escape(text), running=True)

    def progressed(self, elapsed: float, expected: float, limit: float) -> None:
        """Show how far a long run is."""
        whole, told = (expected, "about") if elapsed < expected else (limit, "at most")
        self._progress.value = min(elapsed / whole, 1.0)
        self._progress.description = f"{elapsed:.0f} s of {told} {whole:.0f} s"
        self._progress.layout.display = ""

    def ended(self, trace: Trace, elapsed: float) -> None:
        """Show what a run showed."""
        self._trace = trace
        self._draw()
        done = "From a recording." if trace.origin else f"Done in {elapsed:.1f} s."
        self._rest("Stopped." if trace.outcome == "stopped" else done)

    def failed(self, error: Exception) -> None:
        """Show one clear message in place of the outcome."""
        self._trace = None
        with self._drawing:
            if isinstance(error, RstkitError):
                self._place.tell(str(error))
            else:  # a fault of rstkit itself: it belongs on the page, not into a lost thread
                told = "".join(traceback.format_exception(error))
                self._place.tell(f"rstkit failed: {error!r}. Please report it.", told)
            self._watch_for_reload()
        self._rest("Failed.")

    def _draw(self) -> None:
        """Show the last trace: its figure, and the card under it."""
        with self._drawing:
            trace = self.trace
            about, difference = self._lab.about(**trace.values), ""
            if self._pinned is not None and self._compares:
                figure = compare(self._pinned, trace)._repr_mimebundle_()
                difference = figure["text/plain"]
            else:
                diagram = sequence_diagram(trace, true_scale=self._true_scale.value, raw=self._raw.value)
                figure = diagram._repr_mimebundle_()
            self._place.show(figure, trace, about, difference)
            self._watch_for_reload()

    def _rest(self, text: str) -> None:
        self._stop.disabled = True
        self._progress.layout.display = "none"
        self._allow()
        self._say(text)

    def _say(self, text: str, running: bool = False) -> None:
        """Say in the line beside the buttons how things stand."""
        self._status.value = f'<span role="status" class="rstkit-{"running" if running else "ready"}">{text}</span>'

    def _watch_for_reload(self) -> None:
        """Have the page say so where the card on it is not the newest."""
        self._hint.value = self._place.stale()


class Shown(Protocol):
    """What a cell shows, and another execution of the cell shows anew."""

    def close(self) -> None:
        """Give up the controls."""


_shown: dict[str, tuple[str, list[Shown]]] = {}  # by cell: the execution, and the panels that it showed


def replace_older(panel: Shown) -> None:
    """Close the panels that an earlier execution of this cell showed."""
    shell = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell = parent.get("metadata", {}).get("cellId")
    if not cell:
        return
    execution = parent["header"]["msg_id"]
    before, panels = _shown.get(cell, (execution, []))
    if before != execution:
        for older in panels:
            older.close()
        panels = []
    _shown[cell] = (execution, [*panels, panel])
