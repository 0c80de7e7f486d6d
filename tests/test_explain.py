"""The explanation of resets, on traces made by hand: with all the evidence, and with packets alone.

A trace is written as one timeline, a line a packet: the sender, the flags in tcpdump's letters,
the sequence number and the acknowledgment, relative to the initial ones, the bytes of data, and
when it was sent, in seconds. A line that begins with ``x`` is a packet that got lost.
"""

import dataclasses
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstkit.causes import CAUSES
from rstkit.conversation import conversations, look, resets_of
from rstkit.evidence import STRENGTH
from rstkit.explain import Reset, explain
from rstkit.tcp import Endpoint, Flags
from rstkit.trace import Call, Counter, Packet, Program, Reason, State, Trace

from .builder import ADDRESSES, PORTS, data_after_close, packet

LETTERS = {
    "F": Flags.FIN,
    "S": Flags.SYN,
    "R": Flags.RST,
    "P": Flags.PSH,
    ".": Flags.ACK,
}
ENDS = {host: Endpoint(ADDRESSES[host], PORTS[host]) for host in ADDRESSES}
HALF_TRIP = 0.01


def trace_of(timeline: str, **more: Any) -> Trace:
    """The trace of a timeline; ``more`` are the other fields of a Trace."""
    packets: list[Packet] = []
    for line in filter(None, (line.strip() for line in timeline.splitlines())):
        words = line.split()
        lost = words[0] == "x"
        sender, letters, seq, ack, size, sent = words[lost:]
        flags = Flags(0)
        for letter in letters:
            flags |= LETTERS[letter]
        at = float(sent)
        made = packet(
            len(packets) + 1,
            {"c": "client", "s": "server"}[sender],
            at,
            None if lost else at + HALF_TRIP,
            flags,
            int(seq),
            int(ack),
            bytes(int(size)),
            "lost" if lost else None,
        )
        if "R" in letters and "." in letters and int(seq) == -1:  # a RST with seq 0
            made = made._replace(seq=0)
        packets.append(made)
    return Trace(tuple(packets), **({"hosts": ADDRESSES} | more))


def only(trace: Trace) -> Reset:
    (reset,) = explain(trace)
    return reset


def keys(reset: Reset) -> tuple[str, ...]:
    """The cause that was found and its alternatives."""
    return (reset.cause.key, *(cause.key for cause in reset.alternatives))


HANDSHAKE = """
    c S  0 0 0 0.00
    s S. 0 1 0 0.01
    c .  1 1 0 0.02
"""
REFUSED = """
    c S  0 0 0 0.00
    s R. -1 1 0 0.01
"""
ANSWERED_LATE = f"""{HANDSHAKE}
    c P. 1 1 5 0.03
    c F. 6 1 0 0.03
    s .  1 7 0 0.04
    s P. 1 7 9 0.50
    c R  7 0 0 0.51
"""
ABORTED = f"""{HANDSHAKE}
    c P. 1 1 5 0.03
    s .  1 6 0 0.04
    s R. 1 6 0 0.20
"""
KEEPALIVES = f"""{HANDSHAKE}
    c F. 1 1 0 0.03
    s .  1 2 0 0.04
    s .  0 2 0 15.0
    c .  2 1 0 15.01
    s .  0 2 0 90.0
    c R  2 0 0 90.01
"""


# --- the catalogue -------------------------------------------------------------------------


