"""What can go wrong, by whose fault it is.

Each message says what was seen and what to do next. A learner's own program that fails is
no error of the library: its traceback is part of the trace.
"""


class RstkitError(Exception):
    """The base of every error that rstkit raises on purpose."""


class LabUnavailable(RstkitError):
    """The machine refuses what a lab needs (namespaces, a sysctl, a device)."""


class SettingError(RstkitError, ValueError):
    """A value given to the lab is unknown, missing, of the wrong type or out of range."""


class LabError(RstkitError):
    """The lab itself failed during a run; the fault is not the learner's program."""


class TraceError(RstkitError):
    """A saved trace or a capture cannot be read: the fault lies in the file."""
