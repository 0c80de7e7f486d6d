"""The findings of a capture in a notebook: a table, and each reset's diagram and explanation."""

import html
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.display import display
from ipywidgets import HTML, Box, FileUpload, FloatProgress, Layout, Text, VBox

from .card import Place
from .diagram import sequence_diagram
from .dissect import printable
from .errors import RstkitError, TraceError
from .excerpt import excerpt, numbered
from .findings import Finding, findings
from .panel import replace_older
from .report import summary
from .table import STYLE, Listing, Table, close, several_days
from .trace import Trace

if TYPE_CHECKING:
    from .captures import Capture

_MOMENT = 0.3  # seconds, after which progress is shown
_STYLE = """<style>
.rstkit-browser {align-items: stretch; max-width: 76rem; container-type: inline-size; padding-right: 0.5rem}
.rstkit-browser .rstkit-upload {font-size: 0}  /* it would count the files: upload one (0) */
.rstkit-browser .rstkit-upload > i {font-size: var(--jp-widgets-font-size, 13px)}
.rstkit-browser .rstkit-upload::after {
  content: "or upload one (up to 10 MB)"; font-size: var(--jp-widgets-font-size, 13px)
}
</style>"""


def browse(path: str | Path | None = None) -> "Browser":
    """Show why the connections in a capture were reset; without a path, one is chosen on the page.

    A file that is uploaded goes to the kernel and no further, and its copy is removed when another
    capture is opened or the kernel ends. A file that cannot be read gets a message in place of the table.
    """
    browser = Browser()
    replace_older(browser)
    browser._show()
    if path is not None:
        browser.open(path)
    return browser