def test_the_catalogue_is_whole() -> None:
    """Each cause says all that a learner needs, and the kernel's reasons are spelled as the kernel spells them."""
    known = {
        "NOT_SPECIFIED", "NO_SOCKET", "TCP_INVALID_ACK_SEQUENCE", "TCP_RFC7323_PAWS", "TCP_TOO_OLD_ACK",
        "TCP_ACK_UNSENT_DATA", "TCP_FLAGS", "TCP_OLD_ACK", "TCP_ABORT_ON_DATA", "TCP_TIMEWAIT_SOCKET", "INVALID_SYN",
        "TCP_ABORT_ON_CLOSE", "TCP_ABORT_ON_LINGER", "TCP_ABORT_ON_MEMORY", "TCP_STATE", "TCP_KEEPALIVE_TIMEOUT",
        "TCP_DISCONNECT_WITH_DATA",
    }  # fmt: skip
    assert list(CAUSES)[:5] == ["no-listener", "fin-wait2-timed-out", "data-after-close", "unread-data", "linger-zero"]
    for key, cause in CAUSES.items():
        assert cause.key == key
        assert set(cause.reasons) <= known
        assert all(name.startswith("TcpExt:") for name in cause.counters)
        assert cause.errno in ("ECONNREFUSED", "ECONNRESET", "EPIPE", "")
        assert cause.rfc.startswith("RFC ")
        for text in (cause.happens, cause.remedy, cause.production or "."):
            assert text.endswith(".")
            assert len(text) < 300
        assert "FIN_WAIT1" not in cause.happens  # that one is the widespread mistake
    assert len({cause.title for cause in CAUSES.values()}) == len(CAUSES)


# --- all the evidence ----------------------------------------------------------------------


def test_data_after_close_with_all_that_a_lab_sees() -> None:
    trace = data_after_close()
    reset = only(trace)
    assert (reset.packet.number, reset.sender) == (9, "client")
    assert reset.trigger == trace.packets[7]
    assert reset.call == trace.calls[3]
    assert (reset.cause.key, reset.confidence, reset.alternatives) == ("data-after-close", "certain", ())
    assert reset.why == (
        "The client had closed (its FIN is packet 5) when packet 8 (11 bytes of data) arrived: nobody is left to read "
        "it, and the RST says so."
    )
    assert reset.saw == (
        "server: send(b'receive msg') → 11 (call 8), for the RST had not come yet",
        "server: send(b'again') → EPIPE (call 10)",
        "client: implicit close() → no error (call 4)",
    )
    assert [e.kind for e in reset.evidence] == ["state", "call", "packet", "packet"]
    assert reset.evidence[0].text == "The client's socket was in FIN_WAIT2 when packet 8 arrived."
    assert (reset.evidence[1].call, reset.evidence[2].packet) == (4, 9)
    assert "Packet 9, RST from the client: Data arrived after close (certain)" in str(reset)


def test_evidence_comes_in_order_of_strength() -> None:
    trace = dataclasses.replace(
        data_after_close(),
        counters=(Counter("client", "Tcp:OutRsts", 0, 1), Counter("client", "TcpExt:TCPAbortOnData", 0, 0)),
        reasons=(Reason(1.0820, ENDS["client"], ENDS["server"], "TCP_TIMEWAIT_SOCKET"),),
    )
    kinds = [e.kind for e in only(trace).evidence]
    assert kinds == sorted(kinds, key=STRENGTH.index)
    assert kinds[0] == "reason"


def test_without_calls_and_states_it_is_the_same_with_less_confidence() -> None:
    alone = Trace(data_after_close().packets)
    reset = only(alone)
    assert keys(reset) == ("data-after-close", "data-after-shutdown", "fin-wait2-timed-out")[: len(keys(reset))]
    assert reset.confidence == "likely"
    assert reset.trigger == alone.packets[7]
    assert reset.call is None
    assert reset.saw == ("server: its next send() fails with EPIPE; recv() returns nothing, as after any FIN",)


def test_the_kernels_reason_decides_what_packets_cannot() -> None:
    for reason, found in (("TCP_ABORT_ON_CLOSE", "unread-data"), ("TCP_ABORT_ON_MEMORY", "orphan-memory")):
        reasons = (Reason(0.2, ENDS["server"], ENDS["client"], reason),)
        assert keys(only(trace_of(ABORTED, reasons=reasons))) == (found,)
    unknown = (Reason(0.2, ENDS["server"], ENDS["client"], "MPTCP_RST_EMPTCP"),)
    assert keys(only(trace_of(ABORTED, reasons=unknown))) == ("other",)


