"""Following a connection: which packets belong to it, and what one end had seen when it sent a RST.

Sequence numbers are followed by the rules of RFC 9293; nothing here knows of causes.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

from .tcp import Endpoint, Flags, after
from .trace import Packet
from .view import DISORDER, View, arrival, is_syn, is_syn_ack, latest

_OVERTAKEN = 0.005  # seconds by which an answer may leave before the RST of the abort, at the most
_MOST_RESETS = 64  # of one connection that are told apart; what follows counts as repeats of the last
_LOOKED_AT = 5_000  # packets of a connection from which the round trip is taken
SAMPLES = 3  # round trips seen, without a handshake, that are enough
EARLIEST = 0.9  # of a round trip: a clock and a queue are never exact


def conversations(packets: Iterable[Packet]) -> list[list[Packet]]:
    """The packets of each connection, in order of sending.

    A SYN with another initial sequence number on the same addresses and ports opens a new one.
    """
    found: list[list[Packet]] = []
    current: dict[frozenset[Endpoint], list[Packet]] = {}
    opened: dict[tuple[Endpoint, Endpoint], int] = {}
    for packet in packets:
        connection = packet.connection
        new = connection not in current
        if is_syn(packet):
            ends = (packet.source, packet.destination)
            other = opened.get(ends) != packet.seq
            new = new or (other and not _is_other_ends_syn(current[connection], packet))
            opened[ends] = packet.seq
        if new:
            current[connection] = []
            found.append(current[connection])
        current[connection].append(packet)
    return found


def _is_other_ends_syn(packets: Sequence[Packet], syn: Packet) -> bool:
    """Whether nothing was seen yet but the other end's SYN: both open at once (RFC 9293, 3.5)."""
    return all(is_syn(p) and p.source != syn.source for p in packets)


def resets_of(conversation: Sequence[Packet]) -> list[list[Packet]]:
    """The resets of a connection: each the RST that made it and those that repeat it.

    All that an end's kernel sends after a RST repeats it, until that end speaks as a connection
    again (what leaves at the same moment may only have been overtaken). An end that aborts takes
    its socket away before its RST leaves: a segment that arrives in between is answered first, so
    the RST that aborts goes before such answers.
    """
    found: list[list[Packet]] = []
    current: dict[Endpoint, list[Packet]] = {}
    for packet in conversation:
        if packet.flags & Flags.RST:
            if packet.source not in current and len(found) >= _MOST_RESETS:
                current[packet.source] = next((r for r in reversed(found) if r[0].source == packet.source), found[-1])
            elif packet.source not in current:
                current[packet.source] = []
                found.append(current[packet.source])
            current[packet.source].append(packet)
        elif packet.flags & Flags.ACK and packet.sent - _last_sent(current.get(packet.source)) > _OVERTAKEN:
            current.pop(packet.source, None)
    for resets in found:
        first = resets[0]
        abort = next((p for p in resets if p.flags & Flags.ACK and p.sent - first.sent < _OVERTAKEN), first)
        if not first.flags & Flags.ACK and abort is not first:
            resets.remove(abort)
            resets.insert(0, abort)
    return found


def _last_sent(packets: Sequence[Packet] | None) -> float:
    return packets[-1].sent if packets else float("inf")


def round_trip(conversation: Sequence[Packet], end: Endpoint) -> float:
    """How long an end takes to answer, in seconds, as seen from the point of a capture; 0 where nothing tells it.

    It is the shortest time between a segment and the ACK that covers just it: between the SYN and
    the SYN ACK, or that and the ACK; without a handshake the shortest of several, since ACKs may be delayed.
    """
    asked: dict[int, float] = {}
    times = []
    handshake = False
    for packet in itertools.islice(conversation, _LOOKED_AT):
        if packet.flags & Flags.RST:
            continue
        if packet.source != end:
            if packet.takes_numbers:
                asked[packet.next_seq] = packet.sent
                handshake = handshake or bool(packet.flags & Flags.SYN)
        elif packet.flags & Flags.ACK and packet.ack in asked:
            times.append(packet.sent - asked.pop(packet.ack))
    enough = times and (handshake or len(times) >= SAMPLES)
    return max(min(times) * EARLIEST, 0.0) if enough else 0.0