class Browser:
    """What `browse` shows; ``capture`` and ``findings`` are what was read last."""

    def __init__(self) -> None:
        self.capture: Capture | None = None
        self.findings: tuple[Finding, ...] = ()
        self._open: tuple[Finding, int] | None = None  # and which of its resets
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._place = Place()
        self._table, self._listing = Table(self._choose), Listing(self._draw)
        self._path = Text(description="capture", placeholder="path of a pcap or pcapng file, then Enter")
        self._path.continuous_update = False
        self._path.style.description_width = "initial"
        self._path.layout.flex, self._path.layout.width = "1 1 18rem", "auto"
        self._upload = FileUpload(accept=".pcap,.pcapng,.cap,.gz", description="upload one")
        self._upload.tooltip = "10 MB at most: put a larger one into the file browser, and give its path"
        self._upload.layout.width = "auto"
        self._upload.add_class("rstkit-upload")
        self._progress = FloatProgress(max=1.0, layout=Layout(width="min(30rem, 100%)", display="none"))
        self._progress.style.description_width = "initial"
        self._status, self._hint = HTML(), HTML()
        style = HTML(_STYLE + STYLE, layout=Layout(display="none"))
        row = Layout(flex_flow="row wrap", grid_gap="0.25rem 0.75rem", align_items="center")
        source = Box([self._path, self._upload], layout=row)
        parts = [self._progress, self._status, self._table.widget, self._listing.widget, self._hint]
        self._box = VBox([style, source, *parts])
        self._box.add_class("rstkit-browser")
        self._own = [self._box, style, source, self._path, self._upload, self._progress, self._status, self._hint]
        self._path.observe(self._named, "value")
        self._upload.observe(self._uploaded, "value")

    @property
    def trace(self) -> Trace:
        """The connection that is shown, with packets numbered as in the file; TraceError where none is."""
        if self._open is None:
            raise TraceError("No connection is shown: open a capture that holds a reset.")
        finding, place = self._open
        return numbered(finding.occurrences[place].connection)

    def open(self, path: str | Path) -> None:
        """Read a capture, and show what it holds."""
        if self._path.value == str(path):
            self._read(Path(path))
        else:
            self._path.value = str(path)  # which reads it

    def close(self) -> None:
        """Give up the controls, and the copy of a file that was uploaded."""
        self._forget()
        close(*self._own, *self._table.widgets(), *self._listing.widgets())

    def _ipython_display_(self) -> None:
        """Show nothing as the value of a cell: `browse` has shown it all."""

    def _show(self) -> None:
        bundle = self._box._repr_mimebundle_()
        bundle["text/plain"] = "A field for the path of a capture, and a button to upload one."
        display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        self._place.open("No capture is open yet.")
        self._hint.value = self._place.stale()

    # The capture

    def _named(self, change: Any) -> None:
        if change.new:
            self._forget()
            self._read(Path(change.new))

    def _uploaded(self, change: Any) -> None:
        if change.new:
            (file,) = change.new
            self._path.value = ""
            self._forget()
            self._copy = tempfile.TemporaryDirectory(prefix="rstkit-upload-")
            path = Path(self._copy.name, Path(file.name).name or "capture")
            path.write_bytes(file.content)
            self._upload.value = ()  # the page need not keep it as well
            self._read(path)

    def _forget(self) -> None:
        """Remove the copy of an uploaded file."""
        if self._copy:
            self._copy.cleanup()
            self._copy = None

    def _read(self, path: Path) -> None:
        """Read a capture; what goes wrong is shown in place of its findings."""
        from .captures import read  # noqa: PLC0415 - numpy takes a while to load

        self.capture, self.findings, self._open = None, (), None
        self._table.fill((), days=False)
        self._listing.hide()
        self._say("Reading…", running=True)
        try:
            capture = read(path.expanduser(), self._progressed("reading"))
            self.findings = findings(capture, self._progressed("explaining"))
        except Exception as error:
            self._fail(error)
            return
        finally:
            self._progress.layout.display = "none"
        self.capture = capture
        lines = summary(capture, self.findings)
        self._say("<br>".join(map(html.escape, lines)))
        self._table.fill(self.findings, self._days)
        if self.findings:
            self._choose(self.findings[0])
        else:
            self._place.tell(lines[-1])
            self._hint.value = self._place.stale()

    @property
    def _days(self) -> bool:
        return self.capture is not None and several_days(self.capture.first, self.capture.last)

    def _progressed(self, what: str) -> Callable[[float], None]:
        """Shows how far something is that takes longer than a moment."""
        shown = time.monotonic()

        def show(part: float) -> None:
            nonlocal shown
            if time.monotonic() - shown > _MOMENT:
                shown = time.monotonic()
                self._progress.value, self._progress.description = part, what
                self._progress.layout.display = ""

        return show

    def _say(self, text: str, running: bool = False) -> None:
        self._status.value = f'<span role="status" class="rstkit-{"running" if running else "ready"}">{text}</span>'

    def _fail(self, error: Exception) -> None:
        self._say("Failed.")
        if isinstance(error, RstkitError):
            self._place.tell(str(error))
        else:  # a fault of rstkit itself: it belongs on the page
            self._place.tell(f"rstkit failed: {error!r}. Please report it.", "".join(traceback.format_exception(error)))
        self._hint.value = self._place.stale()

    # The findings

    def _choose(self, finding: Finding) -> None:
        """Open a finding, with the connection that most others are like."""
        self._open = (finding, 0)
        self._table.open(finding)
        self._draw(finding.occurrences.index(finding.example))

    def _draw(self, place: int) -> None:
        """Show one of the connections of the open finding."""
        assert self._open
        assert self.capture
        finding, _ = self._open
        self._open = (finding, place)
        self._listing.show(finding, place, self._days)
        try:
            whole = self.trace
            part, about = excerpt(whole), f"Packets are numbered as in {printable(self.capture.path.name)}."
            if len(part.packets) < len(whole.packets):
                about += f" {len(part.packets)} of the connection's {len(whole.packets):,} packets are drawn."
            self._place.show(sequence_diagram(part)._repr_mimebundle_(), whole, about, listed=part)
        except Exception as error:
            self._fail(error)
        self._hint.value = self._place.stale()
