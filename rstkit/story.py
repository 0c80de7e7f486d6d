"""Why a RST was sent, in words, and what to do."""

from collections.abc import Callable

from .case import Case
from .tcp import Flags, after
from .trace import Packet
from .view import is_syn, is_syn_ack
from .witnesses import state_at


def why(case: Case) -> str:
    """Why the RST was sent, in a sentence or two that name the packets."""
    text = _WHY[case.cause.key](case)
    if case.alternatives and case.confidence == "ambiguous":
        return f"It may be that {text} Other causes fit what was seen as well."
    if case.alternatives:
        return f"Most likely {text}"
    return text[0].upper() + text[1:]


def remedy(case: Case) -> str:
    """What to do: the cause's remedy, or that nothing need be done."""
    trigger = case.view.trigger
    if case.cause.key == "data-after-close" and trigger and is_tls_alert(trigger):
        return "Harmless: what came too late looks like a TLS alert, as a rule close_notify: the end of the data."
    if case.cause.key == "data-after-close" and case.view.rst.sender == "server":
        return (
            "The server closed first. Let it read until the client's FIN before it closes; let clients close idle "
            "connections sooner than the server does, and send again what may be repeated."
        )
    if case.cause.key == "unknown-connection" and case.view.reset_before:
        return f"Harmless by itself: it follows from the RST before it (packet {case.view.reset_before.number})."
    return case.cause.remedy


def is_tls_alert(packet: Packet) -> bool:
    """Whether the data looks like one TLS alert and nothing else (RFC 8446, 5.1 and 6).

    In TLS 1.3 an alert is sealed as data are: two bytes, one for the kind and 16 for the seal.
    """
    kind, version, size = packet.payload[:1], packet.payload[1:2], packet.length - 5
    alike = version == b"\x03" and int.from_bytes(packet.payload[3:5]) == size
    return alike and (kind == b"\x15" or (kind == b"\x17" and size == 19))


def _trigger(case: Case) -> str:
    """The packet that provoked the RST, by what it carries."""
    packet, expected = case.view.trigger or case.view.late_data, case.view.next_to_receive
    if packet is None:
        return "a segment that was not captured"
    if expected is not None and packet.length <= 1 and packet.next_seq - packet.length == (expected - 1) % 2**32:
        what = "a keepalive"
    elif is_syn(packet):
        what = "a SYN"
    elif is_syn_ack(packet):
        what = "a SYN ACK"
    elif packet.length:
        what = f"{_bytes(packet.length)} of data"
        what += ", by its looks a TLS alert" if is_tls_alert(packet) else ""
    elif packet.flags & Flags.FIN:
        what = "a FIN"
        if expected is not None and packet.seq != expected:
            what += ", behind data that had got lost" if after(packet.seq, expected) else ", sent again"
    else:
        what = "an ACK without data" if packet.flags & Flags.ACK else "a segment that has no flag of a connection"
    return f"packet {packet.number} ({what})"


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count:,} bytes"


def _closed(case: Case) -> str:
    """How the sender had come to be closed, and by which FIN that was told."""
    done, fin = case.done, case.view.fin
    how = "closed"
    if case.cause.key == "data-after-shutdown":
        how = "shut the connection down in both directions"
    elif done.recorded and done.close is None and done.ended and done.program:
        how = f"been ended by {done.program.signal}" if done.program.signal else "ended"
    return f"{case.sender} had {how}" + (f" (its FIN is packet {fin.number})" if fin else "")


def _no_listener(case: Case) -> str:
    port = case.view.rst.source.port
    return f"{_trigger(case)} asked for port {port} of {case.sender}, where no socket listens."


def _fin_wait2(case: Case) -> str:
    since = f" {case.view.waited:.1f} s after that FIN was acknowledged" if case.view.fin_acked else ""
    return (
        f"{_closed(case)} and waited in FIN_WAIT2 for {case.receiver}'s FIN, which never came. {_Trigger(case)} came"
        f"{since}: by then the kernel had forgotten the connection, and no socket was found."
    )


def _data_after_close(case: Case) -> str:
    return f"{_closed(case)} when {_trigger(case)} arrived: nobody is left to read it, and the RST says so."


def _data_after_shutdown(case: Case) -> str:
    return (
        f"{_closed(case)}, but kept its socket open, when {_trigger(case)} arrived: it had said it would read no more."
    )