def look(
    conversation: Sequence[Packet],
    resets: Sequence[Packet],
    round_trip: float | None = None,
    copies: Mapping[int, Sequence[Packet]] | None = None,
    earlier: Sequence[Packet] = (),
) -> View:
    """The view of the end that sent ``resets`` (one RST and its repeats), when it sent the first.

    ``round_trip`` is given where the packets have the times of a capture at one point: what passed
    there later than that before the RST had not reached the end when it sent it. ``copies`` are packets that were
    captured again (`rstkit.copies`), ``earlier`` those of the connection before it on the same addresses and ports.
    """
    rst = resets[0]
    latest_time = rst.sent if round_trip is None else rst.sent + DISORDER
    mine = [p for p in conversation if p.source == rst.source and _before(p, rst, latest_time)]
    sent = tuple(p for p in mine if not p.flags & Flags.RST)
    theirs = [p for p in conversation if p.source != rst.source and p.arrived is not None and p.arrived <= latest_time]
    received = sorted((p for p in theirs if not p.flags & Flags.RST), key=arrival)
    taken = latest(p.ack for p in sent if p.flags & Flags.ACK)
    trigger = _trigger(received, conversation, resets, taken, round_trip or 0.0, latest_time)
    if trigger:
        received = received[: received.index(trigger) + 1]
    else:
        covered = [p.number for p in received if _covers(rst, p)]
        last = covered[-1] if covered else 0  # a RST with ACK tells what had come, and all before that had come as well
        received = [p for p in received if arrival(p)[0] + (round_trip or 0.0) <= rst.sent or p.number <= last]
    before = received[:-1] if trigger else received
    fin = next((p for p in mine if p.flags & Flags.FIN), None)
    acks = (p for p in received if fin and p.flags & Flags.ACK and not after(fin.next_seq, p.ack))
    highest = latest(p.next_seq for p in sent)
    return View(
        resets=tuple(resets),
        conversation=tuple(conversation),
        sent=sent,
        received=tuple(received),
        trigger=trigger,
        syn=next((p for p in mine if is_syn(p)), None),
        syn_ack=next((p for p in mine if is_syn_ack(p)), None),
        fin=fin,
        fin_acked=next(acks, None),
        peer_syn=next((p for p in before if p.flags & Flags.SYN), None),
        peer_fin=next((p for p in before if p.flags & Flags.FIN), None),
        next_to_send=rst.seq if highest is None else highest,
        captured=round_trip is not None,
        round_trip=round_trip or 0.0,
        copies=tuple(copy for p in resets for copy in copies.get(p.number, ())) if copies else (),
        earlier=tuple(earlier),
    )


def _before(packet: Packet, rst: Packet, latest_time: float) -> bool:
    """Whether an end sent a packet before a RST: it comes first, or just after it with earlier numbers."""
    if packet.number < rst.number or packet.flags & Flags.RST:
        return packet.number < rst.number
    return rst.sent < latest_time and packet.sent <= latest_time and not after(packet.next_seq, rst.seq)


def _trigger(
    received: Sequence[Packet],
    conversation: Sequence[Packet],
    resets: Sequence[Packet],
    taken: int | None,
    round_trip: float,
    latest_time: float,
) -> Packet | None:
    """The packet that the first of the RSTs answers, or None where it answers none.

    A RST that answers a segment with ACK has no ACK flag, and the segment's ack as its seq; one
    that answers a SYN has seq 0 and acknowledges it (RFC 9293, 3.10.7.1). Each segment gets a
    RST of its own, so RSTs and segments are paired from the last one back. ``taken`` is what the end
    had acknowledged, ``latest_time`` the time until which what provoked the first may have been seen.
    """
    first = resets[0]
    theirs = [p for p in conversation if p.source != first.source and p.arrived is not None]
    whole = next((p for p in theirs if taken is not None and p.takes_numbers and not after(taken, p.next_seq)), None)
    answered = sorted((p for p in theirs if _answers(first, p)), key=arrival)
    free = [p for p in answered if not _was_taken(p, taken, whole)] or answered
    trigger = None
    alike = [rst for rst in resets if (rst.seq, rst.ack, rst.flags) == (first.seq, first.ack, first.flags)]
    early = latest_time - first.sent
    came = [p for p in free if arrival(p)[0] <= alike[-1].sent + early]
    took = (rst.sent - arrival(p)[0] for rst, p in zip(reversed(alike), reversed(came), strict=False))
    round_trip = min([round_trip, *(EARLIEST * time for time in took if time > 0)])  # it may have been shorter here
    for rst in reversed(alike):
        while free and arrival(free[-1])[0] + round_trip > rst.sent + early:
            free.pop()
        if not free:
            break
        trigger = free.pop()
    if trigger is None or arrival(trigger)[0] + round_trip <= latest_time:
        return trigger
    answered = [p for p in received if _answers(first, p)]
    fresh = (p for p in answered if not _was_taken(p, taken, whole))
    return next(fresh, None) or next(iter(answered), None)  # more RSTs than segments were captured


def _was_taken(packet: Packet, taken: int | None, whole: Packet | None) -> bool:
    """Whether an end had acknowledged a segment or what was sent after it, and so did not answer it with RST.

    ``whole`` is the packet that brought the last of what it had ``taken``: an ACK after that may be a keepalive,
    which has the last number again.
    """
    if taken is None:
        return False
    if packet.takes_numbers:
        return not after(packet.next_seq, taken)
    early = whole is not None and packet.number < whole.number
    return after(taken if early else taken - 1, packet.seq)


def _covers(rst: Packet, packet: Packet) -> bool:
    """Whether the ack of a RST that answers nothing, which is RCV.NXT, tells that a segment had come."""
    return bool(rst.flags & Flags.ACK and rst.seq and packet.takes_numbers and not after(packet.next_seq, rst.ack))


def _answers(rst: Packet, packet: Packet) -> bool:
    if packet.flags & Flags.RST:  # RST is never answered with RST
        return False
    if packet.flags & Flags.ACK:
        return not rst.flags & Flags.ACK and rst.seq == packet.ack
    return bool(rst.flags & Flags.ACK) and rst.seq == 0 and rst.ack == packet.next_seq
