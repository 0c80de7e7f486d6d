"""What a supervisor has of a program's process: when it began and ended, its records, and its output."""

import signal
from typing import Any

MOST_OUTPUT = 64 * 1024
MOST_RECORDS = 16 * 1024 * 1024


class Told:
    """What came of one program so far; times are CLOCK_MONOTONIC, nanoseconds."""

    def __init__(self) -> None:
        self.started: int | None = None
        self.ended: int | None = None
        self.status: int | None = None
        self.signal: str | None = None
        self.records = bytearray()
        self.output = bytearray()
        self.output_bytes = 0

    def take_records(self, data: bytes) -> None:
        """Keep what the program recorded, up to a limit."""
        self.records += data[: MOST_RECORDS - len(self.records)]

    def take_output(self, data: bytes) -> None:
        """Keep what the program printed, up to a limit."""
        self.output_bytes += len(data)
        self.output += data[: MOST_OUTPUT - len(self.output)]

    def end(self, now: int, code: int) -> None:
        """Note how the process ended: its exit status, or the negative number of a signal."""
        self.ended = now
        if code >= 0:
            self.status = code
        else:
            self.signal = signal.Signals(-code).name

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON types, as `rstkit.lab.assemble` reads it."""
        return {
            "started": self.started,
            "ended": self.ended,
            "status": self.status,
            "signal": self.signal,
            "records": self.records.decode(errors="replace"),
            "output": self.output.decode(errors="replace"),
            "output_bytes": self.output_bytes,
        }
