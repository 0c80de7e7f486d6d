"""The outcome of a run in a cell's output: the diagram, and a card under it that explains.

These are plain notebook outputs, updated in place, and each is there as text as well: a saved or
printed copy tells the story without the panel's controls. What programs print, raise or send is
data: all of it is escaped here.
"""

import html
import secrets
from collections.abc import Iterable
from typing import Any

from IPython.display import DisplayHandle

from .explain import CAPTURE, Evidence, Reset, explain
from .text import describe, tcpdump
from .theme import STYLE
from .trace import Program, Trace

# An output that shows nothing and takes no room, and brings the style that figures need.
NOTHING = {"text/html": STYLE, "text/plain": ""}

_STALE = "The page was loaded anew, so the outcome below is an older one: run this cell again."
_COMPARED = "Compared with the pinned run, the first of the two"
_ENDINGS = {
    "completed": "The run is complete",
    "never listened": "The server never listened",
    "duration over": "The run was ended because its duration was over",
    "stopped": "Stopped",
}

_STYLE = """<style>
.rstkit-card {
  --rstkit-line: var(--jp-border-color2, #ddd); --rstkit-soft: var(--jp-content-font-color2, #555);
  color: var(--jp-content-font-color1, #1f2933); font-family: var(--jp-content-font-family, sans-serif);
  font-size: var(--jp-content-font-size1, 14px); line-height: 1.5; max-width: 58rem; padding: 0 0.5rem 0.5rem;
  container-type: inline-size
}
.rstkit-card.rstkit-card :is(h4, p, ul, dl, dt, dd, pre) {margin: 0; font-weight: 400; float: none; width: auto}
.rstkit-card.rstkit-card h4 {font-size: 1.1em; font-weight: 600; line-height: 1.4}
.rstkit-card :is(.reset, .problems) {border-left: 4px solid; padding: 0 0 0 0.9rem; margin: 0.75rem 0}
.rstkit-card .reset {border-color: var(--jp-error-color1, #c2112b)}
.rstkit-card .problems {border-color: var(--jp-warn-color1, #b26a00)}
.rstkit-card dl {display: grid; grid-template-columns: 8.5rem 1fr; gap: 0.4rem 1rem; padding: 0.4rem 0}
.rstkit-card :is(dt, summary, .soft) {color: var(--rstkit-soft)}
.rstkit-card dd {min-width: 0}
.rstkit-card.rstkit-card ul {padding-left: 1.1rem}
.rstkit-card.rstkit-card pre {
  background: var(--jp-layout-color2, #eee); color: inherit; padding: 0.35rem 0.6rem; overflow: auto;
  max-height: 20rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.93em;
  font-family: var(--jp-code-font-family, monospace)
}
.rstkit-card.rstkit-card .words pre {white-space: pre; max-height: 32rem}
.rstkit-card.rstkit-card .difference {margin-bottom: 0.75rem}
.rstkit-card.rstkit-card .difference p {padding-left: 1.2rem; text-indent: -1.2rem; white-space: pre-wrap}
.rstkit-card summary {cursor: pointer}
.rstkit-card .badge {
  border: 1px solid var(--rstkit-line); border-radius: 1em; color: var(--rstkit-soft); font-size: 0.8em;
  font-weight: 400; padding: 0.05em 0.6em; margin-left: 0.4em; white-space: nowrap
}
@container (max-width: 38rem) {
  .rstkit-card dl {grid-template-columns: 1fr; gap: 0}
  .rstkit-card.rstkit-card dt {margin-top: 0.4rem}
}
/* A new figure is drawn beside the one before it (see panel): let only the upper one show. */
.jp-OutputArea:has(> * .rstkit-card) {position: relative}
.jp-OutputArea:has(> * .rstkit-card) > :has(> .jp-RenderedPlotly) + :has(> .jp-RenderedPlotly) {
  position: absolute; inset: 0 0 auto 0; visibility: hidden
}
/* While the next run takes its time, the outcome on the page is that of the run before. */
.jp-OutputArea :is(.rstkit-card, .jp-RenderedPlotly) {transition: opacity 0.2s}
.jp-OutputArea:has(.rstkit-running) :is(.rstkit-card, .jp-RenderedPlotly) {opacity: 0.45; transition-delay: 0.6s}
</style>"""


