"""Who may import whom. What is loaded at `import rstkit` decides where it runs and how fast."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rstkit

PACKAGE = Path(__file__).parent.parent / "rstkit"

# A module may import from the floors above its own, and from its own where no circle comes of it.
FLOORS = [
    {"", "errors", "tcp"},  # "": the package itself, for its version
    {"trace"},
    {"stored", "recordings", "capture", "captures", "excerpt", "explain", "findings", "lab"},
    {"diagram", "text", "report", "annotate"},
    {"compare"},
    {"panel", "predict", "browse", "cli"},
]
# Modules that only serve others live on the floor of those that they serve.
SERVE = {
    "explain": {
        "actions",
        "case",
        "causes",
        "conversation",
        "copies",
        "evidence",
        "missing",
        "saw",
        "story",
        "shown",
        "signs",
        "aborts",
        "suspects",
        "view",
        "witnesses",
    },
    "captures": {"blocks", "columns", "packets", "pieces", "records", "shapes", "sorting", "streams", "tunnels"},
    "findings": {"grouping"},
    "diagram": {"beside", "dissect", "drawing", "layers", "sheet", "theme", "timeline"},
    "text": {"contrast", "strands", "words"},
    "cli": {"doctor"},
    "browse": {"table"},
    "panel": {"background", "card", "record", "runs"},
}
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}
FLOOR |= {name: FLOOR[served] for served, names in SERVE.items() for name in names}

# Packages beyond the standard library, and who may import them when loaded.
FOREIGN = {
    "numpy": {
        "annotate",
        "blocks",
        "captures",
        "columns",
        "pieces",
        "records",
        "shapes",
        "sorting",
        "streams",
        "tunnels",
    },
    "plotly": {"diagram", "layers"},
    "ipywidgets": {"panel", "predict", "browse", "table"},
    "traitlets": {"panel"},
    "IPython": {"panel", "card", "predict", "browse"},
    "cloudpickle": {"lab"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The part of rstkit that a file belongs to: ``trace``, or ``lab`` for all of the lab."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py").removeprefix("__init__")


def loaded_at_import(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run when the module is loaded."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from loaded_at_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody"):
                yield from loaded_at_import(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from loaded_at_import(handler.body)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The parts of rstkit and the packages that a module imports, each with whether it is of rstkit."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in loaded_at_import(ast.parse(path.read_text()).body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                yield (rest.partition(".")[0], True) if top == "rstkit" else (top, False)
        elif node.level == depth or (node.module or "").partition(".")[0] == "rstkit":
            inside = (node.module or "").removeprefix("rstkit").removeprefix(".") if not node.level else node.module
            if inside:
                yield inside.partition(".")[0], True
            else:  # from . import errors, __version__
                for alias in node.names:
                    yield ("" if alias.name.startswith("__") else alias.name), True
        elif node.level == 0:
            yield (node.module or "").partition(".")[0], False
        else:
            yield name_of(path), True  # within the lab


def test_the_reader_of_imports_sees_what_is_loaded() -> None:
    source = """
import os, rstkit.lab.wire
from .trace import Trace
from . import errors, __version__
from rstkit.tcp import Flags
if TYPE_CHECKING:
    from .panel import explore
else:
    from .text import describe
try:
    import plotly.graph_objects
except ImportError:
    import json
class A:
    import ast
    def f(self):
        from .diagram import sequence_diagram
"""
    path = PACKAGE / "example.py"
    found = [
        (ast.unparse(node), node.level if isinstance(node, ast.ImportFrom) else 0)
        for node in loaded_at_import(ast.parse(source).body)
    ]
    assert [text for text, _ in found] == [
        "import os, rstkit.lab.wire",
        "from .trace import Trace",
        "from . import errors, __version__",
        "from rstkit.tcp import Flags",
        "from .text import describe",
        "import plotly.graph_objects",
        "import json",
        "import ast",
    ]
    assert name_of(path) == "example"
    assert name_of(PACKAGE / "__init__.py") == ""
    assert name_of(PACKAGE / "lab" / "wire.py") == "lab"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = name_of(path)
    assert own in FLOOR, f"{own} has no floor yet: give it one in {__file__}"
    for imported, ours in imports(path):
        if ours:
            assert imported in FLOOR, f"{own} imports {imported}, which has no floor"
            assert FLOOR[imported] <= FLOOR[own], f"{own} must not import {imported}, which stands on it"
        elif imported not in sys.stdlib_module_names:
            assert own in FOREIGN.get(imported, ()), f"{own} must not import {imported} when it is loaded"


def test_no_module_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules():
        own = name_of(path)
        graph.setdefault(own, set()).update(name for name, ours in imports(path) if ours and name != own)
    graph[""] -= {""}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


def loads(*names: str) -> set[str]:
    """The modules that importing these brings into a fresh interpreter, beyond what it has at its start."""
    code = f"import sys; bare = set(sys.modules); import {', '.join(names)}; print(*sorted(set(sys.modules) - bare))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return set(found.stdout.split())


# What a browser's Python lacks, and what is slow to load.
HEAVY = {
    "socket", "_socket", "select", "selectors", "ssl", "threading", "subprocess", "multiprocessing", "asyncio",
    "concurrent", "signal", "scapy", "plotly", "numpy", "ipywidgets", "IPython", "cloudpickle",
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "rstkit",
        "rstkit.trace",
        "rstkit.stored",
        "rstkit.text",
        "rstkit.explain",
        "rstkit.capture",
        "rstkit.lab",
        "rstkit.runs",
    ],
)
def test_a_recorded_trace_can_be_shown_without_sockets_or_threads(name: str) -> None:
    loaded = loads(name)
    assert name in loaded
    assert {module.partition(".")[0] for module in loaded} & HEAVY == set()


def test_the_package_alone_loads_none_of_its_parts() -> None:
    assert {module for module in loads("rstkit") if module.startswith("rstkit")} == {"rstkit"}


def test_plotly_is_loaded_by_the_diagram_alone() -> None:
    below = [name for name, level in FLOOR.items() if name and level < FLOOR["compare"]]
    below = [name for name in below if name not in FOREIGN["plotly"]]
    assert "dissect" in below
    assert "plotly" not in loads(*(f"rstkit.{name}" for name in below))
    assert "plotly" in loads("rstkit.diagram")


def test_the_lab_needs_the_standard_library_and_cloudpickle_alone() -> None:
    """Its processes are forked for each run, and boot in a guest: they must be lean."""
    foreign = {m.partition(".")[0] for m in loads("rstkit.lab", "rstkit.lab.forkserver")} - sys.stdlib_module_names
    assert foreign <= {"rstkit", "cloudpickle"}


@pytest.mark.parametrize("name", rstkit.__all__)
def test_a_name_of_the_package_is_no_module_whatever_was_loaded_before(name: str) -> None:
    """`explain` and `compare` are functions, and modules of these names are loaded by others."""
    code = f"""
import importlib, rstkit, types
for home in set(rstkit._HOMES.values()):
    importlib.import_module(f"rstkit.{{home}}")
from rstkit import {name}
assert not isinstance({name}, types.ModuleType)
assert {name} is rstkit.{name} is getattr(importlib.import_module(f"rstkit.{{rstkit._HOMES['{name}']}}"), "{name}")
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
