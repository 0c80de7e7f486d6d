"""What is found in captures of one point, and what other systems and devices on the way do, by hand.

A timeline is written as in `tests.test_explain`; its times are those at which packets passed the point of the capture.
"""

import dataclasses
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstkit.explain import CAPTURE, Reset, explain
from rstkit.tcp import Flags
from rstkit.trace import Packet, Trace

from .builder import packet
from .test_explain import ABORTED, ANSWERED_LATE, HANDSHAKE, KEEPALIVES, LETTERS, REFUSED, keys, trace_of

TIMESTAMPS = ((8, bytes(8)),)
USUAL_SYN = ((2, b"\x05\xb4"), (4, b""), (8, bytes(8)), (3, b"\x07"))
FAR = 0.001  # seconds: no packet of these timelines is on its way for longer


def capture_of(timeline: str, *changes: tuple[int, dict[str, Any]]) -> Trace:
    """The capture of a timeline; ``changes`` are fields of packets, by number, that the timeline does not tell."""
    trace = trace_of(timeline)
    changed = dict(changes)
    packets = (p._replace(arrived=p.sent, **changed.get(p.number, {})) for p in trace.packets)
    return dataclasses.replace(trace, packets=tuple(packets), backend=CAPTURE)


def only(capture: Trace) -> Reset:
    (reset,) = explain(capture)
    return reset


def evidence(reset: Reset) -> str:
    return " ".join(e.text for e in reset.evidence)


# --- who sent it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "first"),
    [(64, "unread-data"), (57, "injected"), (128, "unread-data"), (250, "injected"), (255, "unread-data")],
)
def test_a_ttl_that_came_another_way(ttl: int, first: str) -> None:
    """A socket may begin with a TTL of its own (RFC 5082 has 255), but not at another distance."""
    reset = only(capture_of(ABORTED, (6, {"ttl": ttl})))
    assert keys(reset)[0] == first
    assert (f"The RST has TTL {ttl}" in evidence(reset)) == (ttl != 64)
    assert ("injected" in keys(reset)) == (ttl != 64)


def test_an_end_that_goes_on_did_not_send_the_rst() -> None:
    injected = f"{HANDSHAKE} c P. 1 1 5 0.03\n s R 1 0 0 0.031\n s P. 1 6 900 0.2\n c . 6 901 0 0.21"
    assert keys(only(capture_of(f"{injected}".replace("s R 1", "s R. 1").replace("R. 1 0", "R. 1 6"))))[0] == "injected"
    talked = f"{HANDSHAKE} c P. 1 1 5 0.03\n s P. 1 6 9 0.04\n c P. 6 10 5 0.05\n s R 10 0 0 0.051\n s P. 10 11 9 0.2"
    reset = only(capture_of(talked))
    assert keys(reset)[:2] == ("injected", "firewall-reject")
    assert "After the RST the server went on sending: packet 8." in evidence(reset)
    assert reset.confidence == "likely"


def test_what_two_processors_send_at_once_is_no_going_on() -> None:
    """The RST answers data that acknowledged none of the answer, which is captured a moment later."""
    crossed = f"{HANDSHAKE} c P. 1 1 5 0.03\n s . 1 6 0 0.031\n c P. 6 1 5 0.04\n s R 1 0 0 0.0501\n s F. 10 6 0 0.0502"
    assert "injected" not in keys(only(capture_of(crossed)))


def test_one_syn_refused_and_accepted() -> None:
    reset = only(capture_of("c S 0 0 0 0.0\n s R. -1 1 0 0.01\n s S. 0 1 0 0.04\n c . 1 1 0 0.05"))
    assert keys(reset) == ("injected", "firewall-reject", "no-listener")
    again = "c S 0 0 0 0.0\n s R. -1 1 0 0.01\n c S 0 0 0 0.5\n s S. 0 1 0 0.51"
    assert keys(only(capture_of(again))) == ("no-listener", "firewall-reject")


def test_rsts_that_guess() -> None:
    three = f"{HANDSHAKE} c P. 1 1 80 0.03\n s R. 1 81 0 0.04\n s R. 1461 81 0 0.0401\n s R. 4381 81 0 0.0402"
    reset = only(capture_of(three))
    assert keys(reset)[0] == "injected"
    assert len(reset.packets) == 3
    assert "3 RSTs came at once, with different sequence numbers" in evidence(reset)
    assert "each answers" not in evidence(reset)