class Place:
    """Where an outcome stands in a cell's output."""

    def __init__(self) -> None:
        # A plotly output that is on the page ignores an update (its renderer keeps the graph it
        # has), so a new figure goes to the place that is empty, and then the other is emptied.
        handle: Any = DisplayHandle  # IPython has no types
        self._figures = [handle(), handle()]
        self._card = handle()
        self.mark = ""  # a class that the newest card alone has

    def open(self, text: str) -> None:
        """Take the place in the output of the cell that runs; ``text`` says what will be there."""
        for figure in self._figures:
            figure.display(NOTHING, raw=True)
        self._card.display(self._marked(_message(text)), raw=True)

    def show(
        self, figure: dict[str, Any], trace: Trace, about: str, difference: str = "", listed: Trace | None = None
    ) -> None:
        """Show a trace with its figure (a MIME bundle).

        ``about`` names the backend, ``difference`` tells how the pinned run and this one differ. Of a
        capture the packets are listed as well, those of ``listed``.
        """
        words = describe(trace)
        self._figures.reverse()
        self._figures[0].update(figure | {"text/plain": f"{difference}\n\n{words}".lstrip()}, raw=True)
        self._figures[1].update(NOTHING, raw=True)
        self._card.update(self._marked(_outcome(trace, words, about, difference, listed)), raw=True)

    def tell(self, text: str, details: str = "") -> None:
        """Show a message in place of an outcome; ``details`` are folded away."""
        for figure in self._figures:
            figure.update(NOTHING, raw=True)
        self._card.update(self._marked(_message(text, details)), raw=True)

    def stale(self) -> str:
        """HTML for a widget, seen on the page alone where the card on it is not the newest.

        A page that was loaded anew keeps the widgets, but JupyterLab no longer updates its outputs.
        """
        hint = f".jp-OutputArea:has(.rstkit-card):not(:has(.{self.mark})) .for-{self.mark}"
        return f'<style>{hint} {{display: inline}}</style><span class="for-{self.mark}" hidden>{_STALE}</span>'

    def _marked(self, content: tuple[str, str]) -> dict[str, str]:
        """A card with this content (HTML, and plain text) as a MIME bundle."""
        self.mark = f"rstkit-{secrets.token_hex(4)}"
        page, text = content
        return {
            "text/html": f'<div class="rstkit-card {self.mark}">{_STYLE}\n{page}\n</div>',
            "text/plain": _plain(text),
        }


def _outcome(trace: Trace, words: str, about: str, difference: str, listed: Trace | None = None) -> tuple[str, str]:
    """What a run showed, with its explanation; ``words`` is the diagram in words."""
    resets = explain(trace)
    if trace.backend == CAPTURE:
        ending = f"{' and '.join(f'{name} {address}' for name, address in trace.hosts.items())}, as a capture saw them."
    else:
        ending = f"{_ENDINGS.get(trace.outcome, trace.outcome)}, after {trace.duration:.3f} s."
    counted = {0: "No RST was sent.", 1: "1 reset."}.get(len(resets), f"{len(resets)} resets.")
    parts = []
    if difference:
        parts.append(f'<h4>{_COMPARED}</h4><div class="difference">{_lines(difference.split(chr(10)))}</div>')
        parts.append("<h4>The second run</h4>")
    origin = [f"Not live: {trace.origin}."] if trace.origin else []
    parts += [f'<p class="soft origin">{_safe(line)}</p>' for line in origin]
    parts += [f"<p>{_safe(ending)} {counted}</p>"]
    parts += [f'<div class="problems">{_lines(trace.problems)}</div>'] if trace.problems else []
    parts += [_reset(reset) for reset in resets]
    parts += [f"<dl>{''.join(map(_program, trace.programs))}</dl>"] if trace.programs else []
    folded = {"The diagram in words": words}
    folded |= {"The packets, as tcpdump prints them": tcpdump(listed)} if listed else {}
    for name, text in folded.items():
        parts.append(f'<details class="words"><summary>{name}</summary><pre>{_safe(text)}</pre></details>')
    parts.append(f'<p class="soft">{_safe(about)}</p>')
    compared = [f"{_COMPARED}:", difference, "", "The second run:"] if difference else []
    lines = [*compared, *origin, ending, counted, *trace.problems, *map(str, resets)]
    lines += [*map(_program_text, trace.programs), about]
    return "\n".join(parts), "\n".join(lines)


