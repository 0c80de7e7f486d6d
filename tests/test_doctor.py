"""What `rstkit doctor` tells: each backend, why it does not work here, and what would help; it changes nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rstkit.doctor import report
from rstkit.errors import LabUnavailable
from rstkit.lab import choice

from .conftest import descendants, descriptors, wait_until


class Pretended:
    """A backend of which all is known."""

    instant = False

    def __init__(self, name: str, refusal: str | None, lacks: Mapping[str, str]) -> None:
        self.name, self.lacks, self._refusal = name, lacks, refusal
        self.about = f"Live: {name}."
        self.remedy = f"Install {name}."
        self.closed = 0

    def probe(self) -> str | None:
        return self._refusal

    def warm_up(self) -> None: ...

    def begin(self, tell: Callable[[str], None]) -> Any:  # noqa: ARG002
        raise LabUnavailable(self.name)

    def close(self) -> None:
        self.closed += 1


Pretend = Callable[..., dict[str, Pretended]]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Make the machine one on which the backends are these: a refusal, None, or the settings that one lacks."""

    def on(*answers: str | dict[str, str] | None) -> dict[str, Pretended]:
        backends = {
            name: Pretended(
                name, answer if isinstance(answer, str) else None, answer if isinstance(answer, dict) else {}
            )
            for name, answer in zip(choice.BACKENDS, answers, strict=True)
        }
        verdicts = {name: choice.Verdict(backend, backend.probe()) for name, backend in backends.items()}
        monkeypatch.setattr(choice, "_verdicts", verdicts)
        return backends

    monkeypatch.delenv(choice.FORCED, raising=False)
    return on


def told(name: str) -> list[str]:
    """The lines of a report on one backend."""
    (part,) = [part for part in report().split("\n\n")[1:] if part.startswith(f"{name}: ")]
    return part.split("\n")


def in_use() -> str:
    return report().splitlines()[1]


def test_each_backend_in_its_order(pretend: Pretend) -> None:
    pretend(
        "the machine forbids it", None, {"rtt": "no delay", "loss": "no loss", "drop": "no loss"}, "nothing is there"
    )
    assert [part.partition(":")[0] for part in report().split("\n\n")[1:]] == list(choice.BACKENDS)
    assert told("namespaces") == [
        "namespaces: does not work here",
        "  Live: namespaces.",
        "  Why not: the machine forbids it.",
        "  What would help: Install namespaces.",
    ]
    assert told("guest") == ["guest: works", "  Live: guest."]
    assert told("loopback") == [
        "loopback: works",
        "  Live: loopback.",
        "  Without rtt: no delay.",
        "  Without loss, drop: no loss.",
    ]
    assert in_use() == "In use: guest (the first of these that works)."
    assert len(report().splitlines()) <= 22


def test_which_one_is_in_use_and_why(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend({"sysctls": "read-only"}, None, None, None)
    assert in_use() == "In use: namespaces (the first of these that works); for fin_timeout and sysctls guest."
    monkeypatch.setenv(choice.FORCED, "loopback")
    assert in_use() == f"In use: loopback ({choice.FORCED} names it)."
    monkeypatch.setenv(choice.FORCED, "nothing")
    assert in_use().startswith(f"In use: none. {choice.FORCED}='nothing' names no backend.")
    monkeypatch.delenv(choice.FORCED)
    pretend("no", "no", "no", "no")
    assert in_use().startswith("In use: none. This machine has no lab.")


def test_what_comes_from_the_machine_is_made_printable(pretend: Pretend) -> None:
    pretend("it said \x1b[31mno\x07\nIn use: magic", None, None, None)
    assert told("namespaces")[2] == r"  Why not: it said \x1b[31mno\x07\nIn use: magic."


def test_what_a_maintainer_would_ask_for() -> None:
    first = report().splitlines()[0]
    assert f"Python {sys.version.split()[0]}, Linux {os.uname().release} ({os.uname().machine})" in first
    assert first.endswith(f"uid {os.getuid()}")


def test_the_kernels_reasons_are_told_of_as_they_are() -> None:
    line = report().splitlines()[2]
    if os.geteuid() != 0:
        assert "it takes root" in line
        return
    version = tuple(int(part) for part in os.uname().release.split(".")[:2])
    verdict = choice.verdict("namespaces").refusal
    if version >= (6, 10) and verdict is None:
        assert line.endswith("told, with namespaces (tracepoint tcp:tcp_send_reset).")
    else:
        assert "not told; it takes Linux 6.10 or newer" in line


def test_a_backend_that_nobody_used_before_is_closed_again(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    backends = pretend(None, None, None, None)
    report()
    assert [backend.closed for backend in backends.values()] == [0, 0, 0, 0]  # they may be in use
    monkeypatch.setattr(choice, "_verdicts", {})
    monkeypatch.setattr(choice, "verdict", lambda name: choice.Verdict(backends[name], None))
    report()
    assert [backend.closed for backend in backends.values()] == [1, 1, 1, 1]


PROBES = """
import os, sys, time
from pathlib import Path
from rstkit.lab import choice

def state():
    return (
        {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1]},
        {path for path in (*Path("/tmp").iterdir(), *Path("/dev/shm").iterdir()) if "rstkit" in path.name},
    )

for name in choice.BACKENDS:
    before = state()
    start = time.perf_counter()
    backend, refusal = choice.verdict(name)
    took = time.perf_counter() - start
    backend.close()
    assert state() == before, (name, state(), before)
    print(name, took, refusal)
assert "scapy" not in sys.modules
assert not Path("/proc/self/task", str(os.getpid()), "children").read_text()
"""


def test_each_probe_is_quick_and_leaves_nothing() -> None:
    took: dict[str, list[float]] = {name: [] for name in choice.BACKENDS}
    for _ in range(5):
        run = subprocess.run([sys.executable, "-c", PROBES], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        for line in run.stdout.splitlines():
            name, seconds, _ = line.split(maxsplit=2)
            took[name].append(float(seconds))
    for name, times in took.items():
        assert min(times) < 0.15, (name, times)  # the others of these tests run on the same processors
        assert sorted(times)[2] < 0.3, (name, times)


def test_the_command_and_what_it_leaves(tmp_path: Path) -> None:
    before, processes = descriptors(), descendants(os.getpid())
    start = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", "import sys; from rstkit.cli import main; sys.exit(main(['doctor']))"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        cwd=tmp_path,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert time.perf_counter() - start < 5
    assert all(f"\n{name}: " in run.stdout for name in choice.BACKENDS)
    assert wait_until(lambda: descendants(os.getpid()) <= processes)
    assert descriptors() == before
    assert not list(tmp_path.iterdir())