def test_a_rst_to_each_end_at_once() -> None:
    both = explain(capture_of(f"{HANDSHAKE} c P. 1 1 5 0.03\n s P. 1 6 5 0.04\n s R. 6 6 0 40.0\n c R. 6 6 0 40.0001"))
    assert [r.sender for r in both] == ["server", "client"]
    for reset in both:
        assert "injected" in keys(reset)
        assert "Both ends were reset at once" in evidence(reset)


def test_an_abort_without_the_timestamps_of_all_others() -> None:
    stamped = [(number, {"options": TIMESTAMPS}) for number in range(1, 6)]
    reset = only(capture_of(ABORTED, *stamped))
    assert "injected" in keys(reset)
    assert "The RST has no timestamps" in evidence(reset)
    assert "injected" not in keys(only(capture_of(ABORTED, *stamped, (6, {"options": TIMESTAMPS}))))


def test_a_bare_rst_to_a_syn_is_no_systems_own() -> None:
    bare = capture_of("c S 0 0 0 0.0\n s R 0 0 0 0.01")
    bare = dataclasses.replace(bare, packets=(bare.packets[0], bare.packets[1]._replace(seq=0)))
    assert keys(only(bare)) == ("firewall-reject", "injected")


# --- idle connections ----------------------------------------------------------------------


def test_a_device_that_forgot_an_idle_connection() -> None:
    late = f"{HANDSHAKE} c P. 1 1 5 0.03\n s P. 1 6 9 0.04\n c . 6 10 0 0.05\n c P. 6 10 5 400.0\n s R 10 0 0 400.01"
    wide = (6, {"window": 60_000})  # else the server might hold data back
    same, other = only(capture_of(late, wide)), only(capture_of(late, wide, (8, {"ttl": 60})))
    assert keys(same)[0] == "unknown-connection"
    assert {"state-lost", "injected"} <= set(keys(same))
    assert keys(other)[:2] == ("state-lost", "injected")
    assert "had sent nothing for 400.0 s" in other.why


def test_keepalives_to_an_end_that_waited_in_fin_wait2() -> None:
    reset = only(capture_of(KEEPALIVES))
    assert keys(reset)[0] == "fin-wait2-timed-out"
    assert reset.trigger is not None
    assert reset.trigger.number == 8


# --- what other people's captures have ---------------------------------------------------------


def test_a_connection_that_begins_anew_after_its_rst() -> None:
    """Half-open: the server held an old connection, and the RST cleared it away (RFC 9293, 3.5.1)."""
    recovered = """
        c S 0 0 0 0.0
        s . 90000000 400000000 0 0.01
        c R 400000000 0 0 0.011
        c S 0 0 0 1.0
        s S. 0 1 0 1.01
        c . 1 1 0 1.02
        c P. 1 1 5 1.03
        s P. 1 6 9 1.04
    """
    reset = only(capture_of(recovered))
    assert keys(reset)[0] == "unacceptable-ack"
    assert reset.confidence == "likely"


def test_a_syn_ack_that_answers_something_else() -> None:
    reset = only(capture_of("c S 0 0 0 0.0\n s S. 0 500000000 0 0.01\n c R 500000000 0 0 0.011"))
    assert keys(reset)[0] == "unacceptable-ack"
    assert "it answers another SYN" in reset.why
    assert "older connection" not in reset.why


@pytest.mark.parametrize("later", [0.3, 1.5, 30.0])
def test_a_fin_that_is_sent_again_after_both_ends_had_closed(later: float) -> None:
    closed = f"{HANDSHAKE} s F. 1 1 0 0.03\n c . 1 2 0 0.04\n c F. 1 2 0 0.05\n s . 2 2 0 0.06"
    reset = only(capture_of(f"{closed}\n c F. 1 2 0 {0.05 + later}\n s R 2 0 0 {0.051 + later}"))
    assert keys(reset)[0] == "after-normal-close"
    assert reset.trigger is not None
    assert reset.trigger.number == 8
    assert "(a FIN, sent again)" in reset.why


