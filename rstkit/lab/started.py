"""A process that is started anew to become a program, where none can be forked onto a host of its own.

Its standard input brings the program, as JSON with its length before it, and then a byte that lets
it go. What is standard error at first is the way for its records.
"""

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from typing import NoReturn

from . import call

_HIGH = 100  # where the two pipes lie, out of the way of the program's own; macOS allows 256


def main(platform: str) -> NoReturn:
    """Wait for the program, become it, and end; end as well when the process that started this one ends."""
    status = 1
    try:
        if platform == "linux":
            from . import kernel  # noqa: PLC0415 - it is for Linux alone

            kernel.die_with_parent()  # had it ended before, there is nothing more to read
        spec = json.loads(_read(*struct.unpack("!Q", _read(8))))
        go, records = _arrange()
        if platform != "linux":
            go = _die_with_pipe(go)
        status = call.run(spec, records, go, lambda command: _become(command, platform))
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _read(size: int) -> bytes:
    """So many bytes of standard input, and none of what follows them; the end of this process if there are fewer."""
    data = bytearray()
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            os._exit(0)
        data += part
    return bytes(data)


def _arrange() -> tuple[int, int]:
    """Put the two pipes out of the way; leave standard streams as a program has them."""
    go = os.dup2(0, _HIGH, inheritable=False)
    records = os.dup2(2, _HIGH + 1, inheritable=False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(1, 2)
    call.open_streams()
    return go, records


def _die_with_pipe(go: int) -> int:
    """Hand on the byte that lets the program go; end this process once nobody is left at the other end."""
    handed_on, hand_on = os.pipe()

    def relay() -> None:
        while byte := os.read(go, 1):
            os.write(hand_on, byte)
        os._exit(1)

    threading.Thread(target=relay, daemon=True).start()
    return handed_on


def _become(command: list[str], platform: str) -> int:
    if platform == "linux":
        call.become(command)
    if platform != "win32":
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it; programs expect it
    return subprocess.call(command)
