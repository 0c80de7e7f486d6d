"""The course's situations on the live lab: each as a script, and over the range of each widget.

The programs and the widgets' ranges come from the notebooks. Times are not asserted beyond what the
wire guarantees, so that a busy machine changes nothing.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rstkit.errors import LabUnavailable
from rstkit.explain import Reset, explain
from rstkit.lab import Lab
from rstkit.tcp import Flags
from rstkit.trace import Call, Packet, Trace

from . import builder
from .course import NOTEBOOKS, Lesson, lessons
from .script import check_script
from .test_explain_live import (
    ROOT,
    check_against_reasons,
    check_every_rst_is_told_once,
    check_with_less,
    packets_alone,
    without,
)

RTT = 40  # ms, in the scripts: what the two hosts do is apart in time
LONG_RTT = 200  # ms, where a program must have done several calls before its peer hears of the first
KNOBS = ("fin_timeout", "linger2")  # of 02: how long FIN_WAIT2 lasts, for a host and for a socket
MSS = {4: 1448, 6: 1428}  # bytes of data in a full segment of the lab

Resets = list[tuple[str, str]]
each_ip = pytest.mark.parametrize("ip", [4, 6], ids=["IPv4", "IPv6"])


def notebook(number: str) -> Path:
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    return path


def lesson(number: str, ip: int) -> Lesson:
    return Lesson(notebook(number), ip)


def run_at_once(path: Path, runs: list[dict[str, Any]]) -> list[Trace]:
    """Runs as the notebook's panel makes them; 02's knob is another where the machine forbids the first."""

    def run(values: dict[str, Any]) -> Trace:
        course = Lesson(path, values["ip"])
        try:
            return Lab().run(course["server"], course.client, **values)
        except LabUnavailable:  # /proc/sys is read-only
            knob = {KNOBS[1] if name == KNOBS[0] else name: value for name, value in values.items()}
            return Lab().run(course["server"], course.client, **knob)

    with ThreadPoolExecutor(12) as pool:
        return list(pool.map(run, runs))


def check_run(trace: Trace, resets: Resets) -> Reset | None:
    """What must hold of every run of the course; returns its reset, if there is one."""
    assert trace.outcome == "completed"
    assert all(" raised " in problem for problem in trace.problems), trace.problems  # a program that met the RST
    for packet in trace.packets:
        assert packet.arrived is not None
        assert packet.arrived - packet.sent >= trace.values["rtt"] / 2000
    found = explain(trace)
    assert [(r.sender, r.cause.key) for r in found] == resets, trace.text()
    for reset in found:
        assert (reset.confidence, reset.alternatives) == ("certain", ()), str(reset)
    check_every_rst_is_told_once(trace)
    if ROOT:
        check_against_reasons(trace)
    blind = explain(without(trace, "reasons"))
    assert [(r.sender, r.cause, r.confidence) for r in blind] == [(r.sender, r.cause, r.confidence) for r in found]
    check_with_less(trace)
    for reset, other in zip(found, explain(packets_alone(trace)), strict=True):
        assert other.cause == reset.cause or (other.confidence == "ambiguous" and reset.cause in other.alternatives), (
            str(other)
        )
    return found[0] if found else None


def check_states(trace: Trace, host: str, *states: str) -> None:
    """The host's connection was in these states in this order; others, too short to be sure of, may lie between."""
    seen = [state.state for state in trace.states if state.host == host and state.peer]
    left = iter(seen)
    assert all(state in left for state in states), seen


def aborts(trace: Trace) -> dict[str, int]:
    """The counters that tell of resets, where they moved."""
    watched = ("Tcp:OutRsts", "Tcp:EstabResets", "Tcp:AttemptFails")
    return {
        f"{c.host} {c.name}": c.change
        for c in trace.counters
        if c.change and (c.name in watched or c.name.startswith("TcpExt:TCPAbort"))
    }


def last_close(trace: Trace, host: str) -> Call:
    return [c for c in trace.calls if c.host == host and c.name == "close"][-1]


def written(trace: Trace, host: str) -> int:
    return sum(c.size or 0 for c in trace.calls if c.host == host and c.name in ("send", "sendall"))


def on_the_wire(trace: Trace, host: str) -> int:
    """How many bytes a host sent, those that it sent again counted once."""
    return sum({p.seq: p.length for p in trace.packets if p.sender == host and p.length}.values())


def fins(trace: Trace) -> list[str]:
    """The hosts that sent a FIN, in order. (Where a busy machine held up the wire, a host may send it again.)"""
    return list(dict.fromkeys(p.sender for p in trace.packets if p.flags & Flags.FIN))