def _message(text: str, details: str = "") -> tuple[str, str]:
    folded = f"<details><summary>Details</summary><pre>{_safe(details)}</pre></details>" if details else ""
    return f'<div class="problems"><p>{_safe(text)}</p>{folded}</div>', f"{text}\n{details}".strip()


def _reset(reset: Reset) -> str:
    """A reset's explanation."""
    repeats = len(reset.packets) - 1
    where = f"packet {reset.packet.number}, from the {reset.sender}"
    where += f", and {repeats} more" if repeats else ""
    entries = [
        ("Why", f"<p>{_safe(reset.why)}</p>"),
        ("Could also be", _list(cause.title for cause in reset.alternatives)),
        ("The programs saw", _list(reset.saw)),
        ("What to do", f"<p>{_safe(reset.remedy)}</p>"),
        ("Evidence", _list(map(_claim, reset.evidence))),
        ("Source", f"<p>{_safe(reset.cause.rfc)}; in Linux {_safe(', '.join(reset.cause.functions))}.</p>"),
    ]
    rows = "".join(f"<dt>{name}</dt><dd>{content}</dd>" for name, content in entries if content)
    title = f'{_safe(reset.cause.title)} <span class="badge">{_safe(reset.confidence)}</span>'
    return f'<article class="reset"><h4>{title}</h4><p class="soft">RST: {_safe(where)}</p><dl>{rows}</dl></article>'


def _claim(evidence: Evidence) -> str:
    """A piece of evidence with the packet that it points at."""
    place = f"packet {evidence.packet}"
    return evidence.text if evidence.packet is None or place in evidence.text.lower() else f"{evidence.text} ({place})"


def _program(program: Program) -> str:
    """What became of a program, what it printed and what it raised."""
    content = f"<p>{_safe(_fate(program))}</p>"
    if program.output:
        content += f"<pre>{_safe(program.output)}</pre>"
    if program.traceback:
        raised = program.traceback.strip().splitlines()[-1]
        content += f"<details><summary>{_safe(raised)}</summary><pre>{_safe(program.traceback)}</pre></details>"
    return f"<dt>{_safe(_who(program))}</dt><dd>{content}</dd>"


def _program_text(program: Program) -> str:
    lines = [f"{_who(program)}: {_fate(program)}"]
    lines += [f"  {line}" for line in program.output.splitlines()]
    lines += [f"  {line}" for line in (program.traceback or "").splitlines()]
    return "\n".join(lines)


def _who(program: Program) -> str:
    return program.host if program.name == program.host else f"{program.host}: {program.name}"


def _fate(program: Program) -> str:
    """How a program's process ended, in words."""
    if program.ended is None:
        fate = "Still running when the run ended"
    elif program.signal:
        fate = f"Ended by {program.signal}"
    elif program.traceback:
        fate = "Ended with an exception"
    else:
        fate = f"Ended with exit status {program.status}" if program.status else "Ended"
    return f"{fate}; it printed:" if program.output else f"{fate}; it printed nothing."


def _list(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{_safe(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def _lines(texts: Iterable[str]) -> str:
    return "".join(f"<p>{_safe(text)}</p>" for text in texts)


def _safe(text: str) -> str:
    """Text as HTML that shows it and does nothing else."""
    return html.escape(_plain(text))


def _plain(text: str) -> str:
    """Text with its control characters (and those that turn the direction of writing) spelled out."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
