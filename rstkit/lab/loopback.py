"""The backend for where a program may sniff the loopback interface: a container's root, macOS, Windows with Npcap."""

import atexit
import contextlib
import json
import os
import platform
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import LabError, LabUnavailable, SettingError
from ..trace import Trace
from .assemble import assemble
from .exchange import Exchange
from .job import Job
from .launched import ALONE, HERE
from .sniffer import try_bpf, try_sniffing
from .spec import describe_program, make_spec

_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from rstkit.lab import loopback_supervisor; "
    "loopback_supervisor.main(int(sys.argv[2]), sys.argv[3])"
)
_ADDRESSES = {4: "127.0.0.1", 6: "::1"}
_PORTS = range(20_000, 32_768)  # below those that systems give to clients (from 32768 or 49152 on)
_SETTINGS_OF_ALL = "the settings of this machine's kernel are everybody's on it, and stay as they are"
_LACKS = {
    "rtt": "the loopback interface has no delay",
    "loss": "the loopback interface loses nothing",
    "seed": "the loopback interface loses nothing",
    "drop": "the loopback interface loses nothing",
    "fin_timeout": _SETTINGS_OF_ALL,
    "sysctls": _SETTINGS_OF_ALL,
}
_REMEDIES = {
    "linux": "Run as the container's root with the capability NET_RAW (Docker's default; Podman: --cap-add NET_RAW).",
    "darwin": "Install Wireshark with its ChmodBPF package, which lets the group access_bpf sniff, and log in again.",
    "win32": "Install Npcap, without its option that lets administrators alone use it.",
}


class Loopback:
    """Live runs between two programs on this machine's loopback interface; bound to it alone."""

    name = "loopback"
    instant = False

    def __init__(self) -> None:
        self.lacks: Mapping[str, str] = _LACKS
        self.platform = sys.platform
        self._lock = threading.Lock()
        self._idle: list[Supervisor] = []
        self._port = 0
        self._busy: set[int] = set()
        self._owner = os.getpid()
        atexit.register(self.close)

    @property
    def about(self) -> str:
        """The backend in one line, for people."""
        kernel = f"{platform.system()} {platform.release()}"
        unseen = "" if self.platform == "linux" else " The states of sockets are not seen."
        return (
            f"Live: two programs on this machine's loopback interface ({kernel}): "
            f"no delay, no loss, and no counters, for they count the whole machine.{unseen}"
        )

    @property
    def remedy(self) -> str:
        """What would make it work on a machine where it does not."""
        return _REMEDIES.get(self.platform, _REMEDIES["linux"])

    def probe(self) -> str | None:
        """Sniff the loopback interface (Linux), or look for what scapy sniffs with."""
        try:
            with socket.socket(socket.AF_INET6) as trial:
                trial.bind((_ADDRESSES[6], 0))
        except OSError:
            self.lacks = {**_LACKS, "ip": "this machine has no IPv6 on its loopback interface"}
        if self.platform == "linux":
            return try_sniffing()
        if self.platform == "darwin":
            return try_bpf()
        if self.platform == "win32":
            found = Path(os.environ.get("WINDIR", r"C:\Windows"), "System32", "Npcap", "wpcap.dll").exists()
            return None if found else "Npcap is not installed"
        return f"it is known for Linux, macOS and Windows, and this is {platform.system()}"

    def warm_up(self) -> None:
        """Start the supervisor, which makes two processes ready for programs, without waiting for it."""
        with self._lock:
            self._disown()
            if not self._idle:
                self._idle.append(Supervisor(self.platform))

    def begin(self, tell: Callable[[str], None]) -> "LoopbackRun":  # noqa: ARG002 - nothing takes long here
        """A supervisor that is ready, or a new one."""
        with self._lock:
            self._disown()
            ready = self._idle.pop() if self._idle else None
        if ready and not ready.running:
            ready.end()
            ready = None
        return LoopbackRun(ready or Supervisor(self.platform), self)

    def close(self) -> None:
        """End the supervisors that wait for a run."""
        with self._lock:
            self._disown()
            while self._idle:
                self._idle.pop().end()

    def give_back(self, supervisor: "Supervisor") -> None:
        """Keep a supervisor whose run is over for the next one."""
        with self._lock:
            self._idle.append(supervisor)

    @contextlib.contextmanager
    def port(self, host: str, asked: int | None) -> Iterator[int]:
        """A free port for the time of a run: the one asked for (else SettingError), or the last run's, or another.

        Runs with the same port can be compared line by line.
        """
        with self._lock:
            for port in [asked] if asked else [*filter(None, [self._port]), *random.sample(_PORTS, 100)]:
                why = "another run uses it" if port in self._busy else _taken(host, port, again=port == self._port)
                if not why:
                    break
                if asked:
                    raise SettingError(f"port={port} is not to be had on this machine ({why}).")
            else:
                raise LabError("None of 100 ports on the loopback interface is free.")
            self._busy.add(port)
            if not asked:
                self._port = port
        try:
            yield port
        finally:
            self._busy.discard(port)

    def _disown(self) -> None:
        """In a forked process: leave alone what belongs to the one that it was forked from."""
        if self._owner != os.getpid():
            self._idle, self._owner = [], os.getpid()


