"""What a capture's resets are grouped into, and how that is told."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rstkit.causes import CAUSES
from rstkit.findings import Finding, findings, framed
from rstkit.grouping import _HARM, HARMS
from rstkit.report import as_json, lasted, moment, report
from rstkit.tcp import Endpoint, Flags
from rstkit.trace import Packet, Trace

SYN, ACK, PSH, FIN, RST = Flags.SYN, Flags.ACK, Flags.PSH, Flags.FIN, Flags.RST

# A story: each packet's sender, flags, seq, ack (relative), payload.
Story = list[tuple[str, Flags, int, int, bytes]]
REFUSED: Story = [("client", SYN, 0, 0, b""), ("server", RST | ACK, 0, 1, b"")]
OPENED: Story = [("client", SYN, 0, 0, b""), ("server", SYN | ACK, 0, 1, b""), ("client", ACK, 1, 1, b"")]
UNREAD: Story = [*OPENED, ("client", PSH | ACK, 1, 1, b"request"), ("server", RST | ACK, 1, 8, b"")]
LATE: Story = [
    *OPENED,
    ("client", FIN | ACK, 1, 1, b""),
    ("server", ACK, 1, 2, b""),
    ("server", PSH | ACK, 1, 2, b"\x1b[31m<b>answer"),
    ("client", RST, 2, 0, b""),
]
AFTER_ALL: Story = [
    *OPENED,
    ("client", FIN | ACK, 1, 1, b""),
    ("server", FIN | ACK, 1, 2, b""),
    ("client", ACK, 2, 2, b""),
    ("server", FIN | ACK, 1, 2, b""),
    ("client", RST, 2, 0, b""),
]


@dataclass(frozen=True, eq=False)
class Stand:
    """A connection of a capture, made by hand."""

    client: Endpoint
    server: Endpoint
    story: Story
    at: float
    number: int = 1  # of its first frame; every second frame is another's

    @property
    def shape(self) -> str:
        return repr(self.story)

    @property
    def count(self) -> int:
        return len(self.story)

    @property
    def first(self) -> float:
        return self.at

    @property
    def reset(self) -> float:
        return self.last

    @property
    def last(self) -> float:
        return self.at + 0.01 * (len(self.story) - 1)

    @property
    def frames(self) -> tuple[int, ...]:
        return tuple(range(self.number, self.number + 2 * len(self.story), 2))

    def trace(self) -> Trace:
        ends, start = {"client": self.client, "server": self.server}, {"client": 1_000_000, "server": 4_294_967_290}
        packets = []
        for place, (sender, flags, seq, ack, payload) in enumerate(self.story):
            other = "server" if sender == "client" else "client"
            told = (start[other] + ack) % 2**32 if flags & ACK else 0
            number = 0 if self.story is REFUSED and flags & RST else (start[sender] + seq) % 2**32
            when = place * 0.01
            packets.append(
                Packet(
                    place + 1,
                    sender,
                    when,
                    when,
                    b"",
                    ends[sender],
                    ends[other],
                    64,
                    0,
                    number,
                    told,
                    flags,
                    502,
                    (),
                    len(payload),
                    payload,
                )
            )
        hosts = {name: end.address for name, end in ends.items()}
        return Trace(tuple(packets), hosts=hosts, epoch_ns=int(self.at * 1e9), backend="capture")


@dataclass(frozen=True)
class Whole:
    """A capture, made by hand."""

    reset_connections: list[Stand]
    told: tuple[str, ...] = ()
    path: Path = Path("some.pcap")
    packets: int = 1000
    segments: int = 900
    connections: int = 50
    resets: int = 7
    first: float = 1_790_000_000.0
    last: float = 1_790_000_100.5
    more: dict[str, Any] = field(default_factory=dict)


def of(*connections: Stand, **more: Any) -> tuple[Any, tuple[Finding, ...]]:
    whole: Any = Whole(list(connections), **more)
    return whole, findings(whole)


def stand(story: Story, client: str, server: str, at: float = 1_790_000_010.0, port: int = 8080, **more: Any) -> Stand:
    return Stand(Endpoint(client, 40_000 + int(at * 10) % 10_000), Endpoint(server, port), story, at, **more)


def test_every_cause_has_a_harm_that_is_known() -> None:
    assert set(_HARM) <= set(CAUSES)
    assert set(_HARM.values()) <= set(HARMS)


def test_a_port_scan_is_one_finding() -> None:
    scan = [stand(REFUSED, "203.0.113.7", "10.0.0.2", 1_790_000_000 + n / 100, port=n) for n in range(1, 1025)]
    _, (finding,) = of(*scan)
    assert finding.count == 1024
    assert finding.harm == "probed"
    assert finding.title == "Nobody listens on the port: it looks like a scan of 1,024 ports"
    assert finding.who == "10.0.0.2, ports 1-1024, refused 1,024 connections from 203.0.113.7."
    assert finding.check == ""


def test_a_sweep_of_hosts_is_one_finding() -> None:
    _, (finding,) = of(*(stand(REFUSED, "203.0.113.7", f"10.0.0.{n}", port=22) for n in range(1, 21)))
    assert finding.title.endswith("it looks like a scan of 20 hosts")
    assert (
        finding.who
        == "20 servers (10.0.0.1, 10.0.0.2, 10.0.0.3, …) on port 22 refused 20 connections from 203.0.113.7."
    )


def test_a_service_that_is_down_is_one_finding_beside_the_scan() -> None:
    scan = [stand(REFUSED, "203.0.113.7", "10.0.0.2", port=n) for n in range(1, 101)]
    down = [stand(REFUSED, f"10.0.1.{n}", "10.0.0.3", 1_790_000_010 + n) for n in range(1, 31)]
    _, found = of(*scan, *down)
    assert [(finding.harm, finding.count) for finding in found] == [("refused", 30), ("probed", 100)]
    assert found[0].who == ("10.0.0.3:8080 refused 30 connections from 30 clients (10.0.1.1, 10.0.1.2, 10.0.1.3, …).")


def test_a_service_that_the_scanning_host_asks_for_again_and_again_is_no_part_of_the_scan() -> None:
    scan = [stand(REFUSED, "10.0.0.1", "10.0.0.2", port=n) for n in range(1, 101)]
    down = [stand(REFUSED, "10.0.0.1", "10.0.0.2", 1_790_000_020 + n, port=9100) for n in range(5)]
    _, found = of(*scan, *down)
    assert [(finding.harm, finding.count, len(finding.servers)) for finding in found] == [
        ("refused", 5, 1),
        ("probed", 100, 100),
    ]


def test_two_services_are_two_findings_and_the_worst_comes_first() -> None:
    _, found = of(
        *(stand(AFTER_ALL, "10.0.1.1", "10.0.0.5", 1_790_000_000 + n) for n in range(9)),
        stand(UNREAD, "10.0.1.1", "10.0.0.3"),
        *(stand(UNREAD, f"10.0.1.{n}", "10.0.0.2", 1_790_000_000 + n) for n in range(4)),
        *(stand(LATE, "10.0.1.9", "10.0.0.4", 1_790_000_000 + n) for n in range(2)),
    )
    assert [(f.cause.key, f.harm, f.count, f.sender) for f in found] == [
        ("unread-data", "data loss", 4, "server"),
        ("data-after-close", "data loss", 2, "client"),
        ("unread-data", "data loss", 1, "server"),
        ("after-normal-close", "harmless", 9, "client"),
    ]
    assert found[0].who == "10.0.0.2:8080 reset 4 connections from 4 clients (10.0.1.0, 10.0.1.1, 10.0.1.2, …)."
    assert found[1].who == "10.0.1.9 reset 2 connections to 10.0.0.4:8080."
    assert found[3].next == "Harmless: nothing was lost."


def test_unrelated_resets_do_not_make_findings_without_end() -> None:
    alone = [stand(UNREAD, f"10.1.{n}.1", f"10.2.{n}.1", 1_790_000_000 + n) for n in range(40)]
    _, found = of(*alone)
    assert [finding.count for finding in found] == [32, *[1] * 8]
    assert found[0].who.startswith("32 servers (10.2.8.1, 10.2.9.1, 10.2.10.1, …) on port 8080 reset 32 connections")


LOOKED: Story = [*OPENED, ("client", RST | ACK, 1, 1, b"")]
UNSERVED: Story = [*OPENED, ("server", RST | ACK, 1, 1, b"")]
FORGED: Story = [
    *OPENED,
    ("client", PSH | ACK, 1, 1, b"hello"),
    ("server", RST | ACK, 1, 6, b""),
    *[("client", ACK, 6, 1, b""), ("server", PSH | ACK, 1, 6, b"answer")] * 60,
]


@pytest.mark.parametrize(
    ("story", "harm"), [(LOOKED, "harmless"), (UNSERVED, "cut off"), (UNREAD, "data loss"), (FORGED, "harmless")]
)
def test_the_harm_is_what_was_lost(story: Story, harm: str) -> None:
    """Not where nothing was said, as in a health check, and not where both ends went on."""
    _, found = of(stand(story, "10.0.1.1", "10.0.0.2"))
    assert found[0].harm == harm


BELIEVED: Story = [
    *OPENED,
    ("client", PSH | ACK, 1, 1, b"hello"),
    ("server", RST | ACK, 1, 6, b""),
    ("server", RST | ACK, 1461, 6, b""),
    ("server", PSH | ACK, 1, 6, b"answer"),
    ("client", RST, 6, 0, b""),
]


def test_what_to_do_names_the_frames_of_the_file() -> None:
    """A forged RST was believed: what follows from it is no finding to care for."""
    whole, found = of(stand(BELIEVED, "10.0.1.1", "10.0.0.2", number=1001))
    assert [f.harm for f in found] == ["cut off", "harmless"]
    assert found[1].next == "Harmless by itself: it follows from the RST before it (frame 1009)."
    assert as_json(whole, found)["findings"][1]["remedy"] == found[1].next
    assert found[1].next in report(whole, found)


@pytest.mark.parametrize(("kept", "explained"), [(50_000, 1), (0, 2)])
def test_one_connection_is_explained_for_each_shape(monkeypatch: pytest.MonkeyPatch, kept: int, explained: int) -> None:
    """And a finding's example once more, where explanations are too many to keep."""
    traced = []
    original = Stand.trace

    def trace(self: Stand) -> Trace:
        traced.append(self)
        return original(self)

    monkeypatch.setattr(Stand, "trace", trace)
    monkeypatch.setattr("rstkit.findings._KEPT", kept)
    done: list[float] = []
    whole: Any = Whole([stand(UNREAD, "10.0.1.1", "10.0.0.2", 1_790_000_000 + n) for n in range(500)])
    (finding,) = findings(whole, done.append)
    assert finding.count == 500
    assert len(traced) == explained
    assert done == sorted(done)
    assert done[-1] == 1.0


