"""The findings of a capture as text for a terminal, and as JSON.

Whatever a file brought along (its name, payloads in explanations) comes out with control characters as escapes.
"""

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import __version__
from .dissect import printable
from .evidence import Evidence
from .findings import Finding
from .grouping import HARMS
from .words import span

if TYPE_CHECKING:
    from .captures import Capture

_WIDTH, _INDENT, _LABEL = 100, 3, 7


def report(capture: "Capture", found: Sequence[Finding]) -> str:
    """What matters in a few lines, then each finding."""
    parts = ["\n".join(summary(capture, found))]
    parts += ["\n".join(_finding(number, finding)) for number, finding in enumerate(found, 1)]
    return "\n\n".join(parts)


def summary(capture: "Capture", found: Sequence[Finding]) -> list[str]:
    """The file in a few lines: what it holds, what was damaged, how many findings there are."""
    held = f"{_count(capture.packets, 'packet')}, {_count(capture.connections, 'TCP connection')}"
    when = f" in {lasted(capture.last - capture.first)}, from {moment(capture.first)}" if capture.packets else ""
    lines = [_line(f"{capture.path.name}: {held}{when}.")]
    lines += [_line(f"! {text}", "  ") for text in capture.told]
    resets = len(capture.reset_connections)
    if not capture.packets:
        lines.append("No packet could be read." if capture.told else "There is no packet in it.")
    elif not capture.segments:
        what = "no TCP in what could be read" if capture.told else "no TCP in it"
        lines.append(f"There is {what}, so nothing to explain: see what the capture's filter let through.")
    elif not resets:
        what = "no RST in what could be read" if capture.told else "no RST in it"
        lines.append(f"No connection was reset: there is {what}.")
    elif not found:
        lines.append(f"{_count(capture.resets, 'RST')}, of which too little was captured to tell anything.")
    else:
        told = f"{_count(capture.resets, 'RST')} in {_count(resets, 'connection')}: {_count(len(found), 'finding')}"
        harms = {harm: sum(finding.count for finding in found if finding.harm == harm) for harm in HARMS}
        sums = ", ".join(f"{harm} {count:,}" for harm, count in harms.items() if count)
        lines.append(_line(f"{told} ({sums}){', the worst first' if len(found) > 1 else ''}."))
    return lines


def as_json(capture: "Capture", found: Sequence[Finding]) -> dict[str, Any]:
    """The same for programs, as JSON types; names once given are kept.

    ``rstkit`` (its version), ``file``, ``packets``, ``segments`` (of TCP), ``connections`` (of TCP),
    ``resets`` (RST segments), ``first`` and ``last`` (the times of the first and the last packet; null
    where there is none), ``told`` (sentences: damage, and what could not be read), and ``findings``, the
    worst first. Each has ``cause`` (its key in the catalogue), ``title``, ``confidence`` (likely or
    ambiguous), ``alternatives`` (keys), ``harm`` (`rstkit.grouping.HARMS`), ``sender`` (of the RSTs: client
    or server), ``clients`` (addresses) and ``servers`` (address and port; both busiest first), ``count`` (of
    resets), ``first`` and ``last`` (when the connections were reset), ``who``, ``why``, ``evidence`` (text, and
    frame: a number or null), ``remedy``, ``check`` (empty where there is nothing to do), ``example`` (one
    connection, with ``rst``, the frames of its RST and the repeats, and ``trigger``, the frame that
    provoked it, or null) and ``connections`` (all of them, in order of time).

    A connection has ``client`` and ``server`` (address and port), ``first`` and ``last`` (the times of its
    packets), ``reset`` (when its first RST was captured) and ``packets`` (how many). Times are seconds since
    1970, frames are numbered from 1 as in Wireshark.
    """
    return {
        "rstkit": __version__,
        "file": str(capture.path),
        "packets": capture.packets,
        "segments": capture.segments,
        "connections": capture.connections,
        "resets": capture.resets,
        "first": capture.first if capture.packets else None,
        "last": capture.last if capture.packets else None,
        "told": list(capture.told),
        "findings": [_as_json(finding) for finding in found],
    }


def moment(seconds: float) -> str:
    """A moment, from seconds since 1970, to the millisecond; a file may say anything."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.3f} s after 1970 began"


def lasted(seconds: float) -> str:
    """A length of time, in words that fit it."""
    if seconds < 120:
        return span(seconds)
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def often(finding: Finding) -> str:
    """How often, and when."""
    times = "Once" if finding.count == 1 else f"{finding.count:,} times"
    if finding.last - finding.first >= 0.001:
        return f"{times} in {lasted(finding.last - finding.first)}, from {moment(finding.first)}."
    return f"{times}, at {moment(finding.first)}."


def claim(evidence: Evidence) -> str:
    """A piece of evidence with the frame that it points at."""
    place = f"frame {evidence.packet}"
    return evidence.text if evidence.packet is None or place in evidence.text.lower() else f"{evidence.text} ({place})"


def _finding(number: int, finding: Finding) -> Iterator[str]:
    yield _line(f"{number}. {finding.title} ({finding.harm}, {finding.confidence})", " " * _INDENT)
    connection = finding.example.connection
    numbers = connection.frames
    entries = [
        ("who", [finding.who]),
        ("when", [often(finding)]),
        ("why", [finding.why]),
        ("or", [cause.title for cause in finding.alternatives]),
        ("shown", [*map(claim, finding.evidence)]),
        ("next", [finding.next]),
        ("check", [finding.check]),
        ("see", [f"{connection.client} to {connection.server}, frames {min(numbers)} to {max(numbers)}"]),
    ]
    for label, texts in entries:
        for place, text in enumerate(filter(None, texts)):
            yield _line(f"{'':{_INDENT}}{label if not place else '':{_LABEL}}{text}", " " * (_INDENT + _LABEL))


def _as_json(finding: Finding) -> dict[str, Any]:
    numbers, reset = finding.example.connection.frames, finding.reset
    trigger = None if reset.trigger is None else numbers[reset.trigger.number - 1]
    return {
        "cause": finding.cause.key,
        "title": finding.title,
        "confidence": finding.confidence,
        "alternatives": [cause.key for cause in finding.alternatives],
        "harm": finding.harm,
        "sender": finding.sender,
        "clients": list(finding.clients),
        "servers": [str(server) for server in finding.servers],
        "count": finding.count,
        "first": finding.first,
        "last": finding.last,
        "who": finding.who,
        "why": finding.why,
        "evidence": [{"text": e.text, "frame": e.packet} for e in finding.evidence],
        "remedy": finding.next,
        "check": finding.check,
        "example": _connection(finding.example.connection)
        | {"rst": [numbers[packet.number - 1] for packet in reset.packets], "trigger": trigger},
        "connections": [_connection(connection) for connection in finding.connections],
    }


def _connection(connection: Any) -> dict[str, Any]:
    return {
        "client": str(connection.client),
        "server": str(connection.server),
        "first": connection.first,
        "last": connection.last,
        "reset": connection.reset,
        "packets": connection.count,
    }


def _line(text: str, indent: str = "") -> str:
    return textwrap.fill(printable(text), _WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