@pytest.mark.parametrize(
    ("moved", "found"),
    [
        ("TcpExt:TCPAbortOnClose", ("unread-data",)),
        ("TcpExt:TCPAbortOnData", ("linger-zero",)),
        ("TcpExt:ListenDrops", ("listener-closed", "disconnect", "socket-killed")),
    ],
)
def test_counters_decide(moved: str, found: tuple[str, ...]) -> None:
    counters = (Counter("server", "Tcp:OutRsts", 3, 4), Counter("server", moved, 7, 8))
    reset = only(trace_of(ABORTED, counters=counters))
    assert keys(reset) == found
    assert reset.confidence == ("certain" if len(found) == 1 else "ambiguous")


def test_a_rst_that_the_host_never_counted_is_not_its_own() -> None:
    counters = (Counter("server", "Tcp:InSegs", 0, 1),)
    reset = only(trace_of(REFUSED, counters=counters))
    assert keys(reset) == ("firewall-reject",)
    assert reset.evidence[0].text == "The server's kernel counted 0 RST sent (Tcp:OutRsts); 1 were seen on the wire."


def calls_of(*rows: tuple[str, str, float], errno: str | None = None) -> tuple[Call, ...]:
    """Calls of the server on the connection's socket: name, arguments, when."""
    ends = (ENDS["server"], ENDS["client"])
    return tuple(
        Call(number, "server", 9, name, arguments, at, at + 0.001, None, errno, socket=2, local=ends[0], peer=ends[1])
        for number, (name, arguments, at) in enumerate(rows, 1)
    )


LINGER_ZERO = ("setsockopt", "SOL_SOCKET, SO_LINGER, on, 0 s", 0.1)
SERVER = (Program("server", "server", "", True, 0.0, 1.0, 0),)


@pytest.mark.parametrize(
    ("rows", "size", "found"),
    [
        ([("close", "", 0.1995)], None, "unread-data"),
        ([("recv", "2", 0.1), ("close", "", 0.1995)], 2, "unread-data"),
        ([LINGER_ZERO, ("recv", "9", 0.15), ("close", "", 0.1995)], 5, "linger-zero"),
        ([LINGER_ZERO, ("close", "", 0.1995)], None, "unread-data"),
    ],
    ids=["nothing read", "some read", "linger, all read", "linger, nothing read"],
)  # fmt: skip
def test_calls_decide(rows: list[tuple[str, str, float]], size: int | None, found: str) -> None:
    calls = tuple(dataclasses.replace(c, size=size) if c.name == "recv" else c for c in calls_of(*rows))
    reset = only(trace_of(ABORTED, calls=calls, programs=SERVER))
    assert keys(reset) == (found,)
    assert reset.confidence == "certain"
    assert reset.call == calls[-1]
    if found == "unread-data":
        assert f"{5 - (size or 0)} bytes of the client's data unread" in reset.why


def test_the_end_of_a_process_closes_its_sockets() -> None:
    killed = (Program("server", "server", "", True, 0.0, 0.2003, None, "SIGKILL"),)
    reset = only(trace_of(ABORTED, calls=calls_of(("setsockopt", "SOL_SOCKET, SO_KEEPALIVE, 1", 0.1)), programs=killed))
    assert keys(reset) == ("unread-data",)
    assert reset.call is None
    assert reset.why.startswith("The server's process was ended by SIGKILL")


def test_states_tell_a_forgotten_connection_from_one_that_is_closed() -> None:
    client, server = ENDS["client"], ENDS["server"]
    waiting = (State("client", 0.05, client, server, "FIN_WAIT2"),)
    assert keys(only(trace_of(ANSWERED_LATE, states=waiting)))[0] == "data-after-close"
    forgotten = (*waiting, State("client", 0.4, client, server, "CLOSED"))
    reset = only(trace_of(ANSWERED_LATE.replace("0.50", "2.50").replace("0.51", "2.51"), states=forgotten))
    assert keys(reset) == ("fin-wait2-timed-out",)
    assert "out of FIN_WAIT2" in reset.evidence[0].text


