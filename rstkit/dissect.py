"""What each packet and each call is, in the words that a diagram shows.

A label is short, a hover text is whole. Both come out ready for plotly, with all that came from
outside (payloads, exceptions, host names) escaped: plotly reads ``<b>``, ``<a href>`` and ``$…$``.
"""

import re
import struct
import textwrap
from collections.abc import Iterable
from typing import NamedTuple

from .tcp import Endpoint, Flags, after, sequence_length
from .trace import Call, Packet, Program, State

KINDS = ("ACK", "keepalive", "data", "SYN", "FIN", "retransmission", "RST")  # the last is drawn on top
_WIDTH = 76  # characters of a line of hover text
_TEXT = 400  # characters of a text that a hover shows
_READY = re.compile("SO_REUSEADDR|IPV6_V6ONLY")  # options that every server sets
_WRAP = textwrap.TextWrapper(_WIDTH, drop_whitespace=False, break_on_hyphens=False)
_DATA, _HEX = 152, 48  # bytes of a payload that a hover shows as text, and in hex


def printable(text: str) -> str:
    """The text with each character that cannot be seen, or that turns the writing round, as its escape."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def escape(text: str) -> str:
    """Any text as plain text for plotly, which would read tags, entities and TeX between dollar signs."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("$", "&#36;")):
        text = text.replace(character, entity)
    return printable(text)