def test_the_numbers_are_those_of_the_frames_in_the_file() -> None:
    _, (finding,) = of(stand(LATE, "10.0.1.1", "10.0.0.2", number=4001))
    assert "frame 4011 (14 bytes of data)" in finding.why
    assert finding.evidence[0].packet == 4013
    assert "Frame 4013" in finding.evidence[0].text
    frames = (5, 8, 1300)
    assert framed("Packet 1, then packet 2, 11 bytes.", frames) == "Frame 5, then frame 8, 11 bytes."
    assert framed("packets 1 to 3, and packets 2 and 3", frames) == "frames 5 to 1300, and frames 8 and 1300"
    assert framed("3 packets; packet 9", frames) == "3 packets; frame 9"


def test_the_text_says_first_what_matters() -> None:
    whole, found = of(
        stand(UNREAD, "10.0.1.1", "10.0.0.2"), stand(LATE, "10.0.1.9", "10.0.0.4"), told=("The end is missing.",)
    )
    lines = report(whole, found).splitlines()
    assert lines[:3] == [
        "some.pcap: 1,000 packets, 50 TCP connections in 100 s, from 2026-09-21 14:13:20.000 UTC.",
        "! The end is missing.",
        "7 RSTs in 2 connections: 2 findings (data loss 2), the worst first.",
    ]
    assert lines[4] == "1. Closed with unread data (data loss, ambiguous)"
    assert lines[5] == "   who    10.0.0.2:8080 reset a connection from 10.0.1.1."
    assert "   see    10.0.1.9:40100 to 10.0.0.4:8080, frames 1 to 13" in lines
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "No connection was reset: there is no RST in it."),
        ({"segments": 0}, "There is no TCP in it"),
        ({"packets": 0, "segments": 0}, "There is no packet in it."),
    ],
)
def test_a_capture_without_resets_gets_a_clear_sentence(more: dict[str, Any], said: str) -> None:
    assert said in report(*of(**more))


