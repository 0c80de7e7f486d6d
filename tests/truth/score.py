"""The score of `explain` on packets alone: cause by cause, how often right, right among others, wrong."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from rstkit.explain import Reset, explain
from rstkit.trace import Trace

RIGHT, AMONG, WRONG = "right", "among", "wrong"


@dataclass
class Score:
    """How often each cause was found; ``wrong`` and ``missed`` are the explanations to look at, ``untold``
    the resets of which the whole run does not tell the cause for certain either.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    untold: int = 0
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def add(self, name: str, truth: Iterable[Reset], seen: Trace) -> None:
        """Score the explanation of a capture against the explanation of the whole run."""
        found = explain(seen)
        for reset in truth:
            if reset.confidence != "certain" and reset.cause.key != "half-open-scan":  # which no call tells
                self.untold += 1
                continue
            frames = {id(packet.frame) for packet in reset.packets}
            for other in found:
                if any(id(packet.frame) in frames for packet in other.packets):
                    grade = graded(reset, other)
                    self.counts[reset.cause.key, grade] += 1
                    told = f"{name}: {reset.cause.key}, found {other.cause.key} ({other.confidence})"
                    told += f" or {', '.join(cause.key for cause in other.alternatives)}" if other.alternatives else ""
                    if grade == WRONG:
                        self.wrong.append(told)
                    elif grade == AMONG:
                        self.missed.append(told)
                    break


# A close that packets show as hurried: which call made it is another question.
_HURRIED = frozenset({"unread-data", "linger-zero", "disconnect", "socket-killed"})


def graded(truth: Reset, found: Reset) -> str:
    """Whether an explanation is right, names the right cause among others, or is wrong.

    Where the RST of the reset itself was not captured, those that repeat it come from a host that knows nothing of
    the connection any more: that is then the right answer.
    """
    if found.cause == truth.cause or (found.cause.key == "hurried-close" and truth.cause.key in _HURRIED):
        return RIGHT
    if all(p.frame is not truth.packet.frame for p in found.packets):
        keys = [found.cause.key, *(cause.key for cause in found.alternatives)]
        if "unknown-connection" in keys:
            return RIGHT if keys[0] == "unknown-connection" else AMONG
    return AMONG if truth.cause in found.alternatives else WRONG
