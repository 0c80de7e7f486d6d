"""What a backend is given, one run that has been checked, and what it has to offer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..trace import Trace
from .settings import Program


@dataclass(frozen=True)
class Job:
    """One run: programs and the values that each of them takes, both by host, and every setting of the lab.

    ``values`` are those that the caller gave, as they stand in the trace.
    """

    programs: Mapping[str, Program]
    taken: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    values: Mapping[str, Any]


class Run(Protocol):
    """A place where one job can be carried out."""

    def carry_out(self, job: Job) -> Trace:
        """Run it to its end; LabError where the lab failed, LabUnavailable where the machine refused."""
        ...

    def stop(self) -> None:
        """End the run from another thread; its trace, so far, has the outcome ``stopped``."""
        ...


class Backend(Protocol):
    """A way to have a lab on this machine."""

    name: str
    # Whether a run is over as soon as it is asked for.
    instant: bool

    @property
    def about(self) -> str:
        """The backend in one line, for people."""
        ...

    @property
    def lacks(self) -> Mapping[str, str]:
        """The lab's settings that do not apply here, each with the reason; known after `probe`."""
        ...

    @property
    def remedy(self) -> str:
        """What would make it work on a machine where it does not."""
        ...

    def probe(self) -> str | None:
        """Try what it needs, in some 100 ms and without leaving anything: None where it works, else why not."""
        ...

    def warm_up(self) -> None:
        """Begin to make ready what runs will need, without waiting for it."""
        ...

    def begin(self, tell: Callable[[str], None]) -> Run:
        """A place for the next run; ``tell`` is told what a long wait is for.

        LabUnavailable where the machine refuses.
        """
        ...

    def close(self) -> None:
        """End all that it keeps ready."""
        ...
