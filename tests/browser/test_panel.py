"""What the panel does in a real browser, beyond what every notebook needs."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import nbformat
import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
from playwright.sync_api import expect

from .jupyter import PATIENCE

if TYPE_CHECKING:
    from .conftest import Open
    from .jupyter import Notebook, Server

PROGRAMS = """
import socket, time
from rstkit import explore

def server(address, nap=0.1):
    with socket.create_server(address) as listener:
        connection, _ = listener.accept()
        print(connection.recv(1024))
        time.sleep(nap)
        connection.send(b"late")

def client(address):
    socket.create_connection(address).sendall(b"hello")
"""


PANEL = "panel = explore(server, client, nap=(0.0, 5.0, 0.1), rtt=20)"
COUNT = """
import threading, comm
print(len(comm.get_comm_manager().comms), "comms", threading.active_count(), "threads")
"""

Make = Callable[..., "Notebook"]


@pytest.fixture
def make(notebook: "Open", server: "Server") -> Make:
    """Opens a new notebook with the given cells, nothing run yet."""

    def make_notebook(*sources: str) -> "Notebook":
        cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]  # type: ignore[no-untyped-call]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        made = nbformat.v4.new_notebook(cells=cells, metadata=kernel)  # type: ignore[no-untyped-call]
        nbformat.write(made, server.folder / "made_by_a_test.ipynb")  # type: ignore[no-untyped-call]
        return notebook("made_by_a_test.ipynb")

    return make_notebook


def test_nothing_pops_up(make: Make) -> None:
    opened = make(PROGRAMS, PANEL)
    opened.run_all()
    opened.panel().wait_done()
    # the question about news comes, if it comes, before a notebook is open and has run
    assert opened.page.locator(".jp-Dialog, .Toastify__toast").all_text_contents() == []
    settings = opened.page.evaluate(
        """async () => (await window.jupyterapp.serviceManager.settings.fetch(
            '@jupyterlab/apputils-extension:notification')).schema.properties"""
    )
    assert settings["fetchNews"]["default"] == "false"
    assert settings["checkForUpdates"]["default"] is False


def test_a_long_run_shows_progress_leaves_the_kernel_free_and_can_be_stopped(make: Make) -> None:
    opened = make(PROGRAMS, PANEL, 'print("still", "here")')
    opened.run_all()
    panel = opened.panel()
    panel.wait_done()
    assert panel.stop.is_disabled()
    before = panel.words()
    panel.slider("nap").press("End")
    panel.progress.wait_for()  # it is shown after a second
    assert panel.words() == before  # the last outcome stays on the page
    opened.page.locator(".jp-OutputArea-output", has_text="still here").wait_for()
    opened.run_cell(2)
    expect(opened.cell(2).locator(".jp-InputPrompt")).to_have_text("[4]:")  # while the run goes on
    expect(panel.status).to_have_text("Running…")
    panel.stop.click()
    expect(panel.status).to_have_text("Stopped.")
    panel.wait_done()
    expect(panel.card).to_contain_text("Stopped, after")
    assert panel.stop.is_disabled()
    assert not panel.progress.is_visible()


def test_an_interrupt_of_the_kernel_ends_the_first_run(make: Make) -> None:
    opened = make(PROGRAMS.replace("nap=0.1", "nap=5.0"), PANEL, "panel.trace.outcome")
    opened.start_all()
    panel = opened.panel()
    panel.progress.wait_for()
    assert panel.stop.is_disabled()  # the kernel takes no click while a cell runs
    opened.page.get_by_role("button", name="Interrupt the kernel").click()
    panel.wait_done()
    expect(panel.status).to_have_text("Stopped.")
    expect(panel.card).to_contain_text("Stopped, after")
    opened.wait_idle()
    expect(opened.cell(2).locator(".jp-OutputArea-output")).to_have_text("'stopped'")


def test_running_the_cell_again_leaves_nothing_behind(make: Make) -> None:
    opened = make(PROGRAMS, PANEL, COUNT)
    opened.run_all()
    counted = opened.cell(2).locator(".jp-OutputArea-output")
    first = counted.text_content()
    panel = opened.panel()
    panel.wait_done()
    panel.run.click()
    panel.wait_done()
    for times in range(3):
        opened.run_cell(1)
        expect(opened.cell(1).locator(".jp-InputPrompt")).to_have_text(f"[{4 + 2 * times}]:")
        opened.run_cell(2)
        expect(opened.cell(2).locator(".jp-InputPrompt")).to_have_text(f"[{5 + 2 * times}]:")
        assert counted.text_content() == first
    panel.wait_done()
    before = panel.words()
    panel.slider("nap").press("ArrowRight")
    panel.wait_for_change(before)


def test_the_page_neither_flickers_nor_jumps_while_a_run_replaces_another(make: Make) -> None:
    opened = make(PROGRAMS, PANEL)
    opened.run_all()
    panel = opened.panel()
    panel.wait_done()
    panel.card.scroll_into_view_if_needed()
    for _ in range(2):  # the figure changes between two places: once each way
        before = panel.words()
        opened.page.evaluate(
            """() => {
                window.frames_seen = [];
                const scroller = document.querySelector('.jp-WindowedPanel-outer');
                const note = () => {
                    const shown = [...document.querySelectorAll('.jp-OutputArea .js-plotly-plot')]
                        .filter((figure) => figure.checkVisibility({visibilityProperty: true}));
                    window.frames_seen.push([shown.length, shown[0]?.querySelectorAll('text').length > 10,
                        Math.round(document.querySelector('.rstkit-card').getBoundingClientRect().top),
                        scroller.scrollTop]);
                    window.noting = requestAnimationFrame(note);
                };
                note();
            }"""
        )
        panel.run.evaluate("(button) => button.click()")  # a click of Playwright's would scroll to the button
        panel.wait_for_change(before)
        panel.wait_done()
        seen = opened.page.evaluate("() => { cancelAnimationFrame(window.noting); return window.frames_seen; }")
        assert {(count, drawn) for count, drawn, _, _ in seen} == {(1, True)}
        assert len({scrolled for _, _, _, scrolled in seen}) == 1
        tops = [top for _, _, top, _ in seen]
        assert max(tops) - min(tops) < 100  # two runs' figures differ a little in height


def test_a_page_that_was_loaded_anew_says_that_its_outcome_is_old(make: Make) -> None:
    opened = make(PROGRAMS, PANEL)
    opened.run_all()
    panel = opened.panel()
    panel.wait_done()
    hint = panel.outputs.get_by_text("The page was loaded anew")
    panel.switch("true time scale").check()
    panel.wait_done()
    assert not hint.is_visible()
    opened.execute("docmanager:save")
    opened.page.reload()
    panel.run.click(timeout=PATIENCE)
    hint.wait_for()
    opened.run_cell(1)
    hint.wait_for(state="detached")
    panel.wait_done()
    assert not hint.is_visible()


def test_switches_redraw_the_same_run(make: Make) -> None:
    opened = make(PROGRAMS, PANEL)
    opened.run_all()
    panel = opened.panel()
    panel.wait_done()
    folded = panel.words()
    status = panel.status.text_content()
    for name in ("true time scale", "raw sequence numbers"):
        panel.switch(name).check()
        panel.wait_for_change(folded)
        panel.switch(name).uncheck()
        expect(panel.figure).to_have_text(folded)
    assert panel.status.text_content() == status


def test_a_pinned_run_is_compared_with_the_next(make: Make) -> None:
    opened = make(PROGRAMS, PANEL)
    opened.run_all()
    panel = opened.panel()
    panel.wait_done()
    panel.outputs.get_by_role("button", name="Pin this run").click()
    expect(panel.status).to_have_text("Pinned: the next run will be compared with this one.")
    panel.slider("nap").press("ArrowRight")
    expect(panel.figure).to_contain_text("The first difference", timeout=PATIENCE)
    panel.wait_done()
    for words in (
        "first run: nap = 0.1",
        "second run: nap = 0.2",
        "The server sleeps 0.1 s",
        "The server sleeps 0.2 s",
    ):
        expect(panel.figure).to_contain_text(words)
    expect(panel.card).to_contain_text("first run: the server sleeps 0.1 s.")
    assert panel.switch("true time scale").is_disabled()
    panel.outputs.get_by_role("button", name="Unpin the run").click()
    expect(panel.figure).not_to_contain_text("The first difference", timeout=PATIENCE)
    expect(panel.card).not_to_contain_text("the server sleeps 0.1 s")
    assert panel.switch("true time scale").is_enabled()


def test_hostile_output_is_only_shown(make: Make) -> None:
    evil = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\\x1b[31m\\u202e<b>bold</b>'
    hostile = PROGRAMS.replace("print(connection.recv(1024))", f"print({evil!r}); raise ValueError({evil!r})")
    opened = make(hostile.replace('b"hello"', repr(evil.encode())), PANEL)
    opened.run_all()
    panel = opened.panel()
    panel.wait_done()
    expect(panel.card).to_contain_text('<img src=x onerror="window.pwned=1">')
    assert panel.card.locator("img, script, b").count() == 0
    assert panel.figure.locator("img:not(.plot-img), script, b").count() == 0
    assert opened.page.evaluate("window.pwned") is None
