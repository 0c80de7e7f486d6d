"""Which causes the packets of a connection admit, the likeliest first.

A RST without ACK flag answers a segment; one with ACK flag either refuses a SYN or is sent by an
end that aborts (RFC 9293, 3.5.2; tcp_v4_send_reset and tcp_send_active_reset). What the packets
cannot rule out stays among the suspects.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from .conversation import View, arrival, is_syn_ack
from .tcp import Flags, after
from .trace import Packet

FIN_TIMEOUT = 60.0  # seconds; the default of tcp_fin_timeout
_SHORTEST_TIMEOUT = 1.0  # seconds; both it and TCP_LINGER2 are set in whole seconds
_IDLE = 30.0  # seconds; devices on the way forget idle connections, seldom sooner
_ABORTS = ("linger-zero", "disconnect", "socket-killed")


@dataclass(frozen=True, slots=True)
class Suspects:
    """Keys of causes, the likeliest first; ``clear`` where the first is far likelier than the others."""

    keys: tuple[str, ...]
    clear: bool


def suspects(view: View, packets: Sequence[Packet]) -> Suspects:
    """The causes that are possible by the packets; ``packets`` are those of the whole trace."""
    forged = _forged(view)
    if forged:
        rest = _by_form(view, packets)
        return Suspects(("injected", "firewall-reject", *rest.keys), clear=True)
    return _by_form(view, packets)


def _by_form(view: View, packets: Sequence[Packet]) -> Suspects:
    trigger = view.trigger
    if trigger and trigger.flags & Flags.SYN:
        return _answer_to_syn_ack(view) if is_syn_ack(trigger) else Suspects(("no-listener", "firewall-reject"), True)
    if not view.is_answer:
        return _abort(view)
    if view.syn and not any(is_syn_ack(p) for p in view.before):
        return Suspects(("unacceptable-ack", "unknown-connection"), clear=True)
    if view.syn_ack and not view.fin and not any(p.flags & Flags.ACK and not is_syn_ack(p) for p in view.sent):
        return _handshake(view, packets)
    return _answer_after_fin(view) if view.fin else _answer_without_fin(view)


def _forged(view: View) -> bool:
    """Whether the RST does not fit the end that it names: another TTL, or that end goes on sending."""
    hops = {p.ttl for p in view.sent}
    return (len(hops) == 1 and view.rst.ttl not in hops) or (not view.is_answer and view.goes_on is not None)


def _answer_to_syn_ack(view: View) -> Suspects:
    trigger = view.trigger
    assert trigger is not None
    if view.syn is None:
        return Suspects(("unknown-connection",), clear=True)
    if after(view.syn.next_seq - view.syn.length, trigger.ack) or after(trigger.ack, view.syn.next_seq):
        return Suspects(("unacceptable-ack", "connect-aborted"), clear=True)
    if any(p.flags & Flags.ACK for p in view.sent):  # the handshake was over: this is a SYN ACK sent again
        return _answer_after_fin(view) if view.fin else _answer_without_fin(view)
    return Suspects(("connect-aborted",), clear=True)


def _handshake(view: View, packets: Sequence[Packet]) -> Suspects:
    """A RST from an end that has shown nothing but its SYN ACK."""
    syn_ack, trigger, rst = view.syn_ack, view.trigger, view.rst
    assert syn_ack is not None
    if trigger and trigger.ack != syn_ack.next_seq:
        return Suspects(("ack-to-listener", "unknown-connection"), clear=True)
    first = not any(p.flags & Flags.ACK for p in view.before)
    keys = ["accept-queue-overflow", "listener-closed"] if first else ["listener-closed", "unknown-connection"]
    port = [p for p in packets if p.source == rst.source and p.number > rst.number]
    if any(is_syn_ack(p) for p in port):  # the port still listens
        keys.remove("listener-closed")
    elif any(p.flags & Flags.RST and p.seq == 0 and p.flags & Flags.ACK for p in port):  # it no longer does
        keys = [key for key in keys if key != "accept-queue-overflow"]
    if view.at - syn_ack.sent >= _SHORTEST_TIMEOUT:  # a request expires, and with it what the kernel knew
        keys.append("ack-to-listener")
    return Suspects(tuple(keys or ["unknown-connection"]), clear=len(keys) < 2)


def _answer_after_fin(view: View) -> Suspects:
    """A RST in answer to a segment, from an end that had sent its FIN."""
    trigger, fin, fin_acked = view.trigger, view.fin, view.fin_acked
    assert fin is not None
    if trigger is None:
        return Suspects(("data-after-close", "data-after-shutdown", "fin-wait2-timed-out", "after-normal-close"), False)
    if view.peer_fin and not _is_new(view, trigger):
        return Suspects(("after-normal-close",), clear=True)
    first_ack = fin_acked is None or fin_acked is trigger
    waited = view.waited
    gone = ["gave-up"] if first_ack and _sent_again(view, fin) else []
    if _is_new(view, trigger):
        keys = ["data-after-close", "data-after-shutdown", *gone]
        keys += ["linger2-negative"] if fin_acked is trigger else []
        if waited >= _SHORTEST_TIMEOUT:
            keys.insert(0 if waited >= FIN_TIMEOUT else 2, "fin-wait2-timed-out")
        return Suspects(tuple(keys), clear=not gone)
    if first_ack:
        return Suspects((*gone, "linger2-negative", "unknown-connection"), clear=not gone)
    if waited < _SHORTEST_TIMEOUT:
        return Suspects(("unknown-connection", "fin-wait2-timed-out"), clear=False)
    return Suspects(("fin-wait2-timed-out", "unknown-connection"), clear=True)


def _answer_without_fin(view: View) -> Suspects:
    """A RST in answer to a segment, from an end that was not seen to close."""
    trigger = view.trigger
    if not view.sent:
        return Suspects(("unknown-connection", "ack-to-listener", "injected"), clear=False)
    lost = [p for p in view.sent if p.length or p.flags & Flags.FIN]
    given_up = bool(view.probes or (view.unacknowledged and lost and _sent_again(view, lost[-1])))
    keys = ["gave-up", "unknown-connection"] if given_up else ["unknown-connection"]
    clear = not given_up
    if trigger and lost and _is_new(view, trigger):  # the FIN may wait behind data that is not sent yet
        where = given_up if view.may_hold_back else len(keys)
        keys[where:where] = ["data-after-close", "data-after-shutdown"]
        clear = clear and not view.may_hold_back
    if view.at - max(p.sent for p in view.sent) >= _IDLE:
        keys.append("injected")
    return Suspects(tuple(keys), clear)


def _abort(view: View) -> Suspects:
    """A RST that answers nothing: the end that sent it aborts."""
    rst, probes = view.rst, view.probes
    if not view.sent and view.received and all(p.flags & Flags.SYN for p in view.received):
        return Suspects(("no-listener", "firewall-reject"), clear=True)  # by a system that sends another seq
    answered = any(p.length for p in view.sent)
    keys = list(_ABORTS)
    if view.received_bytes > 0:
        given = max((p.sent for p in view.sent if p.length), default=float("-inf"))
        taken = max((arrival(p)[0] for p in view.before if p.length), default=float("-inf"))
        keys.insert(1 if given > taken and view.unacknowledged else 0, "unread-data")
    if view.syn_ack and not answered and not view.fin:
        keys.insert(2 if "unread-data" in keys else 1, "listener-closed")
    if view.fin:
        keys += ["orphan-memory"]
        if view.fin_acked:
            keys += ["linger2-negative"]
            keys += ["fin-wait2-timed-out"] if view.at - arrival(view.fin_acked)[0] >= _SHORTEST_TIMEOUT else []
    clear = "unread-data" not in keys and "listener-closed" not in keys
    if probes:
        keys.insert(0, "keepalive-timeout")
        clear = _is_regular([*(p.sent for p in probes), rst.sent])
    return Suspects(tuple(keys), clear)


def _is_new(view: View, packet: Packet) -> bool:
    """Whether a segment tells of data that this end had not acknowledged yet: by bytes, or a FIN behind them."""
    expected = view.next_to_receive
    end = (packet.seq + packet.length) % 2**32
    return bool(packet.length or packet.flags & Flags.FIN) and (expected is None or after(end, expected))


def _sent_again(view: View, packet: Packet) -> bool:
    return sum((p.seq, p.next_seq) == (packet.seq, packet.next_seq) for p in view.sent) > 1


def _is_regular(times: Sequence[float]) -> bool:
    """Whether moments follow each other at one interval, as a timer's do."""
    gaps = [b - a for a, b in itertools.pairwise(times)]
    return len(gaps) > 1 and max(gaps) - min(gaps) <= 0.1 * max(gaps) + 0.05
