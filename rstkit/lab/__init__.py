"""The lab: two hosts joined by a wire, on a real kernel's TCP stack.

trace = Lab().run(server, client, rtt=40)
"""

import errno
import platform
import threading
from typing import Any

from .. import __version__
from ..errors import LabUnavailable, SettingError
from ..trace import Trace
from .assemble import assemble
from .host import ADDRESSES
from .namespaces import Namespaces, Run
from .settings import SETTINGS, Program, check_settings, split_values
from .spec import describe_program, make_spec

__all__ = ["SETTINGS", "Lab", "Program"]

_backend = Namespaces()


class Lab:
    """Two hosts, ``client`` and ``server``, and the wire between them; fresh ones for each run.

    A program is a function that takes the server's address, ``(host, port)``, as its first
    argument, or a command as a list of strings in which ``{host}`` and ``{port}`` stand for it.
    """

    def __init__(self) -> None:
        self.backend = _backend
        self._running = threading.Lock()
        self._run: Run | None = None
        self._stop = False
        _backend.warm_up()

    def check(self, server: Program | None, client: Program, **values: Any) -> None:
        """Raise SettingError where a value is unknown, missing or wrong, without running anything."""
        split_values(_named(server, client), values)
        check_settings(values)

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
        taken = split_values(programs, values)
        settings = check_settings(values)
        sysctls = {host: dict(settings["sysctls"].get(host, {})) for host in ADDRESSES}
        if settings["fin_timeout"] is not None:
            for of_host in sysctls.values():
                of_host["net.ipv4.tcp_fin_timeout"] = str(settings["fin_timeout"])
        address = (ADDRESSES["server"][settings["ip"]], settings["port"])
        specs = {host: make_spec(host, programs[host], address, taken[host]) for host in programs}
        request = {"settings": settings | {"sysctls": sysctls}, "programs": specs}
        if not self._running.acquire(blocking=False):
            raise SettingError("this lab is in the middle of a run. Wait for its end, or make another Lab().")
        try:
            self._stop = False
            self._run = self.backend.begin()
            if self._stop:  # asked for while the hosts were being made
                self._run.stop()
            result = self._run.carry_out(request)
        finally:
            self._run = None
            self._running.release()
        if "refused" in result:
            raise _refusal(**result["refused"])
        return assemble(
            result,
            hosts={host: addresses[settings["ip"]] for host, addresses in ADDRESSES.items()},
            values={**settings, **values},
            texts={host: describe_program(host, programs[host], spec) for host, spec in specs.items()},
            backend=self.backend.name,
            kernel=f"{platform.system()} {platform.release()}",
            version=__version__,
        )

    def stop(self) -> None:
        """End the run from another thread; its trace, so far, has the outcome ``stopped``."""
        self._stop = True
        run = self._run
        if run:
            run.stop()


def _named(server: Program | None, client: Program) -> dict[str, Program]:
    return {"client": client} if server is None else {"server": server, "client": client}


def _refusal(host: str, name: str, number: int, error: str) -> Exception:
    """The error for a sysctl that could not be set: the caller's fault or the machine's."""
    if number in (errno.ENOENT, errno.EINVAL, errno.ERANGE):
        return SettingError(f"the {host}'s kernel does not take {name} at that value ({error}).")
    return LabUnavailable(
        f"This machine forbids setting {name} ({error}). A container often keeps /proc/sys read-only; "
        "run without that setting, or on a machine of your own."
    )
