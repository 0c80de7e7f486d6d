"""What the programs saw of a reset: from their recorded calls, or what the kernel tells a program in that state."""

from .case import Case, provoking_call
from .tcp import Flags, after
from .trace import Call, Packet
from .view import is_syn, is_syn_ack

IN_FLIGHT = 1.0  # seconds that packets which were sent before a RST came may take to be captured after it
_MOST_CALLS = 3  # calls of one program that are told
_NO_WORD = Flags.RST | Flags.SYN  # neither says that a connection is there


def saw(case: Case) -> tuple[str, ...]:
    """What the programs saw of the reset, first the one it was sent to.

    From their recorded calls, or else what tcp_reset tells a program in the receiver's state.
    """
    return (*_receiver_saw(case), *_sender_saw(case))


def _receiver_saw(case: Case) -> list[str]:
    host, rst = case.receiving_host, case.view.rst
    came = min((p.arrived for p in case.view.resets if p.arrived is not None), default=None)
    if came is None:
        return [f"{host}: nothing, the RST never arrived"]
    program = case.trace.program(host)
    if program is None or not program.recorded:
        return [f"{host}: {_would_see(case, came)}"]
    ends = (rst.destination, rst.source)
    own = [
        c
        for c in case.trace.calls
        if c.host == host
        and c.name.startswith(("connect", "send", "recv", "shutdown"))
        and ((c.local, c.peer) == ends or (c.name.startswith("connect") and c.arguments == str(rst.source)))
    ]
    begun: dict[tuple[int, int], float] = {}
    for call in own:
        begun.setdefault((call.process, call.socket), call.began)
    if any(began < came for began in begun.values()):  # another socket may use the same addresses and ports later
        own = [c for c in own if begun[c.process, c.socket] < came]
    told = []
    trigger = case.view.trigger
    if trigger and trigger.length:
        wrote = [c for c in own if c.name.startswith("send") and c.began <= trigger.sent and not c.errno]
        told += [f"{_shown(wrote[-1])}, for the RST had not come yet"] if wrote else []
    after_it = [
        c for c in own if (c.ended is None or c.ended >= came) and c.began >= (rst.sent if c.ended is None else 0)
    ]
    first = next((i for i, c in enumerate(after_it) if c.errno), len(after_it))
    told += [_shown(c) for c in after_it[: first + 1][-_MOST_CALLS:]]
    if not after_it:
        if program.ended is not None and program.ended < came:
            told.append(f"{host}: its program had ended before the RST came")
        else:
            told.append(f"{host}: no call after the RST came, so its program did not notice")
    return told


def _sender_saw(case: Case) -> list[str]:
    failed = case.done.failed
    if failed and (failed.ended or failed.began) >= case.view.rst.sent - 1:
        return [_shown(failed)]
    call = provoking_call(case)
    if call is None:
        return []
    return [_shown(call)]


def _shown(call: Call) -> str:
    """A call and what came of it."""
    if call.ended is None:
        outcome = "did not return"
    elif call.errno:
        outcome = call.errno
    elif call.error:
        outcome = call.error
    else:
        outcome = call.result or "no error"
    how = "implicit " if call.implicit else ""
    text = f"{call.host}: {how}{call.name}({call.arguments}) → {outcome} (call {call.number})"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _would_see(case: Case, came: float) -> str:
    """What a program at the other end is told (tcp_reset, by the state of its socket)."""
    rst = case.view.rst
    if on := _went_on(case):
        return f"nothing, it went on (packet {on.number}): the RST was lost, or not accepted (RFC 5961, 3.2)"
    theirs = [p for p in case.view.conversation if p.source == rst.destination and p.sent <= came]
    reached = [
        p for p in case.view.conversation if p.source == rst.source and p.arrived is not None and p.arrived <= came
    ]
    reached = [p for p in reached if not p.flags & Flags.RST]
    if any(is_syn(p) for p in theirs) and not any(is_syn_ack(p) for p in reached):
        return "connect() fails with ECONNREFUSED"
    if any(is_syn_ack(p) for p in theirs) and not any(p.flags & Flags.ACK for p in reached):
        return "nothing, its kernel drops the half-open connection"
    mine = next((p for p in theirs if p.flags & Flags.FIN), None)
    if any(p.flags & Flags.FIN for p in reached) and mine is None:
        return "its next send() fails with EPIPE; recv() returns nothing, as after any FIN"
    acked = mine and any(p.flags & Flags.ACK and not after(mine.next_seq, p.ack) for p in reached)
    if mine and acked and any(p.flags & Flags.FIN for p in reached):
        return "nothing, the connection was closed"
    return "its next recv() or send() fails with ECONNRESET (what had arrived can still be read)"


def _went_on(case: Case) -> Packet | None:
    """What the other end sent long after the RST as if none had come; a SYN may be another try."""
    late = max(p.sent for p in case.view.resets) + IN_FLIGHT
    for packet in case.view.conversation:
        if packet.sent > late and packet.source == case.view.rst.destination and not packet.flags & _NO_WORD:
            return packet
    return None
