"""The loopback backend: two programs on this machine's own loopback interface, as root of a container has it."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rstkit import describe, sequence_diagram
from rstkit.errors import LabError, LabUnavailable, SettingError
from rstkit.lab import Lab, choice
from rstkit.lab.loopback import Loopback
from rstkit.lab.sniffer import PacketSniffer, ScapySniffer
from rstkit.tcp import Flags
from rstkit.trace import Trace

from .conftest import descendants, descriptors, running, wait_until
from .scenarios import SCENARIOS, Scenario

Address = tuple[str, int]


@pytest.fixture(autouse=True)
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = choice.verdict("loopback").refusal
    if refusal:
        pytest.skip(f"sniffing the loopback interface takes real root or CAP_NET_RAW: {refusal}")
    monkeypatch.setenv(choice.FORCED, "loopback")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab that goes the way of macOS: scapy sniffs, no socket is looked at, programs die with their pipe."""
    backend = Loopback()
    backend.platform = "darwin"
    monkeypatch.setitem(choice._verdicts, "loopback", choice.Verdict(backend, None))
    before, processes = descriptors(), descendants(os.getpid())
    yield Lab()
    backend.close()
    assert wait_until(lambda: descendants(os.getpid()) <= processes), "processes are left"
    assert descriptors() == before, "descriptors are left"


def serve_one(address: Address) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.create_server(address, family=family) as listener:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(1 << 16):
                pass


def say_hello(address: Address) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"hello")


def knock(address: Address) -> None:
    socket.create_connection(address)


def idle(address: Address) -> None:
    time.sleep(60)


def do_nothing(address: Address) -> None:
    pass


def flags(trace: Trace) -> list[str]:
    return [f"{p.sender} {p.flags}" for p in trace.packets]


def check_hello(trace: Trace) -> None:
    """A connection that ended well, each frame once, each sender known, whatever the order of the two ends."""
    assert trace.outcome == "completed"
    assert trace.problems == ()
    assert flags(trace)[:4] == ["client S", "server S.", "client .", "client P."]
    assert trace.packets[3].payload == b"hello"
    assert [p.sender for p in trace.packets if p.flags & Flags.FIN] == ["client", "server"]
    assert not any(p.flags & Flags.RST for p in trace.packets)
    numbers = [(p.sender, p.flags, p.seq, p.ack) for p in trace.packets]
    assert len(set(numbers)) == len(numbers), trace.text()
    assert all(p.sent == p.arrived for p in trace.packets)
    assert [c.name for c in trace.calls if c.host == "client"] == ["socket", "connect", "sendall", "close"]
    connect = next(c for c in trace.calls if c.name == "connect")
    assert connect.ended is not None
    assert connect.began < trace.packets[0].sent < trace.packets[1].sent < connect.ended
    assert [p.status for p in trace.programs] == [0, 0]
    assert trace.values["rtt"] == 0
    assert trace.counters == ()


# --- a run and what it shows ---------------------------------------------------------------


@pytest.mark.parametrize("ip", [4, 6])
def test_a_connection_that_ends_well(lab: Lab, ip: int) -> None:
    trace = lab.run(serve_one, say_hello, ip=ip)
    check_hello(trace)
    host = {4: "127.0.0.1", 6: "::1"}[ip]
    assert trace.backend == "loopback"
    assert trace.hosts == {"client": host, "server": host}
    assert trace.packets[0].destination == (host, trace.values["port"])
    client = [s.state for s in trace.states if s.host == "client"]
    assert client[-1] == "TIME_WAIT"
    listener = [s.state for s in trace.states if s.host == "server" and s.peer is None]
    assert (listener[0], listener[-1]) == ("LISTEN", "CLOSED")


