"""Each packet, call, state and process end of a trace as a sentence, for a reader who cannot see the diagram."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .dissect import call_words, clip, makes_ready, read_packets
from .explain import CAPTURE, Reset
from .tcp import Endpoint
from .trace import Call, Program, State, Trace

TEXT = 120  # characters of a text that came from a program
LONG = 0.001  # seconds: a longer call has a line for its return
_WAITING = 0.02  # seconds that bytes must lie in a queue to be worth a line
BEGINNING = "beginning"  # of a call whose end is told later
_QUEUES = ("{:,} B unread", "{:,} B unsent")
_ACCEPT_QUEUE = ("{:,} in its accept queue",)

Tags = Mapping[frozenset[Endpoint | None], str]  # by connection: what a sentence about it begins with


class Event(NamedTuple):
    """A sentence, and when it became true. ``routine`` says what it is where many like it can be summed up."""

    at: float
    text: str
    routine: str = ""
    lost: bool = False


def connection_tags(trace: Trace) -> Tags:
    """A number for each connection; none where there is but one, and nothing to be told apart."""
    found = dict.fromkeys(p.connection for p in trace.packets)
    return {ends: f"Connection {number}: " for number, ends in enumerate(found, 1)} if len(found) > 1 else {}


def events(trace: Trace, resets: Sequence[Reset], tags: Tags) -> list[Event]:
    """All that a trace shows, in order of time."""
    found = [*_packets(trace, resets, tags), *_calls(trace, tags), *_states(trace, tags), *_process_ends(trace)]
    return sorted(found, key=lambda event: event.at)


def _packets(trace: Trace, resets: Sequence[Reset], tags: Tags) -> Iterator[Event]:
    """The sending and the arrival of each packet."""
    sent = {p.number: f" This is the reset: {reset.cause.title}." for reset in resets for p in reset.packets}
    provoked = {
        reset.trigger.number: f" It provokes the RST, packet {reset.packet.number}."
        for reset in resets
        if reset.trigger
    }
    for packet, kind, label, _ in read_packets(trace.packets):
        tag = tags.get(packet.connection, "")
        routine = {"data": "data packet", "ACK": "ACK", "retransmission": "retransmission"}.get(kind, "")
        if packet.number in provoked:
            routine = ""
        lost = f" It never arrives ({clip(packet.lost, TEXT)})." if packet.lost is not None else ""
        text = f"{tag}The {packet.sender} sends packet {packet.number}: {label}.{lost}{sent.get(packet.number, '')}"
        if trace.backend == CAPTURE:  # which has one moment for each packet
            yield Event(packet.sent, f"{text}{provoked.get(packet.number, '')}", routine, packet.lost is not None)
            continue
        yield Event(packet.sent, text, routine, packet.lost is not None)
        if packet.arrived is not None:
            address = packet.destination.address  # over the loopback interface the sender's as well
            receivers = (host for host, its in trace.hosts.items() if its == address and host != packet.sender)
            receiver = next(receivers, address)
            text = f"{tag}Packet {packet.number} reaches the {receiver}.{provoked.get(packet.number, '')}"
            yield Event(packet.arrived, text, routine and "arrival")


def _calls(trace: Trace, tags: Tags) -> Iterator[Event]:
    """Each call, in one line where it was short and in two where others came between."""
    listeners = {(call.host, call.process, call.socket) for call in trace.calls if call.name == "listen"}
    for call in trace.calls:
        failed = call.errno is not None or call.error is not None
        if makes_ready(call):
            continue
        tag = tags.get(frozenset((call.local, call.peer)), "")
        asked = clip(call_words(call)[0].removesuffix(" by Python"), TEXT)
        if call.name == "sleep":
            begins = f"The {call.host} sleeps {clip(call.arguments, TEXT)} s"
        else:
            begins = f"The {call.host} calls {asked}"
            if call.implicit:
                begins = f"Python calls {asked} for the {call.host}, which has let go of its socket"
        if call.name == "close" and (call.host, call.process, call.socket) in listeners:
            begins += " on its listener"
        routine = f"{call.name}() call" if call.size and not failed else ""
        if call.ended is None:
            yield Event(call.began, f"{tag}{begins}, which never returns.")
        elif call.ended - call.began >= LONG:
            yield Event(call.began, f"{tag}{begins}.", routine and BEGINNING)
            ends = f"The {call.host} wakes up"
            if call.name != "sleep" or failed:
                ends = f"{asked} of the {call.host} {outcome(call, f' after {span(call.ended - call.began)}')}"
            yield Event(call.ended, f"{tag}{ends}.", routine)
        else:
            at = call.ended if call.name in ("accept", "recv", "recv_into") else call.began
            came = f", which {outcome(call)}" if failed or call.result is not None else ""
            yield Event(at, f"{tag}{begins}{came}.", routine)


def outcome(call: Call, after: str = "") -> str:
    """What came of a call that ended; ``after`` says after how long."""
    if call.errno is not None or call.error is not None:
        error = clip(re.sub(r"\[Errno \d+\] ", "", call.error or "").rstrip(": "), TEXT)
        return f"fails{after}: {', '.join(filter(None, (call.errno, error)))}"
    if call.result is None:
        return f"returns{after}"
    end = " (the end of the data)" if call.name == "recv" and call.result == "b''" and call.arguments != "0" else ""
    return f"returns {clip(' '.join(call_words(call)[1]).removeprefix('→ '), TEXT)}{end}{after}"


def _states(trace: Trace, tags: Tags) -> Iterator[Event]:
    """Each state of each socket as it was first seen, and the bytes that lay in its queues for a while."""
    by_socket: dict[tuple[str, Endpoint, Endpoint | None], list[State]] = {}
    for state in sorted(trace.states, key=lambda s: s.at):
        by_socket.setdefault((state.host, state.local, state.peer), []).append(state)
    for (host, local, peer), states in by_socket.items():
        tag = tags.get(frozenset((local, peer)), "")
        whose = f"{tag}The {host}'s {'socket' if peer else f'listener on {local}'}"
        before = None
        for state in states:
            if before is None or state.state != before.state:
                yield Event(state.at, f"{whose} is {_state(state, before)}.")
            before = state
        for place, words in enumerate(_QUEUES if peer else _ACCEPT_QUEUE):
            for began, ended, most in _held(states, place, trace.duration):
                yield Event(began, f"{whose} holds up to {words.format(most)}, for {span(ended - began)}.")


def _state(state: State, before: State | None) -> str:
    if state.state != "CLOSED":
        return f"in {state.state}"
    held = before.held if before and before.peer else (0, 0, 0)
    lost = [f"{n:,} B {word}" for n, word in zip(held, ("unread", "unsent", "unacknowledged"), strict=True) if n]
    return "gone (CLOSED)" + (f", last seen with {' and '.join(lost)}" if lost else "")


def _held(states: Sequence[State], place: int, end: float) -> Iterator[tuple[float, float, int]]:
    """When one of a socket's queues was not empty for a while: from, to, and the most that it held."""
    began, most = None, 0
    for state in (*states, None):
        count = state.held[place] if state else 0
        at = state.at if state else end
        if count and began is None:
            began = at
        elif not count and began is not None:
            if at - began >= _WAITING:
                yield began, at, most
            began, most = None, 0
        most = max(most, count)


def _process_ends(trace: Trace) -> Iterator[Event]:
    """How the process of each program ended."""
    for program in trace.programs:
        if program.ended is not None:
            yield Event(program.ended, f"The {program.host}'s process {_fate(program)}.")


def _fate(program: Program) -> str:
    if program.signal is not None:
        return f"is ended by {program.signal}"
    if program.traceback is not None:
        return f"ends by an exception, {clip(program.traceback.strip().rpartition(chr(10))[2], TEXT)}"
    return f"ends with status {program.status}" if program.status else "ends"


def span(seconds: float) -> str:
    """A length of time, with three digits."""
    if seconds < 0.9995:
        return f"{round(seconds * 1000, 3):.3g} ms"
    return f"{seconds:.3g} s" if seconds < 99.95 else f"{seconds:,.0f} s"
