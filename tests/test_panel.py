"""The panel over a lab that is played by the test: what it shows, when it runs, what it leaves behind."""

import _thread
import importlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import ipywidgets
import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets import HTML, fixed
from ipywidgets.widgets.widget import _instances

from rstkit import card, panel
from rstkit.compare import compare
from rstkit.contrast import contrast
from rstkit.diagram import sequence_diagram
from rstkit.errors import LabError, LabUnavailable, SettingError
from rstkit.lab import Lab
from rstkit.lab.choice import BACKENDS
from rstkit.panel import Panel, explore
from rstkit.text import describe
from rstkit.trace import Trace

from .builder import data_after_close
from .conftest import wait_until
from .page import PLOTLY, Page

WIDGET = "application/vnd.jupyter.widget-view+json"


def server(address: object, nap: float = 1.0) -> None:
    """Stand in for a program; the played lab never runs it."""


def client(address: object, text: str = "") -> None:
    """Stand in for a program; the played lab never runs it."""


class PlayedLab:
    """Returns the hand-made trace, at once or when the test opens the gate."""

    class Backend:
        instant = False

        def __init__(self) -> None:
            self.lacks: dict[str, str] = {}

    def __init__(self) -> None:
        self.backend = self.Backend()
        self.tell: Any = None
        self.gate = threading.Event()
        self.gate.set()
        self.runs: list[dict[str, Any]] = []
        self.failure: BaseException | None = None
        self.running = 0
        self.stopped = False

    def check(self, *programs: Any, **values: Any) -> None:
        Lab.check(self, *programs, **values)  # type: ignore[arg-type]  # the real one; it uses nothing of its lab

    def backend_for(self, **_: Any) -> Backend:
        return self.backend

    def about(self, **_: Any) -> str:
        return "Played <by the test>."

    def run(self, *_: Any, **values: Any) -> Trace:
        self.running += 1
        assert self.running == 1, "two runs at once"
        self.stopped = False
        self.runs.append(values)
        self.gate.wait(10)
        self.running -= 1
        if self.failure:
            raise self.failure
        return replace(data_after_close(), outcome="stopped" if self.stopped else "completed")

    def stop(self) -> None:
        self.stopped = True
        self.gate.set()


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page()
    monkeypatch.setattr(InteractiveShell.instance(), "display_pub", page)
    return page


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, page: Page) -> Iterator[PlayedLab]:
    """The lab of the panels that the test makes; after it no thread and no comm of theirs may be left."""
    played = PlayedLab()

    def make(tell: Any) -> PlayedLab:
        played.tell = tell
        return played

    monkeypatch.setattr(panel, "Lab", make)
    before, comms = threading.active_count(), set(_instances)
    made: list[Panel] = []
    show = Panel._show

    def noted_show(self: Panel) -> None:
        made.append(self)
        show(self)

    monkeypatch.setattr(Panel, "_show", noted_show)
    yield played
    for each in made:
        each.close()
    assert wait_until(lambda: threading.active_count() == before)
    assert set(_instances) == comms


def settle(shown: Panel) -> None:
    assert wait_until(lambda: not shown._runs.busy)


def test_shows_the_whole_story_before_the_cell_is_over(lab: PlayedLab, page: Page) -> None:
    shown = explore(server, client, nap=(0.0, 3.0, 0.5), rtt=(0, 200, 10))
    assert lab.runs == [{"nap": 1.0, "rtt": 20}]  # the defaults of the function and of the lab
    assert shown.trace == data_after_close()
    controls, *_ = page.outputs.values()
    assert WIDGET in controls
    assert controls["text/plain"] == "nap = 1.0, rtt = 20"
    (figure,) = page.figures
    assert figure["text/plain"] == describe(data_after_close())
    assert card._safe(describe(data_after_close())) in page.card["text/html"]
    assert "Played &lt;by the test&gt;." in page.card["text/html"]
    assert page.card["text/plain"].endswith("Played <by the test>.")
    assert [output for output in page.outputs.values() if output == card.NOTHING] == [card.NOTHING]


@pytest.mark.parametrize(
    ("given", "kind", "value"),
    [
        ((0, 4), ipywidgets.IntSlider, 1),
        ((0.0, 4.0, 0.5), ipywidgets.FloatSlider, 1.0),
        ([3, 4], ipywidgets.Dropdown, 3),
        ({"short": 3, "long": 4}, ipywidgets.Dropdown, 3),
        (True, ipywidgets.Checkbox, True),
        ("three", ipywidgets.Text, "three"),
        (3, ipywidgets.IntSlider, 3),
        (2.5, ipywidgets.FloatSlider, 2.5),
        (ipywidgets.fixed([1, 2]), ipywidgets.fixed, [1, 2]),
    ],
)
def test_takes_the_abbreviations_of_interact(lab: PlayedLab, given: Any, kind: type[Any], value: Any) -> None:
    shown = explore(server, client, nap=given)
    control: Any = shown._controls["nap"]
    assert isinstance(control, kind)
    assert lab.runs == [{"nap": value}]
    if kind is not ipywidgets.fixed:
        assert control.description == "nap"
    if control.has_trait("continuous_update"):
        assert control.continuous_update is False


