"""The browser of findings, without a page: what it shows and what it leaves behind."""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets.widgets.widget import _instances

from rstkit.browse import Browser, browse
from rstkit.captures import read
from rstkit.errors import TraceError
from rstkit.excerpt import MOST, excerpt, numbered
from rstkit.tcp import Endpoint
from rstkit.text import describe

from .page import Page
from .test_cli import HTML, capture, frames, pcap  # noqa: F401 - the capture is a fixture
from .test_findings import ACK, LATE, OPENED, PSH, RST, UNREAD, Story


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """What is shown; a browser that was closed leaves no widget."""
    made = Page()
    monkeypatch.setattr(InteractiveShell.instance(), "display_pub", made)
    before = set(_instances)
    yield made
    assert set(_instances) == before


def rows(browser: Browser) -> list[str]:
    """The titles of the table's rows, in order."""
    cells = browser._table.widget.children
    return [cells[place].description for place in range(6, len(cells), 6)]


def listed(browser: Browser) -> list[str]:
    return [line.description for line in browser._listing._lines if line.layout.display != "none"]


def test_opens_with_the_worst_and_draws_its_connection(page: Page, capture: Path) -> None:  # noqa: F811
    browser = browse(capture)
    assert "some.pcap: 38 packets, 15 TCP connections" in browser._status.value
    assert rows(browser) == [finding.title for finding in browser.findings]
    assert len(page.figures) == 1
    assert browser.findings[0].title in page.card["text/html"]
    assert "Packets are numbered as in some.pcap." in page.card["text/html"]
    browser.close()


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(page: Page, capture: Path) -> None:  # noqa: F811
    browser = browse(capture)
    heads = browser._table._heads
    heads["how often"].click()
    assert "scan of 12 ports" in rows(browser)[0]
    assert heads["how often"].description == "how often ▲"
    assert heads["harm"].description == "harm"
    heads["how often"].click()
    assert "scan of 12 ports" in rows(browser)[-1]
    heads["what happened"].click()
    assert rows(browser) == sorted(rows(browser))
    browser.close()


def test_a_click_opens_a_finding_and_a_connection_of_it(page: Page, capture: Path) -> None:  # noqa: F811
    browser = browse(capture)
    scan = browser._table._rows[2][1][0]
    scan.click()
    assert len(listed(browser)) == 8
    assert browser._listing._part.value == "1 to 8 of 12"
    browser._listing._later.click()
    assert browser._listing._later.disabled
    assert listed(browser)[-1].endswith("203.0.113.7:50012 to 10.0.0.2:12, 2 packets in 10 ms")
    browser._listing._lines[3].click()
    assert browser.trace.packets[0].destination == Endpoint("10.0.0.2", 12)
    assert [packet.number for packet in browser.trace.packets] == [36, 37]
    assert "packet 36 (a SYN) asked for port 12" in page.card["text/plain"]
    assert len(page.figures) == 1
    browser.close()


def test_a_file_that_cannot_be_read_gets_a_message(page: Page, tmp_path: Path) -> None:
    browser = browse(tmp_path / "<b>none.pcap")
    assert "&lt;b&gt;none.pcap cannot be read" in page.card["text/html"]
    assert browser._status.value.endswith(">Failed.</span>")
    assert rows(browser) == []
    with pytest.raises(TraceError, match="No connection is shown"):
        _ = browser.trace
    browser.close()


def test_a_capture_without_resets_says_so(page: Page, tmp_path: Path) -> None:
    path = pcap(tmp_path / "well.pcap", frames(OPENED, Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2)))
    browser = browse(path)
    assert "there is no RST in it" in page.card["text/plain"]
    assert page.figures == []
    browser.close()


def test_an_uploaded_file_is_read_and_its_copy_is_removed(page: Page, capture: Path, tmp_path: Path) -> None:  # noqa: F811
    browser = browse()
    assert "No capture is open yet." in page.card["text/plain"]
    uploaded = SimpleNamespace(name="../up<b>.pcap", content=memoryview(capture.read_bytes()))
    browser._uploaded(SimpleNamespace(new=(uploaded,)))
    assert browser.capture
    copy = browser.capture.path
    assert copy.exists()
    assert copy.name == "up<b>.pcap"
    assert "up&lt;b&gt;.pcap: 38 packets" in browser._status.value
    browser.open(capture)
    assert not copy.parent.exists()
    browser._uploaded(SimpleNamespace(new=(uploaded,)))
    copy = browser.capture.path
    browser.close()
    assert not copy.parent.exists()


