"""What the packets show of a reset, in words, each with a packet's number."""

from collections.abc import Iterator
from itertools import takewhile

from .case import Case
from .evidence import Evidence
from .tcp import Flags
from .view import is_syn

_MOST_TEXT = 80  # characters of what a RST carries
_NOT_ITS_OWN = frozenset({"injected", "firewall-reject", "state-lost"})


def seen(case: Case) -> tuple[Evidence, ...]:
    """What the packets show, and what was not captured."""
    told = (_form, _text, _signs, _closing, _window, _silence, _repeats, _missing)
    return tuple(evidence for tell in told for evidence in tell(case))


def _form(case: Case) -> Iterator[Evidence]:
    """What the RST's own form tells."""
    view, rst = case.view, case.view.rst
    if view.trigger and is_syn(view.trigger):
        text = f"Packet {rst.number} has seq 0 and acknowledges the SYN (packet {view.trigger.number}): it refuses it."
    elif view.trigger and rst.flags & Flags.ACK:
        answered = f"packet {view.trigger.number}"
        text = f"Packet {rst.number} has seq 0 and acknowledges {answered}, which has no ACK flag: it answers that."
    elif view.trigger:
        answered = f"packet {view.trigger.number}"
        text = f"Packet {rst.number} has no ACK flag, and its seq is the ack of {answered}: it answers {answered}."
    elif view.is_answer:
        text = f"Packet {rst.number} has no ACK flag: it answers a segment, which was not captured."
        if case.cause.key in _NOT_ITS_OWN:
            text = f"Packet {rst.number} has no ACK flag, and no packet was captured that it could answer."
    elif case.cause.key in ("no-listener", *_NOT_ITS_OWN):
        text = f"Packet {rst.number} has the ACK flag and answers no packet that was captured."
    elif case.cause.key == "data-after-close" and view.late_data:
        text = (
            f"Packet {rst.number} follows packet {view.late_data.number} at once; some systems set ACK in such answers."
        )
    else:
        text = f"Packet {rst.number} has the ACK flag and answers no packet: {case.sender}'s kernel aborted of itself."
    yield Evidence("packet", text, packet=rst.number)


def _text(case: Case) -> Iterator[Evidence]:
    """What a RST carries: a reason for people to read, as some devices write it (RFC 9293, 3.5.3)."""
    rst = case.view.rst
    if rst.length:
        said = rst.payload[:_MOST_TEXT].decode("latin-1")
        shown = "".join(c if c.isprintable() and c.isascii() else "." for c in said)
        more = " …" if rst.length > _MOST_TEXT else ""
        text = f"Packet {rst.number} carries {rst.length:,} bytes that may tell the reason: “{shown}{more}”."
        yield Evidence("packet", text, packet=rst.number)


def _window(case: Case) -> Iterator[Evidence]:
    """That the other end took no more data."""
    before = [p for p in case.view.before if not p.flags & Flags.SYN]
    shut = list(takewhile(lambda packet: packet.window == 0, reversed(before)))
    if shut:
        first = shut[-1].number
        text = f"From packet {first} on {case.receiver} took no more data: its window was 0."
        yield Evidence("packet", text, packet=first)


def _signs(case: Case) -> Iterator[Evidence]:
    """What speaks against the RST being its end's own."""
    for sign in case.signs:
        yield Evidence("packet", sign.text, packet=sign.packet)


def _closing(case: Case) -> Iterator[Evidence]:
    view = case.view
    if view.fin:
        text = f"Packet {view.fin.number} is {case.sender}'s FIN"
        text += f"; packet {view.fin_acked.number} acknowledged it." if view.fin_acked else ", not yet acknowledged."
        yield Evidence("packet", text, packet=view.fin.number)


def _silence(case: Case) -> Iterator[Evidence]:
    """What did not come: an answer to probes or to what was sent again, or any data."""
    view = case.view
    if view.probes and view.trigger is None:
        number = view.probes[-1].number
        text = f"{len(view.probes)} keepalive probes, the last in packet {number}, had got no answer."
        if len(view.probes) == 1:
            text = f"A keepalive probe, packet {number}, had got no answer."
        yield Evidence("packet", text, packet=number)
    if case.cause.key in ("gave-up", "retransmission-timeout") and len(view.repeats) > 1:
        first, last = view.repeats[0].number, view.repeats[-1].number
        text = f"Packet {first} was sent {len(view.repeats)} times (last: packet {last}) and never acknowledged."
        yield Evidence("packet", text, packet=first)
    nothing = not view.is_answer and view.trigger is None and not view.may_have_received
    if nothing and case.cause.key not in ("no-listener", *_NOT_ITS_OWN):
        text = f"No data had reached {case.sender}, so nothing can have been unread."
        yield Evidence("packet", text, packet=view.rst.number)


def _repeats(case: Case) -> Iterator[Evidence]:
    view = case.view
    if len(view.resets) < 2:
        return
    more, second = len(view.resets) - 1, view.resets[1].number
    text = (
        f"{more} more RSTs followed, from packet {second} on" if more > 1 else f"One more RST followed, packet {second}"
    )
    acks = {p.ack for p in view.conversation if p.source != view.rst.source and p.flags & Flags.ACK}
    each = all(p.seq == 0 if p.flags & Flags.ACK else p.seq in acks for p in view.resets[1:])
    if each:
        text += ": each answers one more packet" if more > 1 else ": it answers one more packet"
    yield Evidence("packet", f"{text}.", packet=second)


def _missing(case: Case) -> Iterator[Evidence]:
    """What the capture does not hold, and so cannot tell."""
    view = case.view
    if view.copies:
        copy = view.copies[0].number
        text = f"Frames were captured more than once: packets {view.rst.number} and {copy} are one, for example."
        yield Evidence("packet", text, packet=view.copies[0].number)
    if view.one_sided:
        text = f"Nothing that {case.receiver} sent was captured, so less can be told."
        yield Evidence("packet", text)
    if not view.began:
        text = "The capture began after the handshake: what came before is not known, and which end is called the "
        text += "client is a guess."
        yield Evidence("packet", text)
