"""What two runs did differently: what `compare` draws, and the same in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from .dissect import clip, printable, read_packets
from .explain import explain
from .strands import NEVER, Pair, Step, Thing, pairs
from .timeline import clock
from .trace import Trace
from .words import TEXT

RUNS = ("first run", "second run")
_MOMENT = 1e-4  # seconds: how exactly a moment is told


class Difference(NamedTuple):
    """Where two strands part: when, and what each run did there in a sentence without a full stop.

    Times are seconds after the first packet, infinite where a run did nothing; it has no ``things`` then.
    """

    on_wire: bool
    times: tuple[float, float]
    words: tuple[str, str]
    things: tuple[tuple[Thing, ...], tuple[Thing, ...]]

    @property
    def at(self) -> float:
        """When one of the runs first did what the other did not."""
        return min(self.times)


@dataclass(frozen=True, slots=True)
class Contrast:
    """What differs between two runs; ``str`` tells it in words.

    ``runs`` are the two with their first packets at zero. ``differences`` are the first of each
    strand, in order of time. ``odd`` are all calls, packets and programs of each run that have no
    match in the other. ``values`` tell, for each run, the values that differ; they are empty
    where none does.
    """

    runs: tuple[Trace, Trace]
    differences: tuple[Difference, ...]
    odd: tuple[frozenset[Thing], frozenset[Thing]]
    values: tuple[str, str]

    def __str__(self) -> str:
        told = list(zip(RUNS, self.runs, strict=True))
        lines = [f"The {run} was {trace.origin}." for run, trace in told if trace.origin]
        lines += [f"The {run}: {values}." for run, values in zip(RUNS, self.values, strict=True) if values]
        if not self.differences:
            called = any(trace.calls for trace in self.runs)
            lines.append("No difference" + (": each program called the same and got the same." if called else "."))
        for difference in self.differences:
            begin = "They differ first" if difference is self.differences[0] else "Then"
            lines.append(f"{begin} {_when(difference.at)} the first packet:")
            lines += [f"  {run}: {words}." for run, words in zip(RUNS, difference.words, strict=True)]
        if self.runs[0].packets and not any(difference.on_wire for difference in self.differences):
            lines.append(f"On the wire: {self._alike()}.")
        lines += [f"The {run} has {_resets(trace)}." for run, trace in zip(RUNS, self.runs, strict=True)]
        return "\n".join(map(printable, lines))

    def _alike(self) -> str:
        """How alike the packets are, where no difference was found in them."""
        labels = []
        for trace in self.runs:
            by_sender = sorted(read_packets(trace.packets), key=lambda reading: reading.packet.sender)
            labels.append([(r.packet.sender, r.label, r.packet.lost) for r in by_sender])
        if labels[0] == labels[1]:
            return f"the same {len(self.runs[0].packets)} packets"
        return "the same, but for what timing decides (acknowledgments, retransmissions, where the bytes are cut)"


def contrast(first: Trace, second: Trace) -> Contrast:
    """Find what differs between two runs."""
    runs = _aligned(first), _aligned(second)
    found = []
    odd: tuple[set[Thing], set[Thing]] = set(), set()
    for pair in pairs(*runs):
        blocks = _unequal(pair.first, pair.second)
        if blocks:
            found.append(_difference(pair, *blocks[0]))
        for one, other in blocks:
            odd[0].update(thing for step in pair.first[one] for thing in step.things)
            odd[1].update(thing for step in pair.second[other] for thing in step.things)
    differences = tuple(sorted(found, key=lambda difference: difference.at))
    return Contrast(runs, differences, (frozenset(odd[0]), frozenset(odd[1])), _values(first, second))


def _when(at: float) -> str:
    if abs(at) < _MOMENT / 2:
        return "at"
    return f"{clock(abs(at), _MOMENT)} {'after' if at > 0 else 'before'}"


def _aligned(trace: Trace) -> Trace:
    """The trace with its first packet at zero."""
    zero = trace.packets[0].sent if trace.packets else 0.0
    if not zero:
        return trace

    def later(moment: float | None) -> float | None:
        return None if moment is None else moment - zero

    return replace(
        trace,
        packets=tuple(p._replace(sent=p.sent - zero, arrived=later(p.arrived)) for p in trace.packets),
        calls=tuple(replace(c, began=c.began - zero, ended=later(c.ended)) for c in trace.calls),
        states=tuple(replace(s, at=s.at - zero) for s in trace.states),
        reasons=tuple(replace(r, at=r.at - zero) for r in trace.reasons),
        programs=tuple(replace(p, started=p.started - zero, ended=later(p.ended)) for p in trace.programs),
        duration=trace.duration - zero,
        epoch_ns=trace.epoch_ns + round(zero * 1e9),
    )


def _unequal(first: Sequence[Step], second: Sequence[Step]) -> list[tuple[slice, slice]]:
    """The stretches of two strands that have no match in the other; the first of them is where they part."""
    a, b = ([(step.asked, step.came) for step in strand] for strand in (first, second))
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    codes = SequenceMatcher(None, a[same:], b[same:], autojunk=False).get_opcodes()
    return [(slice(same + i, same + j), slice(same + k, same + m)) for code, i, j, k, m in codes if code != "equal"]


def _difference(pair: Pair, first: slice, second: slice) -> Difference:
    """The difference at the beginning of two stretches, of which one may be empty."""
    one, other = pair.first[first], pair.second[second]
    if one and other:
        a, b = one[0], other[0]
        times = (a.ended, b.ended) if a.asked == b.asked else (a.began, b.began)
        return Difference(pair.on_wire, times, (a.words, b.words), (a.things, b.things))
    if one:
        instead, at = _instead(one[0], pair.second[second.start :], pair.rest)
        return Difference(pair.on_wire, (one[0].began, at), (one[0].words, instead), (one[0].things, ()))
    instead, at = _instead(other[0], pair.first[first.start :], pair.rest)
    return Difference(pair.on_wire, (at, other[0].began), (instead, other[0].words), ((), other[0].things))


def _instead(step: Step, steps: Sequence[Step], rest: str) -> tuple[str, float]:
    """What a run did, and when, that had other ``steps`` to go where the other run took a step."""
    if not steps:
        return rest, NEVER
    later = (step.asked, step.came) in [(other.asked, other.came) for other in steps]
    return ("" if later else "without that, ") + steps[0].words, steps[0].began


def _values(first: Trace, second: Trace) -> tuple[str, str]:
    """The values that differ, and the names of programs that do."""
    names = [{program.host: program.name for program in trace.programs} for trace in (first, second)]
    one, other = (
        {host: name for host, name in own.items() if host in names[0] and host in names[1]} | dict(trace.values)
        for own, trace in zip(names, (first, second), strict=True)
    )
    differ = [name for name in one | other if (name in one, one.get(name)) != (name in other, other.get(name))]
    return _given(one, differ), _given(other, differ)


def _given(values: Mapping[str, Any], names: Sequence[str]) -> str:
    said = (f"{name} = {values[name]}" if name in values else f"{name} not given" for name in names)
    return clip(", ".join(said), TEXT)


def _resets(trace: Trace) -> str:
    titles = [f"a RST from the {reset.sender} ({reset.cause.title})" for reset in explain(trace)]
    return " and ".join(titles) or "no RST"
