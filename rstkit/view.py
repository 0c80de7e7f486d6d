"""What one end of a connection had sent and received when it sent a RST, by sequence numbers (RFC 9293, 3.4).

Nothing here knows of causes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .tcp import Flags, after
from .trace import Packet

_MAXIMUM_SEGMENT_SIZE, _WINDOW_SCALE = 2, 3  # kinds of option (RFC 9293, 3.2; RFC 7323, 2.2)
_DEFAULT_SEGMENT_SIZE = 536  # bytes, where none was announced (RFC 9293, 3.7.1)
ABOUT_TO_SEND = 0.05  # seconds that an end may take to send what it was kept from sending, at the most
DISORDER = 0.001  # seconds by which a capture may have packets of the two directions out of order
_SOON = 0.005  # seconds that a system takes to answer
_SYN_ACK = Flags.SYN | Flags.ACK
_NOT_PLAIN = Flags.SYN | Flags.FIN | Flags.RST


def is_syn(packet: Packet) -> bool:
    """Whether it asks for a connection: SYN without ACK."""
    return packet.flags & _SYN_ACK == Flags.SYN


def is_syn_ack(packet: Packet) -> bool:
    return packet.flags & _SYN_ACK == _SYN_ACK


def arrival(packet: Packet) -> tuple[float, int]:
    """The order in which packets reached the other end, or passed the point of the capture."""
    return (packet.sent if packet.arrived is None else packet.arrived, packet.number)


def is_keepalive(packet: Packet, next_to_send: int) -> bool:
    """Whether a segment of an end whose SND.NXT is known is a keepalive: SEG.SEQ is SND.NXT - 1."""
    plain = packet.flags & Flags.ACK and not packet.flags & _NOT_PLAIN
    return bool(plain) and packet.length <= 1 and packet.seq == (next_to_send - 1) % 2**32


def latest(numbers: Iterable[int]) -> int | None:
    """The highest of sequence numbers that lie within half the circle; None where there are none."""
    highest = None
    for number in numbers:
        highest = number if highest is None or after(number, highest) else highest
    return highest


@dataclass(frozen=True, slots=True)
class View:
    """What the end that sent a RST had sent and received until then.

    ``resets`` are the RST and its repeats; ``trigger`` is the packet that the first of them
    answers, None where it answers none. ``received`` is in order of arrival and ends with the
    trigger, where there is one. ``syn``, ``syn_ack`` and ``fin`` are the first ones that this end
    sent, ``fin_acked`` is the packet that acknowledged its FIN. ``peer_syn`` and ``peer_fin``
    came from the other end, before the trigger. ``round_trip`` is how long this end takes to
    answer, in seconds, as seen from where the packets were captured; 0 where that is not known. ``captured`` tells
    that the packets are those of a capture at one point: what was sent or received elsewhere may be
    missing. ``copies`` are those of the resets, where frames were captured more than once; ``earlier`` are
    the packets of the connection that used the same addresses and ports before.
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
    next_to_send: int
    captured: bool
    round_trip: float
    copies: tuple[Packet, ...]
    earlier: tuple[Packet, ...]

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
    def began(self) -> bool:
        """Whether all was seen from the beginning of the connection: in a capture, a SYN of either end."""
        trigger = self.trigger
        opened = trigger and (trigger.flags & Flags.SYN or not trigger.flags & Flags.ACK)  # refused, whatever it is
        return bool(self.syn or self.syn_ack or self.peer_syn or opened) or not self.captured

    @property
    def one_sided(self) -> bool:
        """Whether nothing was captured of what the other end sent."""
        return all(p.source == self.rst.source for p in self.conversation)

    @property
    def reset_before(self) -> Packet | None:
        """A RST in the other end's name that had reached this end before what it answers now."""
        came = (
            p
            for p in self.conversation
            if p.source != self.rst.source and p.flags & Flags.RST and p.arrived is not None
        )
        return next((p for p in came if self.trigger and arrival(p) < arrival(self.trigger)), None)

    @property
    def late_data(self) -> Packet | None:
        """Data that came after this end had sent its FIN, just before a RST with ACK: some systems answer it so."""
        fin = self.fin
        late = [p for p in self.before if fin and p.length and arrival(p)[0] > fin.sent]
        soon = late and self.trigger is None and self.rst.sent - arrival(late[-1])[0] <= _SOON + self.round_trip
        return late[-1] if soon and not self.is_answer else None

    @property
    def answered(self) -> bool:
        """Whether this end had sent data."""
        return any(p.length for p in self.sent)

    @property
    def idle(self) -> float:
        """How long this end had sent nothing, in seconds."""
        return self.at - self.sent[-1].sent if self.sent else 0.0

    @property
    def waited(self) -> float:
        """How long this end had waited for the other end's FIN: since its own was acknowledged, in seconds."""
        return 0.0 if self.fin_acked is None else self.at - arrival(self.fin_acked)[0]

    @property
    def next_to_receive(self) -> int | None:
        """RCV.NXT by what this end acknowledged last; None where it acknowledged nothing."""
        return latest(p.ack for p in self.sent if p.flags & Flags.ACK)

    @property
    def first_to_receive(self) -> int | None:
        """The number of the first byte that the other end could send; None where the handshake does not tell it."""
        if self.peer_syn:
            return (self.peer_syn.seq + 1) % 2**32
        if self.syn_ack:
            return self.syn_ack.ack
        if self.syn:  # the ACK that ends the handshake
            plain = (p.ack for p in self.sent if p.flags & Flags.ACK and p.seq == self.syn.next_seq and not p.length)
            first = next(plain, None)
            for packet in self.before:  # it may be an ACK of data
                first = packet.seq if first is not None and after(first, packet.seq) else first
            return first
        return None

    @property
    def received_bytes(self) -> int:
        """How many bytes of data had reached this end before the trigger, each counted once, as far as was seen."""
        first = self.first_to_receive
        if first is not None and self.trigger is None and self.rst.flags & Flags.ACK:  # its ack is RCV.NXT
            count = (self.rst.ack - first - self.has_peer_fin) % 2**32
            if count < 2**31:
                return count
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
    def may_have_received(self) -> bool:
        """Whether data may have reached this end before its RST: it did, or not all was captured."""
        return self.received_bytes > 0 or (self.captured and self.first_to_receive is None)

    @property
    def has_peer_fin(self) -> bool:
        """Whether the other end's FIN had reached this end, by the ack of a RST that has one."""
        fin = self.peer_fin
        return fin is not None and not (self.rst.flags & Flags.ACK and after(fin.next_seq, self.rst.ack))

    @property
    def unacknowledged(self) -> int:
        """How many sequence numbers this end had sent that were not acknowledged yet."""
        highest = latest(p.ack for p in self.before if p.flags & Flags.ACK)
        if highest is None:  # nothing told that any of it had come
            highest = next((p.seq for p in self.sent if p.length or p.flags & Flags.FIN), self.next_to_send)
        return (self.next_to_send - highest) % 2**32 if after(self.next_to_send, highest) else 0

    @property
    def may_hold_back(self) -> bool:
        """Whether this end may have had data, or a FIN behind it, that it could not send yet.

        It sends no more while data is unacknowledged, or was until just now, or while the other end's window takes no
        full segment.
        """
        recent = [p for p in self.before if arrival(p)[0] > self.at - ABOUT_TO_SEND]
        if self.unacknowledged or any(p.ack == self.next_to_send for p in recent):
            return True
        if self.peer_syn is None:
            return not self.captured
        options = dict(self.peer_syn.options)
        scale = int.from_bytes(options.get(_WINDOW_SCALE, b""))
        largest = int.from_bytes(options.get(_MAXIMUM_SEGMENT_SIZE, b"")) or _DEFAULT_SEGMENT_SIZE
        last = self.before[-1]
        return last.window << (0 if last.flags & Flags.SYN else min(scale, 14)) < largest

    @property
    def probes(self) -> tuple[Packet, ...]:
        """The keepalive probes that this end sent last and that got no answer (RFC 9293, 3.8.4)."""
        last = arrival(self.before[-1])[0] if self.before else float("-inf")
        return tuple(p for p in self.last_probes if p.sent > last)

    @property
    def last_probes(self) -> tuple[Packet, ...]:
        """The keepalive probes that this end sent last, answered or not."""
        probes: list[Packet] = []
        if self.before and self.before[-1].window == 0:  # they ask whether the window has opened (RFC 9293, 3.8.6.1)
            return ()
        expected = self.next_to_send
        if not self.is_answer and after(self.rst.seq, expected):  # its seq is SND.NXT, whatever was captured
            expected = self.rst.seq
        for packet in reversed(self.sent):
            if not is_keepalive(packet, expected):
                break
            probes.append(packet)
        return tuple(reversed(probes))

    @property
    def repeats(self) -> tuple[Packet, ...]:
        """The sendings of the segment that this end sent last, where all of them went unacknowledged."""
        last = next((p for p in reversed(self.sent) if p.takes_numbers), None)
        if last is None or any(p.flags & Flags.ACK and not after(last.next_seq, p.ack) for p in self.before):
            return ()
        return tuple(p for p in self.sent if (p.seq, p.next_seq) == (last.seq, last.next_seq))
