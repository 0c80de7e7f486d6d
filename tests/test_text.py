"""A trace as text: tcpdump's notation held to tcpdump itself, and the diagram in words."""

import dataclasses
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstkit.capture import write_pcapng
from rstkit.explain import explain
from rstkit.lab import Lab
from rstkit.tcp import Endpoint, Flags
from rstkit.text import describe, tcpdump
from rstkit.trace import Call, Packet, Program, State, Trace

from .builder import data_after_close, packet
from .test_lab import Address, knock, say_hello, serve_one

needs_tcpdump = pytest.mark.skipif(not shutil.which("tcpdump"), reason="tcpdump is not installed")


# --- tcpdump's notation ----------------------------------------------------------------------


def test_the_notation_of_tcpdump() -> None:
    assert tcpdump(data_after_close()).splitlines() == [
        "0.001000 IP 10.0.0.1.54892 > 10.0.0.2.8080: Flags [S], seq 3000000000, win 502, length 0",
        "0.021100 IP 10.0.0.2.8080 > 10.0.0.1.54892: Flags [S.], seq 4294967290, ack 3000000001, win 502, length 0",
        "0.041200 IP 10.0.0.1.54892 > 10.0.0.2.8080: Flags [.], ack 1, win 502, length 0",
        "0.041400 IP 10.0.0.1.54892 > 10.0.0.2.8080: Flags [P.], seq 1:12, ack 1, win 502, length 11",
        "0.041600 IP 10.0.0.1.54892 > 10.0.0.2.8080: Flags [F.], seq 12, ack 1, win 502, length 0",
        "0.061500 IP 10.0.0.2.8080 > 10.0.0.1.54892: Flags [.], ack 12, win 502, length 0",
        "0.102000 IP 10.0.0.2.8080 > 10.0.0.1.54892: Flags [.], ack 13, win 502, length 0",
        "1.062000 IP 10.0.0.2.8080 > 10.0.0.1.54892: Flags [P.], seq 1:12, ack 13, win 502, length 11",
        "1.082100 IP 10.0.0.1.54892 > 10.0.0.2.8080: Flags [R], seq 3000000013, win 502, length 0",
    ]


def test_raw_sequence_numbers_wrap() -> None:
    line = tcpdump(data_after_close(), raw=True).splitlines()[7]
    assert line == (
        "1.062000 IP 10.0.0.2.8080 > 10.0.0.1.54892: Flags [P.], seq 4294967291:6, ack 3000000013, win 502, length 11"
    )


def test_a_lost_packet_is_marked() -> None:
    trace = Trace((packet(1, "client", 0.5, None, Flags.SYN, 0, lost="lost at\x1b random"),))
    assert tcpdump(trace).endswith("Flags [S], seq 3000000000, win 502, length 0 (lost at\\x1b random)")


