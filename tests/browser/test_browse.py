"""The notebook on captures of one's own, in a real browser: by mouse, by keyboard, with a file from elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
from playwright.sync_api import Locator, expect

from rstkit.tcp import Endpoint

from ..test_cli import HTML, frames, pcap
from ..test_findings import LATE, Story
from .jupyter import PATIENCE, Notebook

if TYPE_CHECKING:
    from .conftest import Open

NAME = "90_your_own_capture.ipynb"


def browser_of(opened: Notebook, number: int = 0) -> Locator:
    """The outputs of a cell that shows a browser of findings, by its place from 0."""
    return opened.page.locator(".jp-OutputArea:has(.rstkit-browser)").nth(number)


def titles(outputs: Locator) -> list[str]:
    return outputs.locator("button.rstkit-what-happened.rstkit-cell").all_text_contents()


def test_a_capture_is_browsed_by_mouse_and_by_keyboard(notebook: "Open", pictures: Path) -> None:
    opened = notebook(NAME)
    opened.run_all()
    page, outputs = opened.page, browser_of(opened)
    figure, card = outputs.locator(".js-plotly-plot:visible"), outputs.locator(".rstkit-card")
    expect(figure).to_have_count(1, timeout=PATIENCE)
    found = titles(outputs)
    assert len(found) == 5
    assert "scan of 40 ports" in found[3]

    often = outputs.get_by_role("button", name="how often")
    often.focus()
    page.keyboard.press("Space")
    expect(often).to_have_text("how often ▲")
    assert "scan of 40 ports" in titles(outputs)[0]
    often.click()
    expect(often).to_have_text("how often ▼")
    assert "scan of 40 ports" in titles(outputs)[-1]
    outputs.get_by_role("button", name="harm").click()
    expect(outputs.locator("button.rstkit-what-happened.rstkit-cell")).to_have_text(found)

    scan = outputs.get_by_role("button", name="scan of 40 ports")
    scan.focus()
    page.keyboard.press("Enter")
    expect(card).to_contain_text("asked for port 1 of the server", timeout=PATIENCE)
    expect(outputs.get_by_text("1 to 8 of 40")).to_be_visible()
    outputs.locator(".rstkit-browser button:has(.fa-chevron-right)").click()
    expect(outputs.get_by_text("9 to 16 of 40")).to_be_visible()
    outputs.locator(".rstkit-list button:visible").nth(2).click()
    expect(card).to_contain_text("asked for port 11 of the server", timeout=PATIENCE)
    expect(figure).to_have_count(1)
    assert figure.locator("text", has_text="RST ACK").count()
    card.get_by_text("The packets, as tcpdump prints them").click()
    expect(card).to_contain_text(": Flags [S], seq ")

    outputs.get_by_role("button", name=found[0]).first.click()
    expect(card.locator("h4")).to_contain_text(found[0], timeout=PATIENCE)
    for width in (1300, 700):
        opened.resize(width)
        for theme in ("Light", "Dark"):
            opened.theme(f"JupyterLab {theme}")
            opened.panel().picture(pictures / f"90-{theme.lower()}-{width}.png")


def test_a_file_is_uploaded_and_nothing_of_it_is_more_than_text(notebook: "Open", tmp_path: Path) -> None:
    opened = notebook(NAME)
    opened.run_all()
    page, outputs = opened.page, browser_of(opened, 2)
    expect(outputs.locator(".rstkit-card")).to_contain_text("No capture is open yet.")
    hostile: Story = [(*line[:4], HTML if line[4] else b"") for line in LATE]
    path = pcap(
        tmp_path / "<img src=x onerror='window.pwned=1'>.pcap",
        frames(hostile, Endpoint("10.0.1.9", 1), Endpoint("10.0.0.4", 80)),
    )
    with page.expect_file_chooser() as chooser:
        outputs.get_by_role("button", name="upload one").click()
    chooser.value.set_files(path)
    expect(outputs.get_by_role("status")).to_contain_text("<img src=x onerror='window.pwned=1'>.pcap: 7 packets")
    expect(outputs.locator(".rstkit-card")).to_contain_text("Data arrived after close")
    assert outputs.locator("img:not(.plot-img)").count() == 0
    assert page.evaluate("window.pwned") is None

    path_field = outputs.get_by_placeholder("path of a pcap")
    path_field.fill("nowhere.pcap")
    path_field.press("Enter")
    expect(outputs.locator(".rstkit-card")).to_contain_text("nowhere.pcap cannot be read")
    expect(outputs.locator(".js-plotly-plot:visible")).to_have_count(0)
    path_field.fill("morning.pcapng")
    path_field.press("Enter")
    expect(outputs.get_by_role("status")).to_contain_text("morning.pcapng: ")
    expect(outputs.locator(".js-plotly-plot:visible")).to_have_count(1)
