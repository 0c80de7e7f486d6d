"""A run that a supervisor carries out: from a job to what it is sent, and from what it told to a trace."""

import contextlib
import errno
import select
import socket

from .. import __version__
from ..errors import LabUnavailable, SettingError
from ..trace import Trace
from . import message
from .assemble import assemble
from .exchange import Exchange
from .job import Job
from .settings import ADDRESSES
from .spec import describe_program, make_spec


class SupervisedRun:
    """A supervisor that waits for its run. ``about`` is what it said of its kernel."""

    def __init__(self, backend: str, connection: socket.socket) -> None:
        self._backend = backend
        self._connection = connection
        self._exchange = Exchange(lambda sent: message.send(connection, sent), lambda: message.receive(connection))
        try:
            self.about = message.receive(connection) or {"error": "its supervisor ended at once"}
        except BaseException:
            self.end()
            raise
        if "error" in self.about:
            self.end()
            raise LabUnavailable(self.about["error"])

    def carry_out(self, job: Job) -> Trace:
        """Run it to its end; what it showed.

        The supervisor ends as soon as it has told: it is gone some 25 ms later, most of which
        the kernel takes to release the wire's sockets, and no run needs to wait for that.
        """
        settings = job.settings
        sysctls = {host: dict(settings["sysctls"].get(host, {})) for host in ADDRESSES}
        if settings["fin_timeout"] is not None:
            for of_host in sysctls.values():
                of_host["net.ipv4.tcp_fin_timeout"] = str(settings["fin_timeout"])
        address = (ADDRESSES["server"][settings["ip"]], settings["port"])
        try:
            specs = {host: make_spec(host, job.programs[host], address, job.taken[host]) for host in job.programs}
            result = self._exchange.ask({"settings": {**settings, "sysctls": sysctls}, "programs": specs})
        except BaseException:
            self.end()
            raise
        self._close()
        if "refused" in result:
            raise _refusal(**result["refused"])
        return assemble(
            result,
            hosts={host: addresses[settings["ip"]] for host, addresses in ADDRESSES.items()},
            values={**settings, **job.values},
            texts={host: describe_program(host, job.programs[host], spec) for host, spec in specs.items()},
            backend=self._backend,
            kernel=self.about["kernel"],
            version=__version__,
        )

    def stop(self) -> None:
        """End the run from another thread; what it showed so far is its result."""
        self._exchange.stop()

    def end(self) -> None:
        """Have the supervisor end, whatever it does, and wait until nothing of it is left."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            while select.select([self._connection], [], [], 5)[0] and self._connection.recv(1 << 20):
                pass
        self._close()

    def _close(self) -> None:
        self._connection.close()


def _refusal(host: str, name: str, number: int, error: str) -> Exception:
    """The error for a sysctl that could not be set: the caller's fault or the machine's."""
    if number in (errno.ENOENT, errno.EINVAL, errno.ERANGE):
        return SettingError(f"the {host}'s kernel does not take {name} at that value ({error}).")
    return LabUnavailable(
        f"This machine forbids setting {name} ({error}). A container often keeps /proc/sys read-only; "
        "run without that setting, or on a machine of your own."
    )
