"""Signs that a RST was not sent by the end in whose name it came.

What an end's own TCP sends has come the same way as its other packets, fits them in sequence, and is
its last word. What a device on the way or an attacker sends often does not.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from .tcp import Flags, after
from .trace import Packet
from .view import DISORDER, View, arrival, is_syn, is_syn_ack

_OVERTAKEN = 0.05  # seconds by which the network may deliver a packet late that was sent earlier
_AT_ONCE = 0.01  # seconds between two RSTs that one device sends to both ends, at the most
TOO_SOON = 1 / 3  # of a round trip: nothing that this end sends can come so soon
MEASURABLE = 0.01  # seconds; of a shorter round trip a third tells nothing
_INITIAL = (64, 128, 255)  # the TTLs that systems begin with
_TIMESTAMPS = 8  # kind of option (RFC 7323, 3.2)
_USUAL_OPTIONS = 2  # at least so many has a system's own SYN: a maximum segment size and another
NEAR_ID = 2_000  # IP ids that a busy host may use up between two packets of a connection


@dataclass(frozen=True, slots=True)
class Sign:
    """One sign, in a sentence; ``strong`` where little else could explain it."""

    text: str
    packet: int
    strong: bool = True


def signs(view: View) -> tuple[Sign, ...]:
    """What speaks against the RST being this end's own, the strongest first."""
    found = [*_ttl(view), *_goes_on(view), *_contradicts(view), *_guesses(view), *_too_soon(view)]
    found += [*_to_both(view), *_options(view), *_ip_id(view)]
    return tuple(sorted(found, key=lambda sign: not sign.strong))


def hops(ttl: int) -> int:
    """How many routers a packet has passed, if its TTL began at the nearest of the usual values."""
    return next(initial for initial in _INITIAL if ttl <= initial) - ttl


def is_made_by_hand(packet: Packet) -> bool:
    """Whether it is a SYN that no system's own TCP sends, but a scanner: with fewer options than any has."""
    return is_syn(packet) and len(packet.options) < _USUAL_OPTIONS


def _ttl(view: View) -> Iterator[Sign]:
    rst = view.rst
    ttls = {p.ttl for p in view.sent if not is_made_by_hand(p)}
    if len(ttls) == 1 and rst.ttl not in ttls:
        (ttl,) = ttls
        text = f"The RST has TTL {rst.ttl}; the other packets of the {rst.sender} have {ttl}."
        # a socket may begin with a TTL of its own: of 255 or 1 where its peer is next to it (RFC 5082; BGP)
        own = hops(rst.ttl) == (0 if ttl == 1 else hops(ttl))
        yield Sign(text, rst.number, strong=not own)


def _goes_on(view: View) -> Iterator[Sign]:
    """Data or FIN that this end sent after the RST, or after a handshake that the RST would have ended."""
    rst = view.rst
    if view.trigger and is_syn(view.trigger):  # by another try somebody may listen
        return
    if view.is_answer and not any(p.flags & Flags.ACK and not is_syn_ack(p) for p in view.sent):
        return  # a handshake may survive a RST that answers a stray ACK
    for packet in view.conversation:
        own = packet.source == rst.source and packet.number > rst.number and not packet.flags & Flags.RST
        if not own or not (packet.length or packet.flags & Flags.FIN):
            continue
        beyond = after(packet.next_seq, rst.seq) and not view.is_answer  # what an answer acknowledges may be older
        if packet.sent - rst.sent > (DISORDER if beyond else _OVERTAKEN):
            text = f"After the RST the {rst.sender} went on sending: packet {packet.number}."
            yield Sign(text, packet.number)
            return


def _contradicts(view: View) -> Iterator[Sign]:
    """One SYN that was answered by RST and by SYN ACK."""
    trigger, rst = view.trigger, view.rst
    if trigger is None or not is_syn(trigger) or view.sent:
        return
    for packet in view.conversation:
        if packet.number > trigger.number and is_syn(packet) and packet.source == trigger.source:
            return  # sent again: by then somebody may have listened
        if packet.source == rst.source and packet.number > rst.number and is_syn_ack(packet):
            if packet.ack == trigger.next_seq:
                text = f"Packet {packet.number} is a SYN ACK that answers the same SYN as the RST does."
                yield Sign(text, packet.number)
            return


def _guesses(view: View) -> Iterator[Sign]:
    """RSTs of one moment with different sequence numbers, as a guesser sends them."""
    if len(view.resets) < 2:
        return
    first = view.rst
    burst = [p for p in view.resets if abs(p.sent - first.sent) <= _AT_ONCE]
    aborts = {p.seq for p in burst if p.flags & Flags.ACK and p.seq}
    acks = {p.ack for p in view.conversation if p.source != first.source and p.flags & Flags.ACK}
    answers = {p.seq for p in burst if not p.flags & Flags.ACK} - acks
    if len(aborts) > 1 or (len(answers | aborts) > 1 and any(after(seq, view.next_to_send) for seq in answers)):
        text = f"{len(burst)} RSTs came at once, with different sequence numbers: they guess at the next one."
        yield Sign(text, first.number)


def _too_soon(view: View) -> Iterator[Sign]:
    trigger, rst = view.trigger, view.rst
    if trigger is None or view.round_trip < MEASURABLE:
        return
    took = rst.sent - arrival(trigger)[0]
    if took < view.round_trip * TOO_SOON:  # or the first packets were slow, as on a busy host or the first of a route
        text = f"The RST came {took * 1000:.1f} ms after packet {trigger.number}, which it answers; the {rst.sender} "
        text += f"took at least {view.round_trip * 1000:.1f} ms to answer before."
        yield Sign(text, rst.number, strong=False)


def _to_both(view: View) -> Iterator[Sign]:
    """A RST to each end at the same moment, of which neither answers a packet."""
    rst = view.rst
    if view.trigger:
        return
    for packet in view.conversation:
        other = packet.flags & Flags.RST and packet.source != rst.source
        if other and packet.flags & Flags.ACK and abs(packet.sent - rst.sent) <= _AT_ONCE:
            text = f"Both ends were reset at once (packets {rst.number} and {packet.number}), as a device between "
            yield Sign(f"{text}them does.", packet.number, strong=False)
            return


def _options(view: View) -> Iterator[Sign]:
    """An abort without the timestamps that this end's segments carry; on Linux its RST would have them too."""
    later = [p for p in view.sent if not p.flags & Flags.SYN]
    if view.is_answer or not later or not all(_has_timestamps(p) for p in later):
        return
    if view.rst.seq and not _has_timestamps(view.rst):
        text = f"The RST has no timestamps, which all other packets of the {view.rst.sender} have."
        yield Sign(text, view.rst.number, strong=False)


def _has_timestamps(packet: Packet) -> bool:
    return any(kind == _TIMESTAMPS for kind, _ in packet.options)


def _ip_id(view: View) -> Iterator[Sign]:
    """An abort whose IP id does not follow those of this end's packets, where these count up."""
    ids = [p.ip_id for p in view.sent[-8:]]
    steps = [(b - a) % 65536 for a, b in itertools.pairwise(ids)]
    if view.is_answer or len(ids) < 3 or not all(0 < step < NEAR_ID for step in steps):
        return
    if (view.rst.ip_id - ids[-1]) % 65536 >= NEAR_ID:
        text = (
            f"The RST has IP id {view.rst.ip_id}; the {view.rst.sender}'s packets before it had {ids[-2]}, {ids[-1]}."
        )
        yield Sign(text, view.rst.number, strong=False)
