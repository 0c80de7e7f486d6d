"""The connections of a capture that were reset, with comments, as a pcapng file for Wireshark.

Of each such connection every packet is written, in the order of the file, so that streams and
handshakes are whole (of one with thousands of packets those of `Connection.trace`); all other
packets are left out. The RSTs, the packets that provoked them and
those that are evidence have comments, which name packets by their numbers in the new file and in
the old one.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from . import __version__
from .capture import COMMENT, IF_TSRESOL, INTERFACE, PACKET, SECTION_HEADER, SHB_USERAPPL, block, padded
from .dissect import printable
from .errors import TraceError
from .explain import Reset, explain
from .findings import Finding, framed
from .records import Records

if TYPE_CHECKING:
    from .captures import Capture, Connection

_NUMBERS = npt.NDArray[np.int64]


def annotate(
    capture: "Capture", found: Sequence[Finding], path: Path, progress: Callable[[float], None] | None = None
) -> int:
    """Write the connections of these findings with their comments to ``path``; how many packets that are.

    ``progress`` is told now and then which part is done, from 0 to 1. TraceError where the file
    cannot be written or is the capture itself.
    """
    if path.exists() and path.samefile(capture.path):
        raise TraceError(f"{path} is the capture itself: name another file for the comments.")
    connections = list({id(c): c for finding in found for c in finding.connections}.values())
    kept = np.unique(np.concatenate([np.array(c.frames, np.int64) for c in connections] or [np.zeros(0, np.int64)]))
    comments: dict[int, list[str]] = defaultdict(list)
    for number, connection in enumerate(connections, 1):
        _comment(connection, kept, capture.path.name, comments)
        if progress:
            progress(number / len(connections) / 2)
    try:
        with path.open("wb") as file:
            file.write(_section_header(capture, len(kept)))
            for data in _blocks(capture.path, kept, comments, progress):
                file.write(data)
    except OSError as error:
        raise TraceError(f"{path} cannot be written ({error.strerror or error}).") from error
    return len(kept)


def _comment(connection: "Connection", kept: _NUMBERS, name: str, comments: dict[int, list[str]]) -> None:
    """Add the comments on one connection's packets, each by the packet's number in the new file."""
    old = connection.frames
    new = [int(number) for number in np.searchsorted(kept, np.array(old, np.int64)) + 1]
    for reset in explain(connection.trace()):
        for place, text in _texts(reset):
            where = f"(Frame {old[place - 1]} of {name}.)"
            comments[new[place - 1]].append(printable(f"{framed(text, new)} {where}"))


def _texts(reset: Reset) -> Iterator[tuple[int, str]]:
    """The comments on a reset, each with the number of its packet in the trace."""
    first, *repeats = (packet.number for packet in reset.packets)
    told = f"{reset.cause.title} ({reset.confidence})."
    alternatives = f" Could also be: {'; '.join(cause.title for cause in reset.alternatives)}."
    yield first, f"RST: {told} {reset.why}{alternatives if reset.alternatives else ''}"
    for number in repeats:
        yield number, f"One more RST of the same reset as packet {first}."
    if reset.trigger:
        yield reset.trigger.number, f"Provoked the RST, packet {first}: {told}"
    for evidence in reset.evidence:
        if evidence.packet is not None:
            yield evidence.packet, f"Evidence: {evidence.text}"


def _blocks(
    path: Path, kept: _NUMBERS, comments: dict[int, list[str]], progress: Callable[[float], None] | None
) -> Iterator[bytes]:
    """The packets that are kept, as blocks; each link type gets an interface before its first packet."""
    interfaces: dict[int, int] = {}
    before, number = 0, 0
    for piece in Records(path).pieces(progress and (lambda part: progress(0.5 + part / 2))):
        here = kept[np.searchsorted(kept, before + 1) : np.searchsorted(kept, before + len(piece.starts), "right")]
        for place in here - before - 1:
            number += 1
            link = int(piece.links[place])
            if link not in interfaces:
                interfaces[link] = len(interfaces)
                yield block(INTERFACE, struct.pack("<HHI", link, 0, 0), (IF_TSRESOL, bytes([9])))
            start, size, time = int(piece.starts[place]), int(piece.captured[place]), int(piece.times[place])
            head = struct.pack(
                "<IIIII", interfaces[link], time >> 32, time & 0xFFFFFFFF, size, int(piece.lengths[place])
            )
            data = bytes(piece.data[start : start + size])
            yield block(PACKET, head + padded(data), *((COMMENT, text) for text in comments.get(number, ())))
        before += len(piece.starts)


def _section_header(capture: "Capture", count: int) -> bytes:
    told = (
        f"{count:,} of the {capture.packets:,} packets of {printable(capture.path.name)}: those of the connections "
        f"that were reset, with comments by rstkit {__version__}."
    )
    body = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    return block(SECTION_HEADER, body, (COMMENT, told), (SHB_USERAPPL, f"rstkit {__version__}"))