def test_a_setting_that_is_off_by_default_starts_at_the_first_choice(lab: PlayedLab) -> None:
    shown = explore(server, client, fin_timeout={"3 s": 3, "60 s": 60})
    assert lab.runs == [{"fin_timeout": 3}]
    shown.close()


def test_leaves_a_widget_of_the_caller_alive(lab: PlayedLab) -> None:
    mine = ipywidgets.FloatLogSlider(value=1.0, description="how long")
    shown = explore(server, client, nap=mine)
    assert mine.description == "how long"
    shown.close()
    mine.value = 10.0
    assert mine.comm is not None
    assert len(lab.runs) == 1  # but it runs nothing any more
    for part in (mine.layout, mine.style, mine):
        part.close()


def test_names_the_units_of_settings_and_keeps_their_range(lab: PlayedLab) -> None:
    shown = explore(server, client, rtt=30, loss=2.0, duration=(1, 20), seed=5)
    controls = shown._controls
    assert [c.description for c in controls.values()] == ["rtt (ms)", "loss (%)", "duration (s)", "seed"]
    assert [c.min for c in controls.values()] == [0, 0.0, 1, 0]  # interact alone would begin at -30


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"nap": 1.0, "rrt": 20}, "no program and no lab setting is named rrt"),
        ({}, "the server needs a value for nap"),
        ({"nap": (5, 1)}, r"nap=\(5, 1\) makes no control"),
        ({"nap": None}, "nap=None makes no control"),
        ({"nap": 1.0, "rtt": "quick"}, "rtt='quick' is no value for it"),
    ],
)
def test_a_wrong_name_or_value_is_an_error_before_anything_is_shown(
    lab: PlayedLab, page: Page, controls: dict[str, Any], message: str
) -> None:
    def needs_nap(address: object, nap: float) -> None: ...

    with pytest.raises(SettingError, match=message):
        explore(needs_nap, client, **controls)
    assert page.outputs == {}
    assert lab.runs == []


def test_a_change_runs_again_and_leaves_the_kernel_free(lab: PlayedLab, page: Page) -> None:
    shown = explore(server, client, nap=(0.0, 3.0, 0.5))
    lab.gate.clear()
    shown._controls["nap"].value = 2.0  # returns while the run goes on
    assert wait_until(lambda: lab.running == 1)
    assert not shown._stop.disabled
    assert len(page.figures) == 1  # the last outcome stays
    lab.gate.set()
    settle(shown)
    assert lab.runs == [{"nap": 1.0}, {"nap": 2.0}]
    assert len(page.figures) == 1
    assert shown._stop.disabled


def test_changes_during_a_run_are_run_once_with_the_newest_values(lab: PlayedLab) -> None:
    shown = explore(server, client, nap=(0.0, 3.0, 0.5))
    lab.gate.clear()
    shown._run.click()
    assert wait_until(lambda: lab.running == 1)
    for value in (0.5, 1.5, 2.5):
        shown._controls["nap"].value = value
    shown._run.click()
    lab.gate.set()
    settle(shown)
    assert lab.runs == [{"nap": 1.0}, {"nap": 1.0}, {"nap": 2.5}]


def test_stop_ends_the_run_and_forgets_the_next(lab: PlayedLab, page: Page) -> None:
    shown = explore(server, client, nap=(0.0, 3.0, 0.5))
    assert shown._stop.disabled
    lab.gate.clear()
    shown._run.click()
    shown._controls["nap"].value = 2.0
    assert wait_until(lambda: lab.running == 1 and not shown._stop.disabled)
    shown._stop.click()
    settle(shown)
    assert shown.trace.outcome == "stopped"
    assert len(lab.runs) == 2
    assert "Stopped." in shown._status.value
    assert page.card["text/plain"].startswith("Stopped, after")
    assert shown._stop.disabled


def test_an_interrupt_of_the_first_run_stops_it(lab: PlayedLab, page: Page) -> None:
    lab.gate.clear()
    interrupt = threading.Timer(0.3, _thread.interrupt_main)
    interrupt.start()
    shown = explore(server, client, nap=1.0)
    interrupt.join()
    assert shown.trace.outcome == "stopped"
    assert page.card["text/plain"].startswith("Stopped, after")
    lab.gate.clear()
    shown._run.click()  # and it can be run again
    lab.gate.set()
    settle(shown)
    assert shown.trace.outcome == "completed"


