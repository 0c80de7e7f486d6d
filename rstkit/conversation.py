"""Following a connection: which packets belong to it, and what one end had seen when it sent a RST.

Sequence numbers are followed by the rules of RFC 9293; nothing here knows of causes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .tcp import Endpoint, Flags, after
from .trace import Packet

_OVERTAKEN = 0.005  # seconds by which an answer may leave before the RST of the abort, at the most
_MAXIMUM_SEGMENT_SIZE, _WINDOW_SCALE = 2, 3  # kinds of option (RFC 9293, 3.2; RFC 7323, 2.2)
_DEFAULT_SEGMENT_SIZE = 536  # bytes, where none was announced (RFC 9293, 3.7.1)
_ABOUT_TO_SEND = 0.05  # seconds that an end may take to send what it was kept from sending, at the most
_SYN_ACK = Flags.SYN | Flags.ACK


def conversations(packets: Iterable[Packet]) -> list[list[Packet]]:
    """The packets of each connection, in order of sending.

    A SYN with another initial sequence number on the same addresses and ports opens a new one.
    """
    found: list[list[Packet]] = []
    current: dict[frozenset[Endpoint], list[Packet]] = {}
    opened: dict[tuple[Endpoint, Endpoint], int] = {}
    for packet in packets:
        ends = (packet.source, packet.destination)
        new = packet.connection not in current
        if is_syn(packet):
            other = opened.get(ends) != packet.seq
            new = new or (other and not _is_other_ends_syn(current[packet.connection], packet))
            opened[ends] = packet.seq
        if new:
            current[packet.connection] = []
            found.append(current[packet.connection])
        current[packet.connection].append(packet)
    return found


def is_syn(packet: Packet) -> bool:
    """Whether it asks for a connection: SYN without ACK."""
    return packet.flags & _SYN_ACK == Flags.SYN


def _is_other_ends_syn(packets: Sequence[Packet], syn: Packet) -> bool:
    """Whether nothing was seen yet but the other end's SYN: both open at once (RFC 9293, 3.5)."""
    return all(is_syn(p) and p.source != syn.source for p in packets)


def is_syn_ack(packet: Packet) -> bool:
    return packet.flags & _SYN_ACK == _SYN_ACK


def arrival(packet: Packet) -> tuple[float, int]:
    """The order in which packets reached the other end."""
    return (packet.sent if packet.arrived is None else packet.arrived, packet.number)


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
            if packet.source not in current:
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


@dataclass(frozen=True, slots=True)
class View:
    """What the end that sent a RST had sent and received until then.

    ``resets`` are the RST and its repeats; ``trigger`` is the packet that the first of them
    answers, None where it answers none. ``received`` is in order of arrival and ends with the
    trigger, where there is one. ``syn``, ``syn_ack`` and ``fin`` are the first ones that this end
    sent, ``fin_acked`` is the packet that acknowledged its FIN. ``peer_syn`` and ``peer_fin``
    came from the other end, before the trigger.
    """

    resets: tuple[Packet, ...]
    conversation: tuple[Packet, ...]
    sent: tuple[Packet, ...]
    received: tuple[Packet, ...]
    trigger: Packet | None
    syn: Packet | None
    syn_ack: Packet | None
    fin: Packet | None
    fin_acked: Packet | None
    peer_syn: Packet | None
    peer_fin: Packet | None

    @property
    def rst(self) -> Packet:
        return self.resets[0]

    @property
    def at(self) -> float:
        """When what provoked the RST happened, as near as the packets tell, in seconds."""
        return self.rst.sent if self.trigger is None else arrival(self.trigger)[0]

    @property
    def before(self) -> tuple[Packet, ...]:
        """What had been received before the trigger."""
        return self.received if self.trigger is None else self.received[:-1]

    @property
    def is_answer(self) -> bool:
        """Whether the RST has the form of an answer to a segment with ACK: no ACK flag (RFC 9293, 3.5.2)."""
        return not self.rst.flags & Flags.ACK

    @property
    def waited(self) -> float:
        """How long this end had waited for the other end's FIN: since its own was acknowledged, in seconds."""
        return 0.0 if self.fin_acked is None else self.at - arrival(self.fin_acked)[0]

    @property
    def next_to_receive(self) -> int | None:
        """RCV.NXT by what this end acknowledged last; None where it acknowledged nothing."""
        acks = [p.ack for p in self.sent if p.flags & Flags.ACK]
        highest = acks[0] if acks else None
        for ack in acks:
            highest = ack if highest is not None and after(ack, highest) else highest
        return highest

    @property
    def next_to_send(self) -> int:
        """SND.NXT by what this end sent."""
        highest = self.sent[0].next_seq if self.sent else self.rst.seq
        for packet in self.sent:
            highest = packet.next_seq if after(packet.next_seq, highest) else highest
        return highest

    @property
    def received_bytes(self) -> int:
        """How many bytes of data had reached this end before the trigger, each counted once."""
        if self.peer_syn and self.trigger is None and self.rst.flags & Flags.ACK:  # its ack is RCV.NXT
            return (self.rst.ack - self.peer_syn.seq - 1 - (self.peer_fin is not None)) % 2**32
        count, highest = 0, None
        for packet in self.before:
            start = packet.seq + bool(packet.flags & Flags.SYN)
            highest = start % 2**32 if highest is None else highest
            new = (start + packet.length - highest) % 2**32
            if packet.length and new < 2**31:
                count += min(new, packet.length)
                highest = (start + packet.length) % 2**32
        return count

    @property
    def unacknowledged(self) -> int:
        """How many sequence numbers this end had sent that were not acknowledged yet."""
        acks = [p.ack for p in self.before if p.flags & Flags.ACK]
        if not acks or not self.sent:
            return 0
        highest = acks[0]
        for ack in acks:
            highest = ack if after(ack, highest) else highest
        return (self.next_to_send - highest) % 2**32 if after(self.next_to_send, highest) else 0

    @property
    def may_hold_back(self) -> bool:
        """Whether this end may have had data, or a FIN behind it, that it could not send yet.

        It sends no more while data is unacknowledged, or was until just now, or while the other end's window takes no
        full segment.
        """
        recent = [p for p in self.before if arrival(p)[0] > self.at - _ABOUT_TO_SEND]
        if self.unacknowledged or self.peer_syn is None or any(p.ack == self.next_to_send for p in recent):
            return True
        options = dict(self.peer_syn.options)
        scale = int.from_bytes(options.get(_WINDOW_SCALE, b""))
        largest = int.from_bytes(options.get(_MAXIMUM_SEGMENT_SIZE, b"")) or _DEFAULT_SEGMENT_SIZE
        last = self.before[-1]
        return last.window << (0 if last.flags & Flags.SYN else min(scale, 14)) < largest

    @property
    def probes(self) -> tuple[Packet, ...]:
        """The keepalive probes that this end sent last and that got no answer (RFC 9293, 3.8.4)."""
        last = arrival(self.before[-1])[0] if self.before else float("-inf")
        probes: list[Packet] = []
        next_to_send = self.next_to_send
        for packet in reversed(self.sent):
            if packet.sent <= last or not is_keepalive(packet, next_to_send):
                break
            probes.append(packet)
        return tuple(reversed(probes))

    @property
    def goes_on(self) -> Packet | None:
        """Data or FIN that this end sent after it had sent the RST: then its TCP did not send it."""
        later = (p for p in self.conversation if p.source == self.rst.source and p.number > self.rst.number)
        return next((p for p in later if not p.flags & Flags.RST and (p.length or p.flags & Flags.FIN)), None)


