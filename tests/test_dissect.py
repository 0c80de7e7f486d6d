"""Packets and calls in words."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstkit.dissect import call_hover, call_words, end_words, escape, lines, printable, read_packets, state_hover
from rstkit.tcp import Endpoint, Flags
from rstkit.trace import Call, Packet, Program, State

from .builder import ISN, data_after_close, packet

ACK, FIN, PSH, RST, SYN = Flags.ACK, Flags.FIN, Flags.PSH, Flags.RST, Flags.SYN


def kinds_and_labels(*packets: Packet) -> list[tuple[str, str]]:
    return [(reading.kind, reading.label) for reading in read_packets(packets)]


def test_the_packets_of_a_connection() -> None:
    assert kinds_and_labels(*data_after_close().packets) == [
        ("SYN", "SYN seq 0"),
        ("SYN", "SYN ACK seq 0, ack 1"),
        ("ACK", "ACK 1"),
        ("data", "11 B seq 1:12"),
        ("FIN", "FIN seq 12, ack 1"),
        ("ACK", "ACK 12"),
        ("ACK", "ACK 13"),
        ("data", "11 B seq 1:12"),
        ("RST", "RST seq 13"),
    ]


def test_raw_sequence_numbers_are_those_on_the_wire() -> None:
    labels = [reading.label for reading in read_packets(data_after_close().packets, raw=True)]
    assert labels[0] == "SYN seq 3000000000"
    assert labels[1] == "SYN ACK seq 4294967290, ack 3000000001"
    assert labels[7] == "11 B seq 4294967291:6"  # past 2**32


def test_a_closed_port_answers_with_seq_0() -> None:
    refused = packet(2, "server", 0.02, 0.03, RST | ACK, 0, 1)
    refused = refused._replace(seq=0)  # no SYN was ever sent from there: RFC 9293, 3.10.7.1
    assert kinds_and_labels(packet(1, "client", 0, 0.01, SYN, 0), refused)[1] == ("RST", "RST ACK seq 0, ack 1")


def test_probes_and_repeats() -> None:
    syn, syn_ack = packet(1, "client", 0, 0.1, SYN, 0), packet(2, "server", 0.1, 0.2, SYN | ACK, 0, 1)
    data, again = (
        packet(3, "client", 0.2, None, PSH | ACK, 1, 1, b"abc"),
        packet(4, "client", 1, 2, PSH | ACK, 1, 1, b"abc"),
    )
    probe = packet(5, "client", 3, 3.1, ACK, 3, 1)
    full = packet(6, "server", 3.1, 3.2, ACK, 1, 4, window=0)
    window_probe = packet(7, "client", 4, 4.1, ACK, 3, 1)
    assert kinds_and_labels(syn, syn, syn_ack, data, again, probe, full, window_probe) == [
        ("SYN", "SYN seq 0"),
        ("retransmission", "SYN seq 0, retransmitted"),
        ("SYN", "SYN ACK seq 0, ack 1"),
        ("data", "3 B seq 1:4"),
        ("retransmission", "3 B seq 1:4, retransmitted"),
        ("keepalive", "keepalive seq 3"),
        ("ACK", "ACK 4, window 0"),
        ("keepalive", "window probe seq 3"),
    ]


def test_ports_used_again_begin_again_at_0() -> None:
    first, second = packet(1, "client", 0, 0.1, SYN, 0), packet(2, "client", 1, 1.1, SYN, 5000)
    assert kinds_and_labels(first, second) == [("SYN", "SYN seq 0"), ("SYN", "SYN seq 0")]


def test_a_capture_that_begins_late_counts_from_1() -> None:
    data, answer = (
        packet(1, "client", 0, 0.1, PSH | ACK, 700, 900, b"abc"),
        packet(2, "server", 0.2, 0.3, ACK, 900, 703),
    )
    assert kinds_and_labels(data, answer) == [("data", "3 B seq 1:4"), ("ACK", "ACK 4")]


def test_the_dissection_holds_everything() -> None:
    scale, mss, sack_ok = b"\x03\x03\x07", b"\x02\x04\x05\xb4", b"\x04\x02"
    stamp = b"\x08\x0a" + struct.pack("!II", 77, 66)
    sack = b"\x05\x0a" + struct.pack("!II", ISN["client"] + 5, ISN["client"] + 9)
    syn, syn_ack, data, ack = (
        reading.hover
        for reading in read_packets(
            [
                packet(1, "client", 0, 0.01, SYN, 0, options=mss + sack_ok + stamp + scale + b"\x01"),
                packet(2, "server", 0.01, 0.02, SYN | ACK, 0, 1, options=scale + b"\x01"),
                packet(3, "client", 0.02, 0.03, PSH | ACK, 1, 1, b"<b>\x1b$x$\xff"),
                packet(4, "server", 0.04, None, ACK, 1, 1, options=sack + b"\x01\x01", lost="lost at random"),
            ]
        )
    )
    assert syn.splitlines() == [syn]
    assert syn.split("<br>") == [
        "<b>Packet 1: SYN seq 0</b>",
        "sent 0.000000 s by the client, arrived 0.010000 s, 10.000 ms on its way",
        "10.0.0.1:54892 → 10.0.0.2:8080",
        "flags [S] SYN",
        "seq 0, raw 3000000000; next 1",
        "no ack",
        "window 502 B",
        "TTL 64, IP id 7, payload 0 B",
        "options: MSS 1460, SACK permitted, timestamp 77 echo 66, window scale 7 (times 128)",
    ]
    assert "ack 1, raw 3000000001" in syn_ack
    assert "window 502, times 128 is 64,256 B" in data
    assert data.endswith(r"&lt;b&gt;\x1b&#36;x&#36;\xff<br>3c 62 3e 1b 24 78 24 ff")
    assert "sent 0.040000 s by the server, lost: lost at random" in ack
    assert "SACK 5:9" in ack


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<script>", "&lt;script&gt;"),
        ("a&b", "a&amp;b"),
        ("$x$", "&#36;x&#36;"),
        ("\x1b[31m\r\n", r"\x1b[31m\r\n"),
        ("\u202eevil", r"\u202eevil"),
        ("\udcff", r"\udcff"),
        ("héllo → ok", "héllo → ok"),
    ],
)
def test_outside_text_is_only_text(text: str, escaped: str) -> None:
    assert escape(text) == escaped


@given(st.text(max_size=600))
def test_no_text_brings_markup_or_control_characters(text: str) -> None:
    for made in (escape(text), lines(text)):
        bare = made.replace("<br>", "")
        assert not set(bare) & set("<>$")
        assert bare.isprintable()
        bare.encode()


def test_long_text_is_cut_and_wrapped() -> None:
    rows = lines("x" * 1000).split("<br>")
    assert max(map(len, rows)) <= 76
    assert rows[-1].endswith("… (1,000 characters)")
    assert lines("one two " * 12).split("<br>")[0] == "one two " * 9 + "one "
    assert lines("  indented\n\n  more") == "  indented<br><br>  more"
    assert printable("plain") == "plain"


CALL = Call(1, "server", 9, "send", "b'again'", 1.0, 1.5, socket=2, local=Endpoint("10.0.0.2", 80))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (CALL, ("send(b'again')", ())),
        (replace(CALL, result="5"), ("send(b'again')", ("→ 5",))),
        (replace(CALL, errno="EPIPE"), ("send(b'again')", ("→ EPIPE",))),
        # in the words of the machine that ran it, not of this one
        (
            replace(CALL, errno="ETIMEDOUT", error="OSError: [Errno 110] Out of time"),
            ("send(b'again')", ("→ ETIMEDOUT", "Out of time")),
        ),
        (replace(CALL, error="ValueError: no"), ("send(b'again')", ("→ ValueError: no",))),
        (replace(CALL, ended=None), ("send(b'again')", ("→ never returned",))),
        (replace(CALL, arguments="b'xxxx'… 9,000 B", size=9000), ("send(9,000 B)", ())),
        (replace(CALL, name="recv", arguments="10000", result="b'xx'… 9,000 B"), ("recv(10000)", ("→ 9,000 B",))),
        (replace(CALL, name="close", arguments="", implicit=True), ("close() by Python", ())),
        (
            replace(CALL, name="setsockopt", arguments="SOL_SOCKET, SO_LINGER, on, 0 s"),
            ("setsockopt(SO_LINGER, on, 0 s)", ()),
        ),
    ],
)
def test_calls_in_words(call: Call, words: tuple[str, tuple[str, ...]]) -> None:
    assert call_words(call) == words


def test_a_call_in_full() -> None:
    failed = replace(CALL, errno="EPIPE", error="BrokenPipeError: [Errno 32] <Broken> pipe")
    assert call_hover(failed).split("<br>") == [
        "<b>send(b'again')</b>",
        "began 1.000000 s, ended 1.500000 s, took 500.000 ms",
        "failed: EPIPE BrokenPipeError: [Errno 32] &lt;Broken&gt; pipe",
        "socket 2: 10.0.0.2:80",
        "server, process 9",
    ]
    assert "began 1.000000 s and never returned" in call_hover(replace(CALL, ended=None))


PROGRAM = Program("server", "server", "def server(): ...", True, 0.0, 1.0)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (replace(PROGRAM, status=0), (("process ends",), False)),
        (replace(PROGRAM, status=3), (("process ends,", "status 3"), True)),
        (replace(PROGRAM, signal="SIGKILL"), (("process killed by", "SIGKILL"), True)),
        (
            replace(PROGRAM, status=1, traceback="Traceback:\n  x\nlib.errors.OddError: no: no\n"),
            (("process ends by", "OddError"), True),
        ),
    ],
)
def test_the_end_of_a_process(program: Program, words: tuple[tuple[str, ...], bool]) -> None:
    assert end_words(program) == words


def test_a_state_in_full() -> None:
    here, there = Endpoint("10.0.0.1", 9), Endpoint("10.0.0.2", 80)
    state = State("client", 1.0, here, there, "ESTABLISHED", 1, 2000, 3)
    assert state_hover(state, None).split("<br>") == [
        "<b>ESTABLISHED</b> on the client",
        "10.0.0.1:9 ↔ 10.0.0.2:80",
        "from 1.000000 s to the end",
        "unread 1 B, unsent 2,000 B, unacknowledged 3 B",
    ]
    assert state_hover(State("client", 1.0, here, None, "LISTEN", 2), 2.0).endswith("2 in the accept queue")