# --- packets alone -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeline", "found", "trigger", "confidence"),
    [
        (REFUSED, "no-listener firewall-reject", 1, "likely"),
        (ANSWERED_LATE, "data-after-close data-after-shutdown", 7, "likely"),
        (KEEPALIVES, "fin-wait2-timed-out unknown-connection", 8, "likely"),
        (ABORTED, "unread-data linger-zero listener-closed disconnect socket-killed", None, "ambiguous"),
        # the server aborts with its own data unacknowledged and all it had received long before
        (
            f"{HANDSHAKE} c P. 1 1 5 0.03\n s P. 1 6 900 0.05\n s R. 901 6 0 0.055",
            "linger-zero unread-data disconnect socket-killed",
            None,
            "ambiguous",
        ),
        # nothing was ever received: nothing can be unread
        (
            f"{HANDSHAKE} s P. 1 1 900 0.03\n s R. 901 1 0 0.035",
            "linger-zero disconnect socket-killed",
            None,
            "likely",
        ),
        # the SYN ACK finds no socket
        ("c S 0 0 0 0.0\n s S. 0 1 0 0.5\n c R 1 0 0 0.51", "half-open-scan connect-aborted", 2, "likely"),
        # probes at one interval, without an answer, and the RST an interval later
        (
            f"{HANDSHAKE} x s . 0 1 0 10.0\n x s . 0 1 0 11.0\n x s . 0 1 0 12.0\n s R. 1 1 0 13.0",
            "keepalive-timeout linger-zero listener-closed disconnect socket-killed",
            None,
            "likely",
        ),
        # an older connection answers the SYN with a challenge ACK
        ("c S 0 0 0 0.0\n s . 500 700 0 0.01\n c R 700 0 0 0.02", "unacceptable-ack unknown-connection", 2, "likely"),
        # the last ACK of the handshake is answered with RST
        (f"{HANDSHAKE} s R 1 0 0 0.03", "accept-queue-overflow listener-closed", 3, "ambiguous"),
        # the capture began in the middle, and one side is silent
        ("c P. 100 200 5 0.0\n s R 200 0 0 0.01", "unknown-connection ack-to-listener injected",
            1,
            "ambiguous",
        ),
        # the server answered before, and knows nothing of it now
        (
            f"{HANDSHAKE} c P. 1 1 5 0.03\n s . 1 6 0 0.04\n c P. 6 1 5 9.0\n s R 1 0 0 9.01",
            "unknown-connection",
            6,
            "likely",
        ),
        # both had closed
        (
            f"{HANDSHAKE} c F. 1 1 0 0.03\n s F. 1 2 0 0.04\n c . 2 2 0 0.05\n c . 2 2 0 3.0\n s R 2 0 0 3.01",
            "after-normal-close",
            7,
            "likely",
        ),
        # it gave up without a word, and a later segment found no socket
        (
            f"{HANDSHAKE} x s P. 1 1 4 0.1\n x s P. 1 1 4 0.4\n x s P. 1 1 4 1.0\n c . 1 1 0 9.0\n s R 1 0 0 9.01",
            "gave-up unknown-connection",
            7,
            "ambiguous",
        ),
    ],
)  # fmt: skip
def test_packets_alone(timeline: str, found: str, trigger: int | None, confidence: str) -> None:
    reset = only(trace_of(timeline))
    assert keys(reset) == tuple(found.split())
    assert (reset.trigger.number if reset.trigger else None) == trigger
    assert reset.confidence == confidence
    assert all(e.kind == "packet" for e in reset.evidence)


def test_data_long_after_the_fin_may_find_it_remembered_or_not() -> None:
    def late(seconds: float) -> str:
        return ANSWERED_LATE.replace("0.50", f"{seconds}").replace("0.51", f"{seconds + 0.01}")

    assert keys(only(trace_of(late(0.9)))) == ("data-after-close", "data-after-shutdown")
    assert keys(only(trace_of(late(5)))) == ("data-after-close", "data-after-shutdown", "fin-wait2-timed-out")
    assert keys(only(trace_of(late(70))))[0] == "fin-wait2-timed-out"


