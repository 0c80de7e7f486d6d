"""What the kernel and the programs tell of a reset: its reason, counters, socket states, calls.

Each witness gives evidence, and says which of the suspected causes it leaves possible.
"""

from collections.abc import Iterable, Iterator, Set

from .actions import Actions
from .causes import CAUSES
from .conversation import View
from .evidence import Evidence, Testimony
from .tcp import Endpoint, Flags
from .trace import Call, Reason, State, Trace

_REASON_WINDOW = 0.005  # seconds between the tracepoint and the frame on the wire, at the most
_STATES_LAG = 0.02  # seconds that a socket's state is told late, at the most

# Causes in which the sender's kernel still had a socket for the connection, and those in which it had none.
_CLOSING = frozenset({"data-after-close", "data-after-shutdown", "linger2-negative"})
_GONE = frozenset(
    {
        "no-listener",
        "fin-wait2-timed-out",
        "ack-to-listener",
        "connect-aborted",
        "unknown-connection",
        "gave-up",
        "after-normal-close",
        "listener-closed",
    }
)
_NOT_TCP = frozenset({"firewall-reject", "injected"})
_BY_CLOSE = frozenset({"unread-data", "linger-zero"})


def testimonies(trace: Trace, view: View, done: Actions, suspected: Set[str]) -> Iterator[Testimony]:
    """What each witness says, the strongest first."""
    yield from _reason(trace, view)
    yield from _counters(trace, view, suspected)
    yield from _states(trace, view, suspected)
    yield from _calls(view, done, suspected)


def reason_of(trace: Trace, view: View) -> Reason | None:
    """The kernel's own reason for the first RST, where it was recorded."""
    rst = view.rst
    found = [
        r
        for r in trace.reasons
        if (r.source, r.destination) == (rst.source, rst.destination) and abs(r.at - rst.sent) <= _REASON_WINDOW
    ]
    earlier = [r for r in found if r.at <= rst.sent]
    return max(earlier, key=lambda r: r.at) if earlier else min(found, key=lambda r: r.at, default=None)


def _reason(trace: Trace, view: View) -> Iterator[Testimony]:
    reason = reason_of(trace, view)
    if reason:
        text = f"The {view.rst.sender}'s kernel gave its reason for packet {view.rst.number}: {reason.reason}."
        admits = frozenset(key for key, cause in CAUSES.items() if reason.reason in cause.reasons)
        yield Testimony(Evidence("reason", text, packet=view.rst.number), admits or frozenset({"other"}))


def _counters(trace: Trace, view: View, suspected: Set[str]) -> Iterator[Testimony]:
    host = view.rst.sender
    if not any(c.host == host for c in trace.counters):
        return
    everything = frozenset(CAUSES)
    sent = sum(bool(p.flags & Flags.RST) and p.sender == host for p in trace.packets)
    counted = trace.counter(host, "Tcp:OutRsts")
    text = f"The {host}'s kernel counted {counted} RST sent (Tcp:OutRsts); {sent} were seen on the wire."
    if counted >= sent:
        yield Testimony(Evidence("counter", text), everything - _NOT_TCP)
    elif counted == 0:
        yield Testimony(Evidence("counter", text), _NOT_TCP)
    watched = [key for key in CAUSES if key in suspected and CAUSES[key].counters]
    moved = {key for key in watched if any(trace.counter(host, name) for name in CAUSES[key].counters)}
    for name in dict.fromkeys(name for key in watched for name in CAUSES[key].counters):
        if trace.counter(host, name):
            text = f"{name} went up by {trace.counter(host, name)} on the {host}."
            yield Testimony(Evidence("counter", text), everything)
        elif not any(name in CAUSES[key].counters for key in moved):
            silent = {key for key in watched if name in CAUSES[key].counters}
            yield Testimony(Evidence("counter", f"{name} did not move on the {host}."), everything - silent)
    senders = {p.connection for p in trace.packets if p.flags & Flags.RST and p.sender == host}
    if moved and len(senders) == 1:  # with one connection reset, what moved can only have moved for it
        names = " and ".join(dict.fromkeys(n for key in watched if key in moved for n in CAUSES[key].counters))
        text = f"It is the only connection that the {host} reset, so {names} moved for it."
        yield Testimony(Evidence("counter", text), frozenset(moved) | {"data-after-close"})


