"""Where things stand on the sheet: time folded into pixels, and labels that do not overlap.

Pure geometry, in pixels from the top left. What is drawn, and in what colour, is not known here.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

FLIGHT = 48.0  # pixels that a typical packet falls between its sending and its arrival
LONGEST_GAP = 60.0  # pixels of a stretch of time in which packets are on their way and nothing else happens
SILENCE = 24.0  # pixels of a stretch of time in which nothing happens at all, where it is not folded
FOLD = 44.0  # pixels of a fold
SHORTEST_FOLD = 0.02  # seconds: a shorter silence is not worth a word
_TALLEST = 6000.0  # pixels: beyond this, rows move closer together
_NARROW = 0.8  # of the width of a text is kept clear of lines: on a wider page the texts are narrower than here
_CRUMB = 20.0  # pixels: a shorter piece of a line between two texts is not worth drawing


class Mark(NamedTuple):
    """A moment to find a height for, in seconds; what stands there takes room above and below it.

    Marks of one ``lane`` get heights that keep their rooms apart. ``flying`` is +1 where a
    packet sets out, -1 where one arrives, 0 elsewhere: time with a packet on its way is no silence.
    """

    at: float
    lane: str = ""
    above: float = 0.0
    below: float = 0.0
    flying: int = 0


class Fold(NamedTuple):
    """A silence of ``seconds``, drawn as a break between two heights."""

    seconds: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """The height of each mark (in the order in which they were given), and the folds between them.

    ``scale`` is 1 where every row has its full room, and less where there are too many rows for
    that. ``crowded`` tells whether some texts may find no place. ``bars`` are heights (from, to)
    that are kept free for a text across the sheet.
    """

    heights: tuple[float, ...]
    folds: tuple[Fold, ...]
    bottom: float
    scale: float
    crowded: bool = False
    bars: tuple[tuple[float, float], ...] = ()

    def pieces(self, top: float, bottom: float, gap: float = 16.0) -> list[tuple[float, float]]:
        """A vertical line cut where time is folded, and at the bars."""
        whole = []
        middles = ((fold.top + fold.bottom) / 2 for fold in self.folds)
        for begin, end in sorted([*((middle - gap / 2, middle + gap / 2) for middle in middles), *self.bars]):
            if top < begin and end < bottom:
                whole.append((top, begin))
                top = end
        return [*whole, (top, bottom)]


def typical_flight(flights: Iterable[float]) -> float:
    """The median of how long packets were on their way, in seconds; a millisecond where none is known."""
    known = sorted(flight for flight in flights if flight > 0)
    return known[len(known) // 2] if known else 0.001


def lay_out(marks: Sequence[Mark], flight: float, *, true_scale: bool = False) -> Timeline:
    """Give each mark a height that grows with its time.

    Time is elastic: ``flight`` seconds become `FLIGHT` pixels, more where a lane needs the room,
    and a silence much longer than a flight becomes a fold. With ``true_scale`` every second is
    as long as any other.
    """
    order = sorted(range(len(marks)), key=lambda i: marks[i].at)
    heights = [0.0] * len(marks)
    if not order:
        return Timeline((), (), 0.0, 1.0)
    first = marks[order[0]].at
    if true_scale:
        length = marks[order[-1]].at - first
        pixels = min(max(length / flight * FLIGHT / 2, 600.0), 3000.0)
        for i in order:
            heights[i] = (marks[i].at - first) / length * pixels if length else 0.0
        return Timeline(tuple(heights), (), pixels if length else 0.0, 1.0, crowded=True)

    room: dict[str, float] = defaultdict(float)
    for mark in marks:
        room[mark.lane] += mark.above + mark.below
    scale = min(1.0, _TALLEST / max(*room.values(), 1.0))
    taken: dict[str, float] = {}
    folds = []
    before, height, flying = first, 0.0, 0
    for i in order:
        mark = marks[i]
        passed = mark.at - before
        if flying <= 0 and passed >= max(4 * flight, SHORTEST_FOLD):
            gap = FOLD
            fold: float | None = passed
        else:
            gap = min(passed / flight * FLIGHT, LONGEST_GAP if flying > 0 else SILENCE) * scale
            fold = None
        above = height
        height += gap
        if mark.lane:
            height = max(height, taken.get(mark.lane, -math.inf) + mark.above * scale)
            taken[mark.lane] = height + mark.below * scale
        if fold is not None:
            folds.append(Fold(fold, above, height))
        heights[i] = height
        before = mark.at
        flying += mark.flying
    return Timeline(tuple(heights), tuple(folds), height, scale, crowded=scale < 1)


class Box(NamedTuple):
    """A rectangle that a text takes."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


