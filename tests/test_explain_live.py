"""The explanation of resets against real runs; as root, the kernel's own reason is the judge."""

import dataclasses
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from rstkit.conversation import conversations, look, resets_of
from rstkit.errors import LabUnavailable
from rstkit.explain import Reset, explain
from rstkit.lab import Lab
from rstkit.tcp import Flags
from rstkit.trace import Reason, Trace
from rstkit.witnesses import reason_of

from .scenarios import (
    SCENARIOS,
    TCP_USER_TIMEOUT,
    Address,
    Scenario,
    accept,
    answer_late,
    read_all,
    send_and_end,
    serve,
)
from .varied import varied, varied_client, varied_server

ROOT = os.geteuid() == 0
SEEDS = range(60)

Runs = dict[tuple[str, int], "Future[Trace]"]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """Every scenario over IPv4 and IPv6, and varied programs, each run once; four at a time."""

    def run(server: Any, client: Any, **values: Any) -> Trace:
        return Lab().run(server, client, **values)

    with ThreadPoolExecutor(4) as pool:
        found: Runs = {
            (scenario.name, ip): pool.submit(run, scenario.server, scenario.client, ip=ip, **scenario.values)
            for scenario in SCENARIOS
            for ip in (4, 6)
        }
        for name, (server, client, values) in CONTROLS.items():
            found |= {(name, ip): pool.submit(run, server, client, ip=ip, **values) for ip in (4, 6)}
        for seed in SEEDS:
            found["varied", seed] = pool.submit(run, varied_server, varied_client, **varied(seed))
        yield found
        pool.shutdown(cancel_futures=True)
    Lab().backend.close()


def of(runs: Runs, name: str, which: int) -> Trace:
    """The trace of a run; skips where the machine forbids a setting that it needs."""
    try:
        return runs[name, which].result()
    except LabUnavailable as error:
        pytest.skip(str(error))


def without(trace: Trace, *parts: str) -> Trace:
    """The trace as it would be had these parts not been recorded."""
    gone: dict[str, Any] = {part: () for part in parts if part != "calls"}
    fewer = dataclasses.replace(trace, **gone)
    if "calls" in parts:
        commands = tuple(dataclasses.replace(program, recorded=False) for program in fewer.programs)
        fewer = dataclasses.replace(fewer, calls=(), programs=commands)
    return fewer


def packets_alone(trace: Trace) -> Trace:
    return Trace(trace.packets)


def answer(reset: Reset) -> dict[str, Any]:
    """All of an explanation but its evidence."""
    return {f.name: getattr(reset, f.name) for f in dataclasses.fields(reset) if f.name != "evidence"}


def reasons(trace: Trace) -> list[Reason | None]:
    """The kernel's own reason for each reset."""
    found = []
    for reset in explain(trace):
        conversation = next(c for c in conversations(trace.packets) if reset.packet in c)
        found.append(reason_of(trace, look(conversation, reset.packets)))
    return found


def check_against_reasons(trace: Trace) -> None:
    """The causes that were found are those that the kernel gave, and the same without its word."""
    resets = explain(trace)
    for reset, reason in zip(resets, reasons(trace), strict=True):
        if reason:  # now and then the tracepoint misses a RST: see below
            assert reason.reason in reset.cause.reasons
            assert reset.evidence[0].kind == "reason"
    assert [answer(r) for r in explain(without(trace, "reasons"))] == [answer(r) for r in resets]


def check_with_less(trace: Trace) -> None:
    """With less to go by, the cause stays among those that are told, and nothing wrong is called certain."""
    resets = explain(trace)
    for parts in (
        ("reasons", "calls"),
        ("reasons", "calls", "counters"),
        ("reasons", "calls", "states"),
        ("reasons", "states", "counters"),
    ):
        for reset, other in zip(resets, explain(without(trace, *parts)), strict=True):
            assert reset.cause in (other.cause, *other.alternatives), (parts, str(other))
            assert other.confidence != "certain" or other.cause == reset.cause, (parts, str(other))
    for reset, other in zip(resets, explain(packets_alone(trace)), strict=True):
        assert reset.cause in (other.cause, *other.alternatives), str(other)
        assert other.confidence in ("likely", "ambiguous")
        assert (other.trigger, other.packets, other.sender) == (reset.trigger, reset.packets, reset.sender)


def check_every_rst_is_told_once(trace: Trace) -> None:
    told = [p.number for reset in explain(trace) for p in reset.packets]
    assert sorted(told) == [p.number for p in trace.packets if p.flags & Flags.RST]


each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
each_ip = pytest.mark.parametrize("ip", [4, 6])
each_seed = pytest.mark.parametrize("seed", SEEDS)
as_root = pytest.mark.skipif(not ROOT, reason="the kernel's reasons take real root")


@each_scenario
@each_ip
def test_the_cause_is_found(runs: Runs, scenario: Scenario, ip: int) -> None:
    trace = of(runs, scenario.name, ip)
    resets = explain(trace)
    assert tuple((reset.sender, reset.cause.key) for reset in resets) == scenario.resets, trace.text()
    check_every_rst_is_told_once(trace)
    for reset in resets:
        if reset.cause.key == "disconnect":  # of which no call tells: Python has none
            assert {cause.key for cause in reset.alternatives} == {"socket-killed"}
        else:
            assert reset.confidence == "certain", str(reset)
            assert reset.alternatives == ()


