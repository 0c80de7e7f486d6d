"""The way of a recorded trace to the page, gone in any Python: `python -m tests.recorded_way TRACE NOTEBOOK...`.

It prints as JSON what was shown, who among rstkit's modules imported what on the way, and how long each
step took, in seconds. A test goes it in this Python and in a browser's, and compares.
"""

import builtins
import contextlib
import importlib
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

_CHANCE = re.compile(r"\b[0-9a-f]{8}\b|\b[0-9a-f]{32}\b")  # what is named by chance: the mark of a card, a widget

imported: set[tuple[str, str]] = set()
took: dict[str, float] = {}
shown: dict[str, Any] = {}


def watch_imports() -> None:
    """Note from now on what a module of rstkit imports from elsewhere, when it is loaded or later."""
    found = builtins.__import__

    def noting(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - so it is called
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Any = (),
        level: int = 0,
    ) -> ModuleType:
        importer = str((globals or {}).get("__name__", ""))
        if level == 0 and importer.partition(".")[0] == "rstkit":
            imported.add((importer, name.partition(".")[0]))
        return found(name, globals, locals, fromlist, level)

    builtins.__import__ = noting


class Clock:
    """How long a step takes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        took[self.name] = round(time.perf_counter() - self.began, 3)


def pure(path: str) -> None:
    """The functions of a trace: text, explanation, words and figure."""
    with Clock("import rstkit"):
        import rstkit
    with Clock("load, explain and describe"):
        trace = rstkit.Trace.load(path)
        shown["text"] = trace.text()
        shown["resets"] = [str(reset) for reset in rstkit.explain(trace)]
        shown["words"] = rstkit.describe(trace)
    with Clock("import plotly"):
        from rstkit import sequence_diagram
    with Clock("draw"):
        shown["figure"] = sequence_diagram(trace)._repr_mimebundle_()
    shown["compared"] = rstkit.compare(trace, trace)._repr_mimebundle_()


def read(notebook: Path, shell: Any) -> None:
    """A notebook's cells, and then its panels, with each of their controls moved to its last value."""
    import ipywidgets

    from rstkit.panel import Panel

    from .page import Page

    shell.reset()
    shell.display_pub = page = Page()
    name = notebook.stem
    with Clock(f"{name}: all cells"), contextlib.redirect_stdout(io.StringIO()) as printed:
        for cell in json.loads(notebook.read_text())["cells"]:
            if cell["cell_type"] == "code":
                shell.run_cell("".join(cell["source"])).raise_error()
    assert "-" * 75 not in printed.getvalue(), printed.getvalue()  # IPython's traceback of what cannot be displayed
    shown[name] = [printed.getvalue(), *page.outputs.values()]
    for panel in [value for value in shell.user_ns.values() if isinstance(value, Panel)]:
        for control_name, control in panel._controls.items():
            if isinstance(control, ipywidgets.DOMWidget):
                with Clock(f"{name}: {control_name} moved"):
                    if hasattr(control, "options"):
                        control.index = len(control.options) - 1
                    else:
                        control.value = control.max
                shown[f"{name}: {control_name} moved"] = [panel.values(), *page.outputs.values()]
        shown[f"{name}: widgets"] = [(type(w).__name__, getattr(w, "value", None)) for w in panel._own]


def main(path: str, *notebooks: str) -> None:
    """Go the way."""
    watch_imports()
    pure(path)
    with Clock("import ipywidgets and rstkit's panel"):
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        importlib.import_module("rstkit.panel")
    # without a history, which would be kept by a thread
    config = Config(HistoryManager={"enabled": False}, InteractiveShell={"colors": "nocolor"})
    shell = InteractiveShell.instance(config=config)
    from rstkit.lab import choice

    choice.BROWSER = True  # in every Python the same way
    with tempfile.TemporaryDirectory() as folder:  # notebooks save files
        os.chdir(folder)
        for notebook in map(Path, notebooks):
            read(notebook, shell)
        os.chdir("/")
    text = _CHANCE.sub("", json.dumps(shown))
    print(json.dumps({"shown": json.loads(text), "imported": sorted(imported), "took": took, "platform": sys.platform}))


if __name__ == "__main__":
    main(*sys.argv[1:])