def test_a_port_that_answers_others_still_listens() -> None:
    """Another SYN to the same port, answered after the RST, tells the overflow from the closed listener."""
    refused = trace_of(f"{HANDSHAKE} s R 1 0 0 0.03").packets
    client = Endpoint("10.0.0.1", 40_000)
    syn = refused[0]._replace(number=5, source=client, sent=0.04, arrived=0.05)
    for flags, seq, found in (
        (Flags.SYN | Flags.ACK, 7, "accept-queue-overflow"),
        (Flags.RST | Flags.ACK, 0, "listener-closed"),
    ):
        answer = refused[1]._replace(number=6, destination=client, sent=0.06, arrived=0.07, flags=flags, seq=seq)
        assert keys(explain(Trace((*refused, syn, answer)))[0]) == (found,)


def test_a_rst_with_another_ttl_did_not_come_from_the_host() -> None:
    trace = trace_of(ABORTED)
    forged = trace.packets[-1]._replace(ttl=trace.packets[-1].ttl + 40)
    reset = only(Trace((*trace.packets[:-1], forged)))
    assert reset.cause.key == "injected"
    assert any("TTL 104" in e.text for e in reset.evidence)


def test_a_sender_that_goes_on_did_not_send_the_rst() -> None:
    reset = only(trace_of(f"{ABORTED} c P. 6 1 5 0.3\n s P. 1 11 7 0.4"))
    assert reset.cause.key == "injected"


# --- which RSTs are one reset --------------------------------------------------------------


def test_a_rst_that_repeats_is_one_reset() -> None:
    trace = trace_of(f"{ANSWERED_LATE} s P. 10 7 9 0.505\n c R 7 0 0 0.516")
    reset = only(trace)
    assert [p.number for p in reset.packets] == [8, 10]
    assert reset.trigger is not None
    assert reset.trigger.number == 7
    assert reset.evidence[-1].text == "One more RST followed, packet 10: it answers one more packet."


def test_each_rst_is_paired_with_its_own_segment() -> None:
    """Three segments arrive at once, and get a RST each: the first of them provoked the first RST."""
    trace = trace_of(f"""{HANDSHAKE}
        c F. 1 1 0 0.03
        s .  1 2 0 0.04
        s P. 1 2 9 0.500
        s P. 10 2 9 0.500
        s P. 19 2 9 0.500
        c R  2 0 0 0.511
        c R  2 0 0 0.511
        c R  2 0 0 0.511
    """)
    reset = only(trace)
    assert len(reset.packets) == 3
    assert reset.trigger == trace.packets[5]


def test_a_new_isn_is_a_new_connection() -> None:
    again = """
        c S  900 0 0 1.00
        s R. -1 901 0 1.01
    """
    trace = trace_of(ABORTED + again)
    assert [len(c) for c in conversations(trace.packets)] == [6, 2]
    first, second = explain(trace)
    assert keys(first)[0] == "unread-data"
    assert keys(second)[0] == "no-listener"


def test_a_syn_sent_again_is_the_same_connection() -> None:
    trace = trace_of("x c S 0 0 0 0.0\n c S 0 0 0 1.0\n s R. -1 1 0 1.02")
    assert len(conversations(trace.packets)) == 1
    reset = only(trace)
    assert reset.trigger == trace.packets[1]
    assert "connect() fails with ECONNREFUSED" in reset.saw[0]


def test_both_ends_may_abort() -> None:
    trace = trace_of(f"{HANDSHAKE} c R. 1 1 0 0.100\n s R. 1 1 0 0.101")
    assert [(r.sender, r.trigger) for r in explain(trace)] == [("client", None), ("server", None)]


def test_an_end_that_speaks_again_and_is_reset_again_is_two_resets() -> None:
    """A half-open connection recovers, and is aborted later: the second RST is no repeat of the first."""
    trace = trace_of("""
        c S  0 0 0 0.0
        s .  500 700 0 0.01
        c R  700 0 0 0.02
        c S  0 0 0 1.0
        s S. 0 1 0 1.01
        c .  1 1 0 1.02
        c R. 1 1 0 2.0
    """)
    assert [r.cause.key for r in explain(trace)] == ["unacceptable-ack", "linger-zero"]


