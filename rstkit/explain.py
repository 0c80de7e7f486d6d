"""Why each RST of a trace was sent, from all that the trace holds.

The packets say which causes are possible; the kernel's reason, its counters, the states of the
sockets and the calls of the programs, in this order, rule some of them out. What is left is the
answer: one cause, or several, and then it says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .actions import actions, ask_program
from .case import Case, provoking_call
from .causes import CAUSES, Cause
from .conversation import conversations, look, resets_of, round_trip
from .copies import without_copies
from .evidence import Evidence
from .saw import saw
from .shown import seen
from .story import remedy, why
from .suspects import Suspects, suspects
from .tcp import Endpoint
from .trace import Call, Packet, Trace
from .view import View
from .witnesses import ask_kernel

CAPTURE = "capture"  # the backend of a trace whose packets have the times of one point on their way

__all__ = ["Evidence", "Reset", "explain"]


@dataclass(frozen=True, slots=True)
class Reset:
    """One reset and its explanation.

    ``packets`` are the RST and its repeats (and their copies, in a capture that has frames twice),
    ``sender`` is the host that sent them. ``trigger`` is the packet that provoked the first, None where
    a call or a timer did; ``call`` is the sender's call without which it would not have been sent (a
    close, say), where one was recorded. ``confidence`` is ``certain``, ``likely`` or ``ambiguous``;
    ``alternatives`` are the causes that remain possible beside ``cause``. ``evidence`` begins with the
    strongest. ``saw`` is what the programs saw of it, a sentence each.
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
        lines = [f"Packet {self.packet.number}, RST from the {self.sender}: {self.cause.title} ({self.confidence})"]
        lines += [f"  why: {self.why}"]
        lines += [f"  or: {cause.title}" for cause in self.alternatives]
        lines += [f"  saw: {text}" for text in self.saw]
        lines += [f"  {evidence.kind}: {evidence.text}" for evidence in self.evidence]
        lines += [f"  what to do: {self.remedy}"]
        return "\n".join(lines)


def explain(trace: Trace) -> list[Reset]:
    """Each reset of the trace, in order of sending, with why it was sent.

    A RST that an end sends again on the same connection is part of the same reset. With packets
    alone the confidence is never more than likely.
    """
    views: list[View] = []
    earlier: dict[frozenset[Endpoint], Sequence[Packet]] = {}
    for conversation in conversations(trace.packets):
        ends = conversation[0].connection
        views += _views(conversation, trace.backend, earlier.get(ends, ()))
        earlier[ends] = conversation
    suspected = [suspects(view, trace.packets) for view in views]
    of_host: dict[str, list[frozenset[str]]] = {}
    for view, by_packets in zip(views, suspected, strict=True):
        of_host.setdefault(view.rst.sender, []).append(frozenset(by_packets.keys))
    found = [
        _explain(trace, view, by_packets, of_host[view.rst.sender])
        for view, by_packets in zip(views, suspected, strict=True)
    ]
    return sorted(found, key=lambda reset: reset.packet.number)


def _views(conversation: Sequence[Packet], backend: str, earlier: Sequence[Packet]) -> Iterator[View]:
    if backend != CAPTURE:
        yield from (look(conversation, resets, earlier=earlier) for resets in resets_of(conversation))
        return
    packets, copies = without_copies(conversation)
    ends: dict[Endpoint, float] = {}
    for resets in resets_of(packets):
        end = resets[0].source
        if end not in ends:
            ends[end] = round_trip(packets, end)
        yield look(packets, resets, ends[end], copies, earlier)


def _explain(trace: Trace, view: View, by_packets: Suspects, of_host: Sequence[frozenset[str]]) -> Reset:
    done = actions(trace, view)
    left = [*by_packets.keys]
    heard: list[Evidence] = []
    decided = False
    suspected = frozenset(by_packets.keys)
    for testimony in (*ask_kernel(trace, view, suspected, of_host), *ask_program(view, done, suspected)):
        admits = frozenset(CAUSES) if testimony.admits is None else testimony.admits
        admitted = [key for key in left if key in admits]
        if not admitted and testimony.evidence.kind == "reason":  # the kernel knows better than the packets
            admitted = [key for key in CAUSES if key in admits]
        if not admitted:  # it contradicts stronger evidence
            continue
        decided = True
        if admitted != left or not testimony.clears:
            heard.append(testimony.evidence)
        left = admitted
    cause = CAUSES[left[0]]
    confidence = _confidence(left, decided, by_packets.keys, by_packets.clear)
    case = Case(trace, view, done, cause, confidence, alternatives=len(left) > 1, signs=by_packets.signs)
    return Reset(
        packets=(*view.resets, *view.copies),
        sender=view.rst.sender,
        trigger=view.trigger,
        call=provoking_call(case),
        cause=cause,
        confidence=confidence,
        alternatives=tuple(CAUSES[key] for key in left[1:]),
        why=why(case),
        evidence=(*heard, *seen(case)),
        saw=saw(case),
        remedy=remedy(case),
    )


def _confidence(left: Sequence[str], decided: bool, suspected: Sequence[str], clear: bool) -> str:
    if len(left) == 1:
        return "certain" if decided else "likely"
    return "likely" if clear and left[0] == suspected[0] else "ambiguous"