def of_tcpdump(trace: Trace, *, raw: bool) -> list[str]:
    """What tcpdump itself prints, without the time and without its guess at the payload."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "trace.pcapng")
        write_pcapng(trace, path)
        command = ["tcpdump", "-n", "-t", *(["-S"] if raw else []), "-r", str(path)]
        printed = subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace")
    return [re.sub(r"(, length \d+).*", r"\1", line) for line in printed.splitlines() if line.startswith("IP")]


def without_time(text: str) -> list[str]:
    return [line.partition(" ")[2] for line in text.splitlines()]


@needs_tcpdump
@pytest.mark.parametrize("raw", [False, True])
def test_it_prints_what_tcpdump_prints(raw: bool) -> None:
    trace = data_after_close()
    assert without_time(tcpdump(trace, raw=raw)) == of_tcpdump(trace, raw=raw)


def send_much(address: Address) -> None:
    say_hello(address, bytes(100_000))


@needs_tcpdump
@pytest.mark.parametrize("ip", [4, 6])
@pytest.mark.parametrize("raw", [False, True])
def test_it_prints_what_tcpdump_prints_of_a_real_run(lab: Lab, ip: int, raw: bool) -> None:
    """Loss brings SACK blocks; the options are those that this kernel sends."""
    trace = lab.run(serve_one, send_much, ip=ip, rtt=4, loss=10, seed=3)
    assert "sack 1 {" in tcpdump(trace)
    assert any(p.lost for p in trace.packets)
    lines = [line.partition(" (lost")[0] for line in without_time(tcpdump(trace, raw=raw))]
    assert lines == of_tcpdump(trace, raw=raw)


@needs_tcpdump
def test_it_prints_what_tcpdump_prints_of_a_refusal(lab: Lab) -> None:
    trace = lab.run(None, knock)
    assert without_time(tcpdump(trace)) == of_tcpdump(trace, raw=False)


def option(kind: int, size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size).map(lambda value: bytes([kind, size + 2]) + value)


options = st.one_of(
    st.sampled_from([b"\x00", b"\x01"]),
    *(option(kind, size) for kind, size in ((2, 2), (3, 1), (4, 0), (5, 8), (5, 16), (8, 8), (200, 0), (201, 3))),
)
malformed = st.sampled_from([b"", b"", b"\x02", b"\x02\x00", b"\x02\x01", b"\x02\x28", b"\xc8\x28ab"])


@st.composite
def any_frame(draw: st.DrawFn) -> bytes:
    """A frame of one of two connections, with any flags, numbers, options and data."""
    header = (b"".join(draw(st.lists(options, max_size=4))) + draw(malformed))[:40]
    header += bytes(-len(header) % 4)
    data = draw(st.binary(max_size=20))
    ports = draw(st.permutations([draw(st.sampled_from([5001, 5002])), 5000]))
    numbers = [draw(st.integers(0, 2**32 - 1)) for _ in range(2)]
    offset, flags = (20 + len(header)) << 2, draw(st.integers(0, 255))
    tcp = struct.pack("!HHIIBBHHH", *ports, *numbers, offset, flags, draw(st.integers(0, 65535)), 0, 9) + header + data
    ends = [b"\x0a\0\0" + bytes([1 + (port == 5000)]) for port in ports]
    if draw(st.booleans()):
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 7, 0, 64, 6, 0, *ends)
        return bytes(12) + b"\x08\x00" + ip + tcp
    ip6 = struct.pack("!IHBB16s16s", 6 << 28, len(tcp), 6, 64, *(b"\xfd" + bytes(11) + end for end in ends))
    return bytes(12) + b"\x86\xdd" + ip6 + tcp


@needs_tcpdump
@settings(max_examples=60, deadline=None)
@given(st.lists(any_frame(), min_size=1, max_size=12), st.booleans())
def test_it_prints_what_tcpdump_prints_of_anything(frames: list[bytes], raw: bool) -> None:
    packets = [Packet.from_frame(i, "client", float(i), None, frame) for i, frame in enumerate(frames, 1)]
    trace = Trace(tuple(p for p in packets if p))
    assert len(trace.packets) == len(frames)
    ours, theirs = without_time(tcpdump(trace, raw=raw)), of_tcpdump(trace, raw=raw)
    # At an option that is malformed tcpdump gives up on the line; here the length follows.
    assert [up_to_bad_option(line) for line in ours] == [up_to_bad_option(line) for line in theirs]


def up_to_bad_option(line: str) -> str:
    return re.split(r"\[bad opt\]| \[\|tcp\]", line)[0]


# --- the diagram in words --------------------------------------------------------------------


def test_the_diagram_in_words() -> None:
    heading, timeline, *resets = describe(data_after_close()).split("\n\n")
    assert heading == "client 10.0.0.1 and server 10.0.0.2: 9 packets, 1 reset, 1.170 s.\nRun with rtt=40, nap=1.0."
    title = resets[0].partition(" from the client: ")[2].partition(" (")[0]
    assert title
    assert timeline.splitlines() == [
        "  0.2 ms  The server calls listen().",
        "  0.3 ms  The server's listener on 10.0.0.2:8080 is in LISTEN.",
        "  0.4 ms  The server calls accept().",
        "  0.9 ms  The client calls connect(10.0.0.2:8080).",
        "  1.0 ms  The client sends packet 1: SYN seq 0.",
        "  1.0 ms  The client's socket is in SYN_SENT.",
        " 21.0 ms  Packet 1 reaches the server.",
        " 21.1 ms  The server sends packet 2: SYN ACK seq 0, ack 1.",
        " 21.1 ms  The server's socket is in SYN_RECV.",
        " 41.1 ms  Packet 2 reaches the client.",
        " 41.1 ms  connect(10.0.0.2:8080) of the client returns ok after 40.2 ms.",
        " 41.1 ms  The client's socket is in ESTABLISHED.",
        " 41.2 ms  The client sends packet 3: ACK 1.",
        " 41.3 ms  The client calls sendall(b'hello world'), which returns ok.",
        " 41.4 ms  The client sends packet 4: 11 B seq 1:12.",
        " 41.5 ms  Python calls close() for the client, which has let go of its socket.",
        " 41.6 ms  The client sends packet 5: FIN seq 12, ack 1.",
        " 41.6 ms  The client's socket is in FIN_WAIT1.",
        " 41.7 ms  The client's process ends.",
        " 61.2 ms  Packet 3 reaches the server.",
        " 61.2 ms  The server's socket is in ESTABLISHED.",
        " 61.3 ms  accept() of the server returns 10.0.0.1:54892 after 60.9 ms.",
        " 61.4 ms  Packet 4 reaches the server.",
        " 61.5 ms  The server sends packet 6: ACK 12.",
        " 61.5 ms  The server calls recv(1024), which returns b'hello world'.",
        " 61.6 ms  Packet 5 reaches the server.",
        " 61.6 ms  The server sleeps 1 s.",
        " 61.6 ms  The server's socket is in CLOSE_WAIT.",
        " 81.5 ms  Packet 6 reaches the client.",
        "102.0 ms  The server sends packet 7: ACK 13.",
        "122.0 ms  Packet 7 reaches the client.",
        "122.0 ms  The client's socket is in FIN_WAIT2.",
        "          940 ms pass.",
        " 1.062 s  The server wakes up.",
        " 1.062 s  The server calls send(b'receive msg'), which returns 11.",
        " 1.062 s  The server sends packet 8: 11 B seq 1:12.",
        " 1.062 s  The server sleeps 0.1 s.",
        " 1.082 s  Packet 8 reaches the client. It provokes the RST, packet 9.",
        f" 1.082 s  The client sends packet 9: RST seq 13. This is the reset: {title}.",
        " 1.082 s  The client's socket is gone (CLOSED).",
        " 1.102 s  Packet 9 reaches the server.",
        " 1.102 s  The server's socket is gone (CLOSED), last seen with 11 B unacknowledged.",
        " 1.163 s  The server wakes up.",
        " 1.163 s  The server calls send(b'again'), which fails: EPIPE, BrokenPipeError: Broken pipe.",
        " 1.164 s  The server's process ends by an exception, BrokenPipeError: [Errno 32] Broken pipe.",
    ]
    (reset,) = explain(data_after_close())
    assert len(resets) == 1
    assert re.sub(r"\n {4}", " ", resets[0]) == str(reset)  # in lines that fit a terminal
    assert max(map(len, resets[0].splitlines())) <= 100


def told(**parts: Any) -> list[str]:
    """The lines of the timeline of a trace of such parts."""
    trace = Trace((), hosts={"client": "10.0.0.1", "server": "10.0.0.2"}, duration=9.0)
    return describe(dataclasses.replace(trace, **parts)).split("\n\n")[1].splitlines()


HERE, THERE = Endpoint("10.0.0.1", 5001), Endpoint("10.0.0.2", 80)


def test_calls_of_all_kinds() -> None:
    def call(name: str, arguments: str, began: float, ended: float | None, **more: Any) -> Call:
        return Call(1, "server", 7, name, arguments, began, ended, **more)

    refused = {"errno": "ECONNREFUSED", "error": "ConnectionRefusedError: [Errno 111] Connection refused"}
    calls = (
        call("socket", "AF_INET, SOCK_STREAM", 0.0, 0.0001, socket=1),
        call("setsockopt", "SOL_SOCKET, SO_REUSEADDR, 1", 0.0, 0.0001, socket=1),
        call("bind", "10.0.0.2:80", 0.001, 0.001, errno="EADDRINUSE", error="OSError: [Errno 98] Address in use"),
        call("setsockopt", "SOL_SOCKET, SO_LINGER, on, 0 s", 0.002, 0.002, socket=1),
        call("listen", "", 0.003, 0.003, socket=1),
        call("close", "", 0.004, 0.004, socket=1),
        call("connect", "10.0.0.1:80", 0.005, 0.045, socket=2, **refused),
        call("sendall", "b'xxxxxxxxxxxxxxxxxxxx'… 20,000 B", 0.05, 0.0501, size=20_000, socket=2),
        call("recv", "10", 0.06, 0.07, result="b''", size=0, socket=2),
        call("sleep", "0.01", 0.07, 0.08),
        call("sleep", "2", 0.08, 0.09, error="KeyboardInterrupt: "),
        call("recv", "10", 0.09, None, socket=2),
    )
    assert told(calls=calls) == [
        " 1.0 ms  The server calls bind(10.0.0.2:80), which fails: EADDRINUSE, OSError: Address in use.",
        " 2.0 ms  The server calls setsockopt(SO_LINGER, on, 0 s).",
        " 3.0 ms  The server calls listen().",
        " 4.0 ms  The server calls close() on its listener.",
        " 5.0 ms  The server calls connect(10.0.0.1:80).",
        "45.0 ms  connect(10.0.0.1:80) of the server fails after 40 ms: "
        "ECONNREFUSED, ConnectionRefusedError: Connection refused.",
        "50.0 ms  The server calls sendall(20,000 B).",
        "60.0 ms  The server calls recv(10).",
        "70.0 ms  recv(10) of the server returns b'' (the end of the data) after 10 ms.",
        "70.0 ms  The server sleeps 0.01 s.",
        "80.0 ms  The server wakes up.",
        "80.0 ms  The server sleeps 2 s.",
        "90.0 ms  sleep(2) of the server fails after 10 ms: KeyboardInterrupt.",
        "90.0 ms  The server calls recv(10), which never returns.",
    ]


def test_queues_that_wait_and_what_a_closed_socket_still_held() -> None:
    states = (
        State("server", 0.0, THERE, None, "LISTEN"),
        State("server", 0.1, THERE, None, "LISTEN", unread=2),
        State("server", 1.0, THERE, HERE, "ESTABLISHED", unread=5),
        State("server", 1.001, THERE, HERE, "ESTABLISHED"),  # read at once: not worth a line
        State("server", 1.2, THERE, HERE, "ESTABLISHED", unread=7),
        State("server", 1.3, THERE, HERE, "ESTABLISHED", unread=12),
        State("server", 1.4, THERE, HERE, "CLOSE_WAIT", unread=13),  # 12 bytes and the FIN
        State("server", 2.4, THERE, HERE, "CLOSED"),
    )
    assert told(states=states) == [
        "  0.0 ms  The server's listener on 10.0.0.2:80 is in LISTEN.",
        "          100 ms pass.",
        "100.0 ms  The server's listener on 10.0.0.2:80 holds up to 2 in its accept queue, for 8.9 s.",
        "          900 ms pass.",
        " 1.000 s  The server's socket is in ESTABLISHED.",
        "          200 ms pass.",
        " 1.200 s  The server's socket holds up to 12 B unread, for 1.2 s.",
        "          200 ms pass.",
        " 1.400 s  The server's socket is in CLOSE_WAIT.",
        "          1 s pass.",
        " 2.400 s  The server's socket is gone (CLOSED), last seen with 12 B unread.",
    ]


def test_how_processes_end() -> None:
    programs = (
        Program("server", "a", "", True, 0.0, 0.001, status=3),
        Program("server", "b", "", True, 0.0, 0.002, signal="SIGKILL"),
        Program("server", "c", "", True, 0.0, 0.003, status=0),
        Program("server", "d", "", True, 0.0, 0.004, status=1, traceback="Traceback:\n  here\nValueError: no\n"),
        Program("server", "e", "", True, 0.0),
    )
    assert told(programs=programs) == [
        "1.0 ms  The server's process ends with status 3.",
        "2.0 ms  The server's process is ended by SIGKILL.",
        "3.0 ms  The server's process ends.",
        "4.0 ms  The server's process ends by an exception, ValueError: no.",
    ]


def test_several_connections_are_told_apart() -> None:
    first = packet(1, "client", 0.0, 0.01, Flags.SYN, 0)
    second = first._replace(number=2, source=Endpoint("10.0.0.1", 5002), sent=0.001)
    state = State("client", 0.02, second.source, second.destination, "SYN_SENT")
    text = describe(Trace((first, second), states=(state,), hosts={"client": "10.0.0.1", "server": "10.0.0.2"}))
    assert text.splitlines() == [
        "client 10.0.0.1 and server 10.0.0.2: 2 packets, no reset, 0.000 s.",
        "Connection 1: 10.0.0.1:54892 to 10.0.0.2:8080.",
        "Connection 2: 10.0.0.1:5002 to 10.0.0.2:8080.",
        "",
        " 0.0 ms  Connection 1: The client sends packet 1: SYN seq 0.",
        " 1.0 ms  Connection 2: The client sends packet 2: SYN seq 0.",
        "10.0 ms  Connection 1: Packet 1 reaches the server.",
        "10.0 ms  Connection 2: Packet 2 reaches the server.",
        "20.0 ms  Connection 2: The client's socket is in SYN_SENT.",
    ]


def test_a_long_transfer_is_summed_up(lab: Lab) -> None:
    trace = lab.run(serve_one, send_much, rtt=4, loss=10, seed=3)
    text = describe(trace)
    assert len(text.splitlines()) < len(trace.packets)
    assert re.search(r"^ +In the next [\d.]+ ms: .*\d+ data packets.*; \d+ lost\.$", text, re.MULTILINE)
    assert "returns b'' (the end of the data)" in text  # what is no routine is told all the same
    assert len(re.findall("sends packet [0-9]+: FIN", text)) >= 2


def test_a_fast_wire_is_told_in_microseconds() -> None:
    trace = Trace((packet(1, "client", 0.0012345, 0.0012545, Flags.SYN, 0),), duration=0.1)
    assert describe(trace).splitlines()[2:] == [
        "1.234 ms  The client sends packet 1: SYN seq 0.",
        "1.254 ms  Packet 1 reaches the 10.0.0.2.",
    ]


def test_problems_commands_and_nothing_at_all() -> None:
    program = Program("server", "curl", "curl http://10.0.0.2:8080/", False, 0.0)
    trace = Trace((), programs=(program,), hosts={"server": "10.0.0.2"}, problems=("The run was stopped.",))
    assert describe(trace).splitlines() == [
        "server 10.0.0.2: 0 packets, no reset, 0.000 s.",
        "The server runs curl http://10.0.0.2:8080/. Its calls were not recorded.",
        "The run was stopped.",
    ]
    assert describe(Trace(())) == "Packets: 0 packets, no reset, 0.000 s."
    assert tcpdump(Trace(())) == ""


HOSTILE = "\x1b[2J\x07\r\n\u202e\x9b<script>\udce9"


def test_no_text_can_steer_a_terminal() -> None:
    plain = data_after_close()
    trace = dataclasses.replace(
        plain,
        packets=tuple(p._replace(sender=HOSTILE, lost=HOSTILE) for p in plain.packets),
        calls=tuple(
            dataclasses.replace(
                c, name=c.name + HOSTILE, arguments=HOSTILE, result=HOSTILE, error=HOSTILE, host=HOSTILE
            )
            for c in plain.calls
        ),
        states=tuple(dataclasses.replace(s, state=HOSTILE, host=HOSTILE) for s in plain.states),
        programs=(Program(HOSTILE, HOSTILE, HOSTILE, False, 0, 1, 1, None, HOSTILE, HOSTILE),),
        hosts={HOSTILE: HOSTILE},
        values={HOSTILE: HOSTILE},
        problems=(HOSTILE,),
    )
    for text in (describe(trace), tcpdump(trace)):
        assert all(character.isprintable() or character == "\n" for character in text)
        assert "\\x1b[2J" in text
