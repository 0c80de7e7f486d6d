"""The fork server: a lean process, started once, from which each run's supervisor is forked.

A supervisor forked from here is ready in a few milliseconds; one started anew would take an
interpreter's start. One is kept ready. This process ends with the notebook's, and everything
forked from it ends with it: each process has the kernel kill it when its parent ends.
"""

import contextlib
import os
import select
import signal
import socket
from typing import Any, NoReturn

import cloudpickle as cloudpickle  # noqa: PLC0414 - imported here so that no program has to

from . import kernel, message, supervisor
from .reasons import ResetReasons, Tracepoint, read_tracepoint


def main(control_descriptor: int, notebook_pid: int) -> None:
    """Hand out supervisors: for each byte on the control socket the descriptor of one."""
    control = socket.socket(fileno=control_descriptor)
    try:
        notebook = os.pidfd_open(notebook_pid)
    except ProcessLookupError:
        return
    kernel.adopt_orphans()
    keepers: set[int] = set()
    try:
        _serve(control, notebook, keepers)
    finally:
        _end_all(keepers)


def _end_all(keepers: set[int]) -> None:
    """End every process below this one, and wait for it: in a container process 1 may not be one that does.

    With its keeper a supervisor ends, and comes to this process to be waited for.
    """
    signal.set_wakeup_fd(-1)
    for keeper in keepers:
        os.kill(keeper, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def _serve(control: socket.socket, notebook: int, keepers: set[int]) -> None:
    signal.signal(signal.SIGCHLD, lambda *_: None)
    wakeup, wakeup_writer = os.pipe()
    os.set_blocking(wakeup_writer, False)
    signal.set_wakeup_fd(wakeup_writer, warn_on_full_buffer=False)
    # as real root only: a user namespace's root may not watch the kernel
    tracepoint = read_tracepoint() if os.geteuid() == 0 else None
    # Kept open for good: the kernel waits some 40 ms when the last listener of a tracepoint goes,
    # and each run would pay for that.
    _always = ResetReasons(tracepoint) if tracepoint else None
    spare: socket.socket | None = _fork(control, tracepoint, keepers)
    watched: list[Any] = [control, notebook, wakeup]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if notebook in ready:
            return
        if wakeup in ready:
            os.read(wakeup, 4096)
            with contextlib.suppress(ChildProcessError):
                while ended := os.waitpid(-1, os.WNOHANG)[0]:
                    keepers.discard(ended)
                    # a run is over: the moment to make the next pair ready, when no run needs the processor
                    spare = spare or _fork(control, tracepoint, keepers)
        if control in ready:
            try:
                if not control.recv(1):
                    return
                supervised = spare or _fork(control, tracepoint, keepers)
                spare = None
                socket.send_fds(control, [b"s"], [supervised.fileno()])
                supervised.close()
            except (BrokenPipeError, ConnectionResetError):
                return


def _fork(control: socket.socket, tracepoint: Tracepoint | None, keepers: set[int]) -> socket.socket:
    """Fork a supervisor into namespaces of its own; the notebook's end of its connection."""
    theirs, ours = socket.socketpair()
    keeper = os.fork()
    if keeper == 0:
        _become_keeper(ours, [control, theirs], tracepoint)
    keepers.add(keeper)
    ours.close()
    return theirs


def _become_keeper(connection: socket.socket, others: list[socket.socket], tracepoint: Tracepoint | None) -> NoReturn:
    """Enter new namespaces, fork the supervisor as process 1 of the new PID namespace, and wait for it.

    The connection closes when this process ends, after the kernel has ended all in the namespace:
    whoever reads the end of it knows that nothing is left.
    """
    status = 1
    try:
        parent = os.getppid()
        kernel.die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for other in others:
            other.close()
        os.closerange(3, connection.fileno())
        os.closerange(connection.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        try:
            _unshare()
        except OSError as error:
            message.send(connection, {"error": str(error.strerror or error)})
            os._exit(1)
        child = os.fork()
        if child == 0:
            kernel.die_with_parent()
            supervisor.serve(connection, tracepoint)
        os.waitpid(child, 0)
        status = 0
    finally:
        os._exit(status)


def _unshare() -> None:
    """New network and PID namespaces; as an ordinary user inside a new user namespace, as its root."""
    flags = kernel.CLONE_NEWNET | kernel.CLONE_NEWPID
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        with contextlib.suppress(PermissionError):  # root in a container may lack CAP_SYS_ADMIN
            kernel.unshare(flags)
            return
    kernel.unshare(flags | kernel.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