def test_a_fin_that_comes_before_fin_wait2_usually_ends() -> None:
    late = f"{HANDSHAKE} s F. 1 1 0 0.03\n c . 1 2 0 0.04\n c F. 1 2 0 {{}}\n s R 2 0 0 {{}}"
    soon = only(capture_of(late.format(1.5, 1.501)))
    assert keys(soon)[:2] == ("after-normal-close", "fin-wait2-timed-out")
    assert soon.confidence == "ambiguous"
    assert keys(only(capture_of(late.format(61.0, 61.001))))[0] == "fin-wait2-timed-out"


def test_systems_that_set_ack_where_they_answer_late_data() -> None:
    """Linux does so where a program closes with the data unread, which is no less possible."""
    late = f"{HANDSHAKE} c F. 1 1 0 0.03\n s . 1 2 0 0.04\n s P. 1 2 24 0.5\n s F. 25 2 0 0.5\n c R. 2 26 0 {{}}"
    soon, later = only(capture_of(late.format(0.50004))), only(capture_of(late.format(0.9)))
    assert keys(soon)[0] == "data-after-close"
    assert {"unread-data", "after-normal-close"} <= set(keys(soon))
    assert soon.confidence == "ambiguous"
    assert "when packet 6 (24 bytes of data) arrived" in soon.why
    assert "follows packet 6 at once" in evidence(soon)
    assert keys(later)[0] != "data-after-close"


@pytest.mark.parametrize(("size", "first"), [(400, "linger-zero"), (1460, "linger-zero"), (5000, "unread-data")])
def test_a_refused_upload_is_rather_unread_than_aborted(size: int, first: str) -> None:
    """The server had its say: of much data it may have left some, a small request it has read."""
    said = f"{HANDSHAKE} c P. 1 1 {size} 0.03\n s . 1 {size + 1} 0 0.031\n s P. 1 {size + 1} 34 0.04\n"
    reset = only(capture_of(f"{said} s R. 35 {size + 1} 0 0.0401"))
    assert keys(reset)[0] == first
    assert {"linger-zero", "unread-data"} <= set(keys(reset))


def test_signs_that_are_weak_alone() -> None:
    """A RST to each end at once, and that in the client's name without the timestamps of all others."""
    both = f"{HANDSHAKE} c P. 1 1 5 0.03\n s P. 1 6 5 0.04\n s R. 6 6 0 0.06\n c R. 6 6 0 0.0601"
    stamped = [(number, {"options": TIMESTAMPS}) for number in range(1, 7)]
    of_client = next(r for r in explain(capture_of(both, *stamped)) if r.sender == "client")
    assert keys(of_client)[0] == "injected"
    assert of_client.confidence == "ambiguous"


def test_a_scanners_syn_has_another_ttl_than_its_host() -> None:
    scan = "c S 0 0 0 0.0\n s S. 0 1 0 0.01\n c R 1 0 0 0.011"
    reset = only(capture_of(scan, (1, {"ttl": 41, "options": ((2, b"\x05\xb4"),)})))
    assert keys(reset)[0] == "half-open-scan"


@pytest.mark.parametrize(("of_rst", "foreign"), [(64, False), (255, False), (250, True)])
def test_a_neighbours_ttl_of_one(of_rst: int, foreign: bool) -> None:
    """As BGP's speakers have it; a RST that answers has the system's usual one."""
    gone = f"{HANDSHAKE} c P. 1 1 19 0.03\n s P. 1 20 19 0.04\n c . 20 20 0 0.05\n c P. 20 20 19 9.0\n s R 20 0 0 9.01"
    server = [(number, {"ttl": 1}) for number in (2, 5)]
    assert (keys(only(capture_of(gone, *server, (8, {"ttl": of_rst}))))[0] == "injected") is foreign


def test_what_follows_from_a_forged_rst() -> None:
    """The client believes it, and answers what the server goes on to send."""
    forged = f"{HANDSHAKE} c P. 1 1 80 0.03\n s R. 1 81 0 0.035\n s P. 1 81 900 0.2\n c R 81 0 0 0.2001"
    first, second = explain(capture_of(forged, (5, {"ttl": 40})))
    assert keys(first)[0] == "injected"
    assert keys(second)[0] == "unknown-connection"
    assert "packet 5 (a RST in the server's name) had ended the connection" in second.why
    assert second.remedy == "Harmless by itself: it follows from the RST before it (packet 5)."