def test_a_closed_port_and_how_it_is_told(lab: Lab) -> None:
    trace = lab.run(None, knock)
    syn, rst = trace.packets
    assert flags(trace) == ["client S", "server R."]
    assert (rst.seq, rst.ack) == (0, (syn.seq + 1) % 2**32)
    (reset,) = trace.resets
    assert (reset.sender, reset.cause.key, reset.confidence) == ("server", "no-listener", "likely")
    words = describe(trace)
    assert "Packet 1 reaches the server." in words
    assert "Packet 2 reaches the client." in words
    drawn = str(sequence_diagram(trace).to_dict())
    assert f"127.0.0.1:{trace.values['port']}" in drawn
    assert str(syn.source) in drawn


def applies(scenario: Scenario) -> bool:
    """Whether a scenario needs no wire and no settings of its own, and no capability that is not here."""
    if scenario.name in ("SOCK_DESTROY", "restarted", "restarted and listening", "half-open"):  # by TCP_REPAIR
        (mask,) = re.findall(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
        if not int(mask, 16) & 1 << 12:  # CAP_NET_ADMIN
            return False
    return not scenario.values.keys() & Loopback().lacks.keys() and not scenario.name.startswith("ACK scan")  # on eth0


def test_each_scenario_that_needs_no_wire_of_its_own() -> None:
    """What is told is the cause or names it beside others; nothing wrong is called certain."""
    scenarios = [scenario for scenario in SCENARIOS if applies(scenario)]
    assert len(scenarios) > 15
    try:
        with ThreadPoolExecutor(4) as pool:
            runs = list(pool.map(lambda s: Lab().run(s.server, s.client, **s.values), scenarios))
    finally:
        Lab().backend.close()
    for scenario, trace in zip(scenarios, runs, strict=True):
        assert len(trace.resets) == len(scenario.resets), (scenario.name, describe(trace))
        for (sender, cause), reset in zip(scenario.resets, trace.resets, strict=True):
            told = [reset.cause.key, *(other.key for other in reset.alternatives)]
            assert reset.sender == sender, scenario.name
            assert cause in told, scenario.name
            assert reset.confidence != "certain" or told == [cause], scenario.name


def test_runs_have_the_same_port_so_that_they_can_be_compared(lab: Lab) -> None:
    ports = {lab.run(server, say_hello).values["port"] for server in (serve_one, None, serve_one)}
    assert len(ports) == 1
    assert 20_000 <= ports.pop() < 32_768


def test_what_others_send_over_the_loopback_interface_is_no_part_of_a_run(lab: Lab) -> None:
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def chatter() -> None:
            while not done.is_set():
                with socket.create_connection(listener.getsockname()) as connection, listener.accept()[0] as other:
                    connection.sendall(b"noise")
                    other.recv(5)

        thread = threading.Thread(target=chatter)
        thread.start()
        try:
            check_hello(lab.run(serve_one, say_hello))
        finally:
            done.set()
            thread.join()


def test_segments_larger_than_any_wire_has(lab: Lab) -> None:
    def pour(address: Address, size: int) -> None:
        with socket.create_connection(address) as connection:
            connection.sendall(bytes(range(256)) * (size // 256))

    trace = lab.run(serve_one, pour, size=1 << 20)
    sent = {p.seq: p.payload for p in trace.packets if p.sender == "client"}
    assert b"".join(sent.values()) == bytes(range(256)) * 4096
    assert max(p.length for p in trace.packets) > 16_000
    long = lab.run(serve_one, pour, size=40 << 20)
    sizes = {p.seq: (p.length, len(p.payload)) for p in long.packets if p.sender == "client"}
    missed = any(" more frames were carried, and not kept." in problem for problem in long.problems)
    reached = {(seq + length - long.packets[0].next_seq) % 2**32 for seq, (length, _) in sizes.items()}
    assert 40 << 20 in reached or missed
    assert 10 << 20 < sum(kept for _, kept in sizes.values()) < 17 << 20  # of the others the headers alone are kept


def test_commands(lab: Lab) -> None:
    server = "import socket, sys; print(socket.create_server((sys.argv[1], int(sys.argv[2]))).accept()[0].recv(9))"
    client = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2]))).sendall(b'hello')"
    trace = lab.run(
        [sys.executable, "-c", server, "{host}", "{port}"], [sys.executable, "-c", client, "{host}", "{port}"]
    )
    assert trace.outcome == "completed"
    assert trace.programs[0].output == "b'hello'\n"
    assert not trace.calls
    missing = lab.run(None, ["/no/such/program"]).program("client")
    assert missing is not None
    assert missing.traceback is not None
    assert "FileNotFoundError" in missing.traceback


