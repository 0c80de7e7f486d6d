"""Every notebook, without a browser: it executes, it tells its story in words, and it is committed clean.

``RSTKIT_EXPECT_BACKEND`` names the backends that are meant on this machine, as ``first,other``: the
one that a lab chooses, and the one for a lesson that sets a sysctl; nothing else may be shown then.
"""

import html
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

import rstkit

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PLOTLY = "application/vnd.plotly.v1+json"
_SHOWS_FIGURE = r"\bexplore\(|\bbrowse\([^)]"  # browse() alone waits for a path

# Run at the end of a notebook: the backend that a lab chooses, those of all that is still in a variable,
# and how each that is expected names itself under an outcome.
BACKENDS = """
import json, sys
from rstkit import Lab, Trace
from rstkit.lab.choice import verdict
from rstkit.panel import Panel
_shown = [value.trace if isinstance(value, Panel) else value for value in list(globals().values())]
print(json.dumps({{
    "chosen": Lab().backend.name,
    "traces": sorted({{value.backend for value in _shown if isinstance(value, Trace)}}),
    "about": {{name: verdict(name).backend.about for name in {names}}},
}}))
"""

assert NOTEBOOKS, "pytest would skip this file"
pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_executes_and_tells_its_story_in_words(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(rstkit.__file__).parents[1]))
    course = shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")  # a notebook may leave files beside itself
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    expected = list(filter(None, os.environ.get("RSTKIT_EXPECT_BACKEND", "").split(",")))
    if expected:
        notebook.cells.append(new_code_cell(BACKENDS.format(names=expected)))  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(course)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    for source, shown in panels(notebook):
        figures = [data for data in shown if PLOTLY in data]
        assert len(figures) == len(re.findall(_SHOWS_FIGURE, source)), source
        for figure in figures:
            assert figure[PLOTLY]["data"]
            assert len(figure["text/plain"].splitlines()) > 5
        assert any("rstkit-card" in data.get("text/html", "") for data in shown)
        assert not any("rstkit failed" in data.get("text/plain", "") for data in shown)
    assert panels(notebook)
    if expected:
        check_backends(notebook, *expected)


def check_backends(notebook: Any, first: str, other: str) -> None:
    """What a lab chose and what the notebook's outcomes name are the backends that are expected."""
    found = json.loads(notebook.cells[-1].outputs[0].text)
    assert found["chosen"] == first
    assert set(found["traces"]) <= {first, other}
    cards = [
        html.unescape(data["text/html"])
        for source, shown in panels(notebook)
        if "explore(" in source
        for data in shown
        if "rstkit-card" in data.get("text/html", "")
    ]
    named = [{name for name, about in found["about"].items() if about in card} for card in cards]
    assert all(len(names) == 1 for names in named), named
    if cards:
        assert (other if "fin_timeout = " in str(panels(notebook)) else first) in set().union(*named)
    else:
        assert first in found["traces"]


def panels(notebook: Any) -> list[tuple[str, list[Any]]]:
    """The cells that call explore or browse, with the data that they showed."""
    return [
        (cell.source, [output.data for output in cell.outputs if "data" in output])
        for cell in notebook.cells
        if cell.cell_type == "code" and re.search(r"\b(explore|browse)\(", cell.source)
    ]


def test_is_committed_without_what_a_run_leaves(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert cell.source.strip(), "an empty cell"
        assert set(cell.metadata) <= {"tags"}
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert len(cell.source.splitlines()) <= 25, cell.source
    assert notebook.cells[0].cell_type == "markdown"  # prose before code
