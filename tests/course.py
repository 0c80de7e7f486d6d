"""The course's own programs and controls, taken from its notebooks, so that tests and course cannot drift."""

import ast
import json
import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipywidgets import fixed

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

_HERE = "socket.create_server(address)"
_OVER_IPV6 = "socket.create_server(address, family=socket.AF_INET6)"


class Lesson:
    """A notebook's functions by name, its ``server`` and ``client``, and the controls of its panel.

    Of the notebook's code only imports, functions, ``server = None`` and the call of ``explore``
    are executed. ``controls`` are the keyword arguments of that call, as they stand there. For
    IPv6 a server that says nothing of the family gets ``family=socket.AF_INET6``.
    """

    def __init__(self, path: Path, ip: int = 4) -> None:
        self.name = path.stem
        self.controls: dict[str, Any] = {}
        # 02 asks the machine what its knob is called
        self._names: dict[str, Any] = {"__name__": "notebook", "knob": "fin_timeout"}
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        for number, cell in enumerate(cells):
            source = "".join(cell["source"])
            self._execute(source.replace(_HERE, _OVER_IPV6) if ip == 6 else source, f"<{path.name}, {number}, {ip}>")

    def _execute(self, source: str, name: str) -> None:
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        for node in ast.parse(source).body:
            exploring = isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("explore(")
            defining = isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef)
            if exploring:
                self._names["explore"] = self._explore
            if exploring or defining or ast.unparse(node) == "server = None":
                exec(compile(ast.Module([node], []), name, "exec"), self._names)

    def _explore(self, server: Any, client: Any, **controls: Any) -> None:
        assert (server, client) == (self._names["server"], self._names["client"])
        self.controls = controls

    def __getitem__(self, name: str) -> Callable[..., None] | None:
        """A program of the notebook."""
        found: Callable[..., None] | None = self._names[name]
        return found

    @property
    def client(self) -> Callable[..., None]:
        client = self["client"]
        assert client is not None
        return client

    @property
    def given(self) -> dict[str, Any]:
        """The values that have no default but in the panel: those that are fixed, and the first of a list."""
        held = {name: control.value for name, control in self.controls.items() if isinstance(control, fixed)}
        firsts = {name: next(iter(c.values())) for name, c in self.controls.items() if isinstance(c, dict)}
        return held | firsts

    @property
    def varied(self) -> dict[str, list[Any]]:
        """For each control that can be moved, its values: both ends and the middle, or all of a list."""
        return {name: _values(c) for name, c in self.controls.items() if not isinstance(c, fixed)}


def _values(control: Any) -> list[Any]:
    if isinstance(control, dict):
        return list(control.values())
    low, high, *steps = control
    step = steps[0] if steps else type(low)(1)
    middle = low + (high - low) / 2 // step * step
    return [low, type(low)(round(middle, 6)), high]


def lessons() -> list[Path]:
    """The notebooks that teach one cause: not the first, on how to read, nor the last, on captures."""
    return sorted(path for path in NOTEBOOKS.glob("*.ipynb") if path.stem[:2] not in ("00", "90"))