@pytest.mark.parametrize(("flags", "taken"), [("F", 1), ("P", 0)])
def test_a_segment_without_ack_is_refused_like_a_syn(flags: str, taken: int) -> None:
    reset = only(capture_of(f"c {flags} 0 0 0 0.0\n s R. -1 {taken} 0 0.001"))
    assert keys(reset)[0] == "no-listener"
    assert "has seq 0 and acknowledges packet 1, which has no ACK flag" in evidence(reset)
    assert "after the handshake" not in evidence(reset)
    assert "had got lost" not in reset.why


def test_a_rst_that_says_why() -> None:
    """As some devices write it; whatever they write is data."""
    said = b"BIG-IP: \x1b[31m<b>Idle timeout"
    reset = only(capture_of(ABORTED, (6, {"length": len(said), "payload": said})))
    assert "Packet 6 carries 28 bytes that may tell the reason: “BIG-IP: .[31m<b>Idle timeout”." in evidence(reset)


def test_a_window_that_stayed_shut() -> None:
    """The probes were answered: they are none of a keepalive."""
    full = f"{HANDSHAKE} c P. 1 1 900 0.03\n s . 1 901 0 0.04\n"
    probes = "\n".join(f"c . 900 1 0 {at}.0\n s . 1 901 0 {at}.01" for at in (1, 2, 4, 8))
    shut = [(number, {"window": 0}) for number in (5, 7, 9, 11, 13)]
    reset = only(capture_of(f"{full}{probes}\n c R. 901 1 0 16.0", *shut))
    assert "From packet 5 on the server took no more data: its window was 0." in evidence(reset)
    assert "keepalive-timeout" not in keys(reset)


def test_the_ack_of_a_rst_tells_what_had_come() -> None:
    """However soon it follows: all was acknowledged, and nothing is lost."""
    quick = """
        c S 0 0 0 0.0
        s S. 0 1 0 0.0001
        c . 1 1 0 0.0002
        c P. 1 1 88 0.0003
        s P. 1 89 200 0.002
        s F. 201 89 0 0.00201
        c R. 89 202 0 0.00202
    """
    reset = only(capture_of(quick))
    assert keys(reset)[0] == "hurried-close"
    assert "not acknowledged" not in reset.why


# --- captures that miss packets --------------------------------------------------------------

SYNS = "c S 0 0 0 0.0\n s S. 0 1 0 0.01\n"
PROBED = f"{HANDSHAKE} c P. 1 1 5 0.03\n s . 1 6 0 0.05\n s . 0 6 0 1.1\n c . 6 1 0 1.101"


@pytest.mark.parametrize(
    ("timeline", "cause", "confidence"),
    [
        # the SYN ACK: the server may have closed its listener
        ("c S 0 0 0 0.0\n c . 1 1 0 0.02\n c P. 1 1 1 0.03\n s . 1 2 0 0.04\n s R. 1 2 0 0.5", "listener-closed", ""),
        # the SYN ACK and the first ACK: that of data is none of the handshake
        ("c S 0 0 0 0.0\n s . 1 1 900 0.01\n c . 1 901 0 0.02\n c R. 1 901 0 0.03", "unread-data", ""),
        # the second of three keepalive probes
        (f"{PROBED}\n c . 6 1 0 2.14\n s . 0 6 0 3.15\n c . 6 1 0 3.1505\n s R. 1 6 0 4.17", "keepalive-timeout", ""),
        # all that the client sent after its SYN: the server acknowledges its FIN
        ("c S 0 0 0 0.0\n s P. 1 2 900 0.02\n c R 2 0 0 0.021", "data-after-close", "ambiguous"),
        (f"{SYNS} c R 1 0 0 0.04\n s . 6 2 0 0.06\n c R 2 0 0 0.061", "data-after-close", "ambiguous"),
        # the data that came too late: the client's RST comes after it
        (f"{SYNS} c . 1 1 0 0.02\n c R. 2 1 0 0.03\n s R 1 0 0 0.031", "data-after-close", "ambiguous"),
        # all that the server sent but its RST
        ("c S 0 0 0 0.0\n s R. 1 1 0 0.02", "linger-zero", "likely"),
        # what the server sent again, but for once
        (f"{HANDSHAKE} c P. 1 1 5 0.03\n s P. 1 6 4 0.031\n c P. 1 1 5 1.8\n s R 1 0 0 1.81", "gave-up", ""),
    ],
)  # fmt: skip
def test_what_may_be_among_the_packets_that_are_missing(timeline: str, cause: str, confidence: str) -> None:
    reset = explain(capture_of(timeline))[-1 if "c R. 2" in timeline else 0]
    assert cause in keys(reset)
    assert reset.confidence == confidence or not confidence


