"""Runs that leave the kernel free while they take their time.

Each run goes to a thread of its own, for which either the cell waits (the first run) or another
thread does (the later ones). So the first can be interrupted, and the later ones leave the kernel's
main thread free to take the Stop click and other cells.
"""

import threading
import time
from concurrent.futures import Future, wait
from typing import Any

from .lab import SETTINGS, Lab, Program
from .runs import Runs, View
from .trace import Trace

_LONG = 1.0  # seconds after which a run shows its progress


class BackgroundRuns(Runs):
    """The runs of two programs; the first is over when the call for it returns, the later ones when they are done."""

    def __init__(self, lab: Lab, server: Program | None, client: Program, view: View) -> None:
        super().__init__(lab, server, client, view)
        self._last: tuple[dict[str, Any], float] = ({}, 0.0)  # the last whole run's values, and how long it took
        self._lock = threading.Lock()  # guards `busy`, `closed` and all that follows
        self._wanted = self._halting = False
        self._worker: threading.Thread | None = None

    def first(self) -> None:
        """Run, and wait for the end. An interrupt of this thread stops the run."""
        self.busy = True
        try:
            self._run(clicks=False)
        finally:
            self._go_on()

    def again(self) -> None:
        """Run with the newest values, without waiting: now, or once after the run that is under way."""
        with self._lock:
            self._wanted = not self.closed
            if self.busy or self.closed:
                return
            self.busy = True
        self._go_on()

    def stop(self) -> None:
        """End the run under way, and forget the one that was to follow it."""
        with self._lock:
            self._wanted, self._halting = False, True
        self._lab.stop()

    def close(self) -> None:
        """End the run under way, wait until its threads are done, and take no other."""
        with self._lock:
            self.closed, worker = True, self._worker
        self.stop()
        if worker:
            worker.join()

    def _go_on(self) -> None:
        """Leave the run that is wanted to a thread, where there is one."""
        with self._lock:
            if not self._wanted:
                self.busy = False
                return
            self._worker = threading.Thread(target=self._work, name="rstkit panel", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self.busy = False
                    return
                self._wanted = self._halting = False
            self._run(clicks=True)

    def _carry_out(self, values: dict[str, Any]) -> Trace:
        began = time.monotonic()
        ended: Future[Trace] = Future()
        # not an executor: the end of Python waits for its threads, and would wait for a long run
        threading.Thread(target=self._run_lab, args=(ended, values), name="rstkit run", daemon=True).start()
        expected = self._last[1] if self._last[0] == values else 0.0
        limit = values.get("duration", SETTINGS["duration"].default)
        while not ended.done():
            try:
                self._watch(ended, began, expected, limit)
            except KeyboardInterrupt:
                self.stop()
        trace = ended.result()
        if trace.outcome != "stopped":
            self._last = (values, time.monotonic() - began)
        return trace

    def _run_lab(self, ended: "Future[Trace]", values: dict[str, Any]) -> None:
        try:
            ended.set_result(super()._carry_out(values))
        except BaseException as error:
            ended.set_exception(error)

    def _watch(self, ended: "Future[Trace]", began: float, expected: float, limit: float) -> None:
        """Wait for a run to be over, and tell its progress if it is a long one."""
        while not ended.done():
            # not Thread.join: an interrupt of it makes Python 3.11 take the thread for ended
            wait([ended], 0.2)
            if self._halting:  # again, in case it was asked for before the lab had begun
                self._lab.stop()
            elapsed = time.monotonic() - began
            if elapsed > _LONG and not ended.done():
                self._view.progressed(elapsed, expected, limit)