def clip(text: str, most: int) -> str:
    """The text in at most so many characters, with an ellipsis where it was cut."""
    text = printable(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def lines(text: str, *, most: int = _TEXT) -> str:
    """A text of any length and kind for a hover: wrapped, cut and escaped."""
    cut = text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
    rows = (_WRAP.wrap(row) or [""] if len(row) > _WIDTH else [row] for row in map(printable, cut.splitlines()))
    return "<br>".join(escape(row) for wrapped in rows for row in wrapped)


class Reading(NamedTuple):
    """A packet with its kind (one of `KINDS`), its label and its dissection."""

    packet: Packet
    kind: str
    label: str
    hover: str


class _Direction:
    """What was seen so far of one direction of a connection."""

    def __init__(self) -> None:
        self.base: int | None = None  # the sequence number that is shown as 0
        self.next: int | None = None  # the sequence number after the last one sent
        self.window: int | None = None  # as last advertised by this side
        self.scale: int | None = None  # as announced in this side's SYN

    def relative(self, number: int, raw: bool) -> int:
        return number if raw or self.base is None else (number - self.base) % 2**32


def read_packets(packets: Iterable[Packet], *, raw: bool = False) -> list[Reading]:
    """Read packets in the order of their sending; ``raw`` keeps sequence numbers as they were sent."""
    directions: dict[tuple[Endpoint, Endpoint], _Direction] = {}
    readings = []
    for packet in packets:
        way, flags = (packet.source, packet.destination), packet.flags
        mine = directions.setdefault(way, _Direction())
        theirs = directions.setdefault(way[::-1], _Direction())
        if flags & Flags.SYN and mine.base not in (None, packet.seq):  # the same ports, for another connection
            mine = directions[way] = _Direction()
        if mine.base is None:
            # Without a SYN, the first byte seen is byte 1, as it would be after one. A RST that
            # answers a SYN has 0 itself (RFC 9293, 3.10.7.1).
            mine.base = packet.seq if flags & (Flags.SYN | Flags.RST) else (packet.seq - 1) % 2**32
        if theirs.base is None and flags & Flags.ACK:
            theirs.base = (packet.ack - 1) % 2**32
        kind, words = _kind(packet, mine, theirs)
        label = _label(packet, words, mine.relative(packet.seq, raw), theirs.relative(packet.ack, raw))
        if flags & Flags.SYN:
            mine.scale = next((data[0] for code, data in packet.options if code == 3 and len(data) == 1), None)
        readings.append(Reading(packet, kind, label, _dissection(packet, kind, label, mine, theirs)))
        if not flags & Flags.RST:
            mine.window = packet.window
            if mine.next is None or after(packet.next_seq, mine.next):
                mine.next = packet.next_seq
    return readings


def _kind(packet: Packet, mine: _Direction, theirs: _Direction) -> tuple[str, str]:
    """The kind, and a word for the label where the flags alone do not tell."""
    flags = packet.flags
    if flags & Flags.RST:
        return "RST", ""
    if mine.next is not None:
        if sequence_length(flags, packet.length) == 0:
            # Linux sends both probes with the sequence number before the next one (tcp_xmit_probe_skb).
            if packet.seq == (mine.next - 1) % 2**32:
                return "keepalive", "window probe" if theirs.window == 0 else "keepalive"
        elif not after(packet.next_seq, mine.next):
            return "retransmission", "retransmitted"
    if flags & Flags.SYN:
        return "SYN", ""
    if flags & Flags.FIN:
        return "FIN", ""
    return ("data", "") if packet.length else ("ACK", "")


def _label(packet: Packet, words: str, seq: int, ack: int) -> str:
    flags = packet.flags
    names = [name for bit, name in ((Flags.SYN, "SYN"), (Flags.FIN, "FIN"), (Flags.RST, "RST")) if flags & bit]
    data = [f"{packet.length:,} B"] if packet.length else []
    if not names and not data:
        text = f"{words} seq {seq}" if words else f"ACK {ack}" if flags & Flags.ACK else "no flags"
    else:
        if flags & Flags.ACK and flags & (Flags.SYN | Flags.RST):
            names.append("ACK")
        span = f"{seq}:{(seq + packet.length) % 2**32}" if packet.length else f"{seq}"
        text = f"{', '.join(filter(None, (' '.join(names), *data)))} seq {span}"
        if "ACK" in names or (flags & Flags.FIN and flags & Flags.ACK):  # a FIN often acknowledges the other side's
            text += f", ack {ack}"
        if words:
            text += f", {words}"
    if packet.window == 0 and not flags & (Flags.RST | Flags.SYN):
        text += ", window 0"
    return text


def _dissection(packet: Packet, kind: str, label: str, mine: _Direction, theirs: _Direction) -> str:
    p = packet
    way = f"<b>Packet {p.number}: {escape(label)}</b>"
    if p.lost is not None or p.arrived is None:
        times = f"sent {p.sent:.6f} s by the {escape(p.sender)}, lost: {lines(p.lost or 'it never arrived', most=120)}"
    else:
        took = f", {(p.arrived - p.sent) * 1000:.3f} ms on its way" if p.arrived > p.sent else ""
        times = f"sent {p.sent:.6f} s by the {escape(p.sender)}, arrived {p.arrived:.6f} s{took}"
    names = " ".join(name for flag in Flags if p.flags & flag and (name := flag.name)) or "none"
    rows = [
        way,
        times,
        f"{escape(str(p.source))} → {escape(str(p.destination))}",
        f"flags [{p.flags}] {names}" + (f" ({kind})" if kind in ("retransmission", "keepalive") else ""),
        f"seq {mine.relative(p.seq, False)}, raw {p.seq}; next {mine.relative(p.next_seq, False)}",
        f"ack {theirs.relative(p.ack, False)}, raw {p.ack}" if p.flags & Flags.ACK else "no ack",
        _window(p, mine, theirs),
        f"TTL {p.ttl}, IP id {p.ip_id}, payload {p.length:,} B",
    ]
    options = [_option(code, data, theirs) for code, data in p.options]
    if options:
        rows.append("options: " + lines(", ".join(options)))
    if p.payload:
        rows += _payload(p)
    return "<br>".join(rows)


def _window(packet: Packet, mine: _Direction, theirs: _Direction) -> str:
    if packet.flags & Flags.SYN:  # never scaled: RFC 7323, 2.2
        return f"window {packet.window:,} B"
    if mine.scale is None or theirs.scale is None:  # both sides must offer it: RFC 7323, 2.2
        return f"window {packet.window:,}, scale not seen"
    return f"window {packet.window:,}, times {2 ** min(mine.scale, 14):,} is {packet.window << min(mine.scale, 14):,} B"


def _option(code: int, data: bytes, theirs: _Direction) -> str:
    """A TCP option in words (RFC 9293, 3.2; RFC 7323; RFC 2018)."""
    if code == 2 and len(data) == 2:
        return f"MSS {int.from_bytes(data)}"
    if code == 3 and len(data) == 1:
        return f"window scale {data[0]} (times {2 ** min(data[0], 14):,})"
    if code == 4 and not data:
        return "SACK permitted"
    if code == 5 and data and len(data) % 8 == 0:
        edges = [theirs.relative(edge, False) for edge in struct.unpack(f"!{len(data) // 4}I", data)]
        return "SACK " + " ".join(f"{a}:{b}" for a, b in zip(edges[::2], edges[1::2], strict=True))
    if code == 8 and len(data) == 8:
        value, echo = struct.unpack("!II", data)
        return f"timestamp {value} echo {echo}"
    return f"option {code}" + (f" {data.hex(' ')}" if data else "")


def _payload(packet: Packet) -> list[str]:
    shown = packet.payload[:_DATA]
    text = repr(shown)[2:-1]
    rows = [text[i : i + _WIDTH] for i in range(0, min(len(text), 2 * _WIDTH), _WIDTH)]
    rows += [shown[i : min(i + 16, _HEX)].hex(" ") for i in range(0, min(len(shown), _HEX), 16)]
    if packet.length > _HEX:
        rows[-1] += f" … {packet.length:,} B in all"
    return [escape(row) for row in rows]


def call_words(call: Call) -> tuple[str, tuple[str, ...]]:
    """A call, and what came of it in one part or two; not escaped yet."""
    arguments = _amount(call.arguments)
    if call.name.startswith("send") and call.size is not None and len(arguments) > 16:
        arguments = f"{call.size:,} B"
    asked = f"{call.name}({arguments})"
    for level in ("SOL_SOCKET", "IPPROTO_TCP", "IPPROTO_IP", "IPPROTO_IPV6"):
        asked = asked.replace(f"({level}, ", "(", 1)
    if call.implicit:
        asked += " by Python"
    if call.errno is not None:
        # the words of the machine that ran it; this one may have others (os.strerror)
        words = re.search(r"\[Errno \d+\] (.+)", call.error or "")
        return asked, (f"→ {call.errno}", *([words[1]] if words else []))
    if call.error is not None:
        return asked, (f"→ {call.error}",)
    if call.ended is None:
        return asked, ("→ never returned",)
    return asked, (f"→ {_amount(call.result)}",) if call.result is not None else ()


def makes_ready(call: Call) -> bool:
    """Whether a call only makes ready a socket: no packet follows from it and no change of state."""
    ready = call.name in ("socket", "bind") or (call.name == "setsockopt" and _READY.search(call.arguments))
    return bool(ready) and call.errno is None and call.error is None


def _amount(text: str) -> str:
    """Data too long to show whole (``b'aaaa'… 9,000 B``) as its amount alone."""
    return re.sub(r"b(['\"]).*\1… ([\d,]+ B)", r"\2", text, flags=re.DOTALL)


def call_hover(call: Call) -> str:
    """All that is known of a call."""
    rows = [f"<b>{lines(f'{call.name}({call.arguments})')}</b>"]
    if call.implicit:
        rows.append("not written in the program: Python closed the socket as its last reference went away")
    if call.ended is None:
        rows.append(f"began {call.began:.6f} s and never returned")
    else:
        took = (call.ended - call.began) * 1000
        rows.append(f"began {call.began:.6f} s, ended {call.ended:.6f} s, took {took:,.3f} ms")
    if call.result is not None:
        rows.append(f"returned {lines(call.result)}")
    if call.error is not None or call.errno is not None:
        rows.append(f"failed: {lines(' '.join(filter(None, (call.errno, call.error))))}")
    if call.size is not None:
        rows.append(f"{call.size:,} B")
    if call.local is not None:
        peer = f" ↔ {escape(str(call.peer))}" if call.peer is not None else ""
        rows.append(f"socket {call.socket}: {escape(str(call.local))}{peer}")
    rows.append(f"{escape(call.host)}, process {call.process}")
    return "<br>".join(rows)


def end_words(program: Program) -> tuple[tuple[str, ...], bool]:
    """How a program's process ended, in one part or two, not escaped yet, and whether that was a failure."""
    if program.signal is not None:
        return ("process killed by", program.signal), True
    if program.traceback is not None:
        last = program.traceback.strip().splitlines()[-1:] or [""]
        return ("process ends by", last[0].split(":")[0].rsplit(".", 1)[-1]), True
    if program.status:
        return ("process ends,", f"status {program.status}"), True
    return ("process ends",), False


def program_hover(program: Program) -> str:
    """A program, its exception and what it printed."""
    rows = [f"<b>{lines(program.name)} on the {escape(program.host)}</b>", f"started {program.started:.6f} s"]
    if program.ended is not None:
        rows[-1] += f", ended {program.ended:.6f} s"
    if program.status is not None:
        rows.append(f"status {program.status}")
    if program.signal is not None:
        rows.append(f"killed by {lines(program.signal, most=40)}")
    if program.traceback is not None:
        rows.append(lines(program.traceback, most=1500))
    if program.output:
        rows += ["printed:", lines(program.output)]
    return "<br>".join(rows)


def state_hover(state: State, until: float | None) -> str:
    """A socket's state, how long it was so, and its queues."""
    upto = f"until {until:.6f} s" if until is not None else "to the end"
    peer = f" ↔ {escape(str(state.peer))}" if state.peer is not None else ""
    unread, unsent, unacked = state.held
    queues = (
        f"{state.unread} in the accept queue"
        if state.state == "LISTEN"
        else f"unread {unread:,} B, unsent {unsent:,} B, unacknowledged {unacked:,} B"
    )
    rows = [
        f"<b>{lines(state.state, most=40)}</b> on the {escape(state.host)}",
        f"{escape(str(state.local))}{peer}",
        f"from {state.at:.6f} s {upto}",
        queues,
    ]
    return "<br>".join(rows)
