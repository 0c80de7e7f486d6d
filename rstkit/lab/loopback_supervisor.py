"""The process that owns runs over the loopback interface, one after another: programs, observation, the end of it all.

It runs wherever Python does. Nothing here keeps the two programs from the rest of the machine, so a
packet belongs to a run by the server's port, and its sender is the server where it comes from that port.
Requests come as JSON lines on standard input, results go to standard output.
"""

import base64
import contextlib
import json
import os
import platform as machine
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from ..tcp import parse_frame
from .clock import clock
from .launched import Launched
from .observe import SocketTable
from .sniffer import PacketSniffer, ScapySniffer, Sniffer
from .watch import Watch

_LOOK_FOR_LISTENER_EVERY = 500_000  # nanoseconds
_TICK = 20_000_000  # where nothing but events is watched
_QUIET = {"linux": 5_000_000}  # without an event for that long, and the sockets at rest, a run is over
_QUIET_ELSEWHERE = 300_000_000  # where the sockets are not seen: longer than a delayed ACK takes
_MOST_FRAMES = 50_000
_MOST_BYTES = 16 << 20
_HEADERS = 14 + 60 + 60  # bytes: Ethernet, and IP and TCP with all options

Address = tuple[str, int]


def main(notebook_pid: int, platform: str) -> NoReturn:
    """Carry out runs until the notebook's process ends; then everything that was started ends with this one."""
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(told,), daemon=True).start()
    if platform == "linux":
        from . import kernel  # noqa: PLC0415 - it is for Linux alone

        kernel.adopt_orphans()
        threading.Thread(target=_watch_process, args=(notebook_pid, told), daemon=True).start()
    try:
        _serve(told, platform)
    finally:
        end_all(set(), platform)
        os._exit(0)


def _serve(told: "queue.SimpleQueue[Any]", platform: str) -> None:
    if platform != "linux":
        import scapy.all  # noqa: F401, PLC0415 - takes 2 s: now, while nobody waits
    spares = [Launched(platform) for _ in range(2)]
    while (request := told.get()) is not None:
        if not request or "stop" in request:  # what the last run left, or too late for it
            continue
        processes = {}
        for host in request["programs"]:
            process = spares.pop() if spares else Launched(platform)
            processes[host] = process if process.waits else Launched(platform)
        run = LoopbackRun(request, processes, {spare.pid for spare in spares}, told, platform)
        result = run.carry_out()
        if result is None:
            return
        sys.stdout.buffer.write(json.dumps(result, separators=(",", ":")).encode() + b"\n")
        sys.stdout.buffer.flush()
        run.close()
        spares += [Launched(platform) for _ in processes]


def _read_requests(told: "queue.SimpleQueue[Any]") -> None:
    for line in sys.stdin.buffer:
        told.put(json.loads(line))
    told.put(None)


def _watch_process(pid: int, told: "queue.SimpleQueue[Any]") -> None:
    """Tell of the notebook's end where a child of its own still holds the pipe to this process."""
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(pid)], [], [])
    told.put(None)