def _unread(case: Case) -> str:
    unread = case.done.unread if case.done.unread is not None else _last_state(case)[0]
    what = f"{_bytes(unread)} of {case.receiver}'s data" if unread else f"some of {case.receiver}'s data"
    return f"{_how_closed(case)} with {what} unread. They are lost, and RST in place of FIN says so."


def _how_closed(case: Case) -> str:
    done = case.done
    if done.recorded and not done.closing and done.ending and done.program:
        if done.program.signal:
            return f"{case.sender}'s process was ended by {done.program.signal}, and so its socket was closed,"
        return f"{case.sender}'s process ended, and so its socket was closed,"
    return f"{case.sender} closed its socket"


def _last_state(case: Case) -> tuple[int, int]:
    """Unread and unsent bytes as they were last seen in the sender's socket; there a FIN counts as one byte."""
    rst = case.view.rst
    state = state_at(case.trace, rst.sender, rst.source, rst.destination, case.view.at)
    return state.held[:2] if state else (0, 0)


def _linger_zero(case: Case) -> str:
    lost = ""
    unsent = case.done.unsent if case.done.unsent is not None else _last_state(case)[1]
    if unsent:
        lost += f" Of what it had written, {_bytes(unsent)} never left."
    if case.view.unacknowledged:
        lost += f" {_bytes(case.view.unacknowledged)} had left and were not acknowledged: nobody will send them again."
    return f"{_how_closed(case)} with linger on, 0 s, so the kernel aborted the connection.{lost}"


def _ack_to_listener(case: Case) -> str:
    return (
        f"{_trigger(case)} reached {case.sender}'s listener, which knows no connection and no handshake it belongs to."
    )


def _overflow(case: Case) -> str:
    return (
        f"{_trigger(case)} was the last of the handshake, but {case.sender}'s accept queue was full, and "
        "tcp_abort_on_overflow told the kernel to refuse with RST."
    )


def _syn_to_orphan(case: Case) -> str:
    fin = next((p for p in case.view.earlier if p.source == case.view.rst.source and p.flags & Flags.FIN), None)
    told = f" (its FIN is packet {fin.number})" if fin else ""
    return (
        f"{case.sender} had closed an earlier connection between the same ports{told} and still waited for "
        f"{case.receiver}'s FIN when {_trigger(case)} arrived, whose number fits into that connection."
    )


def _unacceptable_ack(case: Case) -> str:
    syn = case.view.syn
    asked = f"{case.sender} had sent packet {syn.number} (a SYN)" if syn else f"{case.sender} was connecting"
    text = f"{asked}, but {_trigger(case)} acknowledges something else: "
    if case.view.trigger and is_syn_ack(case.view.trigger):
        return f"{text}it answers another SYN, an old one, say, or comes from a device that tests who asks."
    return f"{text}{case.receiver} still held an older connection. The RST ends that one."


def _linger2(case: Case) -> str:
    return f"{_closed(case)} with TCP_LINGER2 below 0, and so did not wait for {case.receiver}'s FIN."


def _keepalive(case: Case) -> str:
    probes = case.view.probes
    if len(probes) < 2:
        what = f"a keepalive probe (packet {probes[0].number})" if probes else "keepalive probes"
    else:
        joint = "and" if len(probes) == 2 else "to"
        what = f"{len(probes)} keepalive probes (packets {probes[0].number} {joint} {probes[-1].number})"
    return f"{case.sender} had sent {what} and got no answer, so its kernel gave the connection up."


def _listener_closed(case: Case) -> str:
    if case.view.trigger:
        return (
            f"{_trigger(case)} should have completed the handshake, but {case.sender}'s listener on port "
            f"{case.view.rst.source.port} was closed meanwhile."
        )
    port, done = case.view.rst.source.port, case.done
    how = f"{case.sender} closed its listener on port {port}"
    if done.recorded and not done.listener_close and done.ending:
        how = f"{case.sender}'s process ended, and with it the listener on port {port},"
    return f"{how} before it had accepted the connection: nobody would ever serve it."


def _disconnect(case: Case) -> str:
    return f"{case.sender} dissolved the connection with connect(AF_UNSPEC)."


def _socket_killed(case: Case) -> str:
    return f"somebody had {case.sender}'s kernel destroy the socket; its program did not ask for it."


