"""What the program at one end of a connection did with it: the calls that bear on a RST.

All of it is empty for a program whose calls were not recorded (a command).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .conversation import View
from .trace import Call, Program, Trace

_SLACK = 0.05  # seconds between a RST that leaves the kernel and the time that the wire gives it, at the most
_FAILURES = frozenset({"ECONNABORTED", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH"})


@dataclass(frozen=True, slots=True)
class Actions:
    """The calls of a RST's sender on the connection's socket, up to what provoked the RST.

    ``close`` is the last close() of the socket, ``closing`` whether the RST left during it;
    ``listener_close`` likewise closed the listener while the RST left. ``shutdown`` is a
    shutdown(SHUT_RDWR), ``linger_zero`` and ``linger2`` the setsockopt calls that matter, ``failed``
    the call that was told the connection's end. ``ended`` is the program, where it had ended by then,
    ``ending`` whether the RST left as it ended. ``accepted`` tells whether the connection was
    accepted (None: not known, or not a listener's), ``read`` how many bytes were read.
    """

    recorded: bool
    program: Program | None = None
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
    read: int = 0


def actions(trace: Trace, view: View) -> Actions:
    """What the program of the host that sent a RST had done."""
    rst, at = view.rst, view.at
    program = trace.program(rst.sender)
    ended = program is not None and program.ended is not None and program.ended < at
    ending = program is not None and program.ended is not None and abs(program.ended - rst.sent) < _SLACK
    if program is None or not program.recorded:
        return Actions(False, program, ended=ended, ending=ending)
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
    later = [c for c in trace.calls if c.host == rst.sender and (c.process, c.socket) in sockets]
    return Actions(
        recorded=True,
        program=program,
        known=bool(own),
        close=close,
        closing=_during(close, rst.sent),
        listener_close=listener_close if _during(listener_close, rst.sent) else None,
        shutdown=_last(c for c in own if c.name == "shutdown" and c.arguments == "SHUT_RDWR" and c.began <= at),
        linger_zero=linger if linger and linger.arguments.endswith("on, 0 s") else None,
        linger2=linger2 if linger2 and linger2.arguments.rpartition(" ")[2].startswith("-") else None,
        failed=next((c for c in later if c.errno in _FAILURES), None),
        connect=_last(c for c in here if c.name.startswith("connect") and c.arguments == str(rst.destination)),
        ended=ended,
        ending=ending,
        accepted=bool(inherited or own) if view.syn_ack else None,
        read=sum(c.size or 0 for c in own if c.name.startswith("recv") and "MSG_PEEK" not in c.arguments),
    )


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


def _during(call: Call | None, at: float) -> bool:
    """Whether a RST that the wire saw at a time may have left the kernel during a call."""
    return call is not None and (call.ended is None or call.ended + _SLACK >= at)
