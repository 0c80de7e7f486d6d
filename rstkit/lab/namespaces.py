"""The backend for Linux as root or as an ordinary user: namespaces, by way of a fork server."""

import atexit
import contextlib
import os
import platform
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from ..errors import LabError, LabUnavailable
from . import message


class Run:
    """A supervisor that waits for its run."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()  # stop comes from another thread
        self._requested = self._stopped = False

    def carry_out(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run it to its end; what it showed.

        The supervisor ends as soon as it has told: it is gone some 25 ms later, most of which
        the kernel takes to release the wire's sockets, and no run needs to wait for that.
        """
        try:
            with self._lock:
                message.send(self._connection, request)
                self._requested = True
                if self._stopped:
                    message.send(self._connection, {"stop": True})
            result = message.receive(self._connection)
        except OSError:
            result = None
        except BaseException:
            self.end()
            raise
        self._connection.close()
        if result is None:
            raise LabError("The lab's supervisor ended during the run. Run again; if it happens again, report it.")
        return result

    def stop(self) -> None:
        """End the run from another thread; what it showed so far is its result."""
        with self._lock, contextlib.suppress(OSError):
            self._stopped = True
            if self._requested:
                message.send(self._connection, {"stop": True})

    def end(self) -> None:
        """Have the supervisor end, whatever it does, and wait until nothing of it is left."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            while select.select([self._connection], [], [], 5)[0] and self._connection.recv(1 << 20):
                pass
        self._connection.close()


class Namespaces:
    """Live runs between network namespaces on this machine's own kernel."""

    name = "namespaces"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._owner = 0
        atexit.register(self.close)

    @property
    def about(self) -> str:
        """The backend in one line, for people."""
        return f"Live: two network namespaces on this machine's own kernel (Linux {platform.release()})."

    def warm_up(self) -> None:
        """Start the fork server, which makes the first pair of hosts ready, without waiting for it."""
        with self._lock:
            self._start()

    def begin(self) -> Run:
        """Take a supervisor that is ready; LabUnavailable where the machine refuses what it needs."""
        with self._lock:
            self._start()
            assert self._control
            try:
                self._control.send(b"s")
                _, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
            except OSError:
                descriptors = []
            if not descriptors:
                self._close()
                raise LabError("The lab's fork server ended unexpectedly. Run again; it will be started anew.")
        connection = socket.socket(fileno=descriptors[0])
        run = Run(connection)
        try:
            greeting = message.receive(connection) or {"error": "its supervisor ended at once"}
        except BaseException:
            run.end()
            raise
        if "error" in greeting:
            run.end()
            raise LabUnavailable(
                f"This machine refuses the namespaces that a live lab needs: {greeting['error']}. "
                "In a container, allow user namespaces (Docker: --security-opt seccomp=unconfined)."
            )
        return run

    def close(self) -> None:
        """End the fork server and all that it keeps ready."""
        with self._lock:
            self._close()

    def _start(self) -> None:
        if self._server and self._owner == os.getpid() and self._server.poll() is None:
            return
        self._close()
        ours, theirs = socket.socketpair()
        here = Path(__file__).parents[2]
        path = [entry for entry in (str(here), *sys.path) if entry]
        code = "import sys; sys.path[:0] = sys.argv[3:]; from rstkit.lab import forkserver; "
        code += "forkserver.main(int(sys.argv[1]), int(sys.argv[2]))"
        self._server = subprocess.Popen(
            [sys.executable, "-I", "-c", code, str(theirs.fileno()), str(os.getpid()), *path],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt of the notebook's process group is not for the lab
        )
        theirs.close()
        self._control, self._owner = ours, os.getpid()

    def _close(self) -> None:
        if self._control:
            self._control.close()
            self._control = None
        if self._server and self._owner == os.getpid():
            self._server.wait()
        self._server = None
