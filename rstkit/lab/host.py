"""A host: a network namespace with one device, what its kernel tells, and the programs on it."""

import contextlib
import os
import socket
from typing import Any

from . import kernel, message, program
from .netlink import Route
from .observe import Counters, SocketTable
from .settings import ADDRESSES
from .told import Told

DEVICE = "eth0"


class Host:
    """One machine, made in the supervisor's network namespace, to which the caller is returned."""

    def __init__(self, name: str, home: int) -> None:
        self.name = name
        self.mac = bytes([2, 0, 0, 0, 0, 1 + list(ADDRESSES).index(name)])
        self._home = home
        kernel.unshare(kernel.CLONE_NEWNET)
        try:
            self.namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self.sockets = SocketTable()
            self.counters = Counters()
        finally:
            kernel.setns(home, kernel.CLONE_NEWNET)

    def configure(self, neighbour: "Host") -> None:
        """Bring up the device that lies in the namespace by now."""
        kernel.setns(self.namespace, kernel.CLONE_NEWNET)
        try:
            with Route() as route:
                route.set_up("lo")
                for version, prefix in ((4, 24), (6, 64)):
                    route.add_address(DEVICE, ADDRESSES[self.name][version], prefix)
                route.set_up(DEVICE)
                for version in (4, 6):
                    route.add_neighbour(DEVICE, ADDRESSES[neighbour.name][version], neighbour.mac)
            kernel.offloads_off(DEVICE)
        finally:
            kernel.setns(self._home, kernel.CLONE_NEWNET)

    def refuses_sysctls(self) -> str | None:
        """Why the host's sysctls cannot be set, or None where they can."""
        kernel.setns(self.namespace, kernel.CLONE_NEWNET)
        try:
            os.close(os.open("/proc/sys/net/ipv4/tcp_fin_timeout", os.O_WRONLY))
        except OSError as error:
            return f"this machine forbids setting a sysctl ({error.strerror})"
        finally:
            kernel.setns(self._home, kernel.CLONE_NEWNET)
        return None

    def set_sysctl(self, name: str, value: str) -> None:
        """Write a sysctl of the network namespace; OSError where the machine forbids it."""
        kernel.setns(self.namespace, kernel.CLONE_NEWNET)
        try:
            with open("/proc/sys/" + name.replace(".", "/"), "w") as file:
                file.write(value)
        finally:
            kernel.setns(self._home, kernel.CLONE_NEWNET)


class Process(Told):
    """A process that was forked onto a host, and waits to be told its program and to be let go.

    It is forked before a run needs it: in a guest kernel a fork takes some 20 ms.
    """

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host.name
        orders, self._orders = socket.socketpair()
        self.records_end, records = os.pipe()
        self.output_end, output = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._orders.detach()  # closed with all others; the object must not close a number that is another's then
            program.run(host.namespace, orders.detach(), records, output)
        orders.close()
        for descriptor in (records, output):
            os.close(descriptor)
        for descriptor in (self.records_end, self.output_end):
            os.set_blocking(descriptor, False)

    def load(self, spec: dict[str, Any]) -> None:
        """Tell it its program, which it loads; its first record says that it has."""
        with contextlib.suppress(OSError):
            message.send(self._orders, spec)

    def dismiss(self) -> None:
        """Have it end without a program, and wait for that."""
        self._orders.close()
        os.waitpid(self.pid, 0)

    def start(self, now: int) -> None:
        """Let the program go."""
        self.started = now
        with contextlib.suppress(OSError):  # it is gone already: it could not be loaded
            self._orders.send(b"g")
        self._orders.close()

    def read(self, descriptor: int) -> bool:
        """Take what came on one of the two pipes; False once it is closed."""
        try:
            data = os.read(descriptor, 1 << 20)
        except BlockingIOError:
            return True
        if descriptor == self.records_end:
            self.take_records(data)
        else:
            self.take_output(data)
        return bool(data)