def state_at(trace: Trace, host: str, local: Endpoint, peer: Endpoint | None, at: float) -> State | None:
    """The last state of a socket that was seen by a time; for ``peer`` None, that of a listener on its port."""
    found = None
    for state in trace.states:
        same = state.local == local if peer else state.local.port == local.port
        if state.host == host and state.peer == peer and same and state.at <= at:
            found = state
    return found


def _states(trace: Trace, view: View, suspected: Set[str]) -> Iterator[Testimony]:
    rst = view.rst
    if not trace.states:
        return
    everything = frozenset(CAUSES)
    here, port = rst.sender, rst.source.port
    own = state_at(trace, here, rst.source, rst.destination, view.at)
    listener = state_at(trace, here, rst.source, None, view.at)
    listens = listener is not None and listener.state == "LISTEN"
    trigger = view.trigger
    if trigger:
        if trigger.flags & Flags.SYN and not trigger.flags & Flags.ACK:
            text = f"{'A' if listens else 'No'} socket of the {here} listened on port {port} when packet "
            text += f"{trigger.number} arrived."
            admits = everything - {"no-listener"} if listens else everything - {"firewall-reject"}
            yield Testimony(Evidence("state", text, packet=trigger.number), admits)
        elif own and own.state == "CLOSED":
            text = f"The {here}'s socket had left the kernel's tables before packet {trigger.number} arrived."
            yield Testimony(Evidence("state", text, packet=trigger.number), _GONE | _NOT_TCP)
        elif own:
            text = f"The {here}'s socket was in {own.state} when packet {trigger.number} arrived."
            admits = everything
            if own.state in ("FIN_WAIT1", "FIN_WAIT2"):
                admits = _CLOSING | _NOT_TCP
            elif own.state == "SYN_SENT":
                admits = frozenset({"unacceptable-ack"}) | _NOT_TCP
            yield Testimony(Evidence("state", text, packet=trigger.number), admits)
    elif own:
        held = [
            f"{count:,} bytes {what}"
            for count, what in ((own.unread, "unread"), (own.unsent, "unsent"), (own.unacked, "unacknowledged"))
            if count
        ]
        told = f", with {' and '.join(held)}" if held else ""
        text = f"The {here}'s socket was last seen in {own.state}{told} before the RST."
        yield Testimony(Evidence("state", text, packet=rst.number), everything)
    if "listener-closed" in suspected:
        yield from _listener_state(trace, view, listener)


def _listener_state(trace: Trace, view: View, listener: State | None) -> Iterator[Testimony]:
    """Whether the listener on the port was closed as the RST left."""
    rst = view.rst
    everything = frozenset(CAUSES)
    after = state_at(trace, rst.sender, rst.source, None, rst.sent + _STATES_LAG)
    before = state_at(trace, rst.sender, rst.source, None, rst.sent - _STATES_LAG)
    where = f"the {rst.sender}'s listener on port {rst.source.port}"
    if after and after.state == "LISTEN":
        text = f"{where[0].upper()}{where[1:]} was still open after the RST."
        yield Testimony(Evidence("state", text), everything - {"listener-closed"})
    elif view.trigger and listener and listener.state == "CLOSED":
        text = f"{where[0].upper()}{where[1:]} was closed before packet {view.trigger.number} arrived."
        yield Testimony(Evidence("state", text), everything - {"accept-queue-overflow", "ack-to-listener"})
    elif view.trigger is None and before and before.state == "LISTEN" and before.unread:
        waiting = "1 connection" if before.unread == 1 else f"{before.unread} connections"
        text = f"{where[0].upper()}{where[1:]} was closed as the RST left, with {waiting} in its accept queue."
        yield Testimony(Evidence("state", text), everything - {"disconnect", "socket-killed"})