class Ground:
    """The boxes that texts have taken, kept by height so that a neighbour is found at once."""

    _STEP = 64.0

    def __init__(self) -> None:
        self._rows: dict[int, list[Box]] = defaultdict(list)

    def _steps(self, top: float, bottom: float) -> range:
        return range(int(top // self._STEP), int(bottom // self._STEP) + 1)

    def take(self, *candidates: Box, apart: float = 0.0) -> Box | None:
        """Take the first of the boxes that is free, and so far from those above and below; None where none is."""
        for box in candidates:
            wide = Box(box.left, box.top - apart, box.right, box.bottom + apart)
            steps = self._steps(wide.top, wide.bottom)
            if not any(wide.overlaps(other) for step in steps for other in self._rows.get(step, ())):
                for step in self._steps(box.top, box.bottom):
                    self._rows[step].append(box)
                return box
        return None

    def cut(self, x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float, float, float]]:
        """The pieces of a line that lie outside all boxes: a line does not run through a text."""
        top, bottom = min(y0, y1), max(y0, y1)
        near = {
            box
            for step in self._steps(top, bottom)
            for box in self._rows.get(step, ())
            if box.top < bottom and box.bottom > top
        }
        hidden = sorted(span for span in (_inside(box, x0, y0, x1, y1) for box in near) if span is not None)
        dx, dy = x1 - x0, y1 - y0
        crumb = _CRUMB / max(math.hypot(dx, dy), 1.0)
        pieces, at = [], 0.0
        for begin, end in [*hidden, (1.0, 1.0)]:
            if begin - at > crumb or (begin > at and 1.0 in (begin, 1.0 - at)):
                pieces.append((at, begin))
            at = max(at, end)
        return [(x0 + a * dx, y0 + a * dy, x0 + b * dx, y0 + b * dy) for a, b in pieces]


def _inside(box: Box, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float] | None:
    """The part of a line (not upright) that lies in a box, as fractions of the line."""
    dx, dy = x1 - x0, y1 - y0
    a, b = (box.left - x0) / dx, (box.right - x0) / dx
    begin, end = (a, b) if a < b else (b, a)
    spare = (end - begin) * (1 - _NARROW) / 2
    begin, end = begin + spare, end - spare
    if dy == 0:
        if not box.top < y0 < box.bottom:
            return None
    else:  # packets go down
        begin, end = max(begin, (box.top - y0) / dy), min(end, (box.bottom - y0) / dy)
    begin, end = max(begin, 0.0), min(end, 1.0)
    return (begin, end) if begin < end else None


def clock(seconds: float, gap: float = 0.001) -> str:
    """A moment, exact enough to tell it from one that is ``gap`` seconds away."""
    digits = math.ceil(-math.log10(gap) - 1e-6) if gap > 0 else 6
    if abs(seconds) < 1:
        return f"{seconds * 1000:.{min(max(digits - 3, int(abs(seconds) < 0.1)), 3)}f} ms"
    return f"{seconds:.{min(max(digits, 3), 6)}f} s"


def text_width(text: str, size: float) -> float:
    """About how many pixels a text takes in Helvetica or Arial, a little on the safe side."""
    # fsum is the same in every Python; sum is more exact since 3.12
    widths = (0.29 if c in " ,.:;'|ilj" else 0.72 if c.isupper() or c in "_→⋯mw@" else 0.57 for c in text)
    return size * math.fsum(widths)
