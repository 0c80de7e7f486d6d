"""Which causes the packets of a connection admit, the likeliest first.

A RST without ACK flag answers a segment; one with ACK flag either refuses a SYN or is sent by an
end that aborts (RFC 9293, 3.5.2; tcp_v4_send_reset and tcp_send_active_reset). What the packets
cannot rule out stays among the suspects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .aborts import abort
from .missing import is_incomplete, lacks_sent
from .signs import Sign, is_made_by_hand, signs
from .tcp import Flags, after
from .trace import Packet
from .view import DISORDER, View, is_syn, is_syn_ack, latest

FIN_TIMEOUT = 60.0  # seconds; the default of tcp_fin_timeout
SHORTEST_TIMEOUT = 1.0  # seconds; both it and TCP_LINGER2 are set in whole seconds
IDLE = 30.0  # seconds; devices on the way forget idle connections, seldom sooner
_AT_ONCE = 1.0  # seconds within which a scanner's kernel answers, on the longest of usual ways
_CLOSINGS = ("data-after-close", "data-after-shutdown", "fin-wait2-timed-out", "after-normal-close")
_UNBEGUN = ("ack-to-listener", "connect-aborted", "half-open-scan", "accept-queue-overflow", "listener-closed")

Keys = tuple[tuple[str, ...], bool]


@dataclass(frozen=True, slots=True)
class Suspects:
    """Keys of causes, the likeliest first; ``clear`` where the first is far likelier than the others.

    ``signs`` speak against the RST being the own one of the end that it names.
    """

    keys: tuple[str, ...]
    clear: bool
    signs: tuple[Sign, ...] = ()


def suspects(view: View, packets: Sequence[Packet]) -> Suspects:
    """The causes that are possible by the packets; ``packets`` are those of the whole trace."""
    keys, clear = _by_form(view, packets)
    found = signs(view)
    foreign: tuple[str, ...] = ("injected", "firewall-reject")
    if any(sign.strong for sign in found):
        if view.trigger and view.idle >= IDLE:
            foreign = ("state-lost", *foreign)
        return Suspects(tuple(dict.fromkeys((*foreign, *keys))), True, found)
    if len(found) > 1 and not view.trigger:  # each may be chance, but not all of them
        return Suspects(tuple(dict.fromkeys((*foreign, *keys))), False, found)
    if found and "injected" not in keys:
        keys = (*keys, "injected")
    return Suspects(tuple(dict.fromkeys(keys)), clear, found)


def _by_form(view: View, packets: Sequence[Packet]) -> Keys:
    trigger = view.trigger
    if trigger and trigger.flags & Flags.SYN:
        return _answer_to_syn_ack(view) if is_syn_ack(trigger) else _answer_to_syn(view)
    if not view.is_answer:
        return abort(view)
    if not view.sent and view.rst.seq == 0 and view.before and all(is_syn(p) for p in view.before):
        return ("firewall-reject", "injected"), True  # TCP refuses a SYN with the ACK flag set
    plain = any(p.flags & Flags.ACK and not is_syn_ack(p) for p in view.sent)
    if view.syn and not plain and not any(is_syn_ack(p) for p in view.before):
        return _answer_while_connecting(view)
    if view.syn_ack and not view.fin and not plain:
        return _handshake(view, packets)
    if trigger is None:
        return _answer_to_nothing(view)
    if view.reset_before and view.captured:  # it may have been forged: of the other end, nothing would have come then
        keys, _ = _answer_after_fin(view, trigger) if view.fin else _answer_without_fin(view, trigger)
        return ("unknown-connection", *keys), True
    return _answer_after_fin(view, trigger) if view.fin else _answer_without_fin(view, trigger)


def _answer_to_syn(view: View) -> Keys:
    if _waits_for_fin(view):
        return ("syn-to-orphan", "no-listener", "firewall-reject"), True
    if view.syn_ack:  # this end had accepted the SYN, which came again
        return ("no-listener", "listener-closed", "firewall-reject"), True
    return ("no-listener", "firewall-reject"), True


def _waits_for_fin(view: View) -> bool:
    """Whether this end may wait in FIN_WAIT2 for the FIN of an earlier connection, into whose window the SYN falls."""
    own, trigger = view.rst.source, view.trigger
    fin = next((p for p in view.earlier if p.source == own and p.flags & Flags.FIN), None)
    if fin is None or trigger is None or trigger.sent - fin.sent > FIN_TIMEOUT:
        return False
    theirs = [p for p in view.earlier if p.source != own]
    acked = any(p.flags & Flags.ACK and not after(fin.next_seq, p.ack) for p in theirs)
    over = any(p.flags & Flags.RST for p in view.earlier) or any(p.flags & Flags.FIN for p in theirs)
    expected = latest(p.ack for p in view.earlier if p.source == own and p.flags & Flags.ACK)
    return acked and not over and expected is not None and not after(expected, trigger.seq)


def _answer_to_syn_ack(view: View) -> Keys:
    trigger = view.trigger
    assert trigger is not None
    if view.syn is None:
        if view.sent:
            return _answer_after_fin(view, trigger) if view.fin else _answer_without_fin(view, trigger)
        return ("unknown-connection", "connect-aborted", "half-open-scan"), False
    if after(view.syn.next_seq - view.syn.length, trigger.ack) or after(trigger.ack, view.syn.next_seq):
        return ("unacceptable-ack", "connect-aborted"), True
    if is_incomplete(view):
        return _answer_to_nothing(view)
    if any(p.flags & Flags.ACK for p in view.sent):  # the handshake was over: this is a SYN ACK sent again
        return _answer_after_fin(view, trigger) if view.fin else _answer_without_fin(view, trigger)
    return (*_given_up(view), *(("unknown-connection",) if view.captured else ())), True


def _given_up(view: View) -> tuple[str, str]:
    """Of an end that asked for a connection and refuses the answer: a SYN made by hand, or a program that gave up."""
    syn = view.syn
    assert syn is not None
    by_hand = is_made_by_hand(syn) and view.rst.sent - syn.sent < _AT_ONCE
    return ("half-open-scan", "connect-aborted") if by_hand else ("connect-aborted", "half-open-scan")


def _answer_while_connecting(view: View) -> Keys:
    """A RST without ACK flag from an end that has shown nothing but its SYN, and was shown no SYN ACK."""
    syn = view.syn
    assert syn is not None
    if is_incomplete(view):
        return _answer_to_nothing(view)
    if view.trigger:
        return ("unacceptable-ack", "unknown-connection"), True
    if view.rst.seq == syn.next_seq:  # what it answers acknowledged the SYN
        return _given_up(view), not view.one_sided
    return ("unacceptable-ack", "unknown-connection"), not view.one_sided


def _handshake(view: View, packets: Sequence[Packet]) -> Keys:
    """A RST from an end that has shown nothing but its SYN ACK."""
    syn_ack, trigger, rst = view.syn_ack, view.trigger, view.rst
    assert syn_ack is not None
    if lacks_sent(view):
        return _answer_to_nothing(view)
    if rst.seq != syn_ack.next_seq:
        if view.captured and after(rst.seq, syn_ack.next_seq):  # it had sent what was not captured
            return _answer_to_nothing(view)
        return ("ack-to-listener", "unknown-connection"), True
    first = not any(p.flags & Flags.ACK for p in view.before)
    keys = ["listener-closed", "unknown-connection"]
    if first:
        keys = ["accept-queue-overflow", "listener-closed"]
    elif view.one_sided or not any(p.flags & Flags.ACK and p.sent < view.at for p in view.before):
        keys.append("accept-queue-overflow")
    port = [p for p in packets if p.source == rst.source and p.number > rst.number]
    if any(is_syn_ack(p) for p in port):  # the port still listens
        keys.remove("listener-closed")
    elif any(p.flags & Flags.RST and p.seq == 0 and p.flags & Flags.ACK for p in port):  # it no longer does
        keys = [key for key in keys if key != "accept-queue-overflow"]
    if view.at - syn_ack.sent >= SHORTEST_TIMEOUT:  # a request expires, and with it what the kernel knew
        again = sum(is_syn_ack(p) for p in view.sent) > 1  # it went on asking, so it took no ACK for good
        keys.insert(0 if again and not first else len(keys), "ack-to-listener")
    clear = len(keys) < 2
    if trigger is None:
        keys += ["unknown-connection", "ack-to-listener"]
    if view.captured:
        keys += ["unknown-connection"]
    plain = first and trigger and not trigger.length
    if view.captured and (is_incomplete(view) or not plain):  # its FIN may not have been captured
        keys += ["data-after-close", "data-after-shutdown"]
    return tuple(keys or ["unknown-connection"]), clear


def _answer_to_nothing(view: View) -> Keys:
    """A RST in the form of an answer, to a segment that was not captured."""
    fin, idle = view.fin, view.idle
    lost = ("state-lost",) if idle >= IDLE else ()
    if fin is None and view.sent and view.rst.seq == (view.next_to_send + 1) % 2**32:  # its FIN was not captured
        late = view.trigger is not None and view.trigger.length <= 1 and idle >= SHORTEST_TIMEOUT
        keys = ["fin-wait2-timed-out", *_CLOSINGS] if late else [*_CLOSINGS]
        return (*keys, "unknown-connection", "linger2-negative", "gave-up", "injected", *lost), False
    if fin is None:
        keys = ["unknown-connection", "injected", *lost]
        keys += _UNBEGUN if not view.sent else []
        keys += _CLOSINGS if not view.began or view.may_hold_back else _CLOSINGS[:2]
        return (*keys, "gave-up", "linger2-negative"), False
    since = view.rst.sent - fin.sent
    keys = [key for key in _CLOSINGS if since >= SHORTEST_TIMEOUT or key != "fin-wait2-timed-out"]
    if since >= FIN_TIMEOUT and view.rst.seq == fin.next_seq:
        keys.insert(0, "fin-wait2-timed-out")
    return (*keys, "linger2-negative", "gave-up", "unknown-connection", "injected", *lost), False


def _answer_after_fin(view: View, trigger: Packet) -> Keys:
    """A RST in answer to a segment, from an end that had sent its FIN."""
    fin, fin_acked = view.fin, view.fin_acked
    assert fin is not None
    new = _is_new(view, trigger)
    unsure = not new and view.captured  # a capture may lack what provoked it, or have it out of order
    new = new or (unsure and _was_never_taken(view))
    missed = ("data-after-close", "data-after-shutdown") if unsure else ()
    if view.peer_fin and not new:
        return ("after-normal-close", *missed), True
    first_ack = fin_acked is None or fin_acked is trigger
    waited = view.waited
    gone = ["gave-up"] if first_ack and _sent_again(view, fin) else []
    if new:
        keys = ["data-after-close", "data-after-shutdown", *gone]
        keys += ["linger2-negative"] if fin_acked is trigger or unsure else []
        keys += ["after-normal-close"] if view.peer_fin and unsure else []
        if waited >= SHORTEST_TIMEOUT:
            keys.insert(0 if waited >= FIN_TIMEOUT else 2, "fin-wait2-timed-out")
        return tuple(keys), not gone
    if (
        trigger.flags & Flags.FIN and waited < SHORTEST_TIMEOUT
    ):  # of a system that keeps no TIME_WAIT, or no room for it
        keys = ["after-normal-close", *gone, "linger2-negative" if first_ack else "fin-wait2-timed-out"]
        return (*keys, "unknown-connection", *missed), not gone
    if first_ack:
        return (*gone, "linger2-negative", "unknown-connection", *missed), not gone and not missed
    if waited < SHORTEST_TIMEOUT:
        return ("unknown-connection", "fin-wait2-timed-out", *missed), False
    if trigger.flags & Flags.FIN and waited < FIN_TIMEOUT * 0.9:  # it may have waited less, or not at all
        return ("after-normal-close", "fin-wait2-timed-out", "unknown-connection", *missed), False
    both = ("after-normal-close",) if trigger.flags & Flags.FIN else ()
    return ("fin-wait2-timed-out", "unknown-connection", *both, *missed), True


def _answer_without_fin(view: View, trigger: Packet) -> Keys:
    """A RST in answer to a segment, from an end that was not seen to close."""
    if view.captured and view.sent and view.rst.seq == (view.next_to_send + 1) % 2**32:  # a FIN was not captured
        return _answer_to_nothing(view)
    # its FIN may have come before the capture began
    closings = () if view.began or view.answered else _closings(trigger)
    if not view.sent:
        unseen = (*_closings(trigger), *_UNBEGUN[3:], "linger2-negative") if view.captured else ()
        return ("unknown-connection", "ack-to-listener", *unseen, "injected"), False
    if trigger.flags & Flags.FIN and view.captured and not view.unacknowledged and not _is_new(view, trigger):
        hurried = ("hurried-close", "unknown-connection") if view.syn else ("unknown-connection", "hurried-close")
        if view.idle < IDLE:  # Linux would still have a socket; others take it away
            return (*hurried, "data-after-close", "data-after-shutdown", "injected"), False
    lost = [p for p in view.sent if p.length or p.flags & Flags.FIN]
    given_up = bool(view.probes or (view.unacknowledged and lost and _sent_again(view, lost[-1])))
    keys = ["gave-up", "unknown-connection"] if given_up else ["unknown-connection"]
    clear = not given_up and not closings
    if lost and _is_new(view, trigger):  # the FIN may wait behind data that is not sent yet
        where = given_up if view.may_hold_back else len(keys)
        keys[where:where] = ["data-after-close", "data-after-shutdown"]
        clear = clear and not view.may_hold_back
    elif view.captured:  # or may not have been captured
        keys += ["data-after-close", "data-after-shutdown"]
    if not given_up and view.captured and view.unacknowledged and lost and view.at - lost[-1].sent >= SHORTEST_TIMEOUT:
        keys += ["gave-up"]  # what it sent again may not have been captured
    keys += closings
    if view.idle >= IDLE:
        keys[1:1] = ["state-lost"]
        keys += ["injected"]
        clear = False
    return tuple(keys), clear


def _closings(trigger: Packet) -> tuple[str, ...]:
    """The causes in which this end had closed, as far as what it was sent then fits them."""
    return _CLOSINGS[:3] if trigger.length > 1 else _CLOSINGS


def _is_new(view: View, packet: Packet) -> bool:
    """Whether a segment tells of data that this end had not acknowledged yet: by bytes, or a FIN behind them."""
    expected = view.next_to_receive
    end = (packet.seq + packet.length) % 2**32
    return bool(packet.length or packet.flags & Flags.FIN) and (expected is None or after(end, expected))


def _was_never_taken(view: View) -> bool:
    """Whether the other end had sent data that this end never acknowledged."""
    data = (p for p in view.conversation if p.length > 1 and p.source != view.rst.source and p.sent <= view.rst.sent)
    return any(_is_new(view, packet) for packet in data)


def _sent_again(view: View, packet: Packet) -> bool:
    """Whether a segment went more than once: it was seen twice, or this end had sent what follows it before."""
    twice = sum((p.seq, p.next_seq) == (packet.seq, packet.next_seq) for p in view.sent) > 1
    return twice or any(
        p.sent < packet.sent - DISORDER and not after(packet.next_seq, p.seq) for p in view.sent if not is_syn(p)
    )
