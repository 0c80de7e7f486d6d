"""A program's process as the supervisor of a run over the loopback interface has it."""

import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from .clock import clock
from .told import Told

_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from rstkit.lab import started; started.main(sys.argv[2])"
HERE = str(Path(__file__).parents[2])
ALONE: dict[str, Any] = {"creationflags": 0x08000200} if sys.platform == "win32" else {"start_new_session": True}
"""For `subprocess.Popen`: out of reach of an interrupt from a keyboard, and without a window (Windows)."""

_READY, _JOIN = 10.0, 2.0  # seconds, at the most


class Launched(Told):
    """A process that has been started and waits to become a program."""

    def __init__(self, platform: str) -> None:
        super().__init__()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-X", "utf8", "-c", _CODE, HERE, platform],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **ALONE,
        )
        self._threads: list[threading.Thread] = []
        self._told = threading.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def waits(self) -> bool:
        """Whether it is still there."""
        return self._process.poll() is None

    def become(self, host: str, spec: dict[str, Any], changed: Callable[[], None]) -> None:
        """Send it its program. ``changed`` is called, on another thread, whenever it told something or ended."""
        self.host = host
        self._changed = changed
        self._exit: tuple[int, int] | None = None
        data = json.dumps(spec).encode()
        self._send(struct.pack("!Q", len(data)) + data)
        assert self._process.stdout
        assert self._process.stderr
        for target, *arguments in (
            (self._read, self._process.stderr, self.take_records),
            (self._read, self._process.stdout, self.take_output),
            (self._wait,),
        ):
            self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
            self._threads[-1].start()

    def wait_until_ready(self) -> None:
        """Wait until it has loaded its program, or has ended: a Python that was just started takes some 100 ms."""
        self._told.wait(_READY)

    def start(self, now: int) -> None:
        """Let the program go."""
        self.started = now
        self._send(b"g")

    def check(self) -> None:
        """Note how the process ended, if it has."""
        if self._exit and self.ended is None:
            self.end(*self._exit)

    def kill(self) -> None:
        """End the process."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def close(self) -> None:
        """Take what it still had told, after its end, and close the pipes."""
        for thread in self._threads:
            thread.join(_JOIN)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.wait()

    def _send(self, data: bytes) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it is gone already
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _read(self, pipe: BinaryIO, take: Callable[[bytes], None]) -> None:
        while data := os.read(pipe.fileno(), 1 << 16):
            take(data)
            self._told.set()
            self._changed()
        self._told.set()

    def _wait(self) -> None:
        code = self._process.wait()
        self._exit = clock(), code
        self._changed()