@pytest.mark.parametrize("error", [LabUnavailable("No namespaces <here>."), SettingError("no."), LabError("It fell.")])
def test_a_failed_run_shows_one_message_and_can_be_run_again(lab: PlayedLab, page: Page, error: Exception) -> None:
    lab.failure = error
    shown = explore(server, client, nap=1.0)
    assert page.card["text/plain"] == str(error)
    assert card._safe(str(error)) in page.card["text/html"]
    assert page.figures == []
    with pytest.raises(LabError, match="see the message under its controls"):
        _ = shown.trace
    lab.failure = None
    shown._run.click()
    settle(shown)
    assert shown.trace == data_after_close()
    assert len(page.figures) == 1


def test_a_fault_of_rstkit_is_shown_with_its_traceback(lab: PlayedLab, page: Page) -> None:
    lab.failure = ZeroDivisionError("by <zero>")
    explore(server, client, nap=1.0)
    assert page.card["text/plain"].startswith("rstkit failed: ZeroDivisionError('by <zero>')")
    assert "<details><summary>Details</summary><pre>Traceback" in page.card["text/html"]
    assert "<zero>" not in page.card["text/html"]


def test_switches_redraw_without_a_run(lab: PlayedLab, page: Page) -> None:
    shown = explore(server, client, nap=1.0)
    trace = data_after_close()

    def drawn(**how: bool) -> bool:
        return bool(page.figures[0][PLOTLY] == sequence_diagram(trace, **how)._repr_mimebundle_()[PLOTLY])

    assert drawn()
    shown._raw.value = True
    assert drawn(raw=True)
    shown._true_scale.value = True
    assert drawn(raw=True, true_scale=True)
    assert not drawn(raw=True)
    assert len(lab.runs) == 1