def is_keepalive(packet: Packet, next_to_send: int) -> bool:
    """Whether a segment of an end whose SND.NXT is known is a keepalive: SEG.SEQ is SND.NXT - 1."""
    plain = packet.flags & (Flags.SYN | Flags.FIN | Flags.RST | Flags.ACK) == Flags.ACK
    return plain and packet.length <= 1 and packet.seq == (next_to_send - 1) % 2**32


def look(conversation: Sequence[Packet], resets: Sequence[Packet]) -> View:
    """The view of the end that sent ``resets`` (one RST and its repeats), when it sent the first."""
    rst = resets[0]
    mine = [p for p in conversation if p.source == rst.source and p.number < rst.number]
    theirs = [p for p in conversation if p.source != rst.source and p.arrived is not None and p.arrived <= rst.sent]
    received = sorted((p for p in theirs if not p.flags & Flags.RST), key=arrival)
    trigger = _trigger(received, conversation, resets)
    if trigger:
        received = received[: received.index(trigger) + 1]
    before = received[:-1] if trigger else received
    fin = next((p for p in mine if p.flags & Flags.FIN), None)
    acks = (p for p in received if fin and p.flags & Flags.ACK and not after(fin.next_seq, p.ack))
    return View(
        resets=tuple(resets),
        conversation=tuple(conversation),
        sent=tuple(p for p in mine if not p.flags & Flags.RST),
        received=tuple(received),
        trigger=trigger,
        syn=next((p for p in mine if is_syn(p)), None),
        syn_ack=next((p for p in mine if is_syn_ack(p)), None),
        fin=fin,
        fin_acked=next(acks, None),
        peer_syn=next((p for p in before if p.flags & Flags.SYN), None),
        peer_fin=next((p for p in before if p.flags & Flags.FIN), None),
    )


def _trigger(received: Sequence[Packet], conversation: Sequence[Packet], resets: Sequence[Packet]) -> Packet | None:
    """The packet that the first of the RSTs answers, or None where it answers none.

    A RST that answers a segment with ACK has no ACK flag, and the segment's ack as its seq; one
    that answers a SYN has seq 0 and acknowledges it (RFC 9293, 3.10.7.1). Each segment gets a
    RST of its own, so RSTs and segments are paired from the last one back.
    """
    first = resets[0]
    theirs = (p for p in conversation if p.source != first.source and p.arrived is not None)
    free = sorted((p for p in theirs if _answers(first, p)), key=arrival)
    trigger = None
    for rst in reversed(resets):
        if (rst.seq, rst.ack, rst.flags) != (first.seq, first.ack, first.flags):
            continue
        while free and arrival(free[-1])[0] > rst.sent:
            free.pop()
        if not free:
            break
        trigger = free.pop()
    if trigger is None or arrival(trigger)[0] <= first.sent:
        return trigger
    return next((p for p in received if _answers(first, p)), None)  # more RSTs than segments were captured


def _answers(rst: Packet, packet: Packet) -> bool:
    if packet.flags & Flags.RST:  # RST is never answered with RST
        return False
    if packet.flags & Flags.ACK:
        return not rst.flags & Flags.ACK and rst.seq == packet.ack
    return bool(rst.flags & Flags.ACK) and rst.seq == 0 and rst.ack == packet.next_seq
