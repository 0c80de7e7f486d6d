"""What every test of the lab is held to: it leaves nothing behind."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rstkit.lab import Lab


def descendants(ancestor: int) -> set[int]:
    """The processes below one (/proc/*/stat), without those that have ended and wait to be waited for.

    In a container the tests may be process 1, to which those come whose parent was killed.
    """
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it ended meanwhile
                continue
            state, parent, *_ = stat.rpartition(")")[2].split()
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    below = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in below and pid not in below}:
        below |= more
    return below - {ancestor}


def running(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descriptors() -> dict[str, str]:
    """This process's open descriptors and what they refer to."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except OSError:  # the one that was used to list them
            continue
    return found


def wait_until(condition: object, seconds: float = 5) -> bool:
    """Wait for a condition that can be watched but announces nothing; whether it came true in time."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab; after the test no process, descriptor or temporary file of it may be left."""
    files = set(Path("/tmp").iterdir())
    before, processes = descriptors(), descendants(os.getpid())
    made = Lab()
    yield made
    made.backend.close()
    assert wait_until(lambda: descendants(os.getpid()) <= processes), "processes are left"
    assert not descriptors().items() - before.items(), "descriptors are left"  # one of an earlier test's may be gone
    left = {path for path in set(Path("/tmp").iterdir()) - files if "rstkit" in path.name}
    assert not left, "temporary files are left"


_skips: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the reasons of skips."""
    if report.skipped and isinstance(report.longrepr, tuple):
        _skips.append(report.longrepr[2].removeprefix("Skipped: "))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a test was skipped that was meant to run: see .ci/run."""
    allowed = os.environ.get("RSTKIT_SKIPS_ALLOWED")
    if allowed is not None:
        wrong = [reason for reason in _skips if not re.search(allowed, reason)]
        for reason in wrong:
            print(f"\nskipped, but meant to run here: {reason}")
        if wrong and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
