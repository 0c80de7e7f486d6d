"""Every notebook, without a browser: it executes, it tells its story in words, and it is committed clean."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PLOTLY = "application/vnd.plotly.v1+json"

assert NOTEBOOKS, "pytest would skip this file"
pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_executes_and_tells_its_story_in_words(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    for source, shown in panels(notebook):
        figures = [data for data in shown if PLOTLY in data]
        assert len(figures) == source.count("explore("), source
        for figure in figures:
            assert figure[PLOTLY]["data"]
            assert len(figure["text/plain"].splitlines()) > 5
        assert any("rstkit-card" in data.get("text/html", "") for data in shown)
        assert not any("rstkit failed" in data.get("text/plain", "") for data in shown)
    assert panels(notebook)


def panels(notebook: Any) -> list[tuple[str, list[Any]]]:
    """The cells that call explore, with the data that they showed."""
    return [
        (cell.source, [output.data for output in cell.outputs if "data" in output])
        for cell in notebook.cells
        if cell.cell_type == "code" and "explore(" in cell.source
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
