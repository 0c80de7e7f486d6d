"""The lab: programs, values, the wire, observation and the clean end, on real hosts."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rstkit.errors import LabError, LabUnavailable, SettingError
from rstkit.lab import Lab
from rstkit.lab.namespaces import Namespaces
from rstkit.tcp import Flags
from rstkit.trace import Trace

from .conftest import descendants, running, wait_until

ROOT = os.geteuid() == 0
Address = tuple[str, int]


def serve_one(address: Address) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.create_server(address, family=family) as listener:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(1 << 16):
                pass


def say_hello(address: Address, words: bytes = b"hello") -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(words)


def knock(address: Address) -> None:
    socket.create_connection(address)


def flags(trace: Trace) -> list[str]:
    return [f"{p.sender} {p.flags}" for p in trace.packets]


# --- a run and what it shows ---------------------------------------------------------------


@pytest.mark.parametrize("ip", [4, 6])
def test_a_connection_that_ends_well(lab: Lab, ip: int) -> None:
    trace = lab.run(serve_one, say_hello, ip=ip, rtt=20)
    assert trace.outcome == "completed"
    assert not trace.problems
    assert flags(trace)[:4] == ["client S", "server S.", "client .", "client P."]
    assert not any(p.flags & Flags.RST for p in trace.packets)
    assert trace.packets[3].payload == b"hello"
    assert sum(p.length for p in trace.packets) == 5
    assert trace.packets[0].destination == (trace.hosts["server"], 8080)
    client = [s.state for s in trace.states if s.host == "client"]
    assert client[0] == "SYN_SENT"
    assert client[-1] == "TIME_WAIT"
    listener = [s.state for s in trace.states if s.host == "server" and s.peer is None]
    assert listener[0] == "LISTEN"
    assert listener[-1] == "CLOSED"
    assert trace.counter("server", "Tcp:PassiveOpens") == 1
    assert trace.counter("client", "Tcp:ActiveOpens") == 1
    assert [c.name for c in trace.calls if c.host == "client"] == ["socket", "connect", "sendall", "close"]
    assert [p.status for p in trace.programs] == [0, 0]


@pytest.mark.parametrize("ip", [4, 6])
def test_a_closed_port(lab: Lab, ip: int) -> None:
    trace = lab.run(None, knock, ip=ip)
    syn, reset = trace.packets
    assert flags(trace) == ["client S", "server R."]
    assert (reset.seq, reset.ack, reset.window) == (0, (syn.seq + 1) % 2**32, 0)
    connect = next(c for c in trace.calls if c.name == "connect")
    assert connect.errno == "ECONNREFUSED"
    assert connect.ended is not None
    assert reset.arrived is not None
    assert connect.ended > reset.arrived
    assert trace.counter("server", "Tcp:OutRsts") == 1
    assert trace.counter("client", "Tcp:AttemptFails") == 1
    program = trace.program("client")
    assert program is not None
    assert program.status == 1
    assert program.traceback is not None
    assert program.traceback.endswith("ConnectionRefusedError: [Errno 111] Connection refused\n")
    assert "rstkit/lab" not in program.traceback
    assert "test_lab.py" in program.traceback


@pytest.mark.skipif(not ROOT, reason="the tracepoint tcp:tcp_send_reset takes real root")
def test_the_kernels_own_reason(lab: Lab) -> None:
    trace = lab.run(None, knock)
    (reason,) = trace.reasons
    assert reason.reason == "NO_SOCKET"
    assert (reason.source, reason.destination) == (trace.packets[1].source, trace.packets[1].destination)
    assert 0 < trace.packets[1].sent - reason.at < 0.001


def test_what_lies_in_the_queues_at_a_close(lab: Lab) -> None:
    def server(address: Address) -> None:
        with socket.create_server(address) as listener:
            connection, _ = listener.accept()
        time.sleep(0.1)
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
        connection.send(bytes(60_000))
        connection.close()

    def client(address: Address) -> None:
        with socket.create_connection(address) as connection:
            connection.sendall(b"hello world")
            time.sleep(0.3)

    trace = lab.run(server, client, rtt=40)
    listener, connection, at_client = (c for c in trace.calls if c.name == "close")
    assert (listener.unread, listener.unsent, listener.unacked) == (None, None, None)
    assert (connection.unread, connection.unsent, connection.unacked) == (10, 60_000 - 14_480, 14_480)
    assert (at_client.unread, at_client.unsent, at_client.unacked) == (14_480, 0, 0)


def test_unread_and_unsent_bytes(lab: Lab) -> None:
    def server(address: Address) -> None:
        with socket.create_server(address) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection, _ = listener.accept()
            time.sleep(0.3)
            connection.close()

    def client(address: Address) -> None:
        with socket.create_connection(address) as connection:
            connection.setblocking(False)
            connection.send(bytes(1_000_000))
            time.sleep(0.2)

    trace = lab.run(server, client, rtt=10)
    written = next(c.size for c in trace.calls if c.name == "send")
    assert written is not None
    unread = max(s.unread for s in trace.states if s.host == "server" and s.peer)
    waiting = [s.unsent + s.unacked for s in trace.states if s.host == "client" and s.state == "ESTABLISHED"]
    assert 2000 < unread < 10_000
    assert max(waiting) == written
    assert any(p.flags & Flags.RST and p.sender == "server" for p in trace.packets)
    assert trace.counter("server", "TcpExt:TCPAbortOnClose") == 1
    assert written > sum(p.length for p in trace.packets)


# --- values and settings -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"nap": 1}, r"no program and no lab setting is named nap.*Known: .*rtt.*words"),
        ({"rtt": -1}, r"rtt=-1 is no value for it.*0 to 60,000 ms"),
        ({"rtt": "fast"}, r"rtt='fast'"),
        ({"rtt": float("nan")}, r"rtt=nan"),
        ({"rtt": True}, r"rtt=True"),
        ({"loss": 101}, r"loss=101"),
        ({"duration": 0}, r"duration=0"),
        ({"ip": 5}, r"ip=5"),
        ({"ip": []}, r"ip=\[\]"),
        ({"port": 0}, r"port=0"),
        ({"seed": 1.5}, r"seed=1.5"),
        ({"fin_timeout": 0}, r"fin_timeout=0"),
        ({"drop": [("router", 1)]}, r"drop="),
        ({"drop": 3}, r"drop=3"),
        ({"sysctls": {"client": {"kernel.panic": 1}}}, r"sysctls="),
    ],
)
def test_wrong_values(lab: Lab, values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        lab.run(serve_one, say_hello, **values)


@pytest.mark.parametrize(("name", "value"), [("no_such_name", 1), ("tcp_fin_timeout", "soon")])
def test_wrong_sysctls(lab: Lab, name: str, value: Any) -> None:
    with pytest.raises((SettingError, LabUnavailable)) as caught:
        lab.run(serve_one, say_hello, sysctls={"client": {f"net.ipv4.{name}": value}})
    if isinstance(caught.value, LabUnavailable):  # then /proc/sys cannot be written at all
        assert "Read-only" in str(caught.value)
    else:
        assert f"does not take net.ipv4.{name}" in str(caught.value)


def test_a_missing_value(lab: Lab) -> None:
    def client(address: Address, nap: float) -> None:
        time.sleep(nap)

    with pytest.raises(SettingError, match=r"the client needs a value for nap\. Known: .*nap"):
        lab.run(None, client)


@pytest.mark.parametrize("program", [None, 7, "curl", [], ["curl", 7], lambda: None])
def test_what_is_no_program(lab: Lab, program: Any) -> None:
    with pytest.raises(SettingError, match="the client"):
        lab.run(serve_one, program)


def test_a_working_directory_that_is_gone(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SettingError, match="working directory was removed"):
        lab.run(None, knock)


def test_what_cannot_be_sent_to_a_host(lab: Lab) -> None:
    lock = threading.Lock()

    def client(address: Address) -> None:
        with lock:
            knock(address)

    with pytest.raises(SettingError, match="cannot be sent to its host"):
        lab.run(None, client)


def test_an_edited_function_runs_as_edited(lab: Lab) -> None:
    space: dict[str, Any] = {}
    for word in ("one", "two"):
        exec(f"def client(address, times=1):\n    print({word!r} * times)\n", space)
        trace = lab.run(None, space["client"], times=2)
        assert trace.programs[0].output == word * 2 + "\n"


def test_a_sysctl_is_set_on_its_host_alone(lab: Lab) -> None:
    def tell(address: Address) -> None:
        print(Path("/proc/sys/net/ipv4/tcp_fin_timeout").read_text().strip(), flush=True)
        with socket.create_server(address) as listener:
            listener.accept()

    def ask(address: Address) -> None:
        print(Path("/proc/sys/net/ipv4/tcp_fin_timeout").read_text().strip())
        knock(address)

    try:
        trace = lab.run(tell, ask, sysctls={"client": {"net.ipv4.tcp_fin_timeout": 7}})
    except LabUnavailable as error:
        assert "forbids setting net.ipv4.tcp_fin_timeout" in str(error)  # noqa: PT017
        pytest.skip(f"not on this machine: {error}")
    assert [p.output for p in trace.programs] == ["60\n", "7\n"]
    trace = lab.run(tell, ask, fin_timeout=3)
    assert [p.output for p in trace.programs] == ["3\n", "3\n"]


# --- programs ------------------------------------------------------------------------------


def test_commands(lab: Lab) -> None:
    server = [sys.executable, "-m", "http.server", "{port}", "--bind", "{host}", "--directory", "{folder}"]
    code = "import urllib.request as u; print(u.urlopen('http://{host}:{port}/').status, '{{x}}')"
    trace = lab.run(server, [sys.executable, "-c", code], folder="/proc/self/ns", duration=2.5)
    assert trace.outcome == "duration over"  # http.server serves for ever
    client = trace.program("client")
    assert client is not None
    assert (client.output, client.status, client.recorded) == ("200 {x}\n", 0, False)
    assert client.text.endswith("urlopen('\"'\"'http://10.0.0.2:8080/'\"'\"').status, '\"'\"'{x}'\"'\"')'")
    assert not trace.calls
    assert any(p.payload.startswith(b"HTTP/1.0 200") for p in trace.packets)


def test_a_command_that_is_not_there(lab: Lab) -> None:
    trace = lab.run(None, ["/no/such/command"])
    (problem,) = trace.problems
    assert problem == "The client raised FileNotFoundError: [Errno 2] No such file or directory"
    with pytest.raises(SettingError, match="needs a value for print"):
        lab.run(None, ["awk", "{print}"])


def test_a_program_that_raises_is_part_of_the_trace(lab: Lab) -> None:
    def server(address: Address) -> None:
        with socket.create_server(address) as listener:
            listener.accept()
            raise ValueError("on purpose")

    trace = lab.run(server, say_hello)
    assert trace.outcome == "completed"
    assert "The server raised ValueError: on purpose" in trace.problems
    assert 'raise ValueError("on purpose")' in str(trace.program("server"))


@pytest.mark.parametrize(
    ("how", "status", "name"),
    [
        ("sys.exit(3)", 3, None),
        ("sys.exit()", 0, None),
        ("os._exit(4)", 4, None),
        ("os.kill(os.getpid(), 9)", None, "SIGKILL"),
        ("os.abort()", None, "SIGABRT"),
    ],
)
def test_how_a_process_ended(lab: Lab, how: str, status: int | None, name: str | None) -> None:
    space: dict[str, Any] = {"os": os, "sys": sys}
    exec(f"def client(address):\n    {how}\n", space)
    (program,) = lab.run(None, space["client"]).programs
    assert (program.status, program.signal) == (status, name)
    assert program.ended is not None


def test_a_server_that_never_listens(lab: Lab) -> None:
    def leave(address: Address) -> None:
        pass

    def stay(address: Address) -> None:
        with socket.create_server((address[0], 9090)):
            time.sleep(60)

    trace = lab.run(leave, say_hello)
    assert trace.outcome == "never listened"
    assert trace.problems[0] == "The client was never started: the server ended and nothing listened on port 8080."
    assert [p.host for p in trace.programs] == ["server"]
    trace = lab.run(stay, say_hello, duration=0.4)
    assert trace.outcome == "never listened"
    assert "nothing listened on port 8080 (but on 9090" in trace.problems[0]


def test_a_program_that_never_returns(lab: Lab) -> None:
    def wait(address: Address) -> None:
        with socket.create_connection(address) as connection:
            connection.recv(1)

    def hold(address: Address) -> None:
        with socket.create_server(address) as listener:
            _connection, _ = listener.accept()
            while True:
                pass

    trace = lab.run(hold, wait, duration=0.5)
    assert trace.outcome == "duration over"
    assert trace.duration == pytest.approx(0.5, abs=0.1)
    assert "the client, in recv(1)" in trace.problems[0]
    assert next(c for c in trace.calls if c.name == "recv").ended is None


def test_an_implicit_close_and_a_shutdown(lab: Lab) -> None:
    def client(address: Address) -> None:
        connection = socket.create_connection(address)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 2))
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.01)

    trace = lab.run(serve_one, client)
    shown = [(c.name, c.arguments, c.implicit) for c in trace.calls if c.host == "client"][1:]
    assert shown == [
        ("connect", "10.0.0.2:8080", False),
        ("setsockopt", "SOL_SOCKET, SO_LINGER, on, 2 s", False),
        ("shutdown", "SHUT_WR", False),
        ("sleep", "0.01", False),
        ("close", "", True),
    ]


# --- programs that misbehave ---------------------------------------------------------------


def test_a_program_that_closes_the_inherited_descriptors(lab: Lab) -> None:
    def client(address: Address) -> None:
        os.closerange(0, 4096)
        kept = [socket.socket() for _ in range(600)]  # one comes to have the recorder's number
        kept[-1].connect(address)
        kept[-1].sendall(b"clean")

    trace = lab.run(serve_one, client)
    assert trace.outcome == "completed"
    assert b"".join(p.payload for p in trace.packets) == b"clean"


def test_ten_children_that_stay(lab: Lab) -> None:
    def client(address: Address) -> None:
        for _ in range(10):
            if os.fork() == 0:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)
        say_hello(address)

    before = len(descendants(os.getpid()))
    trace = lab.run(serve_one, client)
    assert trace.outcome == "completed"
    assert wait_until(lambda: len(descendants(os.getpid())) <= before + 3)  # the fork server and a spare pair


def test_ten_megabytes_of_output(lab: Lab) -> None:
    def client(address: Address) -> None:
        print("x" * 10_000_000)

    (program,) = lab.run(None, client).programs
    assert len(program.output) < 70_000
    assert program.output.endswith("more bytes, not kept")
    assert program.status == 0


def test_hostile_bytes(lab: Lab) -> None:
    words = b"<script>alert(1)</script>\x1b[2J\x00\xff\xfe"

    def client(address: Address, words: bytes) -> None:
        print("\x1b[31m", words.decode(errors="surrogateescape"), "\udcff")
        say_hello(address, words)

    trace = lab.run(serve_one, client, words=words)
    assert trace.packets[3].payload == words
    assert next(c.size for c in trace.calls if c.name == "sendall") == len(words)
    assert Trace.from_dict(trace.to_dict()).packets == trace.packets


# --- the wire ------------------------------------------------------------------------------


def test_the_round_trip_time(lab: Lab) -> None:
    trace = lab.run(serve_one, say_hello, rtt=80)
    for packet in trace.packets:
        assert packet.arrived is not None
        assert packet.arrived - packet.sent == pytest.approx(0.040, abs=0.005)
    connect = next(c for c in trace.calls if c.name == "connect")
    assert connect.ended is not None
    assert connect.ended - connect.began == pytest.approx(0.080, abs=0.01)


def test_a_dropped_frame_is_sent_again(lab: Lab) -> None:
    trace = lab.run(serve_one, say_hello, drop=[("client", 3)], rtt=10)
    third = [p for p in trace.packets if p.sender == "client"][2]
    assert third.lost == "dropped: on the list of frames to drop"
    assert third.arrived is None
    trace = lab.run(serve_one, say_hello, drop=[("client", 1)], rtt=10)
    first, again = trace.packets[:2]
    assert (first.seq, first.flags) == (again.seq, again.flags)
    assert again.sent - first.sent == pytest.approx(1.0, abs=0.1)  # TCP_TIMEOUT_INIT


def test_loss_repeats_with_its_seed(lab: Lab) -> None:
    def send_much(address: Address) -> None:
        say_hello(address, bytes(60_000))

    def lost(seed: int) -> list[int]:
        trace = lab.run(serve_one, send_much, loss=20, seed=seed, rtt=4)
        assert trace.outcome == "completed"
        return [p.number for p in trace.packets[:8] if p.lost]

    assert lost(1) == lost(1)
    trace = lab.run(serve_one, send_much, loss=100, duration=0.3)
    assert trace.outcome == "duration over"
    assert all(p.lost == "lost at random" for p in trace.packets)


# --- the end of it all ---------------------------------------------------------------------


def hold_on(address: Address) -> None:
    with socket.create_server(address) as listener:
        listener.accept()


def wait_long(address: Address) -> None:
    with socket.create_connection(address):
        time.sleep(60)


def test_stop_from_another_thread(lab: Lab, tmp_path: Path) -> None:
    sign = tmp_path / "connected"

    def client(address: Address, sign: Path) -> None:
        with socket.create_connection(address):
            sign.touch()
            time.sleep(60)

    def stop() -> None:
        wait_until(sign.exists)
        lab.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    trace = lab.run(hold_on, client, sign=sign, duration=30)
    thread.join()
    assert trace.duration < 10
    assert trace.outcome == "stopped"
    assert "client S" in flags(trace)


def test_an_interrupt_leaves_nothing(lab: Lab) -> None:
    before = len(descendants(os.getpid()))
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        lab.run(hold_on, wait_long, duration=30)
    timer.join()
    assert wait_until(lambda: len(descendants(os.getpid())) <= before + 3)
    assert lab.run(None, knock).outcome == "completed"


def test_one_lab_does_one_run_at_a_time(lab: Lab) -> None:
    thread = threading.Thread(target=lab.run, args=(hold_on, wait_long), kwargs={"duration": 30})
    thread.start()
    try:
        assert wait_until(lambda: lab._run is not None)
        with pytest.raises(SettingError, match="in the middle of a run"):
            lab.run(None, knock)
    finally:
        lab.stop()
        thread.join()


NOTEBOOK = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from tests.test_lab import hold_on, wait_long
from rstkit.lab import Lab
from rstkit.lab.namespaces import Namespaces
print("running", flush=True)
Lab().run(hold_on, wait_long, duration=60)
"""