class Supervisor:
    """The process that owns runs (`rstkit.lab.loopback_supervisor`), from the notebook's side."""

    def __init__(self, platform_: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-X", "utf8", "-c", _CODE, HERE, str(os.getpid()), platform_],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **ALONE,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._requests, self._results = self._process.stdin, self._process.stdout

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; OSError where it is gone."""
        self._requests.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        self._requests.flush()

    def receive(self) -> dict[str, Any] | None:
        """Its result, or None where it has ended."""
        line = self._results.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def end(self) -> None:
        """Have it end whatever it does, and wait until nothing of it is left."""
        with contextlib.suppress(OSError):
            self._requests.close()
        self._process.wait()
        self._results.close()


class LoopbackRun:
    """A supervisor that waits for its run, after which it is given back."""

    def __init__(self, supervisor: Supervisor, backend: Loopback) -> None:
        self._supervisor = supervisor
        self._backend = backend
        self._exchange = Exchange(supervisor.send, supervisor.receive)

    def carry_out(self, job: Job) -> Trace:
        """Run it to its end; what it showed."""
        host = _ADDRESSES[job.settings["ip"]]
        try:
            if self._backend.platform != "linux" and not callable(job.programs.get("server", print)):
                raise LabUnavailable("a command as the server takes Linux: here only a function tells when it listens.")
            with self._backend.port(host, job.values.get("port")) as port:
                trace = self._carry_out(job, (host, port))
        except BaseException:
            self._supervisor.end()
            raise
        self._backend.give_back(self._supervisor)
        return trace

    def _carry_out(self, job: Job, address: tuple[str, int]) -> Trace:
        host, port = address
        specs = {name: make_spec(name, job.programs[name], address, job.taken[name]) for name in job.programs}
        duration = job.settings["duration"]
        result = self._exchange.ask({"address": host, "port": port, "duration": duration, "programs": specs})
        if "refused" in result:
            raise LabUnavailable(f"This machine does not let its loopback interface be sniffed ({result['refused']}).")
        return assemble(
            result,
            hosts={"client": host, "server": host},
            values={**job.settings, **job.values, "rtt": 0.0, "port": port},
            texts={name: describe_program(name, job.programs[name], spec) for name, spec in specs.items()},
            backend=Loopback.name,
            kernel=result["kernel"],
            version=__version__,
        )

    def stop(self) -> None:
        """End the run from another thread; what it showed so far is its result."""
        self._exchange.stop()


def _taken(host: str, port: int, *, again: bool) -> str | None:
    """Why a port cannot be had, or None; ``again`` where only what is left of an earlier run may hold it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        # TIME_WAIT does no harm; but elsewhere than on Linux this lets in beside somebody who listens
        if sys.platform == "linux" or (again and sys.platform != "win32"):
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None
