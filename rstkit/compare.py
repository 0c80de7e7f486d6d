"""Two runs side by side on one time scale, with the first difference marked."""

import itertools
import re
import textwrap
from collections.abc import Collection, Sequence

from .beside import Note, Side
from .contrast import RUNS, contrast
from .diagram import Diagram
from .dissect import Reading, clip, escape
from .drawing import HEAD, Canvas, Drawing
from .layers import HEADER_SIZE, LABEL_SIZE
from .sheet import NARROWEST, ROW, Sheet, arrange, label_rows
from .strands import Thing
from .timeline import Box
from .trace import Call, Trace

_MOST = 11  # characters of a row beside a lifeline
_TIMES = 54.0  # pixels of the column of times, between the runs
_HEAD, _FOOT = 96.0, 64.0  # pixels above the first event and below the last
_SPARE = 7.0  # pixels above and below the words of the difference
_BREAKS = re.compile(r"(?<=\()|(?<=[a-z])(?=[A-Z])|(?<=^ECONN)|(?<=^EHOST)")  # where a long word may be broken
_LETTER = 0.53  # of the size of a text is the width of an average letter


def compare(first: Trace, second: Trace) -> Diagram:
    """Draw two runs side by side on one time scale, and mark where they part.

    Their first packets stand at the same height. Calls that are the same in both are short and
    grey; hovering tells them whole. What counts as a difference is told in `strands`, and the
    words that go with the figure tell of all of them (`contrast`).
    """
    found = contrast(first, second)
    marked = found.differences[0] if found.differences else None
    halves = [_Half(trace, found.odd[i], marked.things[i] if marked else ()) for i, trace in enumerate(found.runs)]
    halves[1].move(halves[0].width + _TIMES)
    width = halves[0].width + _TIMES + halves[1].width
    told = [_sentence(words, half.width) for words, half in zip(marked.words, halves, strict=True)] if marked else []
    room = ROW * (1 + max(map(len, told), default=0)) + 2 * _SPARE
    arrange(*halves, bar=(marked.at, room) if marked else None)
    canvas = Canvas(len(first.packets) + len(second.packets))
    for top, bottom in halves[0].timeline.bars:
        canvas.ground.take(Box(0, top, width, bottom))
    for half, run, values in zip(halves, RUNS, found.values, strict=True):
        Drawing(half, canvas).draw()
        title = clip(f"{run}: {values}" if values else run, int(half.width / (_LETTER * HEADER_SIZE)))
        canvas.layers("text", "header").say(half.middle, 22 - _HEAD, f"<b>{escape(title)}</b>")
    for top, bottom in halves[0].timeline.bars:
        canvas.layers("listening", "area").line((0, top), (width, top), (width, bottom), (0, bottom))
        canvas.layers("text", "bar").say(width / 2, top + _SPARE + ROW / 2, "<b>The first difference</b>")
        for half, rows in zip(halves, told, strict=True):
            y = top + _SPARE + ROW * (1 + len(rows) / 2)
            canvas.layers("text", "bar").say(half.middle, y, "<br>".join(map(escape, rows)))
    canvas.times(*halves, x=halves[0].width + _TIMES / 2, at="time")
    if marked is None:
        canvas.layers("text", "text").say(width / 2, 43 - HEAD, "<b>No difference</b>")
    canvas.layers("muted", "text").say(width / 2, halves[0].timeline.bottom + _FOOT - ROW, "grey: the same in both")
    return Diagram(canvas.figure(width, halves[0].timeline, _HEAD, _FOOT), str(found))


def _sentence(words: str, width: float) -> list[str]:
    """A sentence in rows of about the same length, as few as a half is wide enough for."""
    words, most = words[:1].upper() + words[1:], int((width - 16) / (_LETTER * LABEL_SIZE))
    rows = textwrap.wrap(words, most, max_lines=3, placeholder="…")
    narrower = (
        textwrap.wrap(words, fewer, max_lines=3, placeholder="…") for fewer in range(most, len(rows[0]) // 2, -1)
    )
    *_, balanced = itertools.takewhile(
        lambda other: len(other) == len(rows) and other[-1][-1] == rows[-1][-1], narrower
    )
    return balanced


class _Half(Sheet):
    """The sheet of one of the runs. ``odd`` are the things that the other has no match for."""

    narrowest, between, ticks = (NARROWEST - _TIMES) / 2, 90.0, 0.0
    density = 1.8

    def __init__(self, trace: Trace, odd: Collection[Thing], marked: Sequence[Thing]) -> None:
        self._odd, self._marked = odd, marked
        self._left = 0.0
        super().__init__(trace)

    @property
    def middle(self) -> float:
        return self._left + self.width / 2

    def move(self, left: float) -> None:
        """Let the sheet begin so many pixels from the left."""
        self._left = left
        self.lifeline = {out: x + left for out, x in self.lifeline.items()}

    def header(self, side: Side) -> str:
        return clip(side.host, _MOST)

    def label(self, reading: Reading, width: float) -> tuple[str, ...]:
        """The kind of a packet and its length alone, unless it is where the runs part."""
        label = reading.label if reading.packet in self._marked else reading.label.split(" seq ")[0]
        return label_rows(label, reading.packet, width)

    def note(self, note: Note) -> Note:
        """A note in narrow rows: whole where the runs differ, else in short and grey."""
        odd = note.of is None or note.of in self._odd
        asked, arrow, came = (part.strip() for part in " ".join(note.rows).partition("→"))
        rows = (_narrow(asked) if odd else _short(asked)) if asked else []
        if arrow and (odd or not asked or note.colour == "RST"):
            rows += _narrow(_outcome(note.of, came), 3 if odd else 1)
        return note._replace(rows=tuple(rows), colour=note.colour if odd else "muted")


def _outcome(of: Thing | None, came: str) -> str:
    """What came of a call, the shorter the better."""
    if isinstance(of, Call):
        if of.errno is not None:
            came = of.errno
        elif of.error is not None:
            came = of.error.rpartition(": ")[2] or of.error
        elif of.name == "accept":
            came = "ok"
    return f"→ {came}" if len(came) <= _MOST - 2 else came


def _short(words: str) -> list[str]:
    """A call in one row: without its arguments where they do not fit. What is no call has two."""
    name, bracket, arguments = words.partition("(")
    if not bracket or len(words) <= _MOST:
        return _narrow(words, 2)
    return [clip(f"{name}()" if arguments.startswith(")") else f"{name}(…)", _MOST)]


def _narrow(words: str, most: int = 4) -> list[str]:
    """A text in rows, of which long words may take several."""
    rows = [""]
    for word in words.replace("unacknowledged", "unacked").split():
        glue = " "
        for part in _BREAKS.split(word) if len(word) > _MOST else [word]:
            if rows[-1] and len(rows[-1] + glue + part) > _MOST:
                rows.append(part)
            else:
                rows[-1] += glue + part if rows[-1] else part
            glue = ""
    if len(rows) > most:
        rows[most - 1 :] = [f"{rows[most - 1][: _MOST - 1]}…"]
    return [clip(row, _MOST) for row in rows]
