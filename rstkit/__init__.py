"""rstkit: why was this TCP connection reset?

    from rstkit import explore, Lab, sequence_diagram

The names below are loaded when they are first used: a browser's Python, which has no processes,
can load a recorded trace, explain it and draw it.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .browse import browse
    from .compare import compare
    from .diagram import sequence_diagram
    from .explain import Reset, explain
    from .lab import Lab
    from .panel import explore
    from .predict import predict
    from .text import describe
    from .trace import Trace

__version__ = "0.1.0"
__all__ = [
    "Lab",
    "Reset",
    "Trace",
    "browse",
    "compare",
    "describe",
    "explain",
    "explore",
    "predict",
    "sequence_diagram",
]

_HOMES = {
    "Lab": "lab",
    "Reset": "explain",
    "Trace": "trace",
    "browse": "browse",
    "compare": "compare",
    "describe": "text",
    "explain": "explain",
    "explore": "panel",
    "predict": "predict",
    "sequence_diagram": "diagram",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """The package, in which a function keeps its name from the module of that name (`explain`)."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, but for the module that an import would put in the place of a function."""
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
