"""The guest backend: a Linux kernel as a process of ours, and its certain end."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import pytest

from rstkit.errors import LabError
from rstkit.lab import Lab, choice
from rstkit.lab.guest import Guest
from rstkit.lab.line import ACK, CLOSE, DATA, Frames, frame
from rstkit.trace import Trace

from .conftest import descriptors, running, wait_until

Address = tuple[str, int]

# Otherwise each program would import this module, and pytest with it, inside the guest.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
_refusal = choice.verdict("guest").refusal
guest_only = pytest.mark.skipif(_refusal is not None, reason=f"no guest here: {_refusal}")


def server(address: Address, nap: float = 0.0) -> None:
    with socket.create_server(address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as listener:
        connection, _ = listener.accept()
    time.sleep(nap)
    print(connection.recv(1024))
    connection.close()


def client(address: Address, many: int = 11) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"x" * many)
        connection.recv(1024)


def wait(address: Address) -> None:
    time.sleep(60)


def group(leader: int) -> set[int]:
    """The processes of a process group that have not ended."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, of_group, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(of_group) == leader and state != "Z":
                found.add(int(entry.name))
    return found


def leader(guest: Guest) -> int:
    assert guest._kernel
    return guest._kernel._process.pid


def printed(trace: Trace, host: str) -> str:
    program = trace.program(host)
    assert program
    return program.output


def temporary() -> set[Path]:
    """What a guest's kernel, or rstkit, would call its files."""
    patterns = [(Path("/tmp"), "vm_file*"), (Path("/dev/shm"), "vm_file*"), (Path("/tmp"), "rstkit-g*")]
    return {path for folder, pattern in [*patterns, (Path.home() / ".uml", "*")] for path in folder.glob(pattern)}


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """A guest that is there for several tests; after them nothing of it may be left."""
    files, before = temporary(), descriptors()
    made = Guest()
    made.warm_up()
    processes = leader(made)
    assert wait_until(lambda: len(group(processes)) >= 3)
    yield made
    made.close()
    assert wait_until(lambda: not group(processes)), "processes are left"
    assert descriptors() == before, "descriptors are left"
    assert temporary() <= files, "temporary files are left"


