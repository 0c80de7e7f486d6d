"""A program on a host: the process that a supervisor forks for it, until its end."""

import contextlib
import fcntl
import gc
import os
import pickle
import socket
import sys
import time
from typing import NoReturn

import cloudpickle

from . import call, kernel, message, sockets

_HIGH = 500  # where the recorder's descriptor lies, out of the way of the program's own


def run(namespace: int, orders: int, records: int, output: int) -> NoReturn:
    """Be a program, in a process just forked: wait for it on ``orders``, load it, wait for a byte, run it, and end.

    What comes is what `rstkit.lab.spec` made of a function or a command. The descriptors are the
    host's network namespace, a socket, and the ends of two pipes.
    """
    status = 1
    try:
        gc.freeze()  # nothing of the supervisor's may be collected here: it would close descriptors
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, 5)  # on a busy machine the wire goes first
        orders, records = _arrange(orders, records, output)
        _rehearse()
        line = socket.socket(fileno=orders)
        spec = message.receive(line)
        line.detach()
        if spec is None:
            os._exit(0)  # no program for this host
        status = call.run(spec, records, orders, call.become)
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _rehearse() -> None:
    """Do once, before a run, what programs do: in a guest kernel the first use of a page of memory takes some 50 us.

    Nothing is sent, and nothing is recorded.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    real = socket.socket, time.sleep
    sockets.install(nowhere)
    try:
        os.environ.update(os.environ.copy())
        pickle.loads(cloudpickle.dumps(lambda connection, size=1: (connection, size)))  # noqa: S301 - our own
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0)
            listener.accept()
        with contextlib.suppress(OSError):
            socket.create_connection(("255.255.255.255", 1))  # refused by the kernel itself
        with contextlib.suppress(OSError), socket.socket() as connection:
            connection.sendall(b"x")
        time.sleep(0)
        sys.stdout.write("")
    finally:
        socket.socket, time.sleep = real  # type: ignore[misc]
        os.close(nowhere)


def _arrange(orders: int, records: int, output: int) -> tuple[int, int]:
    """Leave nothing open but the standard streams and the ways to the supervisor, those out of the way."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    orders = fcntl.fcntl(orders, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    records = fcntl.fcntl(records, fcntl.F_DUPFD_CLOEXEC, _HIGH + 1)
    os.closerange(3, orders)
    os.closerange(records + 1, os.sysconf("SC_OPEN_MAX"))
    call.open_streams()
    return orders, records