def test_a_pinned_run_is_compared_with_the_next_ones(
    lab: PlayedLab, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = data_after_close()
    second = replace(first, packets=first.packets[:-1], values={"nap": 2.0})
    shown = explore(server, client, nap=(0.0, 3.0, 0.5))
    plain = sequence_diagram(first)._repr_mimebundle_()[PLOTLY]
    shown._pin.value = True
    assert page.figures[0][PLOTLY] == plain  # there is nothing yet to compare it with
    assert "the next run will be compared" in shown._status.value
    assert shown._pin.description == "Unpin the run"
    assert not shown._raw.disabled
    monkeypatch.setattr(lab, "run", lambda *_, **__: second)
    shown._controls["nap"].value = 2.0
    settle(shown)
    words = str(contrast(first, second))
    assert "the client sends RST seq 13 (packet 9)" in words
    assert page.figures[0][PLOTLY] == compare(first, second)._repr_mimebundle_()[PLOTLY]
    assert page.figures[0]["text/plain"] == f"{words}\n\n{describe(second)}"
    assert all(card._safe(line) in page.card["text/html"] for line in words.split("\n"))
    assert words in page.card["text/plain"]
    assert shown._raw.disabled
    assert shown._true_scale.disabled
    shown._pin.value = False
    assert page.figures[0][PLOTLY] == sequence_diagram(second)._repr_mimebundle_()[PLOTLY]
    assert "They differ first" not in page.card["text/html"]
    assert not shown._raw.disabled
    assert shown._pin.description == "Pin this run"


def test_a_pinned_run_outlives_one_that_fails(lab: PlayedLab, page: Page) -> None:
    shown = explore(server, client, nap=1.0)
    shown._pin.value = True
    lab.failure = LabError("No.")
    shown._run.click()
    settle(shown)
    assert page.figures == []
    assert not shown._pin.disabled
    lab.failure = None
    shown._run.click()
    settle(shown)
    assert "No difference" in page.figures[0]["text/plain"]
    shown._pin.value = False
    lab.failure = LabError("No.")
    shown._run.click()
    settle(shown)
    assert shown._pin.disabled  # nothing is shown that could be pinned


def test_progress_is_shown_only_after_a_second(lab: PlayedLab) -> None:
    shown = explore(server, client, nap=1.0)
    seen: list[str] = []
    shown._progress.layout.observe(lambda change: seen.append(change.new), "display")
    shown._run.click()
    settle(shown)
    assert seen == []
    lab.gate.clear()
    shown._run.click()
    assert wait_until(lambda: seen == [""])
    assert shown._progress.description == "1 s of at most 10 s"  # longer than the last run, which took no time
    assert wait_until(lambda: shown._progress.value > 0.14)  # of 10 s: the next is told before it has taken as long
    assert wait_until(lambda: shown._progress.description.startswith("2 s"))
    lab.gate.set()
    settle(shown)
    assert seen == ["", "none"]
    lab.gate.clear()
    shown._run.click()
    assert wait_until(lambda: len(seen) == 3)
    assert shown._progress.description.startswith("1 s of about ")
    lab.gate.set()
    settle(shown)


def test_close_ends_a_run_under_way(lab: PlayedLab) -> None:
    shown = explore(server, client, nap=1.0)
    lab.gate.clear()
    shown._run.click()
    assert wait_until(lambda: lab.running == 1)
    shown.close()
    assert lab.running == 0
    shown._run.click()
    assert len(lab.runs) == 2


def test_running_a_cell_again_closes_what_it_showed_before(lab: PlayedLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(cell: str, execution: str) -> Callable[[], dict[str, Any]]:
        return lambda: {"header": {"msg_id": execution}, "metadata": {"cellId": cell}}

    shell = InteractiveShell.instance()
    monkeypatch.setattr(panel, "_shown", {})
    monkeypatch.setattr(shell, "get_parent", execute("a", "1"), raising=False)
    first, second = explore(server, client, nap=1.0), explore(server, client, nap=1.0)
    monkeypatch.setattr(shell, "get_parent", execute("b", "2"), raising=False)
    other = explore(server, client, nap=1.0)
    monkeypatch.setattr(shell, "get_parent", execute("a", "3"), raising=False)
    again = explore(server, client, nap=1.0)
    assert [p._runs.closed for p in (first, second, other, again)] == [True, True, False, False]


def test_what_programs_print_is_escaped(lab: PlayedLab, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = data_after_close()
    evil = "<script>alert(1)</script>\x1b[31m\u202e\udcff"
    programs = tuple(replace(p, name=evil, output=evil, traceback=evil) for p in trace.programs)
    evil_trace = replace(trace, programs=programs, problems=(evil,), outcome=evil)
    monkeypatch.setattr(lab, "run", lambda *_, **__: evil_trace)
    explore(server, client, nap=1.0)
    for kind in ("text/html", "text/plain"):
        for hostile in ("\x1b", "\u202e", "\udcff", *(["<script"] if kind == "text/html" else [])):
            assert hostile not in page.card[kind]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m\\u202e\\udcff" in page.card["text/html"]


def test_a_control_of_what_the_lab_lacks_is_disabled_and_says_why(lab: PlayedLab, page: Page) -> None:
    lab.backend.lacks = {"rtt": "this wire has no <delay>", "loss": "it loses nothing"}
    shown = explore(server, client, nap=(0.0, 3.0, 0.5), rtt=(0, 200, 10), text=fixed("a"))
    assert shown._controls["rtt"].disabled
    assert not shown._controls["nap"].disabled
    assert "rtt: this wire has no &lt;delay&gt;." in [w.value for w in shown._own if isinstance(w, HTML)]


def test_what_a_run_waits_for_is_said_beside_the_buttons(lab: PlayedLab, page: Page) -> None:
    shown = explore(server, client, nap=(0.0, 3.0, 0.5), rtt=(0, 200, 10), text=fixed("a"))
    lab.tell("Booting <a kernel>.")
    assert "Booting &lt;a kernel&gt;." in shown._status.value


@pytest.mark.parametrize("name", BACKENDS)
def test_each_backend_says_whether_its_runs_take_time(name: str) -> None:
    backend = getattr(importlib.import_module(f"rstkit.lab.{name}"), BACKENDS[name])
    assert backend.instant is (name == "recorded")


def test_runs_that_take_no_time_need_no_thread_and_no_stop_button(
    lab: PlayedLab, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # as in a browser's Python

    monkeypatch.setattr(threading.Thread, "start", refuse)
    lab.backend.instant = True
    shown = explore(server, client, nap=(0.0, 3.0, 0.5))
    assert 'class="rstkit-ready"' in shown._status.value
    shown._controls["nap"].value = 2.0
    shown._run.click()
    assert lab.runs == [{"nap": 1.0}, {"nap": 2.0}, {"nap": 2.0}]
    assert shown.trace == data_after_close()
    assert len(page.figures) == 1
    buttons = [
        w.description
        for box in shown._box.children
        if isinstance(box, ipywidgets.Box)
        for w in box.children
        if isinstance(w, ipywidgets.Button)
    ]
    assert buttons == ["Run"]
    lab.failure = LabError("No.")
    shown._run.click()
    assert page.card["text/plain"] == "No."
    shown.close()
    shown._run.click()
    assert len(lab.runs) == 4
