"""Connections of captures: counts that tshark confirms, ends, shapes, and what is told."""

import gc
import struct
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from rstkit.captures import Capture, read
from rstkit.errors import TraceError
from rstkit.explain import explain
from rstkit.findings import findings
from rstkit.lab import Lab
from rstkit.trace import Trace

from . import scenarios, traffic
from .files import ACK, FIN, LINKS, PSH, RST, SYN, ip, pcap, pcapng, tcp

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
NOW = 1_790_000_000_000_000_000  # nanoseconds
MILLISECOND = 1_000_000


def sent(*packets: bytes, step: int = MILLISECOND, link: str = "ethernet") -> list[tuple[int, bytes]]:
    return [(NOW + number * step, LINKS[link][1](packet)) for number, packet in enumerate(packets)]


def to(flags: int, seq: int, ack: int = 0, payload: bytes = b"", port: int = 40_000) -> bytes:
    """From the client to the server."""
    return ip(CLIENT, SERVER, tcp(port, 80, flags, seq, ack, payload))


def back(flags: int, seq: int, ack: int = 0, payload: bytes = b"", port: int = 40_000) -> bytes:
    return ip(SERVER, CLIENT, tcp(80, port, flags, seq, ack, payload))


HANDSHAKE = [to(SYN, 99), back(SYN | ACK, 499, 100), to(ACK, 100, 500)]
ABORTED = [*HANDSHAKE, to(PSH | ACK, 100, 500, b"hello"), back(RST | ACK, 500, 105)]
CLOSED = [*HANDSHAKE, to(FIN | ACK, 100, 500), back(FIN | ACK, 500, 101), to(ACK, 101, 501)]


def written(path: Path, content: bytes) -> Capture:
    (path / "some.pcap").write_bytes(content)
    return read(path / "some.pcap")


