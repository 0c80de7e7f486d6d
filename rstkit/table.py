"""The findings of a capture as a table that a click on its heading sorts, and the connections of one as a list.

Both are made of buttons, which a keyboard reaches as well: JupyterLab keeps the arrow keys of other
lists for itself. What they show of a file is escaped.
"""

import html
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ipywidgets import HTML, Box, Button, GridBox, Layout, VBox

from .dissect import printable
from .findings import Finding
from .grouping import HARMS, Occurrence
from .report import lasted, moment, often

if TYPE_CHECKING:
    from .captures import Connection

_PAGE = 8  # connections that are listed at a time
_DAY = 86_400  # seconds
_COLUMNS: dict[str, Callable[[Finding], Any]] = {
    "what happened": lambda f: f.title,
    "harm": lambda f: (HARMS.index(f.harm), -f.count, f.first),
    "how sure": lambda f: f.confidence,
    "who": lambda f: f.who,
    "how often": lambda f: -f.count,
    "first (UTC)": lambda f: f.first,
}

STYLE = """<style>
.rstkit-table {
  grid-template-columns: minmax(0, 5fr) 6.5rem 6.5rem minmax(0, 6fr) 7.5rem 8rem; gap: 0; margin: 0.5rem 0;
  overflow: visible
}
.rstkit-table > * {margin: 0; width: auto; height: auto; min-width: 0; padding: 0.35rem 0.5rem}
.rstkit-table > .widget-button {
  display: flex; align-items: flex-start; justify-content: flex-start; text-align: left; white-space: normal;
  background: none; box-shadow: none; line-height: 1.4; overflow-wrap: anywhere
}
.rstkit-table > .rstkit-head {
  color: var(--jp-content-font-color1, #222); font-weight: 600; border-bottom: 2px solid var(--jp-border-color1, #bbb)
}
.rstkit-table > .rstkit-cell {border-bottom: 1px solid var(--jp-border-color2, #ddd)}
.rstkit-table > .rstkit-cell .widget-html-content {line-height: 1.4; overflow-wrap: anywhere}
.rstkit-table > .rstkit-how-often {text-align: right; justify-content: flex-end}
.rstkit-list > .widget-button {
  background: none; box-shadow: none; text-align: left; width: auto; height: auto; line-height: 1.5; margin: 0;
  padding: 0.1rem 0.5rem; white-space: normal; overflow-wrap: anywhere;
  font-family: var(--jp-code-font-family, monospace); font-size: var(--jp-code-font-size, 13px)
}
.rstkit-table > .rstkit-what-happened:not(.rstkit-head), .rstkit-list > .widget-button {
  color: var(--jp-content-link-color, #0062b1)
}
:is(.rstkit-table, .rstkit-list) > :is(.widget-button:hover, .rstkit-open) {
  background: var(--jp-layout-color2, #eee)
}
@container (max-width: 46rem) {
  .rstkit-table {grid-template-columns: minmax(0, 1fr) 6.5rem 5.5rem}
  .rstkit-table > :is(.rstkit-who, .rstkit-how-sure, .rstkit-first) {display: none}
}
</style>"""


class Table:
    """A table of findings; ``chosen`` is called with the one that was clicked."""

    def __init__(self, chosen: Callable[[Finding], None]) -> None:
        self.widget = GridBox(layout=Layout(display="none"))
        self.widget.add_class("rstkit-table")
        self._chosen = chosen
        self._open: Finding | None = None
        self._sort, self._reverse = "harm", False
        self._rows: list[tuple[Finding, list[Any]]] = []
        self._heads = {name: Button(tooltip=f"sort by “{name}”") for name in _COLUMNS}
        for name, head in self._heads.items():
            head.on_click(lambda _, name=name: self.sort(name))
            head.add_class("rstkit-head")
            head.add_class(_class(name))

    def fill(self, found: Sequence[Finding], days: bool) -> None:
        """Show these findings; ``days`` where a time of day does not say enough."""
        close(*(cell for _, cells in self._rows for cell in cells))
        self._rows = [(finding, self._cells(finding, days)) for finding in found]
        self.widget.layout.display = "" if self._rows else "none"
        self._arrange()

    def open(self, finding: Finding) -> None:
        """Mark the finding that is open."""
        self._open = finding
        self._arrange()

    def sort(self, name: str) -> None:
        """Sort by a column, or the other way round where it is sorted by it."""
        self._reverse = not self._reverse if name == self._sort else False
        self._sort = name
        self._arrange()

    def widgets(self) -> list[Any]:
        """All that it consists of."""
        return [self.widget, *self._heads.values(), *(cell for _, cells in self._rows for cell in cells)]

    def _cells(self, finding: Finding, days: bool) -> list[Any]:
        title = Button(description=printable(finding.title), tooltip="show its connections")
        title.on_click(lambda _: self._chosen(finding))
        texts = (finding.harm, finding.confidence, finding.who, f"{finding.count:,}", clock(finding.first, days))
        cells = [title, *(HTML(html.escape(printable(text))) for text in texts)]
        for name, cell in zip(_COLUMNS, cells, strict=True):
            cell.add_class("rstkit-cell")
            cell.add_class(_class(name))
        return cells

    def _arrange(self) -> None:
        """Put the rows in order, and say by what."""
        for name, head in self._heads.items():
            head.description = f"{name} {'▼' if self._reverse else '▲'}" if name == self._sort else name
        rows = sorted(self._rows, key=lambda row: _COLUMNS[self._sort](row[0]), reverse=self._reverse)
        for finding, cells in rows:
            for cell in cells:
                _mark(cell, finding is self._open)
        self.widget.children = [*self._heads.values(), *(cell for _, cells in rows for cell in cells)]


