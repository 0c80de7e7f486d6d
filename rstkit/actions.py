"""What the program that a RST came from had done with the connection, and what that tells.

Little of it is known of a program whose calls were not recorded (a command).
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from .causes import CAUSES
from .evidence import Evidence, Testimony, clears
from .trace import Call, Program, Trace
from .view import View

_ENDING = 1.0  # seconds between a RST sent as a process ends and the end as the lab sees it, at the most
_SLACK = 0.05  # seconds between a RST that leaves the kernel and the time that the wire gives it, at the most
_BY_CLOSE = frozenset({"unread-data", "linger-zero", "hurried-close", "after-normal-close"})
_NOT_BY_CLOSE = frozenset(
    {
        "disconnect",
        "socket-killed",
        "keepalive-timeout",
        "retransmission-timeout",
        "hurried-close",
        "after-normal-close",
    }
)
# What the kernel tells a program whose connection it aborted itself, and the causes it does so for.
_ABORTED_BY = {"ECONNABORTED": frozenset({"socket-killed"}), "ETIMEDOUT": frozenset({"keepalive-timeout"})}


@dataclass(frozen=True, slots=True)
class Actions:
    """The calls of a RST's sender on the connection's socket, up to what provoked the RST.

    ``recorded`` tells whether calls were recorded, ``absent`` that no program ran on the host at all.
    ``close`` is the last close() of the socket, ``closing`` whether the RST left during it;
    ``listener_close`` likewise closed the listener while the RST left. ``shutdown`` is a
    shutdown(SHUT_RDWR), ``linger_zero`` and ``linger2`` the setsockopt calls that matter, ``failed``
    the call that was told the connection's end. ``ended`` is the program, where it had ended by then,
    ``ending`` whether the RST left as it ended. ``accepted`` tells whether the connection was
    accepted (None: not known, or not a listener's). ``unread`` and ``unsent`` are the bytes that lay in
    the socket's queues as it was closed; None where that is not known.
    """

    recorded: bool
    program: Program | None = None
    absent: bool = False
    known: bool = False
    close: Call | None = None
    closing: bool = False
    listener_close: Call | None = None
    shutdown: Call | None = None
    linger_zero: Call | None = None
    linger2: Call | None = None
    failed: Call | None = None
    connect: Call | None = None
    ended: bool = False
    ending: bool = False
    accepted: bool | None = None
    unread: int | None = None
    unsent: int | None = None


def actions(trace: Trace, view: View) -> Actions:
    """What the program of the host that sent a RST had done."""
    rst, at = view.rst, view.at
    program = trace.program(rst.sender)
    ended = program is not None and program.ended is not None and program.ended < at
    ending = _ends_with(program, rst.sent, trace)
    if program is None or not program.recorded:
        absent = program is None and bool(trace.programs)
        return Actions(False, program, absent, ended=ended, ending=ending)
    here = [c for c in trace.calls if c.host == rst.sender and c.began <= rst.sent]
    sockets = _sockets(here, view)
    own = [c for c in here if (c.process, c.socket) in sockets]
    inherited = [c for c in here if c.name == "accept" and c.result == str(rst.destination)]
    listeners = {
        (c.process, c.socket) for c in here if c.name == "listen" and c.local and c.local.port == rst.source.port
    }
    accepting = {(c.process, c.socket) for c in inherited}
    options = [c for c in here if c.name == "setsockopt" and (c.process, c.socket) in sockets | accepting]
    close = _last(c for c in own if c.name == "close")
    listener_close = _last(c for c in here if c.name == "close" and (c.process, c.socket) in listeners)
    linger = _last(c for c in options if "SO_LINGER" in c.arguments and (close is None or c.began <= close.began))
    linger2 = _last(c for c in options if "TCP_LINGER2" in c.arguments)
    read = sum(c.size or 0 for c in own if c.name.startswith("recv") and "MSG_PEEK" not in c.arguments)
    later = [c for c in trace.calls if c.host == rst.sender and (c.process, c.socket) in sockets]
    return Actions(
        recorded=True,
        program=program,
        known=bool(own or inherited),
        close=close,
        closing=close is not None and (view.fin is None or _during(close, rst.sent)),
        listener_close=listener_close if _during(listener_close, rst.sent) else None,
        shutdown=_last(c for c in own if c.name == "shutdown" and c.arguments == "SHUT_RDWR" and c.began <= at),
        linger_zero=linger if linger and linger.arguments.endswith("on, 0 s") else None,
        linger2=linger2 if linger2 and linger2.arguments.rpartition(" ")[2].startswith("-") else None,
        failed=next((c for c in later if c.errno in _ABORTED_BY), None),
        connect=_last(c for c in here if c.name.startswith("connect") and c.arguments == str(rst.destination)),
        ended=ended,
        ending=ending,
        accepted=bool(inherited or own) if view.syn_ack else None,
        unread=_unread(close, view.received_bytes - read) if own or inherited else None,
        unsent=close.unsent if close else None,
    )


def _unread(close: Call | None, left: int) -> int | None:
    """The unread bytes as a socket was closed; ``left`` of those that reached the host were not read by a call.

    What close() found may not be all: some may have come while it was at work.
    """
    if close is None or close.unread is None:
        return max(left, 0)
    return None if close.unread == 0 < left else close.unread


def _sockets(calls: Iterable[Call], view: View) -> set[tuple[int, int]]:
    """The process and the number of the connection's socket, among the calls of its host.

    Addresses and ports may have been used before: the socket that was used last counts.
    """
    rst = view.rst
    found = []
    for call in calls:
        ends = call.local == rst.source and call.peer == rst.destination
        connecting = call.name.startswith("connect") and call.arguments == str(rst.destination)
        if ends or (connecting and (call.local is None or call.local.port in (0, rst.source.port))):
            found.append((call.process, call.socket))
    return set(found[-1:])


def _last(calls: Iterable[Call]) -> Call | None:
    return max(calls, key=lambda call: call.number, default=None)


def _ends_with(program: Program | None, at: float, trace: Trace) -> bool:
    """Whether a RST may have left as the program's process ended: no call came after it, and soon the end."""
    if program is None or program.ended is None or not -_SLACK < program.ended - at < _ENDING:
        return False
    return not any(c.host == program.host and (c.ended is None or c.ended > at) for c in trace.calls)


def _during(call: Call | None, at: float) -> bool:
    """Whether a RST that the wire saw at a time may have left the kernel during a call."""
    return call is not None and (call.ended is None or call.ended + _SLACK >= at)


def ask_program(view: View, done: Actions, suspected: Set[str]) -> Iterator[Testimony]:
    """What the calls of the RST's sender tell, and the end of its process."""
    here = view.rst.sender
    if done.absent:
        yield clears(Evidence("call", f"No program ran on the {here}."), "ack-to-listener", "accept-queue-overflow")
    if done.ended and done.program and not (done.close and view.trigger):
        how = f"was ended by {done.program.signal}" if done.program.signal else "had ended"
        text = f"The {here}'s program {how} {view.at - (done.program.ended or 0):.3f} s before."
        yield clears(Evidence("call", text), "data-after-shutdown", "keepalive-timeout")
    if not done.recorded:
        return
    yield from _end_told(view, done)
    yield from _calls_of_abort(view, done, suspected) if view.trigger is None else _calls_before_answer(view, done)


def _end_told(view: View, done: Actions) -> Iterator[Testimony]:
    """How the kernel told the RST's sender itself that the connection was over."""
    call, here = done.failed, view.rst.sender
    if call is None:
        return
    before = (call.ended or call.began) < view.at
    if view.trigger is None and not before and call.errno in _ABORTED_BY:
        text = f"The {here}'s own {call.name} then failed with {call.errno}."
        yield _by_call(text, call, _ABORTED_BY[call.errno])
    elif view.trigger and before and call.errno == "ETIMEDOUT":
        yield _by_call(f"The {here}'s {call.name} had failed with ETIMEDOUT.", call, {"gave-up", "connect-aborted"})


def _calls_of_abort(view: View, done: Actions, suspected: Set[str]) -> Iterator[Testimony]:
    """What the calls tell where the RST answers no packet."""
    here = view.rst.sender
    if done.accepted is False:
        text = f"The {here} had not accepted the connection."
        if done.listener_close:
            text += " Its listener was closed as the RST left."
            yield _by_call(text, done.listener_close, {"listener-closed"})
        elif done.ending:
            text += " Its process ended, and with it the listener, as the RST left."
            yield Testimony(Evidence("call", text), frozenset({"listener-closed"}))
        else:
            yield Testimony(Evidence("call", text), frozenset({"listener-closed", "socket-killed"}))
        return
    if not done.known and not done.accepted:
        return
    if done.accepted:
        yield clears(Evidence("call", f"The {here} had accepted the connection."), "listener-closed")
    if not done.closing and not done.ending:
        text = f"The {here}'s program neither closed the socket nor ended as the RST left."
        yield Testimony(Evidence("call", text), frozenset(CAUSES) - _BY_CLOSE)
        return
    what, number = "the end of the process", None
    if done.close and done.closing:
        what, number = f"{'an implicit ' if done.close.implicit else ''}close()", done.close.number
    yield Testimony(
        Evidence("call", f"The RST left during {what} on the {here}.", view.rst.number, number),
        frozenset(CAUSES) - _NOT_BY_CLOSE,
    )
    if "unread-data" in suspected and done.unread is not None:
        text = f"{done.unread:,} of the bytes that had arrived were unread as the {here}'s socket was closed."
        yield Testimony(
            Evidence("call", text, call=number), frozenset(CAUSES) - {"linger-zero" if done.unread else "unread-data"}
        )
    if done.linger_zero:
        yield _by_call(f"The {here} had set SO_LINGER on, 0 s.", done.linger_zero)
    else:
        yield clears(Evidence("call", f"The {here} had not set SO_LINGER on, 0 s."), "linger-zero")
    yield from _linger2(view, done)


def _calls_before_answer(view: View, done: Actions) -> Iterator[Testimony]:
    """What the calls tell where the RST answers a packet."""
    here, trigger, close = view.rst.sender, view.trigger, done.close
    assert trigger is not None
    if close and close.began <= view.at:
        how = "closed the socket (by letting go of it)" if close.implicit else "called close()"
        text = f"The {here} had {how} {view.at - close.began:.3f} s before packet {trigger.number} arrived."
        yield _by_call(text, close, frozenset(CAUSES) - {"data-after-shutdown"})
    elif done.shutdown and not done.ended and not done.ending:
        text = f"The {here} had called shutdown(SHUT_RDWR), and had not closed the socket."
        yield _by_call(text, done.shutdown, frozenset(CAUSES) - {"data-after-close", "fin-wait2-timed-out"})
    if done.known and not done.shutdown:
        yield clears(Evidence("call", f"The {here} had not called shutdown(SHUT_RDWR)."), "data-after-shutdown")
    yield from _linger2(view, done)
    if done.connect and done.connect.errno and view.syn:
        yield _by_call(f"The {here}'s connect had ended with {done.connect.errno}.", done.connect)
    if done.connect:
        yield clears(Evidence("call", f"The {here} had called connect()."), "half-open-scan")


def _linger2(view: View, done: Actions) -> Iterator[Testimony]:
    here = view.rst.sender
    closed = bool(done.close and done.close.began <= view.at) or done.ended or done.ending
    if done.linger2 and closed:  # the kernel looks at it as the FIN is acknowledged, before it looks at data
        now = view.trigger is not None and view.trigger is view.fin_acked
        admits = frozenset({"linger2-negative"}) if now else None
        yield _by_call(f"The {here} had set TCP_LINGER2 below 0.", done.linger2, admits)
    elif done.linger2 and view.trigger:
        text = f"The {here} had set TCP_LINGER2 below 0, but not closed the socket."
        yield Testimony(Evidence("call", text, call=done.linger2.number), frozenset(CAUSES) - {"linger2-negative"})
    elif done.known:
        yield clears(Evidence("call", f"The {here} had not set TCP_LINGER2 below 0."), "linger2-negative")


def _by_call(text: str, call: Call, admits: Set[str] | None = None) -> Testimony:
    return Testimony(Evidence("call", text, call=call.number), None if admits is None else frozenset(admits))