def resets_sent(trace: Trace) -> list[Packet]:
    """The RSTs; there may be more than one where what provoked it was sent again."""
    return [p for p in trace.packets if p.flags & Flags.RST]


def output(trace: Trace, host: str) -> str:
    program = trace.program(host)
    assert program is not None
    return program.output.strip()


# --- the situations, each as a script ------------------------------------------------------


@each_ip
def test_01_closed_port(lab: Lab, ip: int) -> None:
    course = lesson("01", ip)
    trace = lab.run(course["server"], course.client, ip=ip, rtt=RTT)
    check_run(trace, [("server", "no-listener")])
    check_script(
        trace,
        """
        client > SYN

        server > RST ACK seq 0 ack 1 win 0

        client   connect(server) = ECONNREFUSED
        client   close()
        """,
    )
    check_states(trace, "client", "SYN_SENT", "CLOSED")
    assert aborts(trace) == {"server Tcp:OutRsts": 1, "client Tcp:AttemptFails": 1}


KEEPALIVE_AFTER_CLOSE = """
    server   listen()

    client > SYN

    server > SYN ACK

    client > ACK 1
    client   connect(server)
    client   sendall(b'hello world')
    client > 11 B
    client   close(), by letting go
    client > FIN seq 12
    server   accept() = client
    server   close(listener)
    server   setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    server   setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 2)
    server   setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, 1)
    server   recv(1024) = b'hello world'
    server   recv(1024) = b''
    server > ACK 13

    server > keepalive

    client > ACK 1

    server > keepalive

    client > RST seq 13 win 0

    server   send(b'late') = EPIPE
    server   close(), by letting go
    """


@each_ip
def test_02_keepalive_after_close(lab: Lab, ip: int) -> None:
    # probes 2 s and 4 s after the FIN: well before and well after the end of FIN_WAIT2, at 3 s
    by_system, by_socket = run_at_once(notebook("02"), [{"ip": ip, "rtt": RTT, "idle": 2, k: 3} for k in KNOBS])
    option = "client   setsockopt(IPPROTO_TCP, TCP_LINGER2, 3)\n"
    sendall = "client   sendall(b'hello world')"
    with_option = KEEPALIVE_AFTER_CLOSE.replace(sendall, option + sendall)
    check_script(by_system, with_option if "linger2" in by_system.values else KEEPALIVE_AFTER_CLOSE)
    check_script(by_socket, with_option)
    for trace in (by_system, by_socket):
        reset = check_run(trace, [("client", "fin-wait2-timed-out")])
        check_states(trace, "client", "SYN_SENT", "FIN_WAIT1", "FIN_WAIT2", "CLOSED")
        check_states(trace, "server", "SYN_RECV", "CLOSE_WAIT", "CLOSED")
        at = {s.state: s.at for s in trace.states if s.host == "client"}
        assert reset is not None
        assert at["FIN_WAIT2"] < at["CLOSED"] < reset.packet.sent
        assert aborts(trace) == {"client Tcp:OutRsts": 1, "server Tcp:EstabResets": 1}


DATA_AFTER_CLOSE = """
    server   listen()

    client > SYN

    server > SYN ACK

    client > ACK 1
    client   connect(server)
    client   sendall(b'hello world')
    client > 11 B
    server   accept() = client
    server   close(listener)
    server   recv(1024) = b'hello world'
    server   sleep(1)
    server > ACK 12

    client   recv(1024) = TimeoutError: timed out
    client   close(), by letting go
    client > FIN seq 12
    server > ACK 13

    server   send(b'receive msg')
    server > 11 B
    server   sleep(0.3)
    client > RST seq 13 win 0

    server   send(b'and more') = EPIPE
    server   close(), by letting go
    """


