"""The lab: two hosts joined by a wire, on a real kernel's TCP stack.

trace = Lab().run(server, client, rtt=40)
"""

import dataclasses
import os
from _thread import allocate_lock  # unlike threading, at home in a browser's Python too
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import LabUnavailable, SettingError
from ..trace import Trace
from .choice import about, choose
from .job import Backend, Job, Run
from .recorded import RECORD, keep
from .settings import SETTINGS, Program, check_settings, split_values

__all__ = ["SETTINGS", "Lab", "Program"]


class Lab:
    """Two hosts, ``client`` and ``server``, and the wire between them; fresh ones for each run.

    A program is a function that takes the server's address, ``(host, port)``, as its first
    argument, or a command as a list of strings in which ``{host}`` and ``{port}`` stand for it.
    ``tell`` is called with a sentence where something takes long, or where a value does not apply
    here. LabUnavailable where this machine has no backend, and SettingError where
    ``RSTKIT_BACKEND`` names none.
    """

    def __init__(self, tell: Callable[[str], None] = print) -> None:
        self.backend = choose()
        self._tell = tell
        self._running = allocate_lock()
        self._run: Run | None = None
        self._stop = False
        self.backend.warm_up()

    def check(self, server: Program | None, client: Program, **values: Any) -> None:
        """Raise SettingError where a value is unknown, missing or wrong, without running anything."""
        split_values(_named(server, client), values)
        check_settings(values)

    def backend_for(self, **values: Any) -> Backend:
        """The backend that runs with these values: the first that works here and has what they ask for."""
        settings = check_settings(values)
        return choose([name for name, setting in SETTINGS.items() if settings[name] != setting.default])

    def about(self, **values: Any) -> str:
        """One line on the backend that runs with these values, and on why it is not a better one."""
        return about(self.backend_for(**values))

    def run(self, server: Program | None, client: Program, **values: Any) -> Trace:
        """Run the two programs and return what happened; with ``server=None`` nobody listens.

        Each value goes to the program or lab setting of its name: ``rtt`` (ms), ``loss`` (%) and
        ``seed``, ``drop``, ``duration`` (s), ``fin_timeout`` (s), ``sysctls``, ``ip``, ``port``.
        The client starts once the server's socket listens. The run is over when both programs
        have ended and the wire is quiet, or when ``duration`` is over. A program that fails is
        part of the trace. Raises SettingError (a wrong value), LabUnavailable (the machine refuses
        what the run needs) or LabError (the lab failed).
        """
        programs = _named(server, client)
        taken, settings = split_values(programs, values), check_settings(values)
        backend = self.backend_for(**values)
        lacking = {n: why for n, why in backend.lacks.items() if n in values and settings[n] != SETTINGS[n].default}
        for name, why in lacking.items():
            if SETTINGS[name].needed:
                raise LabUnavailable(f"{name}={values[name]!r} is not to be had here: {why}.")
        given = {name: value for name, value in values.items() if name not in lacking}
        job = Job(programs, taken, check_settings(given), given)
        if not self._running.acquire(blocking=False):
            raise SettingError("this lab is in the middle of a run. Wait for its end, or make another Lab().")
        try:
            self._stop = False
            self._run = backend.begin(self._tell)
            if self._stop:  # asked for while the hosts were being made
                self._run.stop()
            trace = self._run.carry_out(job)
            while RECORD in os.environ and not keep(job, trace, Path(os.environ[RECORD])):
                self._run = backend.begin(self._tell)
                trace = self._run.carry_out(job)
        finally:
            self._run = None
            self._running.release()
        notes = [f"{name}={values[name]!r} does not apply: {why}." for name, why in lacking.items()]
        for note in notes:
            self._tell(note)
        return dataclasses.replace(trace, problems=(*trace.problems, *notes)) if notes else trace

    def stop(self) -> None:
        """End the run from another thread; its trace, so far, has the outcome ``stopped``."""
        self._stop = True
        run = self._run
        if run:
            run.stop()


def _named(server: Program | None, client: Program) -> dict[str, Program]:
    return {"client": client} if server is None else {"server": server, "client": client}
