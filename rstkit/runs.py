"""Runs of a lab, one at a time, as a view asks for them.

Here they are carried out in place, which is right where a run takes no time: a recorded one, and
in a browser's Python no other is to be had. Those that take time are for `background`.
"""

import time
from typing import Any, Protocol

from .errors import LabError, ProgramChanged
from .lab import Lab, Program
from .trace import Trace


class View(Protocol):
    """Where the values of a run come from, and what is told how it goes.

    ``clicks`` is whether the kernel is free to take a click while the run goes on. ``expected`` is
    how long the last run with the same values took, 0 where there is none; ``limit`` is the
    duration after which the lab ends the run. Times are in seconds.
    """

    def values(self) -> dict[str, Any]: ...
    def started(self, clicks: bool) -> None: ...
    def progressed(self, elapsed: float, expected: float, limit: float) -> None: ...
    def ended(self, trace: Trace, elapsed: float) -> None: ...
    def failed(self, error: Exception) -> None: ...


class Runs:
    """The runs of two programs, as a view asks for them; ``busy`` while one is under way.

    Each is over when the call that asks for it returns.
    """

    def __init__(self, lab: Lab, server: Program | None, client: Program, view: View) -> None:
        self._lab, self._programs, self._view = lab, (server, client), view
        self.busy = self.closed = False

    def first(self) -> None:
        """Run, and wait for the end."""
        self._run(clicks=False)

    def again(self) -> None:
        """Run with the newest values."""
        if not self.closed:
            self._run(clicks=False)

    def stop(self) -> None:
        """End the run under way: here there is none by the time that anyone can ask."""

    def close(self) -> None:
        """Take no further run."""
        self.closed = True

    def _run(self, clicks: bool) -> None:
        """One run, from the view's values to what it showed."""
        began = time.monotonic()
        try:
            values = self._view.values()
            self._view.started(clicks)
            trace = self._carry_out(values)
            self._view.ended(trace, time.monotonic() - began)
        except KeyboardInterrupt:  # while it was drawn
            self._view.failed(LabError("Interrupted before the outcome was drawn. Run again."))
        except Exception as error:
            self._view.failed(error)

    def _carry_out(self, values: dict[str, Any]) -> Trace:
        try:
            return self._lab.run(*self._programs, **values)
        except ProgramChanged as changed:  # its problems say so, which a person reads
            return changed.original


def runs_for(view: View, lab: Lab, server: Program | None, client: Program) -> Runs:
    """The runs of two programs on a lab: in the background where they take time."""
    if lab.backend.instant:
        return Runs(lab, server, client, view)
    from .background import BackgroundRuns  # noqa: PLC0415 - a browser's Python cannot start threads

    return BackgroundRuns(lab, server, client, view)
