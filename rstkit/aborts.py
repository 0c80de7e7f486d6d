"""Which causes a RST with ACK flag admits that answers no segment: an end aborted of itself, or a timer did."""

import itertools
from collections.abc import Sequence

from .view import View, arrival, is_syn

_SHORTEST_TIMEOUT = 1.0  # seconds; tcp_fin_timeout and TCP_LINGER2 are set in whole seconds
_SHORTEST_INTERVAL = 0.9  # seconds; TCP_KEEPINTVL is set in whole seconds, and timers are not exact
_IDLE = 30.0  # seconds; devices on the way end idle connections, seldom sooner
_ABORTS = ("linger-zero", "disconnect", "socket-killed")
ONE_READ = 1460  # bytes that a program reads at once
_MANY = 4  # sendings of one segment after which a timer may have had enough


def abort(view: View) -> tuple[tuple[str, ...], bool]:
    """The keys of the causes, the likeliest first, and whether the first is far likelier than the others."""
    if _refuses(view):
        keys = ["no-listener", "firewall-reject", *(["injected"] if view.sent else [])]
        if view.captured and not view.sent and view.rst.seq:  # the rest of a connection may not have been captured
            keys += ["unread-data", "listener-closed", *_ABORTS]
        return tuple(keys), True
    keys = list(_ABORTS)
    if view.may_have_received:
        keys.insert(1 if _had_its_say(view) else 0, "unread-data")
    asked = view.syn_ack or (view.peer_syn and is_syn(view.peer_syn))  # the other end opened the connection
    if (asked or not view.began) and not view.answered and not view.fin:
        keys.insert(2 if "unread-data" in keys else 1, "listener-closed")
    if view.fin or _may_have_closed(view):
        keys += _after_fin(view)
    clear = "unread-data" not in keys and "listener-closed" not in keys
    if _all_is_said(view):
        keys.insert(0, "after-normal-close" if view.fin else "hurried-close")
        clear = True
    if view.late_data and view.captured:
        keys.insert(0, "data-after-close")
        clear = False
    if len(view.repeats) >= _MANY:
        keys.insert(0 if _is_due(view) else 1, "retransmission-timeout")
        clear = False
    if view.probes:
        keys.insert(0, "keepalive-timeout")
        clear = _is_regular([*(p.sent for p in view.probes), view.rst.sent]) and not view.one_sided
    elif (
        view.captured
        and len(view.last_probes) > 1
        and _is_regular([*(p.sent for p in view.last_probes), view.rst.sent])
    ):
        keys.insert(0, "keepalive-timeout")  # the answers were captured, but may have been lost after that
        clear = False
    elif view.captured and view.last_probes and view.rst.sent - view.last_probes[-1].sent >= _SHORTEST_INTERVAL:
        keys.append("keepalive-timeout")  # others of the probes may not have been captured
    if view.idle >= _IDLE:
        keys.append("injected")
    return tuple(keys), clear


def _refuses(view: View) -> bool:
    """Whether it refuses a SYN, captured or not: with seq 0, or with another where a system is free with it."""
    if view.sent:
        return view.rst.seq == 0 != view.next_to_send
    return view.rst.seq == 0 or (bool(view.received) and all(is_syn(p) for p in view.received))


def _had_its_say(view: View) -> bool:
    """Whether this end sent data after all that it had received, which is not acknowledged yet, and had read it all.

    What fits into one segment a program reads at once, as a rule; of more that it is sent it may leave some.
    """
    given = max((p.sent for p in view.sent if p.length), default=float("-inf"))
    taken = max((arrival(p)[0] for p in view.before if p.length), default=float("-inf"))
    asked = sum(p.length for p in view.conversation if p.source != view.rst.source)
    return given > taken and view.unacknowledged > 0 and asked <= ONE_READ


def _may_have_closed(view: View) -> bool:
    """Whether this end may have sent a FIN that was not captured: before the capture began, or as its last number."""
    early = not view.began and not view.answered
    return early or (view.captured and bool(view.sent) and view.rst.seq == (view.next_to_send + 1) % 2**32)


def _after_fin(view: View) -> list[str]:
    """What else is possible where this end had sent its FIN."""
    keys = ["orphan-memory", "data-after-close"]  # some systems set ACK where they answer data, too
    if view.fin_acked or view.one_sided or not view.fin:
        keys += ["linger2-negative"]
        late = not view.fin_acked or view.at - arrival(view.fin_acked)[0] >= _SHORTEST_TIMEOUT
        keys += ["fin-wait2-timed-out"] if late else []
    return keys


def _all_is_said(view: View) -> bool:
    """Whether the other end had closed, and all that either had sent had arrived, when this one aborted."""
    fin = view.peer_fin
    if fin is None or view.unacknowledged or (fin.next_seq - view.rst.ack) % 2**32 > 1:  # some do not count the FIN
        return False
    return bool(view.syn) or any(p.length and p.sent < arrival(fin)[0] for p in view.sent)


def _is_due(view: View) -> bool:
    """Whether the RST came when the segment was due to be sent again: the intervals double (RFC 6298, 5.5)."""
    *_, before, last = (p.sent for p in view.repeats)
    return view.rst.sent - last >= 0.9 * (last - before) * (2 if last - before < _IDLE else 1)


def _is_regular(times: Sequence[float]) -> bool:
    """Whether moments follow each other at one interval, as a timer's do."""
    gaps = [b - a for a, b in itertools.pairwise(times)]
    return len(gaps) > 1 and max(gaps) - min(gaps) <= 0.1 * max(gaps) + 0.05