@each_ip
@pytest.mark.parametrize("explicit", [False, True], ids=["the process ends", "close()"])
def test_03_data_after_close(lab: Lab, explicit: bool, ip: int) -> None:
    course = lesson("03", ip)
    trace = lab.run(course["server"], course.client, ip=ip, rtt=RTT, explicit=explicit)
    reset = check_run(trace, [("client", "data-after-close")])
    expected = DATA_AFTER_CLOSE
    if explicit:  # the packets are the same
        expected = expected.replace("client   close(), by letting go", "client   close()\nclient   sleep(2)")
    check_script(trace, expected)
    check_states(trace, "client", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSED")
    check_states(trace, "server", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "CLOSED")
    assert aborts(trace) == {"client Tcp:OutRsts": 1, "server Tcp:EstabResets": 1}
    assert reset is not None
    assert reset.trigger is not None
    assert reset.trigger.payload == b"receive msg"
    assert reset.call is not None
    assert (reset.call.host, reset.call.name, reset.call.implicit) == ("client", "close", not explicit)


@each_ip
def test_03_an_answer_in_time(lab: Lab, ip: int) -> None:
    course = lesson("03", ip)
    trace = lab.run(course["server"], course.client, ip=ip, rtt=RTT, nap=0.1)
    check_run(trace, [])
    assert aborts(trace) == {}
    assert fins(trace) == ["server", "client"]
    assert output(trace, "client") == "b'receive msg'\nb'and more'"


@each_ip
def test_04_unread_data(lab: Lab, ip: int) -> None:
    course = lesson("04", ip)
    trace = lab.run(course["server"], course.client, ip=ip, rtt=RTT)
    check_run(trace, [("server", "unread-data")])
    check_script(
        trace,
        """
        server   listen()

        client > SYN

        server > SYN ACK

        client > ACK 1
        client   connect(server)
        client   sleep(0)
        client   sendall(1,000 B)
        client > 1,000 B
        server   accept() = client
        server   close(listener)
        server   sleep(0.3)
        server > ACK 1001

        server   close(), 1,000 B unread
        server > RST ACK seq 1 ack 1001

        client   recv(1024) = ECONNRESET
        client   close()
        """,
    )
    check_states(trace, "server", "SYN_RECV", "ESTABLISHED", "CLOSED")
    check_states(trace, "client", "SYN_SENT", "ESTABLISHED", "CLOSED")
    assert max(s.unread for s in trace.states if s.host == "server" and s.peer) == 1000
    assert aborts(trace) == {
        "server TcpExt:TCPAbortOnClose": 1,
        "server Tcp:OutRsts": 1,
        "server Tcp:EstabResets": 1,
        "client Tcp:EstabResets": 1,
    }


@each_ip
def test_04_an_answer_that_is_lost(lab: Lab, ip: int) -> None:
    course = lesson("04", ip)
    trace = lab.run(course["refuse"], course["upload"], ip=ip, rtt=RTT)  # type: ignore[arg-type]
    check_run(trace, [("server", "unread-data")])
    assert output(trace, "client") == ""
    (failed,) = (c for c in trace.calls if c.host == "client" and c.errno)
    assert (failed.name, failed.errno) == ("sendall", "ECONNRESET")
    assert last_close(trace, "client").unread == len("HTTP/1.1 413 Content Too Large\r\n\r\n")
    assert trace.counter("server", "TcpExt:TCPAbortOnClose") == 1


@each_ip
def test_05_linger_zero(lab: Lab, ip: int) -> None:
    course = lesson("05", ip)
    trace = lab.run(course["server"], course.client, ip=ip, rtt=LONG_RTT, linger=0)
    reset = check_run(trace, [("server", "linger-zero")])
    burst = 10 * MSS[ip]  # the initial congestion window (RFC 6928)
    first = next(p.seq for p in trace.packets if p.sender == "server")
    # the RST may overtake the acknowledgment of the last segments, which the client's kernel may delay
    acked = max((p.ack - first) % 2**32 for p in trace.packets if p.sender == "client" and p.ack)
    assert 1 < acked <= burst + 1
    check_script(
        trace,
        f"""
        server   listen()

        client > SYN

        server > SYN ACK

        client > ACK 1
        client   connect(server)
        client   sleep(0)
        server   accept() = client
        server   close(listener)
        server   setsockopt(SOL_SOCKET, SO_SNDBUF, 200000)
        server   setsockopt(SOL_SOCKET, SO_LINGER, on, 0 s)
        server   sendall(60,000 B)
        server > {burst:,} B in 10
        server   close(), {60_000 - burst:,} B unsent
        server > RST ACK seq {burst + 1} ack 1

        client > ACK {acked}
        client   recv(65536) = {burst:,} B
        client   recv(65536) = ECONNRESET
        client   close(), by letting go
        server > RST again
        """,
    )
    check_states(trace, "server", "SYN_RECV", "CLOSED")  # open for less than a millisecond
    check_states(trace, "client", "SYN_SENT", "ESTABLISHED", "CLOSED")
    assert output(trace, "client") == f"{burst:,} bytes, then a reset"
    assert written(trace, "server") - on_the_wire(trace, "server") == 60_000 - burst
    assert reset is not None
    late = [p for p in trace.packets if p.sender == "client" and p.sent > reset.packet.sent]
    assert len(reset.packets) == 1 + len(late)  # each ACK that found no socket was answered
    assert aborts(trace) == {
        "server TcpExt:TCPAbortOnData": 1,
        "server Tcp:OutRsts": 1 + len(late),
        "server Tcp:EstabResets": 1,
        "client Tcp:EstabResets": 1,
    }


@each_ip
@pytest.mark.parametrize("linger", [-1, 2])
def test_05_every_byte_and_a_fin(lab: Lab, linger: int, ip: int) -> None:
    course = lesson("05", ip)
    trace = lab.run(course["server"], course.client, ip=ip, rtt=RTT, linger=linger)
    check_run(trace, [])
    assert output(trace, "client") == "60,000 bytes, then the end"
    assert aborts(trace) == {}
    assert fins(trace) == ["server", "client"]
    close, data = last_close(trace, "server"), [p for p in trace.packets if p.length]
    assert close.ended is not None
    if linger > 0:  # it waited for the last acknowledgment, a round trip after the last byte
        assert close.ended - data[-1].sent >= RTT / 1000
    else:
        assert close.ended < data[-1].sent


def test_05_linger_gives_up_and_the_kernel_goes_on(lab: Lab) -> None:
    values = {"linger": 2, "pause": 4.0, "written": 150_000, "rtt": RTT}
    for trace in run_at_once(notebook("05"), [{**values, "ip": ip} for ip in (4, 6)]):
        check_run(trace, [])
        close = last_close(trace, "server")
        assert close.ended is not None
        assert close.ended - close.began >= 2
        assert any(p.sender == "server" and p.length and p.sent > close.ended for p in trace.packets)
        assert output(trace, "client") == "150,000 bytes, then the end"


# --- the scripts themselves ----------------------------------------------------------------

BY_HAND = """
    server   listen()

    client > SYN

    server > SYN ACK

    client   connect(server)
    client   sendall(b'hello world')
    client   close(), by letting go
    client > ACK 1
    client > 11 B
    client > FIN seq 12
    server   accept() = client
    server   recv(1024) = b'hello world'
    server   sleep(1)
    server > ACK 13

    server > 11 B
    server   send(b'receive msg')
    server   sleep(0.1)
    client > RST seq 13

    server   send(b'again') = EPIPE
    """


def test_a_script_is_strict() -> None:
    trace = builder.data_after_close()
    check_script(trace, BY_HAND)
    lines = [line for line in BY_HAND.splitlines() if line.strip()]
    without_one = [BY_HAND.replace(line + "\n", "") for line in lines]
    other_number = [BY_HAND.replace("seq 13", "seq 12"), BY_HAND.replace("ACK 13", "ACK 12")]
    other_order = [
        BY_HAND.replace("client > SYN\n\n    server > SYN ACK", "server > SYN ACK\n\n    client > SYN"),
        BY_HAND.replace("client > 11 B\n    client > FIN seq 12", "client > FIN seq 12\n    client > 11 B"),
    ]
    for wrong in (*without_one, *other_number, *other_order):
        assert wrong != BY_HAND
        with pytest.raises(AssertionError):
            check_script(trace, wrong)


# --- over the range of each widget ---------------------------------------------------------


def after_fin(trace: Trace, closer: str) -> list[Packet]:
    """The other end's data that came after the closer's FIN had left."""
    left = [p.sent for p in trace.packets if p.sender == closer and p.flags & Flags.FIN]
    return [p for p in trace.packets if left and p.sender != closer and p.length and (p.arrived or 0) > left[0]]


def closed_port(trace: Trace) -> Resets:
    syn, answer = trace.packets
    assert (answer.seq, answer.ack, answer.window) == (0, (syn.seq + 1) % 2**32, 0)
    assert [c.errno for c in trace.calls if c.name == "connect"] == ["ECONNREFUSED"]
    assert aborts(trace) == {"server Tcp:OutRsts": 1, "client Tcp:AttemptFails": 1}
    return [("server", "no-listener")]


def keepalive_after_close(trace: Trace) -> Resets:
    check_states(trace, "client", "FIN_WAIT2", "CLOSED")
    fin = next(p for p in trace.packets if p.flags & Flags.FIN)
    probes = [p for p in trace.packets if p.sender == "server" and p.ack == fin.next_seq and p.seq != fin.ack]
    answers = [p for p in trace.packets if p.sender == "client" and p.number > probes[0].number]
    apart = max(trace.values.get("idle", 1), trace.values.get("interval", 1))  # tcp_keepalive_timer waits for both
    assert all(later.sent - earlier.sent > apart - 0.01 for earlier, later in itertools.pairwise(probes))
    assert [str(p.flags) for p in answers] == ["."] * (len(probes) - 1) + ["R"]
    assert [c.errno for c in trace.calls if c.name == "send"] == ["EPIPE"]
    assert aborts(trace) == {"client Tcp:OutRsts": 1, "server Tcp:EstabResets": 1}
    return [("client", "fin-wait2-timed-out")]


def data_after_close(trace: Trace) -> Resets:
    late = after_fin(trace, "client")
    if last_close(trace, "client").unread:  # the answer came between the end of the client's patience and its close
        return [("client", "unread-data")]
    sends = [c for c in trace.calls if c.name == "send"]
    if not late:
        assert [c.errno for c in sends] == [None, None]
        assert output(trace, "client") == "b'receive msg'\nb'and more'"
        assert aborts(trace) == {}
        return []
    resets = resets_sent(trace)
    reset = resets[0]
    assert reset.seq == late[0].ack
    for send in sends:
        assert send.errno == ("EPIPE" if send.began > (reset.arrived or 0) else None)
    fin = next(p for p in trace.packets if p.flags & Flags.FIN)
    order = sorted((p for p in trace.packets if p.sender == "server"), key=lambda p: p.arrived or 0)
    acked = any(p.ack == fin.next_seq for p in order[: order.index(late[0])])
    in_fin_wait1 = {} if acked else {"client TcpExt:TCPAbortOnData": 1}  # the socket is whole as yet
    assert aborts(trace) == {"client Tcp:OutRsts": len(resets), "server Tcp:EstabResets": 1, **in_fin_wait1}
    return [("client", "data-after-close")]


def unread_data(trace: Trace) -> Resets:
    close = last_close(trace, "server")
    read = sum(c.size or 0 for c in trace.calls if c.host == "server" and c.name == "recv")
    nap, pause = trace.values.get("nap", 0.3), trace.values.get("pause", 0.0)
    if nap > pause:  # else the request may come before, during or after close()
        assert close.unread == written(trace, "client") - read
        assert trace.counter("server", "TcpExt:TCPAbortOnClose") == bool(close.unread)
    if trace.counter("server", "TcpExt:TCPAbortOnClose"):
        assert fins(trace) == []
        assert [c.errno for c in trace.calls if c.host == "client" and c.name == "recv"] == ["ECONNRESET"]
        return [("server", "unread-data")]
    assert fins(trace)[0] == "server"
    return [("server", "data-after-close")] if after_fin(trace, "server") else []


def linger_zero(trace: Trace) -> Resets:
    size, left = written(trace, "server"), on_the_wire(trace, "server")
    if trace.values["linger"]:
        assert output(trace, "client") == f"{size:,} bytes, then the end"
        assert fins(trace) == ["server", "client"]
        assert left == size
        assert aborts(trace) == {}
        return []
    assert fins(trace) == []
    first = resets_sent(trace)[0]
    (connect,) = (c for c in trace.calls if c.name == "connect")
    if connect.errno:  # with no round trip to speak of, the RST may come before connect() has returned
        assert connect.errno == "ECONNRESET"
        assert (connect.ended or 0) > (first.arrived or 0)
    else:
        assert output(trace, "client") == f"{left:,} bytes, then a reset"
    start = next(p for p in trace.packets if p.sender == "server").next_seq  # of the SYN ACK
    assert (str(first.flags), first.seq) == ("R.", (start + left) % 2**32)
    assert trace.counter("server", "TcpExt:TCPAbortOnData") == 1
    assert trace.counter("server", "TcpExt:TCPAbortOnLinger") == 0
    return [("server", "linger-zero")]


# What must be seen in a run of a notebook's panel at any of its values, and the resets that must follow.
MUST_SHOW: dict[str, Callable[[Trace], Resets]] = {
    "01_closed_port": closed_port,
    "02_keepalive_after_close": keepalive_after_close,
    "03_data_after_close": data_after_close,
    "04_unread_data": unread_data,
    "05_linger_zero": linger_zero,
}
# Not run: a minute for one run, which differs from the shorter ones in nothing but time.
LEFT_OUT = [{"fin_timeout": 60}]


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
def test_over_the_range_of_each_widget(lab: Lab, path: Path) -> None:
    """At both ends and in the middle, over IPv4 and IPv6, the other widgets at their defaults."""
    course = Lesson(path)
    moved = [{name: value} for name, values in course.varied.items() for value in values]
    runs = [{**course.given, "ip": ip, **move} for ip in (4, 6) for move in moved if move not in LEFT_OUT]
    for values, trace in zip(runs, run_at_once(path, runs), strict=True):
        try:
            check_run(trace, MUST_SHOW[path.stem](trace))
        except AssertionError as error:
            error.add_note(f"in the run with {values}")
            raise


def test_every_notebook_is_tested() -> None:
    assert {path.stem for path in lessons()} == MUST_SHOW.keys()
