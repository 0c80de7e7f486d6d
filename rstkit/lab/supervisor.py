"""The process that owns one run: two hosts, the wire between them, observation, and the end of it all.

It is process 1 of a PID namespace of its own, so whatever a program leaves running, forks
without end or hides in a new session ends with it; and it ends with the notebook's process.
It has one thread and never waits for anything but in its loop.
"""

import base64
import os
import platform
import select
import socket
import time
from contextlib import suppress
from typing import Any, NoReturn

from . import kernel, message
from .host import DEVICE, Host, Process
from .netlink import Route
from .reasons import ResetReasons, Tracepoint
from .settings import ADDRESSES
from .watch import Watch
from .wire import Frame, Wire

_LOOK_FOR_LISTENER_EVERY = 500_000  # nanoseconds


def serve(notebook: socket.socket, tracepoint: Tracepoint | None) -> NoReturn:
    """Make the hosts and the wire, say so, wait for a run, carry it out and end."""
    try:
        try:
            stage = Stage(notebook, tracepoint)
        except OSError as error:
            message.send(notebook, {"error": f"{error.strerror or error}"})
            os._exit(1)
        message.send(notebook, {"kernel": f"{platform.system()} {platform.release()}", "lacks": stage.lacks()})
        request = message.receive(notebook)
        if request:
            message.send(notebook, stage.run(request))
    except (BrokenPipeError, ConnectionResetError, Gone):
        pass  # nobody waits for the answer any more
    os._exit(0)


class Gone(Exception):
    """The notebook's process has closed its end."""