def test_resets_of_which_nothing_is_left_are_told_as_well() -> None:
    """Such as those whose headers a damage or the snapping made unreadable."""
    assert "7 RSTs, of which too little was captured to tell anything." in report(
        *of(stand(OPENED, "10.0.0.1", "10.0.0.2"))
    )


def test_the_json_says_the_same() -> None:
    whole, found = of(stand(LATE, "10.0.1.1", "fd00::2", number=4001))
    told = json.loads(json.dumps(as_json(whole, found)))
    (finding,) = told["findings"]
    assert (finding["cause"], finding["confidence"], finding["harm"]) == ("data-after-close", "likely", "data loss")
    assert finding["servers"] == ["[fd00::2]:8080"]
    assert finding["example"]["rst"] == [4013]
    assert finding["example"]["trigger"] == 4011
    assert finding["connections"] == [
        {
            "client": "10.0.1.1:40100",
            "server": "[fd00::2]:8080",
            "first": 1_790_000_010.0,
            "last": 1_790_000_010.06,
            "reset": 1_790_000_010.06,
            "packets": 7,
        }
    ]


def test_nothing_of_the_file_steers_a_terminal() -> None:
    text = report(*of(told=("\x1b[2Jgone\u202e",), path=Path("a\x1b]0;title\x07\n.pcap")))
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "a\\x1b]0;title\\x07\\n.pcap" in text


def test_times_are_told_whatever_a_file_claims() -> None:
    assert moment(0.0004) == "1970-01-01 00:00:00.000 UTC"
    assert moment(1e30).endswith("s after 1970 began")
    assert lasted(7384) == "2 h 3 min"
    assert lasted(0.0123) == "12.3 ms"