def test_nothing_of_the_file_becomes_html(page: Page, tmp_path: Path) -> None:
    hostile: Story = [(*line[:4], HTML if line[4] else b"") for line in LATE]
    path = pcap(
        tmp_path / "<img src=x>\u202e.pcap", frames(hostile, Endpoint("10.0.1.9", 40000), Endpoint("10.0.0.4", 80))
    )
    browser = browse(path)
    shown = [browser._status.value, browser._listing._title.value, page.card["text/html"]]
    shown += [str(getattr(cell, "value", "")) for _, cells in browser._table._rows for cell in cells]
    for text in shown:
        assert "<img" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "&lt;img src=x&gt;\\u202e.pcap" in shown[0]
    browser.close()


def test_what_a_fault_of_rstkit_raises_is_shown(
    page: Page,
    capture: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("<i>")

    monkeypatch.setattr(sys.modules["rstkit.browse"], "findings", fail)  # rstkit.browse is the function
    browser = browse(capture)
    assert "rstkit failed: ZeroDivisionError(&#x27;&lt;i&gt;&#x27;). Please report it." in page.card["text/html"]
    browser.close()


def test_progress_is_shown_for_what_takes_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch, page: Page) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    browser = browse()
    show = browser._progressed("reading")
    show(0.1)
    assert browser._progress.layout.display == "none"
    now[0] = 0.5
    show(0.4)
    assert (browser._progress.value, browser._progress.description) == (0.4, "reading")
    assert browser._progress.layout.display == ""
    browser.close()


def test_a_long_connection_is_drawn_in_part(page: Page, tmp_path: Path) -> None:
    data: Story = [("client", PSH | ACK, 1 + n, 1, b"x") for n in range(2000)]
    story: Story = [*OPENED, *data, ("server", ACK, 1, 2001, b""), ("server", RST | ACK, 1, 2001, b"")]
    path = pcap(tmp_path / "long.pcap", frames(story, Endpoint("10.0.0.1", 40000), Endpoint("10.0.0.2", 80)))
    browser = browse(path)
    part = excerpt(browser.trace)
    assert len(part.packets) <= MOST
    assert [packet.number for packet in part.packets[:3]] == [1, 2, 3]
    assert part.packets[-1].number == 2005
    assert f"{len(part.packets)} of the connection's 2,005 packets are drawn." in page.card["text/plain"]
    browser.close()


def test_packets_that_the_file_holds_out_of_order_keep_the_numbers_of_their_order(tmp_path: Path) -> None:
    path = pcap(tmp_path / "some.pcap", frames(UNREAD, Endpoint("10.0.0.1", 40000), Endpoint("10.0.0.2", 80)))
    (connection,) = read(path).reset_connections
    assert [packet.number for packet in numbered(connection).packets] == [1, 2, 3, 4, 5]
    swapped: Any = SimpleNamespace(trace=connection.trace, frames=(4, 3, 5, 6, 7))
    assert [packet.number for packet in numbered(swapped).packets] == [1, 2, 3, 4, 5]
    later: Any = SimpleNamespace(trace=connection.trace, frames=(4, 5, 8, 16, 700))
    assert [packet.number for packet in numbered(later).packets] == [4, 5, 8, 16, 700]


def test_a_capture_has_one_moment_for_each_packet(tmp_path: Path) -> None:
    """So its story tells of packets as they are sent alone."""
    path = pcap(tmp_path / "some.pcap", frames(LATE, Endpoint("10.0.0.1", 40000), Endpoint("10.0.0.2", 80)))
    (connection,) = read(path).reset_connections
    words = describe(connection.trace())
    assert "reaches the" not in words
    assert "The server sends packet 6: 14 B seq 1:15. It provokes the RST, packet 7." in words
    lab = describe(replace(connection.trace(), backend="namespaces"))
    assert "Packet 6 reaches the client. It provokes the RST, packet 7." in lab
