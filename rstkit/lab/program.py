"""A program on a host: the process that a supervisor forks for it, until its end."""

import contextlib
import fcntl
import gc
import os
import signal
import sys
from typing import Any, NoReturn

from . import kernel, sockets
from .call import call, open_streams, tell

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
                status = call(spec, recorder, go)
            else:
                os.read(go, 1)
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it; programs expect it
                os.execvp(spec["command"][0], spec["command"])  # noqa: S606 - no shell is what is meant
        except BaseException as error:
            tell(recorder, error)
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
    open_streams()
    return go, records
