"""One request to a supervisor and its result, with a stop that may come from another thread."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from ..errors import LabError

Message = dict[str, Any]


class Exchange:
    """``send`` and ``receive`` are the way to the supervisor; OSError, or None received, means that it is gone."""

    def __init__(self, send: Callable[[Message], None], receive: Callable[[], Message | None]) -> None:
        self._send, self._receive = send, receive
        self._lock = threading.Lock()  # stop comes from another thread
        self._requested = self._stopped = False

    def ask(self, request: Message) -> Message:
        """Send the request and wait for its result; LabError where the supervisor ended before."""
        try:
            with self._lock:
                self._send(request)
                self._requested = True
                if self._stopped:
                    self._send({"stop": True})
            result = self._receive()
        except OSError:
            result = None
        if result is None:
            raise LabError("The lab's supervisor ended during the run. Run again; if it happens again, report it.")
        return result

    def stop(self) -> None:
        """End the run from another thread; what it showed so far is its result."""
        with self._lock, contextlib.suppress(OSError):
            self._stopped = True
            if self._requested:
                self._send({"stop": True})
