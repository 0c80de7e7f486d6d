"""The score of `explain` on packets alone: cause by cause, how often right, right among others, wrong."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rstkit.capture import write_pcapng
from rstkit.captures import read
from rstkit.explain import Reset, explain
from rstkit.trace import Packet, Trace

from .points import POINTS, captured, captured_twice, incomplete, out_of_order

RIGHT, AMONG, WRONG = GRADES = ("right", "among", "wrong")

WHOLE = tuple(f"at the {point}" if point in POINTS[:2] else point for point in POINTS)
"""The ways to see a run whole; the others miss a part of it."""

FROM_FILE = "read from a file"

# Close and shutdown look alike, and so do the calls that abort: see `rstkit.suspects`.
DECIDED = frozenset(
    {
        "no-listener",
        "data-after-close",
        "fin-wait2-timed-out",
        "keepalive-timeout",
        "accept-queue-overflow",
        "connect-aborted",
        "half-open-scan",
        "unacceptable-ack",
        "unknown-connection",
        "gave-up",
        "after-normal-close",
    }
)
"""The causes that the packets of a whole capture tell apart from all others."""

# A close that packets show as hurried: which call made it is another question.
_HURRIED = frozenset({"unread-data", "linger-zero", "disconnect", "socket-killed"})
_LATER = frozenset({"unknown-connection", "data-after-close"})


def ways(trace: Trace) -> dict[str, Trace]:
    """A run as captures would show it: from three points, begun late, with one side missing, or badly made."""
    found = {name: captured(trace, point) for name, point in zip(WHOLE, POINTS, strict=True)}
    for after, point in ((1, "between"), (3, "server"), (5, "client")):
        found[f"without the first {after}"] = captured(trace, point, after=after)
    for side in ("client", "server"):
        found[f"the {side}'s side"] = captured(trace, "between", side=side)
    found["captured twice"] = captured_twice(found["between"])
    for seed, whole in enumerate(WHOLE):
        found[f"out of order, {whole}"] = out_of_order(found[whole], seed)
        found[f"incomplete, {whole}"] = incomplete(found[whole], seed)
    return found


def from_file(capture: Trace) -> list[Reset]:
    """The explanations, connection by connection, of a capture that went through a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "capture.pcapng")
        write_pcapng(capture, path)
        return [reset for connection in read(path).reset_connections for reset in explain(connection.trace())]


@dataclass
class Score:
    """How often each cause was found, by way; ``wrong`` and ``missed`` are the explanations to look at.

    ``untold`` counts the resets of which the whole run does not tell the cause for certain either.
    """

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    untold: int = 0

    def add(self, name: str, trace: Trace) -> None:
        """Score the explanations of a run's packets, seen in each way, against that of the whole run."""
        truth = explain(trace)
        told = [r for r in truth if r.confidence == "certain" or r.cause.key == "half-open-scan"]  # no call tells that
        self.untold += len(truth) - len(told)
        seen = ways(trace)
        for way, capture in seen.items():
            self._grade(f"{name} {way}", way, told, explain(capture))
        self._grade(f"{name} {FROM_FILE}", FROM_FILE, told, from_file(seen[WHOLE[0]]))

    def _grade(self, name: str, way: str, truth: Iterable[Reset], found: Sequence[Reset]) -> None:
        for reset in truth:
            ends, own = reset.packet.connection, _bytes(reset)
            other = next((r for r in found if r.packet.connection == ends and own & _bytes(r)), None)
            if other is None:  # it did not pass there
                continue
            grade = graded(reset, other)
            self.counts[way, reset.cause.key, grade] += 1
            keys = [cause.key for cause in other.alternatives]
            told = f"{name}: {reset.cause.key}, found {other.cause.key} ({other.confidence}) or {', '.join(keys)}"
            if grade == WRONG:
                self.wrong.append(told)
            elif grade == AMONG and way in WHOLE and _decided(reset):
                self.missed.append(told)

    def total(self, grade: str, ways: Iterable[str], keys: Iterable[str]) -> int:
        """How many explanations of the resets with these causes got a grade."""
        return sum(self.counts[way, key, grade] for way in ways for key in keys)

    def table(self) -> str:
        """The score as text: of whole captures, and of those that miss a part."""
        keys = sorted({key for _, key, _ in self.counts})
        parts = sorted({way for way, _, _ in self.counts} - set(WHOLE))
        lines = [f"{'':24}{'whole captures':>24}{'less than that':>24}"]
        lines += [f"{'cause':24}" + "".join(f"{grade:>8}" for grade in GRADES) * 2]
        for key in [*keys, "all"]:
            of = keys if key == "all" else [key]
            counts = (self.total(grade, ways, of) for ways in (WHOLE, parts) for grade in GRADES)
            lines.append(f"{key:24}" + "".join(f"{count:8}" for count in counts))
        return "\n".join(lines)


def graded(truth: Reset, found: Reset) -> str:
    """Whether an explanation is right, names the right cause among others, or is wrong.

    Where the RST of the reset itself was not captured, those that repeat it come from a host that knows nothing of
    the connection any more, or answer data that came after it was closed: these are then the right answers.
    """
    if found.cause == truth.cause or (found.cause.key == "hurried-close" and truth.cause.key in _HURRIED):
        return RIGHT
    keys = [found.cause.key, *(cause.key for cause in found.alternatives)]
    if _ip(truth.packet) not in _bytes(found) and _LATER & {*keys}:
        return RIGHT if keys[0] in _LATER else AMONG
    return AMONG if truth.cause.key in keys else WRONG


def _ip(packet: Packet) -> bytes:
    return packet.frame[14:]


def _bytes(reset: Reset) -> set[bytes]:
    return {_ip(packet) for packet in reset.packets}


def _decided(truth: Reset) -> bool:
    """Whether packets tell the cause: not where data comes after FIN_WAIT2 had ended sooner than is usual."""
    late = truth.cause.key == "fin-wait2-timed-out" and truth.trigger is not None and truth.trigger.length > 1
    return truth.cause.key in DECIDED and not late
