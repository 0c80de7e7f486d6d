"""What the kernel tells of a reset: its reason, its counters, the states of its sockets.

Each gives evidence, and says which of the suspected causes it leaves possible.
"""

from collections.abc import Iterator, Mapping, Sequence, Set

from .causes import CAUSES
from .evidence import Evidence, Testimony, clears
from .tcp import Endpoint, Flags
from .trace import Packet, Reason, State, Trace
from .view import View, is_syn

_REASON_WINDOW = 0.05  # seconds between the tracepoint and the frame on the wire, at the most
_SKEW = 0.001  # seconds by which their clocks may differ, at the most
# The reasons that tcp_send_active_reset is called with: of RSTs that answer nothing.
_ABORTS = frozenset(
    {
        "TCP_ABORT_ON_CLOSE",
        "TCP_ABORT_ON_LINGER",
        "TCP_ABORT_ON_MEMORY",
        "TCP_STATE",
        "TCP_KEEPALIVE_TIMEOUT",
        "TCP_DISCONNECT_WITH_DATA",
    }
)
# Counters that move with a cause in some cases only: one of them, or none for data-after-close in FIN_WAIT2.
_MAY_MOVE = {
    "data-after-close": ("TcpExt:TCPAbortOnData",),
    "linger2-negative": ("TcpExt:TCPAbortOnLinger", "TcpExt:TCPAbortOnData"),
}
_LAG = 0.02  # seconds that a socket's state is told late, as a rule
_LONG_LAG = 0.5  # and on a machine that is very busy

# Causes in which the sender's kernel still had a socket for the connection, and those in which it had none.
_EVERYTHING = frozenset(CAUSES)
_CLOSING = frozenset({"data-after-close", "data-after-shutdown", "linger2-negative"})
_GONE = frozenset(
    {
        "no-listener",
        "fin-wait2-timed-out",
        "ack-to-listener",
        "connect-aborted",
        "half-open-scan",
        "unknown-connection",
        "gave-up",
        "after-normal-close",
        "listener-closed",
    }
)
# Where the state is known that the sender's socket was in before it was gone.
_LEFT_FROM = {
    "FIN_WAIT2": frozenset({"fin-wait2-timed-out"}),
    "TIME_WAIT": frozenset({"after-normal-close"}),
    "LAST_ACK": frozenset({"after-normal-close", "gave-up"}),
    "CLOSING": frozenset({"after-normal-close", "gave-up"}),
}
_NOT_TCP = frozenset({"firewall-reject", "injected", "state-lost"})


def ask_kernel(trace: Trace, view: View, suspected: Set[str], of_host: Sequence[Set[str]]) -> Iterator[Testimony]:
    """What the kernel's own words tell, the strongest first.

    ``suspected`` are the causes that the packets admit, ``of_host`` those of every reset of the same host.
    """
    yield from _reason(trace, view)
    yield from _counters(trace, view, suspected, of_host)
    yield from _states(trace, view, suspected)


def reason_of(trace: Trace, view: View) -> Reason | None:
    """The kernel's own reason for the first RST, where it was recorded.

    Two RSTs may leave at the same moment, from two processors; then the form of the RST tells
    which reason is its own.
    """
    rst = view.rst
    ends, first = (rst.source, rst.destination), rst.sent - _REASON_WINDOW
    near = [r for r in trace.reasons if (r.source, r.destination) == ends and first <= r.at <= rst.sent + _SKEW]
    if len(near) > 1:  # one may be that of an earlier reset between the same ends
        began = min(p.sent for p in view.resets)
        earlier = [p.sent for p in trace.packets if (p.source, p.destination) == ends and p.flags & Flags.RST]
        near = [r for r in near if not any(r.at <= at < began for at in earlier)]
    aborts = view.trigger is None and not view.is_answer
    found = [r for r in near if (r.reason in _ABORTS) == aborts] or near
    return min(found, key=lambda r: r.at, default=None)  # the later ones are those of its repeats


def _reason(trace: Trace, view: View) -> Iterator[Testimony]:
    reason = reason_of(trace, view)
    if reason:
        text = f"The {view.rst.sender}'s kernel gave its reason for packet {view.rst.number}: {reason.reason}."
        admits = frozenset(key for key, cause in CAUSES.items() if reason.reason in cause.reasons)
        yield Testimony(Evidence("reason", text, packet=view.rst.number), admits or frozenset({"other"}))