def _memory(case: Case) -> str:
    return f"{_closed(case)}, and its kernel had no room for one more socket that nobody holds."


def _connect_aborted(case: Case) -> str:
    syn = case.view.syn
    asked = f"{case.sender} had asked for the connection (packet {syn.number})" if syn else case.sender
    return f"{asked}, but had given up by the time {_trigger(case)} arrived, so it found no socket."


def _unknown(case: Case) -> str:
    if before := case.view.reset_before:
        return (
            f"packet {before.number} (a RST in {case.receiver}'s name) had ended the connection at {case.sender}, and "
            f"{_trigger(case)} then found no socket."
        )
    return f"{_trigger(case)} belongs to a connection that {case.sender}'s kernel knows nothing of."


def _gave_up(case: Case) -> str:
    return (
        f"{case.sender} had sent and got no acknowledgment for so long that its kernel gave the connection up, without "
        f"RST. {_Trigger(case)} came after that and found no socket."
    )


def _half_open(case: Case) -> str:
    syn = case.view.syn
    asked = f"packet {syn.number} (a SYN) was made by hand" if syn else "a SYN was made by hand"
    return (
        f"{asked}, to see whether the port is open: the kernel of {case.sender} knew nothing of it and answered "
        f"{_trigger(case)} with RST."
    )


def _hurried(case: Case) -> str:
    fin = case.view.peer_fin or case.view.trigger
    closed = f"{case.receiver} had closed" + (f" (its FIN is packet {fin.number})" if fin else "")
    return (
        f"{closed} and all data had arrived; {case.sender} then aborted in place of closing. Nothing it had sent is "
        "lost."
    )


def _state_lost(case: Case) -> str:
    return (
        f"{_trigger(case)} came after {case.sender} had sent nothing for {case.view.idle:.1f} s: a device on the way "
        "had forgotten the connection, and answered in its name."
    )


def _retransmissions(case: Case) -> str:
    repeats = case.view.repeats
    what = f"packet {repeats[0].number} {len(repeats)} times" if repeats else "a segment again and again"
    return f"{case.sender} had sent {what} and got no acknowledgment, so it gave the connection up."


def _after_close(case: Case) -> str:
    trigger = case.view.trigger
    if trigger is None:
        return f"both ends had sent FIN when {case.sender} sent the RST: the connection was over, and nothing is lost."
    if trigger.flags & Flags.FIN and case.view.peer_fin is None:
        return (
            f"{_closed(case)}, and {_trigger(case)} closed the other side: no socket was left at {case.sender} to "
            "acknowledge it."
        )
    return f"both ends had sent FIN before {_trigger(case)} arrived at {case.sender}, where no socket was left for it."


def _firewall(case: Case) -> str:
    return f"{_trigger(case)} was answered in {case.sender}'s name by a firewall, not by its TCP."


def _injected(case: Case) -> str:
    return f"packet {case.view.rst.number} does not fit {case.sender}, in whose name it was sent."


def _other(case: Case) -> str:
    return f"{case.sender} sent packet {case.view.rst.number} for a reason that this catalogue does not know."


def _Trigger(case: Case) -> str:  # noqa: N802 - the same with a capital letter
    text = _trigger(case)
    return text[0].upper() + text[1:]


_WHY: dict[str, Callable[[Case], str]] = {
    "no-listener": _no_listener,
    "fin-wait2-timed-out": _fin_wait2,
    "data-after-close": _data_after_close,
    "unread-data": _unread,
    "linger-zero": _linger_zero,
    "ack-to-listener": _ack_to_listener,
    "accept-queue-overflow": _overflow,
    "syn-to-orphan": _syn_to_orphan,
    "unacceptable-ack": _unacceptable_ack,
    "data-after-shutdown": _data_after_shutdown,
    "linger2-negative": _linger2,
    "keepalive-timeout": _keepalive,
    "listener-closed": _listener_closed,
    "disconnect": _disconnect,
    "socket-killed": _socket_killed,
    "orphan-memory": _memory,
    "connect-aborted": _connect_aborted,
    "unknown-connection": _unknown,
    "gave-up": _gave_up,
    "after-normal-close": _after_close,
    "firewall-reject": _firewall,
    "injected": _injected,
    "half-open-scan": _half_open,
    "hurried-close": _hurried,
    "state-lost": _state_lost,
    "retransmission-timeout": _retransmissions,
    "other": _other,
}