def test_a_whole_capture_needs_no_packets_that_are_missing() -> None:
    full = only(capture_of(f"{SYNS} c . 1 1 0 0.02\n s R 1 0 0 0.021"))
    assert keys(full)[0] == "accept-queue-overflow"
    assert "data-after-close" not in keys(full)


def test_an_answer_is_to_what_came_last() -> None:
    """All that came had been acknowledged, and some of it came again just before the RST."""
    again = f"{HANDSHAKE} c P. 1 1 5 0.03\n s P. 1 6 4 0.031\n c P. 1 1 5 1.8\n s R 1 0 0 1.81"
    reset = only(capture_of(again))
    assert reset.trigger is not None
    assert reset.trigger.number == 6


# --- clients in a hurry --------------------------------------------------------------------

ANSWERED = f"{HANDSHAKE} c P. 1 1 5 0.03\n s P. 1 6 900 0.04\n s F. 901 6 0 0.041"


@pytest.mark.parametrize("acked", [True, False], ids=["FIN acknowledged", "RST at once"])
def test_a_client_in_a_hurry(acked: bool) -> None:
    last = "c . 6 902 0 0.05\n c R. 6 902 0 0.06" if acked else "c R. 6 902 0 0.05"
    reset = only(capture_of(f"{ANSWERED}\n {last}"))
    assert keys(reset)[0] == "hurried-close"
    assert {"linger-zero", "unread-data"} <= set(keys(reset))
    assert reset.confidence == "likely"
    assert reset.remedy.startswith("Harmless")
    assert "Nothing it had sent is lost" in reset.why


@pytest.mark.parametrize(
    ("timeline", "found"),
    [
        (f"{ANSWERED}\n c R. 6 901 0 0.05", "hurried-close"),  # the RST does not count the FIN
        (
            f"{HANDSHAKE} c P. 1 1 5 0.03\n s . 1 6 0 0.04\n s F. 1 6 0 0.05\n c R 6 0 0 0.06",
            "hurried-close",
        ),  # it has the form of an answer to the FIN
        (f"{ANSWERED}\n c F. 6 902 0 0.05\n s . 902 7 0 0.06\n c R. 7 902 0 0.07", "after-normal-close"),
        # it had closed first, and does not wait for the other FIN to be acknowledged
        (f"{HANDSHAKE} c F. 1 1 0 0.03\n s . 1 2 0 0.04\n s F. 1 2 0 0.05\n c R 2 0 0 0.06", "after-normal-close"),
        (f"{HANDSHAKE} c F. 1 1 0 0.03\n s F. 1 2 0 0.05\n c R 2 0 0 0.06", "after-normal-close"),
        (f"{HANDSHAKE} c F. 1 1 0 0.03\n s F. 1 2 0 0.05\n c R. 2 2 0 0.06", "after-normal-close"),
    ],
)
def test_other_systems_in_a_hurry(timeline: str, found: str) -> None:
    reset = only(capture_of(timeline))
    assert keys(reset)[0] == found
    assert "injected" not in keys(reset)[:2]


def test_a_service_that_starts_while_a_client_tries_again() -> None:
    late = "c S 0 0 0 0.5\n s S. 0 1 0 0.51\n c . 1 1 0 0.52\n c P. 1 1 5 0.53\n s P. 1 6 9 0.54"
    assert keys(only(capture_of(f"{REFUSED} {late}"))) == ("no-listener", "firewall-reject")


