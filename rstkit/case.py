"""One reset, with all that is known of it."""

from dataclasses import dataclass

from .actions import Actions
from .causes import Cause
from .signs import Sign
from .trace import Call, Trace
from .view import View


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known of one reset, the cause that was found, how sure that is, and whether others remain.

    ``signs`` speak against the RST being its end's own.
    """

    trace: Trace
    view: View
    done: Actions
    cause: Cause
    confidence: str
    alternatives: bool
    signs: tuple[Sign, ...] = ()

    @property
    def sender(self) -> str:
        return f"the {self.view.rst.sender}"

    @property
    def receiver(self) -> str:
        return f"the {self.receiving_host}"

    @property
    def receiving_host(self) -> str:
        """The name of the host that the RST was sent to."""
        rst = self.view.rst
        for packet in self.view.conversation:
            if packet.source == rst.destination:
                return packet.sender
        for host, address in self.trace.hosts.items():
            if address == rst.destination.address and host != rst.sender:
                return host
        return str(rst.destination)


def provoking_call(case: Case) -> Call | None:
    """The sender's call without which the RST would not have been sent, where one was recorded."""
    done, key = case.done, case.cause.key
    if key in ("unread-data", "linger-zero", "linger2-negative"):
        return done.close if done.closing or (done.close and done.close.began <= case.view.at) else None
    if key == "listener-closed":
        return done.listener_close
    if key == "data-after-shutdown":
        return done.shutdown
    if key in ("data-after-close", "fin-wait2-timed-out", "after-normal-close", "connect-aborted"):
        return done.close if done.close and done.close.began <= case.view.at else None
    return None