def _counters(trace: Trace, view: View, suspected: Set[str], of_host: Sequence[Set[str]]) -> Iterator[Testimony]:
    host = view.rst.sender
    if not any(c.host == host for c in trace.counters):
        return
    sent = sum(bool(p.flags & Flags.RST) and p.sender == host for p in trace.packets)
    counted = trace.counter(host, "Tcp:OutRsts")
    text = f"The {host}'s kernel counted {counted} RST sent (Tcp:OutRsts); {sent} were seen on the wire."
    if counted >= sent:
        yield clears(Evidence("counter", text), *_NOT_TCP)
    elif counted == 0:
        yield Testimony(Evidence("counter", text), _NOT_TCP)
    changes = {name: trace.counter(host, name) for key in suspected for name in CAUSES[key].counters}
    watched = [key for key in CAUSES if key in suspected and CAUSES[key].counters]
    moved = frozenset(key for key in watched if _moved(key, changes))
    if moved:
        names = {next(name for name in CAUSES[key].counters if changes[name]) for key in moved}
        text = f"On the {host} went up: {', '.join(f'{name} by {changes[name]}' for name in sorted(names))}"
        movers = frozenset(key for key in CAUSES if names & {*CAUSES[key].counters, *_MAY_MOVE.get(key, ())})
        rivals = sum(bool(movers & of_reset) for of_reset in of_host)
        if sum(changes[name] for name in names) >= rivals:  # so each of these resets moved one of them
            once = (
                "this is the only reset that could have moved it"
                if rivals == 1
                else "as often as such resets were sent"
            )
            yield Testimony(Evidence("counter", f"{text}; {once}."), movers)
        else:
            yield Testimony(Evidence("counter", f"{text}."))
    still = [key for key in watched if key not in moved]
    if still:
        names = {name for key in still for name in CAUSES[key].counters if not changes[name]}
        yield clears(Evidence("counter", f"Not moved on the {host}: {', '.join(sorted(names))}."), *still)


def _moved(key: str, changes: Mapping[str, int]) -> bool:
    """Whether the counters moved that move with a cause."""
    moved = [changes[name] > 0 for name in CAUSES[key].counters]
    return any(moved) if key in _MAY_MOVE else all(moved)


def state_at(trace: Trace, host: str, local: Endpoint, peer: Endpoint | None, at: float) -> State | None:
    """The last state of a socket that was seen by a time; for ``peer`` None, that of a listener on its port."""
    found = None
    for state in trace.states:
        same = state.local == local if peer else state.local.port == local.port
        if state.host == host and state.peer == peer and same and state.at <= at:
            found = state
    return found


def _states(trace: Trace, view: View, suspected: Set[str]) -> Iterator[Testimony]:
    if not trace.states:  # then nobody looked
        return
    if view.trigger is None:
        yield from _state_of_aborter(trace, view)
    elif is_syn(view.trigger) or not view.sent:
        yield from _listener_asked(trace, view, view.trigger)
    else:
        yield from _state_of_answerer(trace, view, view.trigger)
    if "listener-closed" in suspected:
        yield from _listener_closed(trace, view)


def _state_of_aborter(trace: Trace, view: View) -> Iterator[Testimony]:
    """The state of the sender's socket before a RST that answers nothing."""
    rst = view.rst
    own = state_at(trace, rst.sender, rst.source, rst.destination, view.at)
    if own:
        held = [
            f"{count:,} bytes {what}"
            for count, what in zip(own.held, ("unread", "unsent", "unacknowledged"), strict=True)
            if count
        ]
        told = f", with {' and '.join(held)}" if held else ""
        text = f"In the last sample before the RST, the {rst.sender}'s socket was in {own.state}{told}."
        yield Testimony(Evidence("state", text, packet=rst.number))


