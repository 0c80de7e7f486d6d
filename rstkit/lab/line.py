"""The line between the notebook's process and a guest kernel: many connections over one serial port.

A frame has a header (channel, kind, length of the payload) and up to 1,024 bytes. What the
notebook sends is acknowledged frame by frame, for the guest's serial driver may forget to wake
its reader when more than a page lies waiting.
"""

import struct
from collections.abc import Iterator

DATA, CLOSE, OPEN, ACK = range(4)
MOST = 1024  # bytes of payload
_HEADER = struct.Struct("!IBH")


def frame(channel: int, kind: int, payload: bytes = b"") -> bytes:
    """One frame, as it goes over the line."""
    return _HEADER.pack(channel, kind, len(payload)) + payload


class Frames:
    """Finds the frames in what comes over the line, in whatever parts it comes."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Take what came; the frames that are whole by now: channel, kind and payload."""
        self._data += data
        at = 0
        while len(self._data) - at >= _HEADER.size:
            channel, kind, length = _HEADER.unpack_from(self._data, at)
            start = at + _HEADER.size
            if len(self._data) < start + length:
                break
            at = start + length
            yield channel, kind, bytes(self._data[start:at])
        del self._data[:at]
