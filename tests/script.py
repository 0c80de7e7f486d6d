"""A trace as a script of calls and packets on one clock, as packetdrill has it, and the comparison with one."""

from collections.abc import Iterator
from dataclasses import dataclass

from rstkit.tcp import Flags, after
from rstkit.trace import Call, Packet, Trace

# Calls that return when something has happened stand where they returned, the others where they began.
_WAITING = frozenset({"accept", "connect", "recv"})
_PLUMBING = frozenset({"socket", "bind"})  # of socket.create_server and create_connection: the same in all
_PLUMBED_OPTIONS = ("SO_REUSEADDR", "IPV6_V6ONLY")


@dataclass
class _Line:
    host: str
    kind: str
    at: float
    text: str
    count: int
    bytes: int
    until: float

    def __str__(self) -> str:
        text = f"{self.bytes:,} B in {self.count}" if self.kind == "data" and self.count > 1 else self.text
        return f"{self.host} {'>' if self.kind != 'call' else ' '} {text}"


def check_script(trace: Trace, expected: str) -> None:
    """Hold a trace to a script, line by line.

    In a script a blank line means: all that stands above came before all that stands below. Between
    two blank lines the calls of each program and the packets of each host must come in the order
    that is written; but how these lists interleave is not told, for a host's program does not wait
    for its kernel, nor one host for the other.
    """
    parts = [[line.strip() for line in part.splitlines() if line.strip()] for part in expected.strip().split("\n\n")]
    lines = script(trace)
    found, at = [], 0
    for part in parts:
        found.append(sorted(lines[at : at + len(part)], key=_stream))
        at += len(part)
    found.append(lines[at:])
    assert _join(found) == _join([*(sorted(part, key=_stream) for part in parts), []]), "\n".join(lines)


def _stream(line: str) -> tuple[str, bool]:
    host, mark, *_ = line.split()
    return host, mark == ">"


def _join(parts: list[list[str]]) -> str:
    return "\n\n".join("\n".join(part) for part in parts)


def script(trace: Trace) -> list[str]:
    """The calls and packets of a trace, a line each, by time.

    Numbers count from each side's SYN. In one line stand: data segments in a row, or ACKs in a row,
    unless the other host sent and delivered something other than data between them (whether a kernel
    sends one ACK for a segment or for several depends on when the program reads); the calls of recv
    in a row that returned data; the bare RSTs that follow a host's first RST. Left out are the calls
    that socket.create_server and create_connection make to prepare a socket, unless they fail.
    """
    names = {str(p.destination): "server" for p in trace.packets[:1]}
    names |= {str(p.source): "client" for p in trace.packets[:1]}
    lines = [*_calls(trace, names)]
    for host in ("client", "server"):
        lines += _packets(trace, host)
    return [str(line) for line in sorted(lines, key=lambda line: line.at)]


def _packets(trace: Trace, host: str) -> Iterator[_Line]:
    isn = {p.sender: p.seq for p in trace.packets if p.flags & Flags.SYN}
    last: _Line | None = None
    high: int | None = None
    for packet in (p for p in trace.packets if p.sender == host):
        line = _Line(host, *_describe(packet, isn, high), packet.length, packet.sent)
        high = packet.next_seq if high is None or after(packet.next_seq, high) else high
        if last and line.kind == last.kind and (line.kind == "again" or _in_a_row(trace, last, line)):
            last.count, last.bytes, last.until = last.count + 1, last.bytes + line.bytes, line.until
            last.text = line.text
            continue
        if last:
            yield last
        last = line
        if line.kind == "reset":
            isn = {**isn, "reset": 1}
    if last:
        yield last


def _in_a_row(trace: Trace, last: _Line, line: _Line) -> bool:
    others = (p for p in trace.packets if p.sender != line.host and not p.length)
    news = any(p.sent > last.until and p.arrived is not None and p.arrived < line.until for p in others)
    return line.kind in ("data", "ACK") and not news


def _describe(packet: Packet, isn: dict[str, int], high: int | None) -> tuple[str, float, str, int]:
    """The kind of a packet's line, its time, its text, and that it is one."""
    peer = "client" if packet.sender == "server" else "server"
    seq = (packet.seq - isn.get(packet.sender, 0)) % 2**32
    ack = (packet.ack - isn.get(peer, 0)) % 2**32
    flags = packet.flags
    if flags & Flags.RST and not flags & Flags.ACK and "reset" in isn:
        kind, text = "again", "RST again"
    elif flags & Flags.RST:
        numbers = f" ack {ack}" if flags & Flags.ACK else ""
        window = "" if packet.window else " win 0"
        kind, text = "reset", f"RST{' ACK' if flags & Flags.ACK else ''} seq {seq}{numbers}{window}"
    elif flags & Flags.SYN:
        kind, text = "SYN", "SYN ACK" if flags & Flags.ACK else "SYN"
    elif flags & Flags.FIN:
        kind, text = "FIN", f"{f'{packet.length:,} B ' if packet.length else ''}FIN seq {seq}"
    elif packet.length:
        kind, text = "data", f"{packet.length:,} B"
    elif high is not None and packet.seq == (high - 1) % 2**32:
        kind, text = "keepalive", "keepalive"
    else:
        kind, text = "first ACK" if ack == 1 else "ACK", f"ACK {ack}"
    return kind, packet.sent, text, 1


def _calls(trace: Trace, names: dict[str, str]) -> Iterator[_Line]:
    listeners = {(c.host, c.socket) for c in trace.calls if c.name == "listen"}
    for host in ("client", "server"):
        last: _Line | None = None
        for call in sorted((c for c in trace.calls if c.host == host), key=lambda c: c.began):
            if not call.errno and (call.name in _PLUMBING or any(o in call.arguments for o in _PLUMBED_OPTIONS)):
                continue
            ended = call.ended if call.name in _WAITING and call.ended else call.began
            line = _Line(host, "call", ended, _tell(call, names, listeners), 1, call.size or 0, ended)
            if last and call.name == "recv" and line.bytes and last.text.startswith("recv(") and last.bytes:
                line.bytes += last.bytes
                line.text = f"recv({call.arguments}) = {line.bytes:,} B"
            elif last:
                yield last
            last = line
        if last:
            yield last


def _tell(call: Call, names: dict[str, str], listeners: set[tuple[str, int]]) -> str:
    arguments = names.get(call.arguments, call.arguments)
    if call.name == "close" and (call.host, call.socket) in listeners:
        arguments = "listener"
    elif call.name in ("send", "sendall") and call.size and call.size > 100:
        arguments = f"{call.size:,} B"
    text = f"{call.name}({arguments})"
    if call.errno or call.error:
        text += f" = {call.errno or call.error}"
    elif call.name == "recv" and call.size and call.size > 100:
        text += f" = {call.size:,} B"
    elif call.name in ("accept", "recv"):
        text += f" = {names.get(call.result or '', call.result)}"
    held = [f"{n:,} B {what}" for n, what in ((call.unread, "unread"), (call.unsent, "unsent")) if n]
    if call.implicit:
        held.insert(0, "by letting go")
    return text + (f", {', '.join(held)}" if held else "")
