"""What can go wrong, by whose fault it is.

Each message says what was seen and what to do next. A learner's own program that fails is
no error of the library: its traceback is part of the trace.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trace import Trace


class RstkitError(Exception):
    """The base of every error that rstkit raises on purpose."""


class LabUnavailable(RstkitError):
    """The machine refuses what a lab needs (namespaces, a sysctl, a device)."""


class ProgramChanged(LabUnavailable):
    """A program is not as it was recorded, and nothing can run here; ``original`` is the trace of what it was."""

    def __init__(self, message: str, original: "Trace") -> None:
        super().__init__(message)
        self.original = original


class SettingError(RstkitError, ValueError):
    """A value given to the lab is unknown, missing, of the wrong type or out of range."""


class LabError(RstkitError):
    """The lab itself failed during a run; the fault is not the learner's program."""


class TraceError(RstkitError):
    """A saved trace or a capture cannot be read: the fault lies in the file."""