@each_scenario
@each_ip
def test_packets_alone_are_never_wrong(runs: Runs, scenario: Scenario, ip: int) -> None:
    trace = of(runs, scenario.name, ip)
    check_with_less(trace)
    if scenario.decided:
        found = explain(packets_alone(trace))
        assert tuple((reset.sender, reset.cause.key) for reset in found) == scenario.resets


@as_root
@each_scenario
@each_ip
def test_the_kernel_agrees(runs: Runs, scenario: Scenario, ip: int) -> None:
    check_against_reasons(of(runs, scenario.name, ip))


@as_root
def test_nearly_every_reason_is_recorded(runs: Runs) -> None:
    """The tracepoint misses some of the RSTs that a timer sends; of all others none."""
    scenarios = [of(runs, name, which) for name, which in runs if name not in ("keepalive unanswered", "varied")]
    assert all(reason is not None for trace in scenarios for reason in reasons(trace))
    found = [reason for seed in SEEDS for reason in reasons(of(runs, "varied", seed))]
    assert len(found) > 50
    assert sum(reason is None for reason in found) <= len(found) // 20


@each_seed
def test_varied_programs(runs: Runs, seed: int) -> None:
    trace = of(runs, "varied", seed)
    check_every_rst_is_told_once(trace)
    check_with_less(trace)
    if ROOT:
        check_against_reasons(trace)


def test_what_provoked_it_and_what_was_seen(runs: Runs) -> None:
    def told(name: str) -> Reset:
        return explain(of(runs, name, 4))[0]

    closed = told("closed port")
    assert closed.trigger is not None
    assert (closed.trigger.number, closed.packet.number, closed.call) == (1, 2, None)
    assert closed.saw == ("client: connect(10.0.0.2:8080) → ECONNREFUSED (call 2)",)
    late = told("data after close")
    assert late.trigger is not None
    assert late.trigger.payload == bytes(11)
    assert late.call is not None
    assert (late.call.host, late.call.name, late.call.implicit) == ("client", "close", False)
    assert [line.partition("→")[2].partition("(")[0].strip() for line in late.saw] == ["11", "EPIPE", "no error"]
    killed = told("killed with unread data")
    assert killed.call is None
    assert "ended by SIGKILL" in killed.why
    assert "5 bytes of the client's data unread" in killed.why
    assert "ECONNRESET" in killed.saw[0]
    unread = told("413")
    assert "4,900 bytes of the client's data unread" in unread.why
    assert unread.call is not None
    assert unread.call.name == "close"
    lingering = told("linger zero with unsent data")
    assert "bytes never left." in lingering.why
    probing = told("keepalive unanswered")
    assert probing.trigger is None
    assert "2 keepalive probes (packets 6 and 8)" in probing.why
    assert any(line.startswith("server: recv(1024) → ETIMEDOUT") for line in probing.saw)
    keepalive = told("keepalive")
    assert keepalive.trigger is not None
    assert (keepalive.trigger.length, keepalive.sender) == (0, "client")
    assert "(a keepalive)" in keepalive.why
    queue = told("accept queue")
    assert queue.trigger is not None
    assert queue.trigger.flags == Flags.ACK
    recovered = told("half-open")
    assert recovered.trigger is not None
    assert recovered.trigger.flags == Flags.ACK
    assert any("ECONNRESET" in line for line in recovered.saw)


# --- no RST, nothing to explain ------------------------------------------------------------


def shut_for_reading(address: Address) -> None:
    connection = accept(address)
    connection.shutdown(socket.SHUT_RD)
    while not connection.recv(100):  # it returns nothing at once, until data comes
        time.sleep(0.005)
    connection.close()


def time_out(address: Address) -> None:
    """TCP_USER_TIMEOUT: the kernel gives up without a word."""
    connection = accept(address)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 300)
    connection.sendall(b"lost")
    connection.recv(100)


def stay(address: Address) -> None:
    with socket.create_connection(address) as connection:
        connection.settimeout(1.2)
        connection.recv(1)


def answer_in_time(address: Address) -> None:
    connection = socket.create_connection(address)
    connection.sendall(b"hello")
    connection.shutdown(socket.SHUT_WR)
    read_all(connection)


CONTROLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "a normal close": (serve, send_and_end, {}),
    "SHUT_RD": (shut_for_reading, send_and_end, {}),
    "TCP_USER_TIMEOUT": (time_out, stay, {"drop": [("server", n) for n in range(2, 30)], "duration": 1}),
    "shutdown and read": (answer_late, answer_in_time, {"times": 1}),
}


@pytest.mark.parametrize("name", CONTROLS)
@each_ip
def test_no_reset_to_explain(runs: Runs, name: str, ip: int) -> None:
    trace = of(runs, name, ip)
    assert not any(p.flags & Flags.RST for p in trace.packets)
    assert explain(trace) == []


def test_conversations_and_resets_by_hand_and_live_agree(runs: Runs) -> None:
    trace = of(runs, "port used again", 4)
    both = conversations(trace.packets)
    assert len(both) == 2
    assert [len(resets_of(conversation)) for conversation in both] == [1, 1]
    assert both[0][0].connection == both[1][0].connection