# --- values --------------------------------------------------------------------------------


def test_what_does_not_apply_is_said() -> None:
    told: list[str] = []
    lab = Lab(tell=told.append)
    trace = lab.run(None, knock, rtt=40, loss=100)
    assert trace.problems[-2:] == tuple(told)
    assert sorted(told) == [
        "loss=100 does not apply: the loopback interface loses nothing.",
        "rtt=40 does not apply: the loopback interface has no delay.",
    ]
    assert (trace.values["rtt"], trace.values["loss"]) == (0, 0)
    lab.backend.close()


@pytest.mark.parametrize("values", [{"fin_timeout": 7}, {"sysctls": {"server": {"net.ipv4.tcp_fin_timeout": "7"}}}])
def test_the_machines_own_settings_are_never_changed(lab: Lab, values: dict[str, Any]) -> None:
    setting = Path("/proc/sys/net/ipv4/tcp_fin_timeout")
    before = setting.read_text()
    with pytest.raises(LabUnavailable, match="everybody's"):
        lab.run(None, knock, **values)
    assert setting.read_text() == before


@pytest.mark.parametrize("where", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("server", [serve_one, None])
def test_a_port_on_which_somebody_else_listens(lab: Lab, where: str, server: Any) -> None:
    with socket.create_server((where, 0)) as stranger:
        with pytest.raises(SettingError, match="Address already in use"):
            lab.run(server, say_hello, port=stranger.getsockname()[1])
        stranger.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody came
            stranger.accept()
        port = stranger.getsockname()[1]
    trace = lab.run(server, say_hello, port=port)
    assert trace.packets[0].destination.port == port == trace.values["port"]


def test_two_labs_at_once_do_not_meet(lab: Lab) -> None:
    def nap(address: Address) -> None:
        with socket.create_connection(address):
            time.sleep(0.3)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: Lab().run(serve_one, nap), range(2))
    assert first.values["port"] != second.values["port"]
    for trace in (first, second):
        assert [str(p.flags) for p in trace.packets].count("S") == 1


# --- the end of a run ----------------------------------------------------------------------


def test_a_server_that_never_listens(lab: Lab) -> None:
    def elsewhere(address: Address) -> None:
        with socket.create_server((address[0], 0)) as listener:
            print(listener.getsockname()[1])

    trace = lab.run(elsewhere, say_hello)
    assert trace.outcome == "never listened"
    (server,) = trace.programs
    assert trace.problems == (
        f"The client was never started: the server ended and nothing listened on port {trace.values['port']} "
        f"(but on {server.output.strip()}: bind the address that the function is given).",
    )


def test_duration_is_kept_and_the_end_of_the_programs_is_no_part_of_it(lab: Lab) -> None:
    def stay(address: Address) -> None:
        with socket.create_connection(address):
            time.sleep(60)

    trace = lab.run(serve_one, stay, duration=0.3)
    assert trace.outcome == "duration over"
    assert 0.3 <= trace.duration < 0.4
    assert flags(trace) == ["client S", "server S.", "client ."]
    assert [(p.ended, p.status, p.signal) for p in trace.programs] == [(None, None, None)] * 2


def test_stop_from_another_thread(lab: Lab) -> None:
    threading.Timer(0.5, lab.stop).start()
    trace = lab.run(serve_one, idle)
    assert trace.outcome == "stopped"
    assert trace.duration < 2
    check_hello(lab.run(serve_one, say_hello))