class LoopbackRun:
    """One run. ``told`` gives the notebook's messages (None: it is gone), and {} where something happened."""

    def __init__(
        self,
        request: dict[str, Any],
        processes: dict[str, Launched],
        spared: set[int],
        told: "queue.SimpleQueue[Any]",
        platform: str,
    ) -> None:
        self._request = request
        self._processes = processes
        self._spared = spared
        self._told = told
        self._platform = platform
        self._listener: Address = (request["address"], request["port"])
        self._frames: list[tuple[str, int, bytes]] = []
        self._fresh: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._kept = self._not_kept = 0
        self._last = 0
        self._sniffer: Sniffer | None = None
        self._watch: Watch | None = None
        if platform == "linux":
            table = SocketTable()
            self._watch = Watch(lambda _, local, peer: table.look(local, peer))

    def carry_out(self) -> dict[str, Any] | None:
        """What the run showed, as JSON types (`rstkit.lab.assemble` reads it); None where nobody waits for it."""
        try:
            self._sniffer = (PacketSniffer if self._platform == "linux" else ScapySniffer)(
                self._listener[1], self._keep
            )
        except Exception as error:  # scapy has exceptions of its own
            return {"refused": f"{error}"}
        for name, spec in self._request["programs"].items():
            self._processes[name].become(name, spec, lambda: self._told.put({}))
        for process in self._processes.values():
            process.wait_until_ready()
        zero, epoch = clock(), time.time_ns()
        outcome = self._loop(zero + round(self._request["duration"] * 1e9))
        ended = clock()
        if outcome is None:
            return None
        if self._watch:
            self._watch.sample()
        self._not_kept += self._sniffer.stop()  # before what is left is killed: that resets connections
        end_all(self._spared, self._platform, self._processes.values())
        for process in self._processes.values():
            process.close()
        server = self._processes.get("server")
        return {
            "zero": zero,
            "epoch": epoch,
            "ended": ended,
            "outcome": outcome,
            "listening": sorted(listening(server.records)) if server else [],
            "frames": [(sender, at, at, base64.b64encode(data).decode(), None) for sender, at, data in self._frames],
            "frames_not_kept": self._not_kept,
            "states": self._watch.states if self._watch else [],
            "before": {},
            "after": {},
            "reasons": None,
            "programs": {name: process.as_json() for name, process in self._processes.items()},
            "kernel": f"{machine.system()} {machine.release()}",
        }

    def close(self) -> None:
        """Release what sniffing holds."""
        if self._sniffer:
            self._sniffer.close()

    def _keep(self, at: int, data: bytes) -> None:
        """Keep a frame that belongs to the run; on the sniffer's thread."""
        segment = parse_frame(data)
        if segment is None or self._listener not in (segment.source, segment.destination):
            return
        if len(self._frames) >= _MOST_FRAMES:
            self._not_kept += 1
            return
        sender = "server" if segment.source == self._listener else "client"
        kept = data if self._kept < _MOST_BYTES else data[:_HEADERS]
        self._kept += len(kept)
        self._frames.append((sender, at, kept))
        self._fresh.put((sender, kept))
        self._told.put({})

    def _loop(self, deadline: int) -> str | None:
        """Watch and wait until the run is over; how it ended, or None where the notebook's process did."""
        server, client = self._processes.get("server"), self._processes["client"]
        (server or client).start(clock())
        self._last = clock()
        while True:
            waiting = client.started is None
            if waiting and self._listens(server):
                client.start(clock())
                waiting = False
            if waiting and server and server.ended:
                return "never listened"
            if all(p.ended for p in self._processes.values()) and self._settled():
                return "completed"
            now = clock()
            if now >= deadline:
                return "never listened" if waiting else "duration over"
            try:
                message = self._told.get(timeout=max(min(deadline, self._wake(now, waiting)) - now, 0) / 1e9)
                while message == {}:
                    self._last = clock()
                    message = self._told.get_nowait()
                return "stopped" if message else None
            except queue.Empty:
                pass
            for process in self._processes.values():
                process.check()
            if self._watch:
                while not self._fresh.empty():
                    sender, data = self._fresh.get()
                    self._watch.note(sender, "server" if sender == "client" else "client", data)
                if clock() >= self._watch.next_sample():
                    self._watch.sample()

    def _wake(self, now: int, waiting: bool) -> int:
        if not self._watch:
            return now + _TICK
        return min(now + _LOOK_FOR_LISTENER_EVERY if waiting else now + _TICK, self._watch.next_sample())

    def _listens(self, server: Launched | None) -> bool:
        """Whether the server listens: its socket, or, where sockets are not seen, its own record of the call."""
        if self._watch:
            return self._watch.listens("server", self._listener)
        return server is not None and self._listener[1] in listening(server.records)

    def _settled(self) -> bool:
        """Whether nothing more will happen now that both programs have ended."""
        if clock() - self._last < _QUIET.get(self._platform, _QUIET_ELSEWHERE):
            return False
        if not self._watch:
            return True
        self._watch.sample()
        return self._watch.at_rest


def listening(records: bytes | bytearray) -> set[int]:
    """The ports on which a program has listened, by its own records."""
    begun: dict[Any, str] = {}
    ports = set()
    for line in bytes(records).splitlines():
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):  # a program may write anything
            kind, process, number, *rest = json.loads(line)
            if kind == "b" and rest[0] == "listen":
                begun[process, number] = rest[4]
            elif kind == "e" and (process, number) in begun and rest[2] is None and rest[3] is None:
                ports.add(int(begun[process, number].rpartition(":")[2]))
    return ports


def end_all(spared: set[int], platform: str, processes: Any = ()) -> None:
    """End what was started, but for those ``spared``, and all that came of it."""
    if platform == "linux":
        known = {process.pid: process for process in processes}
        while left := _children() - spared:
            for pid in left:
                if pid in known:
                    known[pid].kill()
                else:  # its own parent has ended, so it has come to this process
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                        os.waitpid(pid, 0)
            time.sleep(0.0005)
        return
    for process in processes:
        if platform == "win32":
            if process.waits:
                subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
        else:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


def _children() -> set[int]:
    """The processes whose parent is this one (proc(5)), without those that only wait to be waited for."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(parent) == os.getpid() and state != "Z":
                    found.add(int(entry.name))
    return found