def by_tshark(path: Path) -> tuple[int, int, int, int]:
    """Counts of packets, TCP segments, connections and RST segments."""
    command = ["tshark", "-n", "-r", str(path), "-o", "ip.defragment:FALSE", "-T", "fields",
               "-e", "tcp.stream", "-e", "tcp.flags.reset", "-e", "icmp.type", "-e", "icmpv6.type"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # a file may be cut
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    segments = [row for row in rows if row[0] and row[1] and not row[2] and not row[3]]  # an ICMP error quotes some
    resets = sum(row[1] in ("1", "True") for row in segments)
    return len(rows), len(segments), len({row[0] for row in segments}), resets


def counts(capture: Capture) -> tuple[int, int, int, int]:
    return capture.packets, capture.segments, capture.connections, capture.resets


def agree(path: Path, content: bytes) -> Capture:
    """Read a capture, and compare its counts with tshark's."""
    capture = written(path, content)
    assert counts(capture) == by_tshark(path / "some.pcap")
    return capture


def numbers(capture: Capture) -> list[tuple[int, ...]]:
    return [connection.frames for connection in capture.reset_connections]


# --- counts, each confirmed by tshark --------------------------------------------------------


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("form", [pcap, pcapng])
def test_the_counts_on_every_link(tmp_path: Path, link: str, form: object) -> None:
    assert callable(form)
    frames = sent(*ABORTED, *(to(SYN, 7, port=p) for p in range(1, 30)), back(RST | ACK, 0, 8, port=3), link=link)
    capture = agree(tmp_path, form(frames, LINKS[link][0]))
    assert counts(capture) == (35, 35, 30, 2)


def test_a_port_that_is_used_again_is_another_connection(tmp_path: Path) -> None:
    again = [to(SYN, 7_000_000), back(SYN | ACK, 9_000_000, 7_000_001), to(RST, 7_000_001)]
    capture = agree(tmp_path, pcap(sent(*ABORTED, *again)))
    assert numbers(capture) == [(1, 2, 3, 4, 5), (6, 7, 8)]
    capture = agree(tmp_path, pcap(sent(*CLOSED, *again)))
    assert numbers(capture) == [(7, 8, 9)]
    capture = agree(tmp_path, pcap(sent(*again, *CLOSED, *again, *ABORTED)))
    assert capture.connections == 4


def test_a_syn_that_is_sent_again_is_the_same_connection(tmp_path: Path) -> None:
    capture = agree(tmp_path, pcap(sent(to(SYN, 99), to(SYN, 99), *ABORTED, to(SYN, 99), back(RST | ACK, 0, 100))))
    assert (capture.connections, capture.resets) == (1, 2)


def test_an_open_from_both_sides_is_one_connection(tmp_path: Path) -> None:
    both = [to(SYN, 99), back(SYN, 499), to(SYN | ACK, 99, 500), back(SYN | ACK, 499, 100), to(RST, 100)]
    assert numbers(agree(tmp_path, pcap(sent(*both)))) == [(1, 2, 3, 4, 5)]


def test_what_is_in_progress_as_the_capture_begins(tmp_path: Path) -> None:
    capture = agree(tmp_path, pcap(sent(*ABORTED[3:])))
    (connection,) = capture.reset_connections
    assert (connection.complete, str(connection.client), str(connection.server)) == (
        False, f"{CLIENT}:40000", f"{SERVER}:80",
    )  # fmt: skip
    again = agree(tmp_path, pcap(sent(*ABORTED[4:], to(SYN, 7_000_000), back(RST | ACK, 0, 7_000_001))))
    assert numbers(again) == [(1,), (2, 3)]


@pytest.mark.parametrize(
    ("packets", "ends"),
    [
        (ABORTED[1:], "client asked"),
        ([back(ACK, 1, 1), back(RST, 2)], "service port"),
        ([ip(SERVER, CLIENT, tcp(40_000, 80, ACK, 1, 1)), ip(CLIENT, SERVER, tcp(80, 40_000, RST, 1))], "other"),
    ],
)
def test_who_is_the_client(tmp_path: Path, packets: list[bytes], ends: str) -> None:
    (connection,) = agree(tmp_path, pcap(sent(*packets))).reset_connections
    assert connection.client.address == (SERVER if ends == "other" else CLIENT)
    assert connection.complete == (ends == "client asked")


def test_one_side_alone(tmp_path: Path) -> None:
    capture = agree(tmp_path, pcap(sent(*(p for p in ABORTED if p[12:16] == bytes([10, 0, 0, 2])))))
    (connection,) = capture.reset_connections
    assert [p.sender for p in connection.trace().packets] == ["server", "server"]


def test_fragments_are_told_and_only_the_first_is_read(tmp_path: Path) -> None:
    whole = tcp(40_000, 80, ACK, 100, 500, bytes(2000))
    parts = [ip(CLIENT, SERVER, whole[:1000], fragment=0x2000), ip(CLIENT, SERVER, whole[1000:], fragment=125)]
    capture = written(tmp_path, pcap(sent(*HANDSHAKE, *parts, back(RST | ACK, 500, 2100))))
    assert counts(capture) == (6, 5, 1, 1)
    assert capture.told == ("2 packets are fragments of IP packets, not put together.",)


def test_ipv4_options_and_padding_of_short_frames(tmp_path: Path) -> None:
    """Ethernet pads to 60 bytes, which are no data of TCP's."""
    packets = [ip(CLIENT, SERVER, tcp(40_000, 80, SYN, 99), options=b"\x94\x04\0\0"), back(RST | ACK, 0, 100)]
    frames = [(time, frame.ljust(60, b"\xee")) for time, frame in sent(*packets)]
    capture = agree(tmp_path, pcap(frames))
    assert [(p.length, p.payload) for p in capture.reset_connections[0].trace().packets] == [(0, b"")] * 2


def test_ipv6_with_extension_headers(tmp_path: Path) -> None:
    hop, route, destination = b"\x2b\0" + bytes(6), b"\x3c\0" + bytes(6), b"\x2c\x01" + bytes(14)
    fragment = b"\x06\0\0\0" + bytes(4)  # that is all of it (RFC 6946)
    chain = b"\0" + hop + route + destination + fragment
    packets = [ip("fd00::1", "fd00::2", tcp(40_000, 80, SYN, 99), options=chain),
               ip("fd00::2", "fd00::1", tcp(80, 40_000, RST | ACK, 0, 100, b"why"))]  # fmt: skip
    capture = agree(tmp_path, pcap(sent(*packets)))
    trace = capture.reset_connections[0].trace()
    assert [(p.seq, p.length, p.payload) for p in trace.packets] == [(99, 0, b""), (0, 3, b"why")]
    assert capture.told == ()


@pytest.mark.parametrize("size", [8, 96, 264, 2048])
def test_both_ends_are_found_behind_a_long_extension_header(tmp_path: Path, size: int) -> None:
    options = bytes([60, 6, size // 8 - 1]) + bytes(size - 2)
    packets = [ip("fd00::1", "fd00::2", tcp(40_000, 80, SYN, 99), options=options),
               ip("fd00::2", "fd00::1", tcp(80, 40_000, RST | ACK, 0, 100), options=options)]  # fmt: skip
    (connection,) = agree(tmp_path, pcap(sent(*packets))).reset_connections
    assert (connection.client, connection.server) == (("fd00::1", 40_000), ("fd00::2", 80))
    (reset,) = explain(connection.trace())
    assert reset.cause.key == "no-listener"


def test_a_packet_that_tells_no_length_was_to_be_cut_by_the_network_card(tmp_path: Path) -> None:
    data = ip(CLIENT, SERVER, tcp(40_000, 80, ACK, 100, 500, bytes(5000)), total=0)
    capture = agree(tmp_path, pcap(sent(*HANDSHAKE, data, back(RST | ACK, 500, 5100))))
    assert [p.length for p in capture.reset_connections[0].trace().packets] == [0, 0, 0, 5000, 0]


@pytest.mark.parametrize("snap", [14 + 20 + 20, 14 + 20 + 22, 14 + 20 + 30, 96])
def test_packets_that_were_cut_as_they_were_captured(tmp_path: Path, snap: int) -> None:
    data = ip(CLIENT, SERVER, tcp(40_000, 80, ACK, 100, 500, bytes(500), b"\x01\x01\x08\x0a" + bytes(8)))
    capture = written(tmp_path, pcap(sent(*HANDSHAKE, data, back(RST | ACK, 500, 600)), snap=snap))
    assert counts(capture) == (5, 5, 1, 1)
    packet = capture.reset_connections[0].trace().packets[3]
    assert (packet.length, len(packet.payload)) == (500, max(snap - 14 - 20 - 32, 0))


def test_a_header_that_was_cut_is_told(tmp_path: Path) -> None:
    capture = written(tmp_path, pcap(sent(*ABORTED), snap=14 + 20 + 12))
    assert (capture.packets, capture.segments, capture.reset_connections) == (5, 0, ())
    assert capture.told == ("5 packets were cut off before the end of TCP's header, and left out.",)


def test_what_is_no_tcp_is_left_out(tmp_path: Path) -> None:
    udp = bytearray(ip(CLIENT, SERVER, struct.pack("!HHHH", 53, 53, 8, 0)))
    udp[9] = 17
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    capture = agree(tmp_path, pcap([*sent(*ABORTED, bytes(udp)), (NOW, arp), (NOW, b""), (NOW, b"\x01")]))
    assert counts(capture) == (9, 5, 1, 1)


def test_a_wrong_length_of_a_header_is_told(tmp_path: Path) -> None:
    wrong = bytearray(to(ACK, 100, 500))
    wrong[32] = 0xF0
    capture = written(tmp_path, pcap(sent(*ABORTED, bytes(wrong))))
    assert counts(capture) == (6, 5, 1, 1)
    assert "wrong length" in capture.told[0]


def test_frames_stand_in_order_of_time(tmp_path: Path) -> None:
    frames = sent(*ABORTED)
    frames[1], frames[3] = frames[3], frames[1]
    connection = agree(tmp_path, pcap(frames)).reset_connections[0]
    assert connection.frames == (1, 4, 3, 2, 5)
    assert [p.sent for p in connection.trace().packets] == [0, 0.001, 0.002, 0.003, 0.004]
    assert (connection.first, connection.last) == (NOW / 1e9, NOW / 1e9 + 0.004)


def test_times_that_say_nothing(tmp_path: Path) -> None:
    capture = agree(tmp_path, pcap([(0, frame) for _, frame in sent(*ABORTED)]))
    assert (capture.first, capture.last, numbers(capture)) == (0, 0, [(1, 2, 3, 4, 5)])


def test_the_two_directions_are_told_apart_where_both_ends_are_one(tmp_path: Path) -> None:
    """A connection of a host with itself, on one address."""
    here, there = (40_000, 80), (80, 40_000)
    packets = [ip("127.0.0.1", "127.0.0.1", tcp(*here, SYN, 99)),
               ip("127.0.0.1", "127.0.0.1", tcp(*there, RST | ACK, 0, 100))]  # fmt: skip
    (connection,) = agree(tmp_path, pcap(sent(*packets, link="null"), 0)).reset_connections
    assert [p.sender for p in connection.trace().packets] == ["client", "server"]


def test_parts_in_a_file_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit in memory is put away, and found again."""
    traffic.make(tmp_path / "some.pcap", 20_000)
    whole = read(tmp_path / "some.pcap")
    monkeypatch.setattr("rstkit.sorting._MOST", 5_000)
    monkeypatch.setattr("rstkit.records.PIECE", 300_000)
    parts = read(tmp_path / "some.pcap")
    assert counts(parts) == counts(whole)
    assert numbers(parts) == numbers(whole)
    assert [c.shape for c in parts.reset_connections] == [c.shape for c in whole.reset_connections]
    assert [c.client for c in parts.reset_connections] == [c.client for c in whole.reset_connections]


def test_many_keys_in_one_slot_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic.make(tmp_path / "some.pcap", 20_000)
    whole = read(tmp_path / "some.pcap")
    monkeypatch.setattr("rstkit.sorting._SLOTS", 16)
    crowded = read(tmp_path / "some.pcap")
    assert (counts(crowded), numbers(crowded)) == (counts(whole), numbers(whole))


def test_the_middle_of_a_long_connection_is_left_out(tmp_path: Path) -> None:
    data = [back(ACK, 500 + 100 * n, 105, bytes(100)) for n in range(8_000)]
    story = [*ABORTED[:4], *data, to(RST | ACK, 105, 500 + 800_000)]
    capture = agree(tmp_path, pcap(sent(*story, *HANDSHAKE[1:], step=1000)))
    (connection,) = capture.reset_connections
    trace = connection.trace()
    assert connection.count == 8_007
    assert connection.frames == (*range(1, 1_001), *range(7_005, 8_008))
    assert [p.number for p in trace.packets] == list(range(1, len(trace.packets) + 1))
    assert trace.problems == ("6,004 packets from the middle of the connection are left out.",)
    assert [reset.packet.seq for reset in explain(trace)] == [105]
    assert (connection.first, connection.last) == (NOW / 1e9, (NOW + 8_006_000) / 1e9)


def test_a_flood_of_syns_alike_and_of_rsts_takes_no_time(tmp_path: Path) -> None:
    packets = [to(SYN, 99)] * 50_000 + [to(SYN, n) for n in range(20_000)] + [back(RST | ACK, 0, 20_000)] * 50_000
    began = time.monotonic()
    capture = written(tmp_path, pcap(sent(*packets, step=1000)))
    (connection,) = capture.reset_connections
    explain(connection.trace())
    assert time.monotonic() - began < 20
    assert capture.connections == 20_001
    assert (connection.count, len(connection.frames)) == (50_001, 1_001)


@pytest.mark.parametrize("zeros", [16, 24, 5000])
def test_a_file_that_goes_on_with_zeros(tmp_path: Path, zeros: int) -> None:
    """As after a crash, on a disk whose blocks had been reserved."""
    capture = written(tmp_path, pcap(sent(*ABORTED)) + bytes(zeros))
    assert (capture.packets, capture.resets) == (5, 1)
    assert capture.last - capture.first < 1
    assert "zeros follow" in capture.told[0]


def test_a_kind_of_link_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"all packets came over a link .* \(LINKTYPE 127\)"):
        written(tmp_path, pcap(sent(*ABORTED), 127))
    both = pcapng([(NOW, LINKS["ethernet"][1](packet)) for packet in ABORTED], 1) + pcapng([(NOW, bytes(60))], 127)
    capture = written(tmp_path, both)
    assert (capture.packets, capture.segments) == (6, 5)
    assert capture.told == ("1 packet came over a link of a kind that rstkit cannot read (LINKTYPE 127): left out.",)


def test_a_finding_has_the_time_of_the_rst(tmp_path: Path) -> None:
    """And not that of what went on after it."""
    late = [to(ACK, 105, 500), back(ACK, 500, 105)] * 4
    capture = written(tmp_path, pcap(sent(*ABORTED, *late, step=1000 * MILLISECOND)))
    (finding,) = findings(capture)
    assert finding.first == finding.last == capture.reset_connections[0].reset == NOW / 1e9 + 4


# --- shapes ----------------------------------------------------------------------------------


def test_the_connections_of_a_scan_have_one_shape(tmp_path: Path) -> None:
    packets = [
        p for port in range(1, 401) for p in (to(SYN, port * 9, port=port), back(RST | ACK, 0, port * 9 + 1, port=port))
    ]
    connections = agree(tmp_path, pcap(sent(*packets))).reset_connections
    assert len(connections) == 400
    assert len({connection.shape for connection in connections}) == 1


def other(name: str) -> Iterable[bytes]:
    """The same scan's packet pair with something else that an explanation may rest on."""
    syn, rst = bytearray(to(SYN, 5, port=9)), bytearray(back(RST | ACK, 0, 6, port=9))
    if name == "flags":
        rst[33] = RST
    elif name == "ack":
        rst = bytearray(back(RST | ACK, 0, 7, port=9))
    elif name == "seq":
        rst = bytearray(back(RST | ACK, 77, 6, port=9))
    elif name == "window":
        rst[34:36] = b"\0\0"
    elif name == "data":
        rst = bytearray(back(RST | ACK, 0, 6, b"x", port=9))
    elif name == "options":
        syn = bytearray(ip(CLIENT, SERVER, tcp(9, 80, SYN, 5, options=b"\x02\x04\x05\xb4")))
    elif name == "packets":
        return [bytes(syn), bytes(syn), bytes(rst)]
    return [bytes(syn), bytes(rst)]


@pytest.mark.parametrize("name", ["flags", "ack", "seq", "window", "data", "options", "packets"])
def test_what_may_matter_makes_another_shape(tmp_path: Path, name: str) -> None:
    usual = [to(SYN, 5_000, port=8), back(RST | ACK, 0, 5_001, port=8)]
    one, another = written(tmp_path, pcap(sent(*usual, *other(name)))).reset_connections
    assert one.shape != another.shape
    one, another = written(tmp_path, pcap(sent(*usual, *other("")))).reset_connections
    assert one.shape == another.shape


@pytest.mark.parametrize(("ttl", "alike"), [(64, True), (63, False)])
def test_a_ttl_counts_where_it_is_not_that_of_the_other_packets(tmp_path: Path, ttl: int, alike: bool) -> None:
    def story(port: int, last: int) -> list[bytes]:
        begun = [to(SYN, 5, port=port), back(SYN | ACK, 9, 6, port=port), to(ACK, 6, 10, port=port)]
        rst = bytearray(back(RST | ACK, 10, 6, port=port))
        rst[8] = last
        return [*begun, bytes(rst)]

    one, another = written(tmp_path, pcap(sent(*story(8, 64), *story(9, ttl)))).reset_connections
    assert (one.shape == another.shape) is alike


def download(port: int, size: int, segments: int, *, tail: int = 0, again: int = -1) -> list[bytes]:
    """A client asks for so many segments of one size, acknowledges each two, and aborts; one may come twice."""
    packets = [to(SYN, 7, port=port), back(SYN | ACK, 40, 8, port=port), to(ACK, 8, 41, port=port)]
    packets.append(to(PSH | ACK, 8, 41, b"GET", port=port))
    for number in range(segments):
        data = back(ACK, 41 + number * size, 11, bytes(size), port=port)
        packets += [data, data] if number == again else [data]
        if number % 2:
            packets.append(to(ACK, 11, 41 + (number + 1) * size, port=port))
    return [*packets, to(RST | ACK, 11, 41 + segments * size + tail, port=port)]


@pytest.mark.parametrize(
    ("changed", "alike"),
    [({}, True), ({"segments": 60}, True), ({"size": 900}, True), ({"tail": 1}, False), ({"again": 9}, False)],
)
def test_long_connections_in_which_nothing_happened_are_alike(
    tmp_path: Path, changed: dict[str, int], alike: bool
) -> None:
    usual = {"size": 500, "segments": 40}
    found = written(tmp_path, pcap(sent(*download(8, **usual), *download(9, **usual | changed)))).reset_connections
    assert (found[0].shape == found[1].shape) is alike
    told = [[(r.cause.key, r.confidence) for r in explain(connection.trace())] for connection in found]
    assert not alike or told[0] == told[1]


@pytest.mark.parametrize(("ahead", "alike"), [(700, True), (900_000_000, False)])
def test_an_ack_of_another_connection_makes_another_shape(tmp_path: Path, ahead: int, alike: bool) -> None:
    """What is acknowledged may be bytes that were not captured, but not so many."""
    found = [
        [to(SYN, 7, port=port), back(ACK, 50, 8 + more, port=port), to(RST, 8 + more, port=port)]
        for port, more in ((8, 500), (9, ahead))
    ]
    one, another = written(tmp_path, pcap(sent(*found[0], *found[1]))).reset_connections
    assert (one.shape == another.shape) is alike
    causes = [explain(connection.trace())[0].cause.key for connection in (one, another)]
    assert causes == (["unknown-connection"] * 2 if alike else ["unknown-connection", "unacceptable-ack"])


def test_which_end_is_called_the_client_belongs_to_the_shape(tmp_path: Path) -> None:
    """Without a SYN it is told by the ports."""
    rst = [to(ACK, 5, 9, port=50_000), back(RST, 9, 0, port=50_000)]
    other = [ip(CLIENT, SERVER, tcp(80, 50_000, ACK, 5, 9)), ip(SERVER, CLIENT, tcp(50_000, 80, RST, 9, 0))]
    one, another = written(tmp_path, pcap(sent(*rst, *other))).reset_connections
    assert [one.client.port, another.client.port] == [50_000, 50_000]
    assert one.shape != another.shape


# --- the lab's own captures, and big ones ----------------------------------------------------


@pytest.mark.parametrize("name", ["closed port", "data after end", "much data after close", "unread request"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_run_of_the_lab_reads_back(tmp_path: Path, lab: Lab, name: str, version: int) -> None:
    (scenario,) = (s for s in scenarios.SCENARIOS if s.name == name)
    trace = lab.run(scenario.server, scenario.client, **scenario.values | {"ip": version})
    trace.save(tmp_path / "run.pcapng")
    assert_reads_back(trace, tmp_path / "run.pcapng")
    gc.collect()  # a capture and its connections hold each other, and the file


def assert_reads_back(trace: Trace, path: Path) -> None:
    capture = read(path)
    assert counts(capture) == by_tshark(path)
    (connection,) = capture.reset_connections
    read_back = connection.trace()
    for name in ("sender", "seq", "ack", "flags", "window", "options", "length", "payload", "ttl", "ip_id"):
        assert [getattr(p, name) for p in read_back.packets] == [getattr(p, name) for p in trace.packets], name
    found = {cause.key for reset in explain(read_back) for cause in (reset.cause, *reset.alternatives)}
    assert {reset.cause.key for reset in explain(trace)} <= found


def test_a_big_capture_is_the_same_each_time_and_tshark_counts_it_alike(tmp_path: Path) -> None:
    made = traffic.make(tmp_path / "big.pcap", 100_000)
    again = traffic.make(tmp_path / "again.pcap", 100_000)
    assert made == again
    assert (tmp_path / "big.pcap").read_bytes() == (tmp_path / "again.pcap").read_bytes()
    capture = read(tmp_path / "big.pcap")
    assert counts(capture) == by_tshark(tmp_path / "big.pcap")
    assert (made.packets, made.connections, made.resets) == (capture.packets, capture.connections, capture.resets)
    assert len(capture.reset_connections) == made.reset_connections


def test_other_tools_files_read_alike(tmp_path: Path) -> None:
    """The same packets as editcap, tcpdump and text2pcap write them."""
    (tmp_path / "some.pcap").write_bytes(pcap(sent(*ABORTED, *CLOSED)))
    some = str(tmp_path / "some.pcap")
    commands = {
        "pcapng": ["editcap", "-F", "pcapng", some], "nsec": ["editcap", "-F", "nsecpcap", some],
        "snapped": ["editcap", "-s", "60", some], "modified": ["editcap", "-F", "modpcap", some],
    }  # fmt: skip
    expected = counts(read(some))
    for name, command in commands.items():
        subprocess.run([*command, str(tmp_path / name)], check=True, capture_output=True)
        if name == "modified":  # Alexey Kuznetsov's, of last century
            continue
        assert counts(read(tmp_path / name)) == expected == by_tshark(tmp_path / name), name
    subprocess.run(["tcpdump", "-r", some, "-w", str(tmp_path / "dumped")], check=True, capture_output=True)
    assert counts(read(tmp_path / "dumped")) == expected
    text = "\n".join(f"000000 {packet.hex(' ')}" for packet in ABORTED)
    (tmp_path / "hex").write_text(text + "\n")
    subprocess.run(
        ["text2pcap", "-l", "101", str(tmp_path / "hex"), str(tmp_path / "text")], check=True, capture_output=True
    )
    assert counts(read(tmp_path / "text")) == (5, 5, 1, 1) == by_tshark(tmp_path / "text")
