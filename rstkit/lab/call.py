"""A program as a function: in its own process, load it, call it, and tell of an exception that it did not catch."""

import base64
import linecache
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from . import sockets


def open_streams() -> None:
    """Python's standard streams over what descriptors 0, 1 and 2 are now."""
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - streams for the life of the process
    sys.stdout = open(1, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115


def run(spec: dict[str, Any], records: int, go: int, execute: Callable[[list[str]], int]) -> int:
    """Be the program that ``spec`` tells, once a byte has come on ``go``; its exit status.

    A command is left to ``execute``. What a program does not catch is recorded.
    """
    recorder = sockets.install(records) if "function" in spec else sockets.Recorder(records)
    try:
        os.chdir(spec["folder"])
        os.environ.clear()
        os.environ.update(spec["environment"])
        if "function" in spec:
            return _call(spec, recorder, go)
        recorder.ready()
        os.read(go, 1)
        return execute(spec["command"])
    except BaseException as error:
        _tell(recorder, error)
        return 1


def become(command: list[str]) -> NoReturn:
    """Have a command take this process over; OSError where it cannot."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it; programs expect it
    os.execvp(command[0], command)  # noqa: S606 - no shell is what is meant


def _call(spec: dict[str, Any], recorder: sockets.Recorder, go: int) -> int:
    """Load the function, wait for a byte on ``go``, and call it; its exit status as Python would have it."""
    sys.path[:] = spec["path"]
    sys.argv = [spec["name"]]
    for name, lines in spec["sources"].items():  # a cell's source, for tracebacks
        linecache.cache[name] = (0, None, lines, name)
    function, arguments, values = pickle.loads(base64.b64decode(spec["function"]))  # noqa: S301 - the learner's own
    recorder.ready()
    os.read(go, 1)
    os.close(go)
    status = 0
    try:
        function(*arguments, **values)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    except BaseException as error:
        _tell(recorder, error)
        status = 1
    for thread in threading.enumerate():  # as the interpreter does at its end
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    return status


def _tell(recorder: sockets.Recorder, error: BaseException) -> None:
    """Record an exception that the program did not catch, in parts that a pipe takes whole."""
    text = "".join(_own(traceback.TracebackException.from_exception(error)).format())
    for start in range(0, min(len(text), 30_000), 3000):
        recorder.write("x", text[start : start + 3000])


def _own(told: traceback.TracebackException) -> traceback.TracebackException:
    """The traceback with the program's own frames alone: rstkit's are no help."""
    told.stack[:] = [frame for frame in told.stack if os.path.dirname(frame.filename) != os.path.dirname(__file__)]
    for inner in (told.__cause__, told.__context__):
        if inner:
            _own(inner)
    return told
