"""What an explanation rests on."""

from dataclasses import dataclass

from .causes import CAUSES

STRENGTH = ("reason", "counter", "state", "call", "packet")
"""The kinds of evidence, the strongest first."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that was seen, in a sentence.

    ``kind`` is one of `STRENGTH`: the kernel's reset reason, a kernel counter, a socket's state,
    a call of a program, a packet. ``packet`` and ``call`` are the numbers of the packet and the
    call that it points at, where it points at one.
    """

    kind: str
    text: str
    packet: int | None = None
    call: int | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Testimony:
    """Evidence, and what it tells of the causes.

    ``admits`` are the keys of the causes that it leaves possible (None: all). ``clears`` marks
    one that speaks for no cause, and only clears some: it matters only where one of these was suspected.
    """

    evidence: Evidence
    admits: frozenset[str] | None = None
    clears: bool = False


def clears(evidence: Evidence, *keys: str) -> Testimony:
    """Evidence that the causes with these keys did not happen."""
    return Testimony(evidence, frozenset(CAUSES) - frozenset(keys), clears=True)