class Stage:
    """Two hosts and a wire, ready for one run."""

    def __init__(self, notebook: socket.socket, tracepoint: Tracepoint | None) -> None:
        kernel.exact_timers()
        with suppress(PermissionError):  # the wire must not wait for the programs
            os.setpriority(os.PRIO_PROCESS, 0, -10)
        self._notebook = notebook
        self._tracepoint = tracepoint
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._hosts = {name: Host(name, home) for name in ADDRESSES}
        client, server = self._hosts.values()
        with Route() as route:
            for host in (client, server):
                route.add_veth(host.name, DEVICE, host.mac, host.namespace)
                route.set_up(host.name)
        self._wire = Wire(list(self._hosts))
        client.configure(server)
        server.configure(client)
        self._processes = {name: Process(host) for name, host in self._hosts.items()}
        self._watch = Watch(lambda host, local, peer: self._hosts[host].sockets.look(local, peer))
        self._reasons: ResetReasons | None = None

    def lacks(self) -> dict[str, str]:
        """The settings that this machine does not let a host have, each with the reason."""
        why = self._hosts["client"].refuses_sysctls()
        return {name: why for name in ("fin_timeout", "sysctls") if why}

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one run; what it showed, as JSON types (`rstkit.lab.assemble` reads it)."""
        settings = request["settings"]
        for host, sysctls in settings["sysctls"].items():
            for name, value in sysctls.items():
                try:
                    self._hosts[host].set_sysctl(name, str(value))
                except OSError as error:
                    return {"refused": {"host": host, "name": name, "number": error.errno, "error": error.strerror}}
        drop = {(host, number) for host, number in settings["drop"]}
        self._wire.set_up(settings["rtt"], settings["loss"], settings["seed"], drop)
        self._listener = (ADDRESSES["server"][settings["ip"]], settings["port"])
        self._reasons = ResetReasons(self._tracepoint) if self._tracepoint else None
        for name in self._processes.keys() - request["programs"].keys():
            self._processes.pop(name).dismiss()
        self._processes = {name: self._processes[name] for name in request["programs"]}
        for name, process in self._processes.items():
            process.load(request["programs"][name])
        self._wait_for_programs(settings["duration"])
        before = {name: host.counters.read() for name, host in self._hosts.items()}
        zero, epoch = time.monotonic_ns(), time.time_ns()
        outcome = self._loop(zero + round(settings["duration"] * 1e9))
        ended = time.monotonic_ns()
        listening = self._hosts["server"].sockets.listening_ports()
        self._sample()
        return {
            "zero": zero,
            "epoch": epoch,
            "ended": ended,
            "outcome": outcome,
            "listening": listening,
            "frames": [
                (f.sender, f.sent, f.arrived, base64.b64encode(f.data).decode(), f.lost) for f in self._wire.frames
            ],
            "frames_not_kept": self._wire.not_kept,
            "states": self._watch.states,
            "before": before,
            "after": {name: host.counters.read() for name, host in self._hosts.items()},
            "reasons": self._reasons.read() if self._reasons else None,
            "programs": {name: process.as_json() for name, process in self._processes.items()},
        }

    def _wait_for_programs(self, at_most: float) -> None:
        """Wait until each program is loaded, or cannot be; or until the notebook has something to say."""
        deadline = time.monotonic() + at_most
        pending = {process.records_end: process for process in self._processes.values()}
        while pending and (left := deadline - time.monotonic()) > 0:
            ready = select.select([*pending, self._notebook.fileno()], [], [], left)[0]
            if self._notebook.fileno() in ready:
                return
            for end in ready:
                pending.pop(end).read(end)

    def _loop(self, deadline: int) -> str:
        """Carry frames, watch and wait, until the run is over; how it ended."""
        server, client = self._processes.get("server"), self._processes["client"]
        (server or client).start(time.monotonic_ns())
        wire = {end: host for host, end in self._wire.ends.items()}
        pipes = {end: p for p in self._processes.values() for end in (p.records_end, p.output_end)}
        exits = {os.pidfd_open(p.pid): p for p in self._processes.values()}
        stopped = False
        while not stopped:
            waiting = client.started is None
            if waiting and self._watch.listens("server", self._listener):
                client.start(time.monotonic_ns())
                waiting = False
            if waiting and server and server.ended:
                return "never listened"
            if all(p.ended for p in self._processes.values()) and self._settled(pipes):
                return "completed"
            now = time.monotonic_ns()
            if now >= deadline:
                return "never listened" if waiting else "duration over"
            wake = min(
                deadline,
                self._wire.next_delivery or deadline,
                self._watch.next_sample(self._wire.next_delivery),
                now + _LOOK_FOR_LISTENER_EVERY if waiting else deadline,
            )
            watched: list[Any] = [*wire, *pipes, *exits, self._notebook]
            ready, _, _ = select.select(watched, [], [], max(wake - now, 0) / 1e9)
            for end in ready:
                if end in wire:
                    self._note(self._wire.take(wire[end]))
                elif end in pipes:
                    if not pipes[end].read(end):
                        del pipes[end]
                elif end in exits:
                    process = exits.pop(end)
                    process.end(time.monotonic_ns(), os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]))
                    os.close(end)
                elif message.receive(self._notebook) is None:
                    raise Gone
                else:
                    stopped = True
            self._note(self._wire.deliver())
            if time.monotonic_ns() >= self._watch.next_sample(self._wire.next_delivery):
                self._sample()
        return "stopped"

    def _settled(self, pipes: dict[int, Process]) -> bool:
        """Whether nothing more will happen now that both programs have ended: the wire is empty, the sockets rest."""
        for host in self._hosts:
            self._note(self._wire.take(host))
        if self._wire.in_flight:
            return False
        self._sample()
        if not self._watch.at_rest:
            return False
        for end, process in pipes.items():
            while process.read(end) and select.select([end], [], [], 0)[0]:
                pass
        return True

    def _note(self, frames: list[Frame]) -> None:
        """Have the ends of each connection watched from its first frame on."""
        for frame in frames:
            self._watch.note(frame.sender, "server" if frame.sender == "client" else "client", frame.data)

    def _sample(self) -> None:
        if self._reasons:
            self._reasons.drain()
        self._watch.sample()