class Listing:
    """The connections of a finding, a page at a time; ``chosen`` is called with the place of the clicked one."""

    def __init__(self, chosen: Callable[[int], None]) -> None:
        self._listed: Sequence[Occurrence] = ()
        self._page = self._open = 0
        self._days = False
        self._title, self._part = HTML(), HTML()
        self._earlier = Button(icon="chevron-left", tooltip="earlier", layout=Layout(width="3rem"))
        self._later = Button(icon="chevron-right", tooltip="later", layout=Layout(width="3rem"))
        self._earlier.on_click(lambda _: self._turn(self._page - 1))
        self._later.on_click(lambda _: self._turn(self._page + 1))
        self._lines = [Button() for _ in range(_PAGE)]
        for place, line in enumerate(self._lines):
            line.on_click(lambda _, place=place: chosen(self._page * _PAGE + place))
        row = Layout(align_items="center", grid_gap="0 0.75rem")
        self._pages = Box([self._earlier, self._part, self._later], layout=row)
        self._list = VBox(self._lines)
        self._list.add_class("rstkit-list")
        self.widget = VBox([self._title, self._pages, self._list], layout=Layout(display="none"))

    def show(self, finding: Finding, place: int, days: bool) -> None:
        """List a finding's connections, with the one at this place marked; ``days`` as for the table."""
        self._listed, self._open, self._days = finding.occurrences, place, days
        self._title.value = f"<b>{html.escape(printable(finding.title))}</b>. {html.escape(often(finding))}"
        self.widget.layout.display = ""
        self._pages.layout.display = "" if len(self._listed) > _PAGE else "none"
        self._turn(place // _PAGE)

    def hide(self) -> None:
        """List nothing."""
        self.widget.layout.display = "none"

    def widgets(self) -> list[Any]:
        """All that it consists of."""
        fixed = [self.widget, self._title, self._part, self._pages, self._list, self._earlier, self._later]
        return [*fixed, *self._lines]

    def _turn(self, page: int) -> None:
        self._page, first = page, page * _PAGE
        here = self._listed[first : first + _PAGE]
        self._part.value = f"{first + 1:,} to {first + len(here):,} of {len(self._listed):,}"
        self._earlier.disabled, self._later.disabled = page == 0, first + _PAGE >= len(self._listed)
        for place, line in enumerate(self._lines):
            line.layout.display = "" if place < len(here) else "none"
            line.description = self._line(here[place].connection) if place < len(here) else ""
            _mark(line, first + place == self._open)

    def _line(self, connection: "Connection") -> str:
        packets = "1 packet" if connection.count == 1 else f"{connection.count:,} packets"
        took = lasted(connection.last - connection.first)
        return f"{clock(connection.first, self._days)} {connection.client} to {connection.server}, {packets} in {took}"


def clock(seconds: float, days: bool) -> str:
    """A moment as a time of day, or with its day."""
    return moment(seconds)[: len("2026-11-24 19:20:11.006")][0 if days else len("2026-11-24 ") :]


def several_days(first: float, last: float) -> bool:
    """Whether a time of day does not say which moment is meant."""
    return first // _DAY != last // _DAY


def close(*widgets: Any) -> None:
    """Give widgets up, with the parts that ipywidgets made for them."""
    for widget in widgets:
        for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
            if part is not None:
                part.close()


def _mark(widget: Any, is_open: bool) -> None:
    (widget.add_class if is_open else widget.remove_class)("rstkit-open")


def _class(column: str) -> str:
    return f"rstkit-{column.partition(' (')[0].replace(' ', '-')}"
