"""A program on a host: the process that a supervisor forks for it, until its end."""

import base64
import contextlib
import fcntl
import gc
import linecache
import os
import pickle
import signal
import sys
import threading
import traceback
from typing import Any, NoReturn

from . import kernel, sockets

_HIGH = 500  # where the recorder's descriptor lies, out of the way of the program's own


def run(spec: dict[str, Any], namespace: int, go: int, records: int, output: int) -> NoReturn:
    """Become the program, in a process just forked; wait for a byte on ``go``, run, and end.

    ``spec`` is what `rstkit.lab` made of a function or a command. The descriptors are the host's
    network namespace and the ends of three pipes.
    """
    status = 1
    try:
        gc.freeze()  # nothing of the supervisor's may be collected here: it would close descriptors
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, 5)  # on a busy machine the wire goes first
        os.chdir(spec["folder"])
        os.environ.clear()
        os.environ.update(spec["environment"])
        go, records = _arrange(go, records, output)
        recorder = sockets.install(records) if "function" in spec else sockets.Recorder(records)
        try:
            if "function" in spec:
                status = _call(spec, recorder, go)
            else:
                os.read(go, 1)
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it; programs expect it
                os.execvp(spec["command"][0], spec["command"])  # noqa: S606 - no shell is what is meant
        except BaseException as error:
            _tell(recorder, error)
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _arrange(go: int, records: int, output: int) -> tuple[int, int]:
    """Leave nothing open but the standard streams and the two pipes, those out of the way."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    go = fcntl.fcntl(go, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    records = fcntl.fcntl(records, fcntl.F_DUPFD_CLOEXEC, _HIGH + 1)
    os.closerange(3, go)
    os.closerange(records + 1, os.sysconf("SC_OPEN_MAX"))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - streams for the life of the process
    sys.stdout = open(1, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
    return go, records


def _call(spec: dict[str, Any], recorder: sockets.Recorder, go: int) -> int:
    """Load the function and call it; its exit status as Python would have it."""
    sys.path[:] = spec["path"]
    sys.argv = [spec["name"]]
    for name, lines in spec["sources"].items():  # a cell's source, for tracebacks
        linecache.cache[name] = (0, None, lines, name)
    function, arguments, values = pickle.loads(base64.b64decode(spec["function"]))  # noqa: S301 - the learner's own
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
