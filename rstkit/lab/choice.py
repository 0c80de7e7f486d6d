"""Which backends this machine has: each is tried once, and the first that works is taken."""

import importlib
import os
import sys
from collections.abc import Collection
from typing import NamedTuple

from ..errors import LabUnavailable, SettingError
from .job import Backend

# In the order in which they are tried. Their modules are loaded only then: some need what not every Python has.
BACKENDS = {"namespaces": "Namespaces", "guest": "Guest", "loopback": "Loopback", "recorded": "Recorded"}
FORCED = "RSTKIT_BACKEND"
BROWSER = sys.platform == "emscripten"


class Verdict(NamedTuple):
    """A backend, with why it does not work here, or None where it does."""

    backend: Backend
    refusal: str | None


_verdicts: dict[str, Verdict] = {}


def verdict(name: str) -> Verdict:
    """What the probe of a backend said; it is asked once."""
    if name not in _verdicts:
        backend: Backend = getattr(importlib.import_module(f".{name}", __package__), BACKENDS[name])()
        try:
            _verdicts[name] = Verdict(backend, backend.probe())
        except OSError as error:  # a machine may lack what nobody thought of: /dev/null, memory, processes
            _verdicts[name] = Verdict(backend, f"trying it failed ({error})")
    return _verdicts[name]


def tried(name: str) -> bool:
    """Whether a backend has been probed, and so may be in use."""
    return name in _verdicts


def choose(wanted: Collection[str] = ()) -> Backend:
    """The first backend that works here and has the settings ``wanted``, or else the first that works.

    ``RSTKIT_BACKEND`` names the only one to be tried; in a browser's Python that is ``recorded``.
    LabUnavailable where none works.
    """
    forced = os.environ.get(FORCED)
    if forced and forced not in BACKENDS:
        raise SettingError(f"{FORCED}={forced!r} names no backend. Known: {', '.join(BACKENDS)}.")
    names = ["recorded"] if BROWSER else [forced] if forced else list(BACKENDS)
    first: Backend | None = None
    for name in names:
        backend, refusal = verdict(name)
        if refusal is None:
            if first and backend.instant:
                break  # a live run without one of its settings shows more than a recording
            if not backend.lacks.keys() & set(wanted):
                return backend
            first = first or backend
    if first:
        return first
    refusals = [f"{name}: {_verdicts[name].refusal}" for name in names]
    raise LabUnavailable(f"This machine has no lab. {'; '.join(refusals)}. `rstkit doctor` tells what would help.")


def about(backend: Backend) -> str:
    """The backend in one line, for people, with why there is none that shows more."""
    if BROWSER:
        return (
            f"{backend.about} Nothing runs live in a browser's Python: it has no processes and no network of its own."
        )
    refusals = [f"no {name} ({v.refusal})" for name, v in _verdicts.items() if v.refusal and _better(name, backend)]
    return f"{backend.about} There is {', '.join(refusals)}." if refusals else backend.about


def _better(name: str, backend: Backend) -> bool:
    names = list(BACKENDS)
    return names.index(name) < names.index(backend.name)