def test_kill_9_of_the_notebooks_process_leaves_nothing() -> None:
    """Every process below it is gone within seconds, however deep and whatever it does."""
    notebook = subprocess.Popen([sys.executable, "-c", NOTEBOOK], stdout=subprocess.PIPE)
    try:
        assert notebook.stdout
        assert notebook.stdout.readline() == b"running\n"
        # fork server, keeper and supervisor, and the two programs
        assert wait_until(lambda: len(descendants(notebook.pid)) >= 5)
        below = descendants(notebook.pid)
    finally:
        notebook.kill()
        notebook.wait()
        if notebook.stdout:
            notebook.stdout.close()
    assert wait_until(lambda: not any(running(pid) for pid in below))


def test_kill_9_of_the_fork_server_or_the_supervisor_is_told(lab: Lab) -> None:
    def kill_deepest(depth: int) -> None:
        # parents have the lower numbers here: each process of the chain is forked by the one before
        assert isinstance(lab.backend, Namespaces)
        assert lab.backend._server
        server = lab.backend._server.pid
        assert wait_until(lambda: len(descendants(server)) >= 4)
        os.kill([server, *sorted(descendants(server))][depth - 1], signal.SIGKILL)

    for depth in (1, 2, 3):  # the fork server, the keeper, the supervisor
        assert lab.run(None, knock).outcome == "completed"
        timer = threading.Timer(0.4, kill_deepest, (depth,))
        timer.start()
        with pytest.raises(LabError, match="ended"):
            lab.run(hold_on, wait_long, duration=20)
        timer.join()
    assert lab.run(None, knock).outcome == "completed"


