"""Every notebook in JupyterLab in a real browser, used as a learner would use it."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import NOTEBOOKS

if TYPE_CHECKING:
    from .conftest import Open


WITH_PANELS = [path for path in NOTEBOOKS if "explore(" in path.read_text()]  # the other one: test_browse.py
assert len(WITH_PANELS) == len(NOTEBOOKS) - 1


@pytest.mark.parametrize("path", WITH_PANELS, ids=lambda path: path.stem)
def test_runs_and_answers_to_its_controls(path: Path, notebook: "Open", pictures: Path) -> None:
    opened = notebook(path.name)
    opened.run_all()
    panel = opened.panel()
    panel.wait_done()
    assert "RST" in panel.words()
    assert panel.card.get_by_text("Live: two network namespaces").is_visible()

    before = panel.words()
    panel.slider().press("ArrowRight")
    panel.wait_for_change(before)
    panel.wait_done()
    moved = panel.words()

    panel.run.click()
    panel.wait_for_change(moved)  # never the same to the microsecond
    panel.wait_done()
    assert panel.status.text_content().startswith("Done in ")  # type: ignore[union-attr]

    for width in (1300, 900):
        opened.resize(width)
        for theme in ("Light", "Dark"):
            opened.theme(f"JupyterLab {theme}")
            panel.picture(pictures / f"{path.stem}-{theme.lower()}-{width}.png")