def _listener_asked(trace: Trace, view: View, trigger: Packet) -> Iterator[Testimony]:
    """Whether a socket listened on the port of an end that had sent nothing before its RST."""
    port = view.rst.source.port
    if port != trace.values.get("port", port):  # the lab watches the listener on its own port
        return
    here = view.rst.sender
    before, after = (state_at(trace, here, view.rst.source, None, moment) for moment in (view.at, view.at + _LAG))
    if before is None or before.state == "CLOSED":
        gone = {"ack-to-listener"}
        text = f"No socket of the {here} listened on port {port} when packet {trigger.number} arrived."
    elif after and after.state == "LISTEN":
        gone = {"no-listener", "unknown-connection"}
        text = f"A socket of the {here} listened on port {port} when packet {trigger.number} arrived."
    else:  # it was closed just then
        return
    yield Testimony(Evidence("state", text, packet=trigger.number), _EVERYTHING - gone)


def _asked_since(trace: Trace, own: State, rst: Packet) -> bool:
    """Whether a SYN went out after a sample: then a socket was there that the sample does not know."""
    ends = (rst.source, rst.destination)
    asked = (p for p in trace.packets if p.flags & Flags.SYN and (p.source, p.destination) == ends)
    return any(own.at < p.sent < rst.sent for p in asked)


def _state_of_answerer(trace: Trace, view: View, trigger: Packet) -> Iterator[Testimony]:
    """The state of the sender's socket when the packet came that it answered with RST."""
    rst = view.rst
    own = state_at(trace, rst.sender, rst.source, rst.destination, view.at)
    if own is None or _asked_since(trace, own, rst):
        return
    admits = None
    text = f"The {rst.sender}'s socket was in {own.state} when packet {trigger.number} arrived."
    if own.state == "CLOSED":
        last = _state_before(trace, own)
        text = f"The {rst.sender}'s socket had left the kernel's tables before packet {trigger.number} arrived"
        text += f", {view.at - own.at:.3f} s earlier, out of {last}." if last else "."
        admits = _LEFT_FROM.get(last or "", _GONE) | _NOT_TCP
    elif own.state == "FIN_WAIT2" and not trigger.length:
        text = f"The {rst.sender}'s socket was in FIN_WAIT2 at the last look before packet {trigger.number} arrived. "
        text += "In that state it would have answered with an ACK, so it had just timed out."
        admits = _LEFT_FROM["FIN_WAIT2"] | _NOT_TCP
    elif own.state in ("FIN_WAIT1", "FIN_WAIT2"):
        admits = _CLOSING | _NOT_TCP
    elif own.state == "SYN_SENT" and _lives_on(trace, view):
        admits = frozenset({"unacceptable-ack"}) | _NOT_TCP
    yield Testimony(Evidence("state", text, packet=trigger.number), admits)


def _lives_on(trace: Trace, view: View) -> bool:
    """Whether the sender's socket was still there a while after what provoked the RST."""
    later = state_at(trace, view.rst.sender, view.rst.source, view.rst.destination, view.at + _LAG)
    return later is not None and later.state != "CLOSED"


def _state_before(trace: Trace, closed: State) -> str | None:
    """The state that a socket was in before it left the kernel's tables."""
    last = None
    for state in trace.states:
        if state is closed:
            break
        if (state.host, state.local, state.peer) == (closed.host, closed.local, closed.peer):
            last = state.state
    return last


def _listener_closed(trace: Trace, view: View) -> Iterator[Testimony]:
    """Whether the listener on the port was closed as the RST left."""
    rst = view.rst

    def listener(moment: float) -> State | None:
        return state_at(trace, rst.sender, rst.source, None, moment)

    where = f"The {rst.sender}'s listener on port {rst.source.port}"
    before, at, after = listener(rst.sent - _LAG), listener(view.at), listener(rst.sent + _LAG)
    later = listener(rst.sent + _LONG_LAG)
    if later and later.state == "LISTEN":
        yield clears(Evidence("state", f"{where} was still open after the RST."), "listener-closed")
    elif view.trigger and at and at.state == "CLOSED":
        text = f"{where} was closed before packet {view.trigger.number} arrived."
        yield Testimony(Evidence("state", text), _EVERYTHING - {"accept-queue-overflow", "ack-to-listener"})
    elif view.trigger is None and before and before.unread and after and after.state == "CLOSED":
        waiting = "1 connection" if before.unread == 1 else f"{before.unread} connections"
        text = f"{where} was closed about as the RST left; {waiting} had just been in its accept queue."
        yield Testimony(Evidence("state", text))  # or had just been accepted