# --- many ----------------------------------------------------------------------------------


def memory() -> int:
    """Resident memory of this process, in kB."""
    match = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert match
    return int(match[1])


def test_two_hundred_runs_in_a_row(lab: Lab) -> None:
    sizes = []
    for number in range(200):
        trace = lab.run(None, knock, rtt=2)
        assert flags(trace) == ["client S", "server R."]
        assert trace.counter("server", "Tcp:OutRsts") == 1
        if number in (50, 199):
            sizes.append(memory())
    assert sizes[1] - sizes[0] < 4096
    assert isinstance(lab.backend, Namespaces)
    assert lab.backend._server
    server = lab.backend._server.pid
    assert wait_until(lambda: len(descendants(server)) <= 4)  # the spare pair: keeper, supervisor, two programs
    status = subprocess.run(["ps", "-o", "stat=", "--ppid", str(server)], check=False, capture_output=True, text=True)
    assert len(status.stdout.split()) <= 1  # the keeper of the spare pair, and none that waits for its parent


def test_twenty_labs_at_once(lab: Lab) -> None:
    traces: dict[int, Trace] = {}

    def one(number: int) -> None:
        traces[number] = Lab().run(serve_one, say_hello, words=b"%d" % number, rtt=50, duration=30)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(traces) == 20
    for number, trace in traces.items():
        assert trace.outcome == "completed"
        assert b"".join(p.payload for p in trace.packets) == b"%d" % number
        assert flags(trace)[:3] == ["client S", "server S.", "client ."]
        assert {p.sender for p in trace.packets if p.flags & Flags.FIN} == {"client", "server"}
        assert not any(c.errno for c in trace.calls)
        assert lab.backend.name == trace.backend