@pytest.fixture
def lab(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab in that guest."""
    monkeypatch.setenv(choice.FORCED, "guest")
    monkeypatch.setitem(choice._verdicts, "guest", choice.Verdict(guest, None))
    return Lab()


@guest_only
def test_a_run_is_one_on_another_kernel(lab: Lab) -> None:
    trace = lab.run(server, client, rtt=20)
    assert trace.outcome == "completed"
    assert trace.backend == "guest"
    assert trace.kernel.startswith("Linux ")
    assert trace.kernel != f"Linux {os.uname().release}"
    assert printed(trace, "server") == "b'xxxxxxxxxxx'\n"
    assert trace.counter("client", "Tcp:ActiveOpens") == 1
    assert "User-Mode Linux" in lab.about()


@guest_only
def test_a_reset_over_ipv6_is_explained(lab: Lab) -> None:
    (reset,) = lab.run(None, client, ip=6).resets
    assert (reset.cause.key, reset.confidence) == ("no-listener", "certain")


@guest_only
def test_a_sysctl_that_the_machine_itself_forbids_can_be_set(lab: Lab) -> None:
    def tell(address: Address) -> None:
        print(Path("/proc/sys/net/ipv4/tcp_fin_timeout").read_text().strip())

    assert printed(lab.run(None, tell, fin_timeout=7), "client") == "7\n"


@guest_only
def test_what_a_machine_lacks_is_looked_for_in_the_guest(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking(Guest):
        name = "namespaces"
        lacks = {"fin_timeout": "it is read-only"}  # noqa: RUF012 - as the protocol has it

        def __init__(self) -> None:
            """Have nothing to close at the end."""

    monkeypatch.setitem(choice._verdicts, "namespaces", choice.Verdict(Lacking(), None))
    monkeypatch.setitem(choice._verdicts, "guest", choice.Verdict(guest, None))
    monkeypatch.delenv(choice.FORCED, raising=False)
    assert choice.choose().name == "namespaces"
    assert choice.choose(["rtt"]).name == "namespaces"
    assert choice.choose(["fin_timeout"]).name == "guest"


@guest_only
def test_a_command_runs_there_too(lab: Lab) -> None:
    assert printed(lab.run(None, ["uname", "-r"]), "client") == lab.run(None, client).kernel[6:] + "\n"


@guest_only
def test_much_comes_back_whole(lab: Lab) -> None:
    def shout(address: Address) -> None:
        print("y" * 60_000)
        with socket.create_connection(address) as connection:
            connection.sendall(bytes(1_000_000))

    def swallow(address: Address) -> None:
        with socket.create_server(address) as listener:
            connection, _ = listener.accept()
        while connection.recv(65_536):
            pass

    trace = lab.run(swallow, shout, rtt=1)
    assert trace.outcome == "completed"
    assert sum(p.length for p in trace.packets) >= 1_000_000
    assert printed(trace, "client") == "y" * 60_000 + "\n"


@guest_only
def test_what_goes_in_may_be_much_as_well(lab: Lab) -> None:
    much = "z" * 300_000

    def tell(address: Address) -> None:
        print(len(much))

    assert printed(lab.run(None, tell), "client") == "300000\n"


@guest_only
def test_more_labs_at_once_than_there_is_room_for(lab: Lab) -> None:
    told: list[str] = []
    with ThreadPoolExecutor(8) as pool:
        traces = list(pool.map(lambda _: Lab(tell=told.append).run(server, client, nap=0.5), range(8)))
    assert [(trace.outcome, trace.problems) for trace in traces] == [("completed", ())] * 8
    assert any("Waiting for room" in text for text in told)


@guest_only
def test_stop_ends_a_run(lab: Lab) -> None:
    timer = threading.Timer(1, lab.stop)
    timer.start()
    assert lab.run(None, wait).outcome == "stopped"
    timer.join()


@guest_only
def test_kill_9_of_the_guest_is_told_and_the_next_run_boots_another(lab: Lab, guest: Guest) -> None:
    first = leader(guest)
    timer = threading.Timer(1, os.kill, [first, signal.SIGKILL])
    timer.start()
    with pytest.raises(LabError, match="ended during the run"):
        lab.run(None, wait)
    timer.join()
    assert wait_until(lambda: not group(first)), "processes are left"
    assert lab.run(None, client).outcome == "completed"
    assert leader(guest) != first


_NOTEBOOK = """
import sys, time
sys.path.insert(0, sys.argv[1])
from rstkit.lab import Lab
lab = Lab(tell=lambda text: None)
lab.run(None, ["true"])
print(lab.backend._kernel._process.pid, flush=True)
lab.run(None, ["sleep", "60"], duration=60)
"""


@guest_only
@pytest.mark.parametrize("also_at_once", [False, True], ids=["the notebook", "the guest and the notebook"])
def test_kill_9_of_the_notebook_leaves_nothing(also_at_once: bool) -> None:
    files = temporary()
    command = [sys.executable, "-c", _NOTEBOOK, str(Path(__file__).parents[1])]
    with subprocess.Popen(command, env={**os.environ, "RSTKIT_BACKEND": "guest"}, stdout=subprocess.PIPE) as notebook:
        assert notebook.stdout
        of_guest = int(notebook.stdout.readline())
        assert len(group(of_guest)) >= 3
        if also_at_once:
            os.kill(of_guest, signal.SIGKILL)
        notebook.kill()
    assert not running(notebook.pid)
    assert wait_until(lambda: not group(of_guest)), "processes are left"
    assert temporary() <= files, "temporary files are left"


def test_frames_are_found_in_whatever_parts_they_come() -> None:
    said = [(1, DATA, b"hello"), (2, CLOSE, b""), (0, ACK, b""), (70_000, DATA, bytes(1024))]
    line = b"".join(frame(*one) for one in said)
    for size in (1, 2, 7, 8, len(line)):
        frames = Frames()
        found = [one for at in range(0, len(line), size) for one in frames.feed(line[at : at + size])]
        assert found == said