def _calls(view: View, done: Actions, suspected: Set[str]) -> Iterator[Testimony]:
    here = view.rst.sender
    everything = frozenset(CAUSES)
    if done.ended and done.program:
        how = f"was ended by {done.program.signal}" if done.program.signal else "had ended"
        text = f"The {here}'s program {how} {view.at - (done.program.ended or 0):.3f} s before."
        yield Testimony(Evidence("call", text), everything - {"data-after-shutdown", "keepalive-timeout"})
    if not done.recorded:
        return
    if done.failed and (done.failed.ended or done.failed.began) >= view.rst.sent and view.trigger is None:
        admits = everything
        if done.failed.errno == "ECONNABORTED":
            admits = frozenset({"socket-killed"})
        elif done.failed.errno == "ETIMEDOUT":
            admits = frozenset({"keepalive-timeout"})
        text = f"The {here}'s own {done.failed.name} then failed with {done.failed.errno}."
        yield _by_call(text, done.failed, admits)
    elif done.failed and done.failed.errno == "ETIMEDOUT" and view.trigger and view.is_answer:
        text = f"The {here}'s {done.failed.name} had failed with ETIMEDOUT."
        yield _by_call(text, done.failed, frozenset({"gave-up", "connect-aborted"}))
    yield from _calls_of_abort(view, done) if view.trigger is None else _calls_before_answer(view, done, suspected)


def _calls_of_abort(view: View, done: Actions) -> Iterator[Testimony]:
    """What the calls tell where the RST answers no packet."""
    here = view.rst.sender
    everything = frozenset(CAUSES)
    if done.accepted is False:
        text = f"The {here} had not accepted the connection."
        if done.listener_close:
            text += " Its listener was closed as the RST left."
            yield _by_call(text, done.listener_close, frozenset({"listener-closed"}))
        else:
            yield Testimony(Evidence("call", text), frozenset({"listener-closed", "socket-killed"}))
        return
    if not done.known and not done.accepted:
        return
    if done.accepted:
        yield Testimony(Evidence("call", f"The {here} had accepted the connection."), everything - {"listener-closed"})
    if not done.closing and not done.ending:
        text = f"The {here}'s program neither closed the socket nor ended when the RST left."
        yield Testimony(Evidence("call", text), everything - _BY_CLOSE)
        return
    what, number = "the end of the process", None
    if done.close and done.closing:
        what, number = f"{'an implicit ' if done.close.implicit else ''}close()", done.close.number
    yield Testimony(
        Evidence("call", f"The RST left during {what} on the {here}.", view.rst.number, number),
        everything - {"disconnect", "socket-killed", "keepalive-timeout"},
    )
    unread = view.received_bytes - done.read
    text = f"Of {view.received_bytes:,} bytes that had arrived, the {here}'s program had read {done.read:,}."
    yield Testimony(Evidence("call", text), everything - ({"linger-zero"} if unread > 0 else {"unread-data"}))
    if done.linger_zero:
        yield _by_call(f"The {here} had set SO_LINGER on, 0 s.", done.linger_zero, everything)
    else:
        text = f"The {here} had not set SO_LINGER on, 0 s."
        yield Testimony(Evidence("call", text), everything - {"linger-zero"})
    if done.linger2:
        yield _by_call(f"The {here} had set TCP_LINGER2 below 0.", done.linger2, everything)
    else:
        yield Testimony(
            Evidence("call", f"The {here} had not set TCP_LINGER2 below 0."), everything - {"linger2-negative"}
        )


def _calls_before_answer(view: View, done: Actions, suspected: Set[str]) -> Iterator[Testimony]:
    """What the calls tell where the RST answers a packet."""
    here, trigger = view.rst.sender, view.trigger
    assert trigger is not None
    everything = frozenset(CAUSES)
    if done.close and done.close.began <= view.at:
        text = (
            f"The {here} had called close() {view.at - done.close.began:.3f} s before packet {trigger.number} arrived."
        )
        if done.close.implicit:
            text = text.replace("called close()", "closed the socket (by letting go of it)")
        yield _by_call(text, done.close, everything - {"data-after-shutdown"})
    elif done.shutdown and not done.ended:
        text = f"The {here} had called shutdown(SHUT_RDWR), and had not closed the socket."
        yield _by_call(text, done.shutdown, everything - {"data-after-close", "fin-wait2-timed-out"})
    if done.linger2:
        yield _by_call(f"The {here} had set TCP_LINGER2 below 0.", done.linger2, everything)
    elif done.known and "linger2-negative" in suspected:
        text = f"The {here} had not set TCP_LINGER2 below 0."
        yield Testimony(Evidence("call", text), everything - {"linger2-negative"})
    if "connect-aborted" in suspected and done.connect and done.connect.errno:
        text = f"The {here}'s connect had ended with {done.connect.errno}."
        yield _by_call(text, done.connect, everything)


def _by_call(text: str, call: Call, admits: Iterable[str]) -> Testimony:
    return Testimony(Evidence("call", text, call=call.number), frozenset(admits))
