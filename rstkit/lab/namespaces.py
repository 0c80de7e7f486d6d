"""The backend for Linux as root or as an ordinary user: namespaces, by way of a fork server."""

import atexit
import os
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import LabError, LabUnavailable
from .supervised import SupervisedRun

_CODE = (
    "import sys; sys.path[:0] = sys.argv[3:]; from rstkit.lab import forkserver; "
    "forkserver.main(int(sys.argv[1]), int(sys.argv[2]))"
)


class Namespaces:
    """Live runs between network namespaces on this machine's own kernel."""

    name = "namespaces"
    instant = False
    remedy = (
        "In Docker or Podman, --security-opt seccomp=unconfined; on Ubuntu 24.04 and newer, "
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0."
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self.lacks: Mapping[str, str] = {}
        atexit.register(self.close)

    @property
    def about(self) -> str:
        """The backend in one line, for people."""
        return f"Live: two network namespaces on this machine's own kernel (Linux {platform.release()})."

    def probe(self) -> str | None:
        """Make two hosts and the wire between them, and end them."""
        if not sys.platform.startswith("linux"):
            return f"network namespaces are Linux's, and this is {platform.system()}"
        try:
            run = self.begin(lambda _: None)
        except LabUnavailable as error:
            self.close()
            return str(error)
        run.end()
        self.lacks = run.about["lacks"]
        return None

    def warm_up(self) -> None:
        """Start the fork server, which makes the first pair of hosts ready, without waiting for it."""
        with self._lock:
            self._start()

    def begin(self, tell: Callable[[str], None]) -> SupervisedRun:  # noqa: ARG002 - nothing takes long here
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
        try:
            return SupervisedRun(self.name, socket.socket(fileno=descriptors[0]))
        except LabUnavailable as error:
            raise LabUnavailable(f"this machine refuses the namespaces that a lab needs ({error})") from error

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
        self._server = subprocess.Popen(
            [sys.executable, "-I", "-c", _CODE, str(theirs.fileno()), str(os.getpid()), *path],
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
