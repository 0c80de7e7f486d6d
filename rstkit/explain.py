"""Why each RST of a trace was sent, from all that the trace holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from .causes import CAUSES, Cause
from .conversation import View, conversations, look
from .tcp import Flags
from .trace import Call, Packet, Trace


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a cause rests on: its kind (reason, counter, state, call or packet) and a sentence.

    ``packet`` and ``call`` are the numbers of what it points at, where it points at one.
    """

    kind: str
    text: str
    packet: int | None = None
    call: int | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Reset:
    """One reset and its explanation.

    ``packets`` are the RST and its repeats; ``sender`` is the host that sent them; ``trigger``
    is the packet that provoked the first, ``call`` the call that did, where there is one.
    ``confidence`` is certain, likely or ambiguous; ``alternatives`` are the causes that remain
    possible.
    """

    packets: tuple[Packet, ...]
    sender: str
    trigger: Packet | None
    call: Call | None
    cause: Cause
    confidence: str
    alternatives: tuple[Cause, ...]
    why: str
    evidence: tuple[Evidence, ...]
    saw: tuple[str, ...]
    remedy: str

    @property
    def packet(self) -> Packet:
        """The first RST."""
        return self.packets[0]

    def __str__(self) -> str:
        told = f"{self.cause.title} ({self.confidence}). {self.why}"
        return f"Packet {self.packet.number}, RST from the {self.sender}: {told}"


def explain(trace: Trace) -> list[Reset]:
    """Each reset of the trace, in order of sending, with why it was sent."""
    found = []
    for conversation in conversations(trace.packets):
        for sender in dict.fromkeys(p.source for p in conversation if p.flags & Flags.RST):
            resets = [p for p in conversation if p.source == sender and p.flags & Flags.RST]
            found.append(_explain(trace, conversation, resets))
    return sorted(found, key=lambda reset: reset.packet.number)


def _explain(trace: Trace, conversation: Sequence[Packet], resets: Sequence[Packet]) -> Reset:
    view = look(conversation, resets)
    cause, confidence, alternatives, why = _judge(view)
    close = [
        c
        for c in trace.calls
        if c.name == "close"
        and (c.local, c.peer) == (view.rst.source, view.rst.destination)
        and c.began <= view.rst.sent
    ]
    return Reset(
        packets=tuple(resets),
        sender=view.rst.sender,
        trigger=view.trigger,
        call=close[-1] if close else None,
        cause=cause,
        confidence=confidence,
        alternatives=alternatives,
        why=why,
        evidence=(),
        saw=tuple(
            f"{c.host}: {c.name} → {c.errno} (call {c.number})"
            for c in trace.calls
            if c.errno and c.peer in (view.rst.source, view.rst.destination) and (c.ended or 0) >= view.rst.sent
        ),
        remedy=cause.remedy,
    )


def _judge(view: View) -> tuple[Cause, str, tuple[Cause, ...], str]:
    rst, trigger = view.rst, view.trigger
    if trigger and trigger.flags & Flags.SYN and not trigger.flags & Flags.ACK:
        why = f"Packet {trigger.number} asked for port {trigger.destination.port}, where nobody listens."
        return CAUSES["no-listener"], "likely", (), why
    if trigger and view.fin and not trigger.length:
        why = f"Packet {trigger.number} came for a connection that the {rst.sender} had closed and forgotten."
        return CAUSES["fin-wait2-timed-out"], "likely", (), why
    if trigger:
        why = f"Packet {trigger.number} brought {trigger.length} bytes for a socket that the {rst.sender} had closed."
        return CAUSES["data-after-close"], "likely", (CAUSES["fin-wait2-timed-out"],), why
    if any(p.length for p in view.received):
        why = f"The {rst.sender} aborted the connection; it had received data, which it may not have read."
        return CAUSES["unread-data"], "ambiguous", (CAUSES["linger-zero"],), why
    return CAUSES["linger-zero"], "likely", (), f"The {rst.sender} aborted the connection."