def test_what_a_program_leaves_running_ends_with_the_run(lab: Lab, tmp_path: Path) -> None:
    def leave(address: Address, where: str) -> None:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                Path(where).write_text(str(os.getpid()))
                time.sleep(60)
            os._exit(0)
        while not Path(where).exists() or not Path(where).read_text():
            time.sleep(0.01)

    trace = lab.run(None, leave, where=str(tmp_path / "pid"))
    assert trace.outcome == "completed"
    assert not running(int((tmp_path / "pid").read_text()))


KERNEL = """
import os, socket, sys, threading, time
os.environ["RSTKIT_BACKEND"] = "loopback"
from rstkit.lab import Lab

def server(address):
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
    with socket.create_server(address) as listener:
        print(listener.accept())
        time.sleep(60)

def client(address):
    with socket.create_connection(address):
        time.sleep(60)

lab = Lab()
thread = threading.Thread(target=lambda: lab.run(server, client, duration=60))
thread.start()
print("running", flush=True)
{then}
thread.join()
"""


def test_kill_9_of_the_notebooks_kernel_leaves_nothing() -> None:
    """Also where a process that it forked still holds all its pipes."""
    held = 'print("held", os.fork() or os.getpid(), flush=True) or time.sleep(60)'
    with subprocess.Popen(
        [sys.executable, "-c", KERNEL.format(then=held)], stdout=subprocess.PIPE, text=True
    ) as kernel:
        assert kernel.stdout
        assert kernel.stdout.readline() == "running\n"
        assert wait_until(lambda: len(descendants(kernel.pid)) >= 5)  # supervisor, programs, a fork of each kind
        time.sleep(0.3)  # well into the run
        below = descendants(kernel.pid)
        holder = {pid for pid in below if Path(f"/proc/{pid}/cmdline").read_bytes() == cmdline(kernel.pid)}
        assert len(holder) == 1
        kernel.kill()
    assert wait_until(lambda: not any(map(running, below - holder)))
    os.kill(holder.pop(), signal.SIGKILL)


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def running_supervisor() -> int:
    """The supervisor that has programs; other tests' labs may be there as well."""
    of_loopback = [pid for pid in descendants(os.getpid()) if b"loopback_supervisor" in cmdline(pid)]
    (found,) = [pid for pid in of_loopback if descendants(pid)]
    return found


def test_kill_9_of_the_supervisor_is_told_and_ends_the_programs(lab: Lab) -> None:
    def kill() -> None:
        supervisor = running_supervisor()
        killed.extend({supervisor, *descendants(supervisor)})
        os.kill(supervisor, signal.SIGKILL)

    killed: list[int] = []
    threading.Timer(0.7, kill).start()
    with pytest.raises(LabError, match="supervisor ended"):
        lab.run(serve_one, idle)
    assert len(killed) >= 3
    assert wait_until(lambda: not any(map(running, killed)))
    check_hello(lab.run(serve_one, say_hello))


def test_the_thread_that_started_a_lab_may_end(lab: Lab) -> None:
    """PR_SET_PDEATHSIG kills when the *thread* that forked ends (prctl(2))."""
    lab.backend.close()
    traces: list[Trace] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: traces.append(lab.run(serve_one, say_hello)))
        thread.start()
        thread.join()
    traces.append(lab.run(serve_one, say_hello))
    for trace in traces:
        check_hello(trace)


# --- where the system is another -----------------------------------------------------------


def test_a_run_by_scapy_and_by_what_the_programs_record(elsewhere: Lab) -> None:
    trace = elsewhere.run(serve_one, say_hello)
    check_hello(trace)
    assert trace.states == ()
    refused = elsewhere.run(None, knock)
    assert flags(refused) == ["client S", "server R."]
    assert elsewhere.run(do_nothing, say_hello).outcome == "never listened"
    assert elsewhere.run(serve_one, idle, duration=0.2).outcome == "duration over"
    with pytest.raises(LabUnavailable, match="takes Linux"):
        elsewhere.run(["true"], say_hello)


