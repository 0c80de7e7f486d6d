"""The way of a recorded trace in Pyodide, the Python of a browser, compared with the same way here.

It needs Node.js, and npm's package pyodide in the folder that RSTKIT_PYODIDE names:
npm install --prefix "$RSTKIT_PYODIDE" --no-save pyodide@314.0.7
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .builder import data_after_close

VERSION = "314.0.7"
ROOT = Path(__file__).parents[1]
# Not 90: it reads captures with numpy, and writes one with scapy.
NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").glob("*.ipynb") if path.stem[:2] != "90")
BROWSER = {"sys_platform": "emscripten", "platform_system": "Emscripten", "python_version": "3.14", "extra": ""}
ABSENT = {
    "socket", "_socket", "select", "selectors", "ssl", "threading", "subprocess", "multiprocessing", "asyncio",
    "concurrent", "signal", "fcntl", "mmap", "atexit", "cloudpickle", "scapy", "numpy",
}  # fmt: skip
MACHINE = re.compile(r"(Python 3|The kernel's own reason for each RST: )[^\n\\]*")


def packages(*names: str) -> list[str]:
    """The folders and files of these packages and of all that they need in a browser's Python."""
    todo, done = [canonicalize_name(name) for name in names], set[str]()
    found: set[Path] = set()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        package = metadata.distribution(name)
        tops = {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}
        found |= {Path(str(package.locate_file(top))) for top in tops}
        for requirement in map(Requirement, package.requires or []):
            if requirement.marker is None or requirement.marker.evaluate(BROWSER):
                todo.append(canonicalize_name(requirement.name))
    return sorted(map(str, found))


def way(command: Sequence[str]) -> Any:
    """What the way showed, but for what is said of the machine.

    The last bits of numbers differ from Python to Python (`sum` is more exact since 3.12).
    """
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    text = MACHINE.sub(r"\1", done.stdout.splitlines()[-1])
    text = re.sub(r"\d+\.\d{7,}", lambda number: f"{float(number[0]):.6f}", text)
    return json.loads(text)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "trace.json.gz"
    data_after_close().save(path)
    return path


@pytest.fixture(scope="module")
def here(trace: Path) -> Any:
    """What the way shows in this Python."""
    command = [sys.executable, "-m", "tests.recorded_way", str(trace), *map(str, NOTEBOOKS)]
    return way(command)


@pytest.fixture(scope="module")
def there(trace: Path) -> Any:
    """What the way shows in Pyodide."""
    folder = Path(os.environ.get("RSTKIT_PYODIDE", "nowhere")).resolve() / "node_modules/pyodide"
    if not folder.is_dir() or not shutil.which("node"):
        pytest.skip("there is no Node.js, or no Pyodide where RSTKIT_PYODIDE points: see tests/test_pyodide.py")
    assert json.loads((folder / "package.json").read_text())["version"] == VERSION
    plan = {
        "pyodide": str(folder),
        "packages": packages("plotly", "ipywidgets"),
        "folders": {"/rstkit": str(ROOT), "/files": str(trace.parent)},
        "run": "tests.recorded_way",
        "arguments": [f"/files/{trace.name}", *(f"/rstkit/{path.relative_to(ROOT)}" for path in NOTEBOOKS)],
    }
    return way(["node", str(Path(__file__).parent / "pyodide.mjs"), json.dumps(plan)])


def test_nothing_of_rstkit_asks_for_what_a_browser_lacks(here: Any) -> None:
    """IPython and ipywidgets may: they are at home in a browser's Python."""
    imported = {(importer, name) for importer, name in here["imported"]}
    assert {("rstkit.panel", "ipywidgets"), ("rstkit.diagram", "plotly"), ("rstkit.lab.recorded", "json")} <= imported
    imported -= {("rstkit.doctor", "subprocess")}  # of Linux, as root, it asks more
    assert [f"{importer} imports {name}" for importer, name in sorted(imported) if name in ABSENT] == []


def test_a_browsers_python_shows_the_same(here: Any, there: Any) -> None:
    assert there["platform"] == "emscripten"
    assert [name for _, name in there["imported"] if name in ABSENT] == []
    assert there["shown"].keys() == here["shown"].keys()
    for name, shown in here["shown"].items():
        assert there["shown"][name] == shown, name


def test_every_outcome_there_says_that_it_was_recorded(there: Any) -> None:
    for notebook in NOTEBOOKS[1:]:  # the first has no panel
        _, *outputs = there["shown"][notebook.stem]
        cards = [output["text/plain"] for output in outputs if "rstkit-card" in output.get("text/html", "")]
        assert cards, notebook.name
        assert all("Not live: " in card and "a browser's Python" in card for card in cards)
