"""Following a connection: which packets belong to it, and what one end had seen when it sent a RST."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .tcp import Endpoint, Flags, after
from .trace import Packet


def conversations(packets: Iterable[Packet]) -> list[list[Packet]]:
    """The packets of each connection, in order of sending.

    A SYN with another initial sequence number on the same addresses and ports opens a new connection.
    """
    found: list[list[Packet]] = []
    current: dict[frozenset[Endpoint], list[Packet]] = {}
    opened: dict[tuple[Endpoint, Endpoint], int] = {}
    for packet in packets:
        ends = (packet.source, packet.destination)
        new = packet.connection not in current
        if packet.flags & Flags.SYN and not packet.flags & Flags.ACK:
            other = opened.get(ends) != packet.seq
            new = new or (other and not _only_syn_from_the_other(current[packet.connection], packet))
            opened[ends] = packet.seq
        if new:
            current[packet.connection] = []
            found.append(current[packet.connection])
        current[packet.connection].append(packet)
    return found


def _only_syn_from_the_other(packets: Sequence[Packet], syn: Packet) -> bool:
    """Whether all that there was is the other end's SYN: both open at once (RFC 9293, 3.5)."""
    return all(p.source != syn.source and p.flags & Flags.SYN for p in packets)


@dataclass(frozen=True, slots=True)
class View:
    """What an end of a connection had sent and received by the time it sent a RST.

    ``fin`` is the first FIN that it sent, ``fin_acked`` the packet that acknowledged it,
    ``peer_fin`` the other end's FIN as it arrived (before the trigger). ``syn`` and ``syn_ack``
    are those that this end sent. ``trigger`` is the packet that the RST answers.
    """

    rst: Packet
    sent: tuple[Packet, ...]
    received: tuple[Packet, ...]
    trigger: Packet | None
    syn: Packet | None
    syn_ack: Packet | None
    fin: Packet | None
    fin_acked: Packet | None
    peer_fin: Packet | None


def look(conversation: Sequence[Packet], resets: Sequence[Packet]) -> View:
    """The view of the end that sent ``resets`` (one RST and its repeats) at the time of the first one."""
    rst = resets[0]
    trigger = _trigger(conversation, resets)
    sent = tuple(p for p in conversation if p.source == rst.source and p.number < rst.number)
    received = tuple(sorted(_arrived(conversation, rst), key=lambda p: (p.arrived or 0.0, p.number)))
    fin = next((p for p in sent if p.flags & Flags.FIN), None)
    before = received[: received.index(trigger)] if trigger in received else received
    fin_acked = None
    if fin:
        fin_acked = next((p for p in received if p.flags & Flags.ACK and not after(fin.next_seq, p.ack)), None)
    return View(
        rst=rst,
        sent=sent,
        received=received,
        trigger=trigger,
        syn=next((p for p in sent if p.flags & (Flags.SYN | Flags.ACK) == Flags.SYN), None),
        syn_ack=next((p for p in sent if p.flags & (Flags.SYN | Flags.ACK) == Flags.SYN | Flags.ACK), None),
        fin=fin,
        fin_acked=fin_acked,
        peer_fin=next((p for p in before if p.flags & Flags.FIN), None),
    )


def _arrived(conversation: Sequence[Packet], rst: Packet) -> list[Packet]:
    """What had reached the sender of the RST when it left."""
    return [p for p in conversation if p.source != rst.source and p.arrived is not None and p.arrived <= rst.sent]


def _trigger(conversation: Sequence[Packet], resets: Sequence[Packet]) -> Packet | None:
    """The packet that the first of the RSTs answers, or None where it answers none.

    A RST that answers a segment with ACK has no ACK flag and the segment's ack as its seq; one
    that answers a segment without ACK has seq 0 and acknowledges it (RFC 9293, 3.10.7.1). Each
    segment gets its own RST, so they are paired from the last one back.
    """
    first = resets[0]
    free = [p for p in conversation if p.source != first.source and p.arrived is not None and _answers(first, p)]
    free.sort(key=lambda p: (p.arrived or 0.0, p.number))
    same = [r for r in resets if (r.seq, r.ack, r.flags) == (first.seq, first.ack, first.flags)]
    trigger = None
    for rst in reversed(same):
        free = [p for p in free if (p.arrived or 0.0) <= rst.sent]
        if not free:
            break
        trigger = free.pop()
    earlier = [p for p in [*free, trigger] if p and (p.arrived or 0.0) <= first.sent]
    return trigger if trigger in earlier else next(iter(earlier), None)


def _answers(rst: Packet, packet: Packet) -> bool:
    if packet.flags & Flags.RST:
        return False
    if packet.flags & Flags.ACK:
        return not rst.flags & Flags.ACK and rst.seq == packet.ack
    return bool(rst.flags & Flags.ACK) and rst.seq == 0 and rst.ack == packet.next_seq