def test_programs_end_with_their_pipe_where_the_kernel_does_not_kill_them(elsewhere: Lab) -> None:
    elsewhere.run(None, knock)  # so that the supervisor is ready
    killed: list[int] = []

    def kill() -> None:
        supervisor = running_supervisor()
        killed.extend({supervisor, *descendants(supervisor)})
        os.kill(supervisor, signal.SIGKILL)

    threading.Timer(0.7, kill).start()
    with pytest.raises(LabError):
        elsewhere.run(serve_one, idle)
    assert len(killed) >= 3
    assert wait_until(lambda: not any(map(running, killed)))


def test_both_sniffers_see_the_same() -> None:
    seen: dict[str, list[tuple[int, bytes]]] = {"packet": [], "scapy": []}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        scapy = ScapySniffer(port, lambda at, data: seen["scapy"].append((at, data)))
        packet = PacketSniffer(port, lambda at, data: seen["packet"].append((at, data)))
        with socket.create_connection(listener.getsockname()) as connection, listener.accept()[0] as other:
            connection.sendall(bytes(50_000))
            received = 0
            while received < 50_000:
                received += len(other.recv(65536))
    # on a busy machine one of them may be late
    assert wait_until(lambda: len(seen["packet"]) == len(seen["scapy"]) >= 8)
    time.sleep(0.1)  # the last ACK
    for sniffer in (packet, scapy):
        assert sniffer.stop() == 0
        sniffer.close()
    assert len(seen["packet"]) >= 8
    assert [data for _, data in seen["scapy"]] == [data for _, data in seen["packet"]]
    assert all(abs(one[0] - other[0]) < 1_000_000 for one, other in zip(*seen.values(), strict=True))


# --- the probe -----------------------------------------------------------------------------


def test_the_probe_is_quick_and_leaves_nothing() -> None:
    """The median, with the worst of twenty within bounds; no process, no descriptor, and scapy is not loaded."""
    code = """
import os, sys, time
from pathlib import Path
from rstkit.lab.loopback import Loopback

def fds():
    return sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1])

before = fds()
took = []
for _ in range(20):
    start = time.perf_counter()
    assert Loopback().probe() is None
    took.append(time.perf_counter() - start)
assert fds() == before, fds()
assert not Path("/proc/self/task", str(os.getpid()), "children").read_text()
assert "scapy" not in sys.modules
took.sort()
print(took[10], took[-1])
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    median, worst = map(float, told.split())
    assert median < 0.15
    assert worst < 0.5  # other processes run on this machine as well


def test_a_refusal_names_what_is_missing() -> None:
    """As uid 1000, which has no capability."""
    code = (
        "import os; from rstkit.lab.loopback import Loopback; backend = Loopback(); "
        "os.setgid(1000); os.setuid(1000); print(backend.probe())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == (
        "sniffing takes the capability NET_RAW, which this process does not have (Operation not permitted)\n"
    )


def test_it_loads_where_linux_and_posix_are_far() -> None:
    """Windows has no fcntl, and nothing of rstkit's that is for Linux alone may be loaded there."""
    code = """
import sys
import cloudpickle, inspect, os, platform, queue, signal, socket, subprocess
sys.platform, sys.modules["fcntl"] = "win32", None
for name in ("AF_PACKET", "AF_NETLINK", "CMSG_SPACE"):
    delattr(socket, name)
for name in ("fork", "setsid", "killpg", "pidfd_open"):
    delattr(os, name)
del signal.SIGKILL, signal.SIGPIPE
for name in ("loopback", "loopback_supervisor", "started", "launched", "call"):
    __import__(f"rstkit.lab.{name}")
assert "rstkit.lab.kernel" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