def test_a_server_that_never_answered_is_in_no_hurry() -> None:
    reset = only(capture_of(f"{HANDSHAKE} c FP. 1 1 5 0.03\n s R. 1 7 0 0.05"))
    assert keys(reset)[0] == "unread-data"
    assert "hurried-close" not in keys(reset)


def test_a_tls_alert_that_came_too_late_is_harmless() -> None:
    sealed = b"\x17\x03\x03\x00\x13" + bytes(19)
    alert = capture_of(ANSWERED_LATE, (7, {"payload": sealed, "length": 24}))
    reset = only(alert)
    assert keys(reset)[0] == "data-after-close"
    assert "24 bytes of data, by its looks a TLS alert" in reset.why
    assert reset.remedy.startswith("Harmless")
    data = only(capture_of(ANSWERED_LATE, (7, {"payload": b"\x17\x03\x03\x00\x14" + bytes(20), "length": 25})))
    assert not data.remedy.startswith("Harmless")


# --- scans and handshakes ------------------------------------------------------------------


def test_a_syn_made_by_hand_and_one_that_a_program_gave_up() -> None:
    half_open = "c S 0 0 0 0.0\n s S. 0 1 0 0.01\n c R 1 0 0 0.011"
    scan = only(capture_of(half_open, (1, {"options": ((2, b"\x05\xb4"),)})))
    assert keys(scan)[:2] == ("half-open-scan", "connect-aborted")
    assert "made by hand" in scan.why
    program = only(capture_of(half_open, (1, {"options": USUAL_SYN})))
    assert keys(program)[:2] == ("connect-aborted", "half-open-scan")


def test_an_answer_to_a_syn_that_was_not_captured() -> None:
    """It may be the echo of a SYN that somebody else sent in this host's name."""
    reset = only(capture_of("s S. 0 1 0 0.0\n c R 1 0 0 0.01"))
    assert keys(reset) == ("unknown-connection", "connect-aborted", "half-open-scan")
    assert reset.confidence == "ambiguous"


def test_a_syn_refused_again_and_again_is_one_reset() -> None:
    """Windows tries a refused SYN again."""
    reset = only(capture_of(f"{REFUSED} c S 0 0 0 0.51\n s R. -1 1 0 0.52\n c S 0 0 0 1.02\n s R. -1 1 0 1.03"))
    assert [p.number for p in reset.packets] == [2, 4, 6]
    assert keys(reset)[0] == "no-listener"


def test_a_listener_that_took_no_ack_and_forgot_the_request() -> None:
    """The accept queue was full: the SYN ACK is sent again although it was acknowledged, until the request expires."""
    again = "".join(f"s S. 0 1 0 {at}\n c . 1 1 0 {at + 0.01}\n" for at in (1.0, 3.0, 7.0))
    reset = only(capture_of(f"{HANDSHAKE} c P. 1 1 5 0.03\n {again} c P. 1 1 5 65.0\n s R 1 0 0 65.01"))
    assert keys(reset)[0] == "ack-to-listener"


# --- silence -------------------------------------------------------------------------------


def test_a_system_that_gives_up_aloud() -> None:
    """BSD sends RST when it has sent a segment again often enough."""
    tries = "".join(f"s P. 1 6 9 {at}\n" for at in (0.1, 0.5, 1.3, 2.9, 6.1))
    reset = only(capture_of(f"{HANDSHAKE} c P. 1 1 5 0.03\n {tries} s R. 10 6 0 12.5"))
    assert keys(reset)[0] == "retransmission-timeout"
    assert reset.confidence == "ambiguous"
    assert "sent packet 5 5 times" in reset.why.replace("had sent", "sent")
    early = only(capture_of(f"{HANDSHAKE} c P. 1 1 5 0.03\n {tries} s R. 10 6 0 6.5"))
    assert keys(early)[0] != "retransmission-timeout"
    assert "retransmission-timeout" in keys(early)


# --- what was not captured -----------------------------------------------------------------