def test_an_abort_that_was_overtaken_by_an_answer_is_told_first() -> None:
    trace = trace_of(f"{HANDSHAKE} c P. 1 1 5 0.03\n c P. 6 1 5 0.05\n s R 1 0 0 0.0601\n s R. 1 6 0 0.0602")
    reset = only(trace)
    assert [p.number for p in reset.packets] == [7, 6]
    assert reset.cause.key == "unread-data"


def test_a_lost_rst_is_seen_by_nobody() -> None:
    trace = trace_of(ABORTED.replace("s R. 1 6 0 0.20", "x s R. 1 6 0 0.20"))
    assert only(trace).saw == ("client: nothing, the RST never arrived",)


def test_no_rst_no_reset() -> None:
    assert explain(trace_of(HANDSHAKE)) == []
    assert explain(Trace(())) == []


# --- anything at all -----------------------------------------------------------------------

LINES = st.tuples(
    st.sampled_from(["client", "server"]),
    st.sampled_from(["S", "S.", ".", "P.", "F.", "FP.", "R", "R.", "SR", "", "F"]),
    st.integers(-2, 12),
    st.integers(-2, 12),
    st.integers(0, 4),
    st.integers(0, 5),
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=14))
def test_any_packets_can_be_explained(lines: list[tuple[str, str, int, int, int, int, bool]]) -> None:
    packets: list[Packet] = []
    at = 0.0
    for sender, letters, seq, ack, size, pause, lost in lines:
        at += pause / 3
        flags = Flags(sum(LETTERS[letter] for letter in letters))
        packets.append(
            packet(len(packets) + 1, sender, at, None if lost else at + 0.01, flags, seq, ack, bytes(size), "x" * lost)
        )
    resets = explain(Trace(tuple(packets)))
    told = sorted(p.number for reset in resets for p in reset.packets)
    assert told == [p.number for p in packets if p.flags & Flags.RST]
    for reset in resets:
        assert reset.confidence in ("likely", "ambiguous")
        assert reset.why
        assert reset.cause not in reset.alternatives
        assert str(reset)
        if reset.trigger:
            assert reset.trigger.sender != reset.sender
            assert not reset.trigger.flags & Flags.RST


def test_many_resets_take_their_time_in_proportion() -> None:
    """A scan of 5,000 ports, and a connection with 20,000 packets: each within two seconds."""
    import time

    syn, refused = trace_of(REFUSED).packets
    scan = []
    for port in range(5000):
        ends = (Endpoint("10.0.0.1", 40_000), Endpoint("10.0.0.2", port))
        scan.append(syn._replace(number=2 * port + 1, source=ends[0], destination=ends[1]))
        scan.append(refused._replace(number=2 * port + 2, source=ends[1], destination=ends[0]))
    began = time.process_time()
    assert len(explain(Trace(tuple(scan)))) == 5000
    assert time.process_time() - began < 2
    chance = random.Random(1)
    long = list(trace_of(HANDSHAKE).packets)
    for number in range(4, 20_000):
        sender = chance.choice(["client", "server"])
        long.append(packet(number, sender, number / 1000, number / 1000 + 0.01, Flags.ACK, number, number, b"x"))
    long.append(packet(20_000, "server", 21, 21.01, Flags.RST | Flags.ACK, 20_000, 20_000))
    began = time.process_time()
    assert len(explain(Trace(tuple(long)))) == 1
    assert time.process_time() - began < 2


def test_a_view_knows_what_its_end_had_seen() -> None:
    trace = trace_of(ABORTED)
    (resets,) = resets_of(trace.packets)
    view = look(trace.packets, resets)
    assert (view.trigger, view.fin, view.syn) == (None, None, None)
    assert view.syn_ack == trace.packets[1]
    assert (view.received_bytes, view.unacknowledged) == (5, 0)
    assert view.next_to_send == trace.packets[-1].seq
    assert view.next_to_receive == trace.packets[-1].ack
