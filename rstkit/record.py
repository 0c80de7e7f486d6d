"""Recording: live runs of notebooks, kept for machines that have no live lab (`rstkit.recordings`).

A notebook is executed with ``RSTKIT_RECORD`` set. Then the lab keeps every run of its cells, and
each panel also runs its grid: the start value, both ends of a slider and all values of a list, in
all combinations, and each slider from end to end with the others at their start.
"""

import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any

from .errors import LabError, LabUnavailable
from .lab import Lab, Program
from .lab.choice import choose
from .lab.recorded import RECORD
from .recordings import FOLDER, write

_AT_ONCE = 6  # runs, which sleep more than they work
_STEPS = 51  # the most values of one slider, with the others at their start


def grid(controls: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The values at which a panel with these controls (widgets) is recorded."""
    start = {name: control.get_interact_value() for name, control in controls.items()}
    corners = itertools.product(*(_unlike(_corners(control)) for control in controls.values()))
    found = [dict(zip(controls, corner, strict=True)) for corner in corners]
    found += [start | {name: value} for name, control in controls.items() for value in _steps(control)]
    return _unlike(found)


def _unlike(things: Iterable[Any]) -> list[Any]:
    """Each thing once, in order; they need not be hashable."""
    found: list[Any] = []
    for thing in things:
        if thing not in found:
            found.append(thing)
    return found


def _corners(control: Any) -> Iterator[Any]:
    """The start value of a control, then the ends of a slider or all that there is to choose from."""
    start = control.get_interact_value()
    yield start
    if hasattr(control, "index"):  # a choice of one
        yield from (value for _, value in control._options_full)
    elif isinstance(start, bool):
        yield not start
    elif hasattr(control, "min"):
        yield from (control.min, control.max)


def _steps(control: Any) -> Iterator[Any]:
    """The values of a slider, or evenly spread ones of them where there are many."""
    if not hasattr(control, "min") or not getattr(control, "step", None):
        return
    last = int((control.max - control.min) / control.step + 1e-9)
    kind = type(control.min)
    for number in sorted({round(last * i / (_STEPS - 1)) for i in range(_STEPS)}):
        yield kind(round(control.min + number * control.step, 9))


def run_all(server: Program | None, client: Program, wanted: Iterable[Mapping[str, Any]]) -> None:
    """Run two programs at each of the values wanted, several runs at a time."""
    of_thread = local()

    def run(values: Mapping[str, Any]) -> None:
        if not hasattr(of_thread, "lab"):
            of_thread.lab = Lab(tell=lambda _: None)
        of_thread.lab.run(server, client, **values)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for done in [threads.submit(run, values) for values in wanted]:
            done.result()


def record(paths: Sequence[Path], command: str, tell: Callable[[str], None]) -> None:
    """Record notebooks, and those in folders, each to ``recordings`` beside it.

    ``command`` is what made the recordings. LabUnavailable where this machine has no live lab, and
    LabError where a notebook cannot be executed or runs nothing.
    """
    backend = choose()
    backend.close()  # each notebook's own process has one of its own
    if backend.name not in ("namespaces", "guest"):
        raise LabUnavailable(f"Only a whole live lab is worth recording. {backend.about}")
    notebooks = [notebook for path in paths for notebook in (sorted(path.glob("*.ipynb")) if path.is_dir() else [path])]
    for notebook in notebooks:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="rstkit-record-") as folder:
            _execute(notebook, Path(folder))
            kept = [json.loads(path.read_text()) for path in sorted(Path(folder).iterdir())]
        if not kept:
            raise LabError(f"{notebook}: none of its cells runs a lab, so there is nothing to record.")
        file = notebook.parent / FOLDER / f"{notebook.stem}.zip"
        write(file, kept, command)
        took = time.monotonic() - began
        late = max(run["late"] for run in kept) * 1000
        size = file.stat().st_size / 1000
        tell(f"{file}: {len(kept)} recordings, {size:,.0f} kB, no packet more than {late:.1f} ms late, in {took:.0f} s")


def _execute(notebook: Path, folder: Path) -> None:
    """Execute a notebook whose lab keeps its runs in a folder; its file stays as it is."""
    import nbformat  # noqa: PLC0415 - only who records needs these
    from nbclient import NotebookClient  # noqa: PLC0415
    from nbclient.exceptions import CellExecutionError  # noqa: PLC0415

    try:
        cells = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise LabError(f"{notebook}: no readable notebook ({error}).") from error
    client = NotebookClient(cells, timeout=None, resources={"metadata": {"path": str(notebook.parent)}})
    try:
        client.execute(env=os.environ | {RECORD: str(folder)})
    except AssertionError:
        if client.km is not None:
            raise
        raise KeyboardInterrupt from None  # nbclient took the interrupt, and stumbles over it
    except CellExecutionError as error:
        raise LabError(f"{notebook} cannot be recorded, for a cell of it failed: {error}") from error