def test_a_capture_that_began_late_claims_less() -> None:
    reset = only(capture_of("c P. 900 200 5 0.0\n s . 200 905 0 0.001\n s R. 200 905 0 0.2"))
    assert keys(reset)[0] == "unread-data"
    assert "The capture began after the handshake" in evidence(reset)
    silent = only(capture_of("s . 200 905 0 0.001\n s R. 200 905 0 0.2"))
    assert "unread-data" in keys(silent)
    assert "nothing can have been unread" not in evidence(silent)


def test_one_side_alone() -> None:
    """What the other end sent is told by what this end acknowledged."""
    reset = only(capture_of("s S. 0 1 0 0.01\n s . 1 6 0 0.04\n s R. 1 6 0 0.2"))
    assert keys(reset)[0] == "unread-data"
    assert "Nothing that the client sent was captured" in evidence(reset)
    refused = only(capture_of("s R. -1 1 0 0.01"))
    assert keys(refused) == ("no-listener", "firewall-reject")
    bare = only(capture_of("c S 0 0 0 0.0\n c . 1 1 0 0.02\n c P. 1 1 5 0.03\n c F. 6 1 0 0.04\n c R 7 0 0 0.5"))
    assert keys(bare)[0] == "data-after-close"
    assert bare.confidence == "ambiguous"


def test_a_fin_that_was_not_captured_shows_in_the_numbers() -> None:
    timeline = f"{HANDSHAKE} c P. 1 1 5 0.03\n s . 1 6 0 0.04\n s P. 1 7 9 0.5\n c R 7 0 0 0.51"
    reset = only(capture_of(timeline))
    assert keys(reset)[0] == "data-after-close"


def captured_again(timeline: str, times: int) -> Trace:
    """As `tcpdump -i any` has it on a host through several of whose interfaces a packet passes."""
    trace = trace_of(timeline)
    found: list[Packet] = []
    for p in trace.packets:
        for again in range(times):
            at = p.sent + again * 3e-5
            found.append(p._replace(number=len(found) + 1, sent=at, arrived=at, ttl=p.ttl - again))
    return Trace(tuple(found), hosts=trace.hosts, backend=CAPTURE)


@pytest.mark.parametrize("times", [2, 3, 4])
def test_each_frame_captured_again_is_told_once(times: int) -> None:
    reset = only(captured_again(ANSWERED_LATE, times))
    assert keys(reset)[0] == "data-after-close"
    first = 7 * times + 1
    assert [p.number for p in reset.packets] == list(range(first, first + times))
    assert f"Frames were captured more than once: packets {first} and {first + 1} are one" in evidence(reset)
    assert "One more RST" not in evidence(reset)
    assert reset.trigger is not None
    assert reset.trigger.number == 6 * times + 1


@pytest.mark.parametrize("times", [2, 3])
def test_copies_of_what_is_sent_again_are_copies(times: int) -> None:
    tries = "\n".join(f"c S 0 0 0 {at}\n s R. -1 1 0 {at + 0.0002}" for at in (0.0, 0.5, 1.0))
    reset = only(captured_again(tries, times))
    assert keys(reset)[0] == "no-listener"
    assert "2 more RSTs followed" in evidence(reset)
    probed = f"{HANDSHAKE} c P. 1 1 5 0.03\n s . 1 6 0 0.04\n" + "\n".join(f"s . 0 6 0 {at}.0" for at in (1, 2, 3))
    reset = only(captured_again(f"{probed}\n s R. 1 6 0 4.0", times))
    assert keys(reset)[0] == "keepalive-timeout"
    assert "3 keepalive probes" in evidence(reset)


def test_packets_on_their_way_had_not_been_received() -> None:
    """Captured near the client: the data passed before the RST did, but the server cannot have seen it yet."""
    timeline = """
        c S  0 0 0 0.00
        s S. 0 1 0 0.10
        c .  1 1 0 0.10
        s P. 1 1 90 0.20
        c .  1 91 0 0.20
        c P. 1 91 5 0.25
        s R. 91 1 0 0.30
    """
    reset = only(capture_of(timeline))
    assert keys(reset)[0] == "linger-zero"
    assert "unread-data" not in keys(reset)


