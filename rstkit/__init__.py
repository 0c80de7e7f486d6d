"""rstkit: why was this TCP connection reset?

    from rstkit import explore, Lab, sequence_diagram

The names below are loaded when they are first used: a browser's Python, which has no processes,
can load a recorded trace, explain it and draw it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .diagram import sequence_diagram
    from .explain import Reset, explain
    from .lab import Lab
    from .panel import explore
    from .predict import predict
    from .text import describe
    from .trace import Trace

__version__ = "0.1.0"
__all__ = ["Lab", "Reset", "Trace", "describe", "explain", "explore", "predict", "sequence_diagram"]

_HOMES = {
    "Lab": "lab",
    "Reset": "explain",
    "Trace": "trace",
    "describe": "text",
    "explain": "explain",
    "explore": "panel",
    "predict": "predict",
    "sequence_diagram": "diagram",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # the module's name may be the attribute's (explain): set it over the module that import puts there
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