def test_an_end_that_did_not_take_the_rst() -> None:
    timeline = f"{HANDSHAKE} c P. 1 1 5 0.03\n s P. 1 6 5 0.04\n s R. 90 6 0 0.05\n c . 6 6 0 0.0501\n c P. 6 6 5 3.0"
    reset = only(capture_of(timeline))
    assert reset.saw == ("client: nothing, it went on (packet 8): the RST was lost, or not accepted (RFC 5961, 3.2)",)


# --- anything at all -----------------------------------------------------------------------

LINES = st.tuples(
    st.sampled_from(["client", "server"]),
    st.sampled_from(["S", "S.", ".", "P.", "F.", "FP.", "R", "R.", "SR", "SF", "", "F"]),
    st.integers(-2, 12),
    st.integers(-2, 12),
    st.integers(0, 4),
    st.integers(0, 200),
    st.sampled_from([64, 60, 128, 255, 0, 1]),
    st.sampled_from([(), TIMESTAMPS, USUAL_SYN, ((3, b""), (2, b"\xff" * 9))]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(LINES, max_size=16), st.integers(0, 2))
def test_any_capture_can_be_explained(lines: list[tuple[Any, ...]], copies: int) -> None:
    packets: list[Packet] = []
    at = 0.0
    for sender, letters, seq, ack, size, pause, ttl, options in lines:
        at += pause**3 / 1e5
        flags = Flags(sum(LETTERS[letter] for letter in letters))
        for _ in range(1 + copies):
            made = packet(len(packets) + 1, sender, at, at, flags, seq, ack, bytes(size))
            packets.append(made._replace(ttl=ttl, options=options))
    resets = explain(Trace(tuple(packets), backend=CAPTURE))
    told = sorted(p.number for reset in resets for p in reset.packets)
    assert told == [p.number for p in packets if p.flags & Flags.RST]
    for reset in resets:
        assert reset.confidence in ("likely", "ambiguous")
        assert reset.cause not in reset.alternatives
        assert len(set(keys(reset))) == len(keys(reset))
        assert str(reset)
        assert "None" not in " ".join([reset.why, *reset.saw, *(e.text for e in reset.evidence)])
        if reset.trigger:
            assert reset.trigger.sender != reset.sender


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 63), st.integers(), st.integers()), max_size=12))
def test_any_numbers_can_be_explained(lines: list[tuple[bool, int, int, int]]) -> None:
    packets = []
    for number, (own, flags, seq, ack) in enumerate(lines, 1):
        made = packet(number, "client" if own else "server", number / 7, number / 7, Flags(flags), 0)
        packets.append(made._replace(seq=seq % 2**32, ack=ack % 2**32, window=ack % 2**16))
    for reset in explain(Trace(tuple(packets), backend=CAPTURE)):
        assert str(reset)


@pytest.mark.parametrize("kind", ["one RST", "a RST after each packet", "RSTs alone"])
def test_a_long_connection_takes_seconds_at_most(kind: str) -> None:
    """100,000 packets, whatever they are."""
    count, packets = 100_000, []
    made = {host: packet(1, host, 0, 0, Flags.ACK, 1, 1, b"x") for host in ("client", "server")}
    for number in range(1, count + 1):
        host = "client" if number % 2 else "server"
        last = kind == "RSTs alone" or (kind == "one RST" and number == count)
        rst = last or (kind == "a RST after each packet" and number % 2 == 0)
        flags = Flags.RST if rst else Flags.ACK
        at = number / 50
        seq = (made[host].seq + number) % 2**32
        packets.append(
            made[host]._replace(
                number=number,
                sent=at,
                arrived=at,
                flags=flags,
                seq=seq,
                ack=(made[host].ack + number) % 2**32,
            )
        )
    began = time.process_time()
    resets = explain(Trace(tuple(packets), backend=CAPTURE))
    assert sum(len(reset.packets) for reset in resets) == sum(bool(p.flags & Flags.RST) for p in packets)
    assert time.process_time() - began < 20


def test_a_short_connection_takes_a_millisecond() -> None:
    captures = [capture_of(timeline) for timeline in (REFUSED, ANSWERED_LATE, ABORTED, KEEPALIVES)]
    for capture in captures:
        explain(capture)
    began = time.process_time()
    for _ in range(50):
        for capture in captures:
            explain(capture)
    assert time.process_time() - began < 200 * 0.003
