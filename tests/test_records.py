"""Reading of capture files, byte for byte: formats, byte orders, links, damage."""

import contextlib
import gzip
import os
import struct
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rstkit import records
from rstkit.captures import Capture, read
from rstkit.columns import Odd, Segments, joined, segments
from rstkit.errors import TraceError
from rstkit.explain import explain
from rstkit.records import Records

from .files import (
    ACK,
    LINKS,
    RST,
    SYN,
    block,
    enhanced,
    interface,
    ip,
    old,
    pcap,
    pcapng,
    section,
    simple,
    tcp,
)  # fmt: skip

NOW = 1_790_000_000_123_456_789  # nanoseconds
CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
SYN_SENT = ip(CLIENT, SERVER, tcp(40_000, 80, SYN, 99))
REFUSED = ip(SERVER, CLIENT, tcp(80, 40_000, RST | ACK, 0, 100))
SIX = [ip("fd00::1", "fd00::2", tcp(40_000, 80, SYN, 99)), ip("fd00::2", "fd00::1", tcp(80, 40_000, RST | ACK, 0, 100))]
TWO = [(NOW, SYN_SENT), (NOW + 250_000_000, REFUSED)]


def framed(link: str) -> list[tuple[int, bytes]]:
    return [(time, LINKS[link][1](packet)) for time, packet in TWO]


ETHERNET = framed("ethernet")


def written(path: Path, content: bytes) -> Capture:
    (path / "some.pcap").write_bytes(content)
    return read(path / "some.pcap")


def is_refused(capture: Capture) -> bool:
    """Whether it holds the SYN and the RST of `TWO`, or of `SIX`."""
    (connection,) = capture.reset_connections
    trace = connection.trace()
    (reset,) = explain(trace)
    assert [(p.sender, p.seq, p.ack, p.length) for p in trace.packets] == [("client", 99, 0, 0), ("server", 0, 100, 0)]
    assert (connection.client.port, connection.server.port, connection.complete) == (40_000, 80, True)
    assert connection.frames == (1, 2)
    assert (capture.packets, capture.segments, capture.connections, capture.resets) == (2, 2, 1, 1)
    return reset.cause.key == "no-listener"


def frames_times(capture: Capture) -> list[int]:
    """When the packets came, in nanoseconds since 1970."""
    return [time for piece in Records(capture.path).pieces() for time in piece.times.tolist()]


def spans(capture: Capture) -> tuple[int, int]:
    """When the first and the last packet came, in nanoseconds since `NOW`'s second began."""
    times = [time - NOW // 10**9 * 10**9 for time in frames_times(capture)]
    return min(times), max(times)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_every_link_in_every_form(tmp_path: Path, link: str, order: str, form: str) -> None:
    number = LINKS[link][0]
    frames = framed(link)
    content = pcap(frames, number, order=order) if form == "pcap" else pcapng(frames, number, order)
    capture = written(tmp_path, content)
    assert is_refused(capture)
    assert capture.told == ()
    assert spans(capture) == (123_456_000, 373_456_000)


@pytest.mark.parametrize("link", LINKS)
def test_ipv6_on_every_link(tmp_path: Path, link: str) -> None:
    number, frame = LINKS[link]
    capture = written(tmp_path, pcap([(NOW, frame(packet)) for packet in SIX], number))
    assert is_refused(capture)
    assert str(capture.reset_connections[0].server) == "[fd00::2]:80"


@pytest.mark.parametrize("order", "<>")
def test_nanoseconds(tmp_path: Path, order: str) -> None:
    capture = written(tmp_path, pcap(ETHERNET, order=order, nano=True))
    assert spans(capture) == (123_456_789, 373_456_789)
    assert [p.sent for p in capture.reset_connections[0].trace().packets] == [0.0, 0.25]
    assert capture.reset_connections[0].trace().epoch_ns == NOW


def test_the_frame_check_sequence_in_a_header_does_not_hide_the_link(tmp_path: Path) -> None:
    assert is_refused(written(tmp_path, pcap(ETHERNET, 1 | 0x2400_0000)))


@pytest.mark.parametrize(
    ("resolution", "ticks"),
    [(None, 10**6), (6, 10**6), (9, 10**9), (3, 10**3), (0x80 | 20, 2**20), (0x80 | 32, 2**32), (0x80, 1), (0, 1)],
)
@pytest.mark.parametrize("offset", [None, 3600, -3600])
def test_the_clock_of_an_interface(tmp_path: Path, resolution: int | None, ticks: int, offset: int | None) -> None:
    second = NOW // 10**9
    at = [second - (offset or 0), second - (offset or 0) + 7]
    packets = [enhanced(frame, time * ticks) for time, (_, frame) in zip(at, ETHERNET, strict=True)]
    head = section() + interface(resolution=resolution, offset=offset)
    assert spans(written(tmp_path, head + b"".join(packets))) == (0, 7 * 10**9)


def test_sections_of_either_order_with_interfaces_of_their_own(tmp_path: Path) -> None:
    second = NOW // 10**9
    raw, cooked = LINKS["raw"][1](SYN_SENT), LINKS["cooked"][1](REFUSED)
    parts = [
        section("<"), interface(1, "<"), interface(101, "<", resolution=9),
        enhanced(raw, second * 10**9, "<", number=1),
        section(">"), interface(113, ">"), enhanced(cooked, second * 10**6 + 5, ">"),
    ]  # fmt: skip
    capture = written(tmp_path, b"".join(parts))
    assert is_refused(capture)
    assert spans(capture) == (0, 5000)


def test_all_blocks_that_hold_packets(tmp_path: Path) -> None:
    frames = [frame for _, frame in ETHERNET]
    names = block(4, bytes(4)) + block(5, bytes(12)) + block(0xBAD, bytes(8))
    for make in (simple, lambda f: old(f, 5), lambda f: enhanced(f, 5)):
        assert is_refused(written(tmp_path, section() + interface() + names.join(map(make, frames))))
    mixed = section() + interface(snap=64) + simple(frames[0], snap=64) + names + old(frames[1], 5)
    assert is_refused(written(tmp_path, mixed))


def test_what_the_interface_does_not_tell_is_no_packet_that_can_be_read(tmp_path: Path) -> None:
    capture = written(tmp_path, section() + interface() + enhanced(ETHERNET[0][1], 5, number=3))
    assert (capture.packets, capture.segments) == (1, 0)
    assert capture.told == ("1 packet came over a link of a kind that rstkit cannot read: left out.",)


@pytest.mark.parametrize("form", [pcap, pcapng])
def test_gzip(tmp_path: Path, form: object) -> None:
    assert callable(form)
    content = form(ETHERNET)
    assert is_refused(written(tmp_path, gzip.compress(content)))
    assert is_refused(written(tmp_path, gzip.compress(content[:50]) + gzip.compress(content[50:])))


def test_a_gzip_that_is_cut_gives_what_comes_before(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).bytes(3_000_000)
    more = [(NOW, ETHERNET[0][1] + noise[n : n + 1000]) for n in range(0, 3_000_000, 1000)]
    whole = gzip.compress(pcap([*ETHERNET, *more]))
    capture = written(tmp_path, whole[: len(whole) // 2])
    assert 1_000 < capture.packets < 2_000
    assert "The compressed file is damaged" in capture.told[0]
    corrupt = bytearray(whole)
    corrupt[len(whole) // 2 :] = bytes(len(whole) - len(whole) // 2)
    capture = written(tmp_path, bytes(corrupt))
    assert capture.packets > 1_000
    assert "damaged" in capture.told[0]


def test_a_packet_that_is_cut_is_told_and_all_before_it_used(tmp_path: Path) -> None:
    for form in (pcap, pcapng):
        content = form([*ETHERNET, ETHERNET[0]])
        for cut in range(1, 60):
            capture = written(tmp_path, content[:-cut])
            assert is_refused(capture)
            assert "cut off" in capture.told[0], cut


def test_a_section_that_is_cut_ends_the_reading(tmp_path: Path) -> None:
    for cut in range(1, 28):
        capture = written(tmp_path, pcapng(ETHERNET) + section(">")[:-cut])
        assert is_refused(capture)
        assert "cut off" in capture.told[0], cut


@pytest.mark.parametrize("order", "<>")
def test_an_impossible_length_ends_the_reading(tmp_path: Path, order: str) -> None:
    wrong = struct.pack(order + "IIII", 1, 1, 0x7FFF_FFFF, 60)
    capture = written(tmp_path, pcap(ETHERNET, order=order) + wrong + bytes(1000))
    assert is_refused(capture)
    assert "impossible length" in capture.told[0]
    for length in (0, 8, 13, 0xFFFF_FFFC, 0x7FFF_FFF0):
        wrong = struct.pack(order + "II", 6, length)
        capture = written(tmp_path, pcapng(ETHERNET, 1, order) + wrong + bytes(1000))
        assert is_refused(capture)
        assert "impossible length" in capture.told[0]
    packet = bytearray(enhanced(ETHERNET[0][1], 5, order))
    packet[20:24] = struct.pack(order + "I", 5000)
    capture = written(tmp_path, pcapng(ETHERNET, 1, order) + packet)
    assert is_refused(capture)
    assert "impossible length" in capture.told[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\xd4\xc3", "no capture"),
        (b"not a capture at all, but a text", "no capture"),
        (pcap([])[:20], "cut within its header"),
        (gzip.compress(b""), "is empty"),
        (gzip.compress(b"a text"), "no capture"),
        (b"\x1f\x8bnot gzip", "amaged"),
    ],
)
def test_what_is_no_capture(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        written(tmp_path, content)


def test_a_capture_without_packets_is_one(tmp_path: Path) -> None:
    for content in (pcap([]), section(), section() + interface()):
        capture = written(tmp_path, content)
        assert (capture.packets, capture.connections, capture.reset_connections) == (0, 0, ())


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        read(tmp_path / "missing.pcap")
    with pytest.raises(TraceError, match="is no file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TraceError, match="is no file"):
        read(tmp_path / "pipe")


def columns_of(path: Path, content: bytes) -> Segments:
    """The columns of all segments of a capture without damage."""
    (path / "some.pcap").write_bytes(content)
    parts: list[Segments] = []
    found, odd = Records(path / "some.pcap"), Odd()
    for piece in found.pieces():
        parts.append(segments(piece, sum(part.keys.size for part in parts) + 1, odd))
    found.close()
    assert found.told == []
    return joined(parts)


def test_small_pieces_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet, a block or a section may lie across the borders of what is looked at together."""
    frames = [(NOW + n * 1000, LINKS["ethernet"][1](ip(CLIENT, SERVER, tcp(n, 80, SYN, n, 0, bytes(n % 1400)))))
              for n in range(300)]  # fmt: skip
    contents = [pcap(frames), pcapng(frames), pcapng(frames[:150]) + pcapng(frames[150:], 1, ">")]
    wholes = [columns_of(tmp_path, content) for content in contents]
    for size in (1_600, 2_011, 4_096):
        monkeypatch.setattr(records, "PIECE", size)
        for content, whole in zip(contents, wholes, strict=True):
            for packed in (content, gzip.compress(content)):
                columns = columns_of(tmp_path, packed)
                for field in fields(Segments):
                    of_pieces, of_whole = getattr(columns, field.name), getattr(whole, field.name)
                    assert len(of_pieces) == 300
                    assert (of_pieces == of_whole).all(), field.name


def test_a_block_that_is_longer_than_a_piece_is_stepped_over(tmp_path: Path) -> None:
    content = section() + interface() + block(0xBAD, bytes(40_000_000)) + enhanced(ETHERNET[0][1], 5)
    capture = written(tmp_path, content + enhanced(ETHERNET[1][1], 6))
    assert is_refused(capture)


def test_the_progress_grows_to_one(tmp_path: Path) -> None:
    (tmp_path / "some.pcap").write_bytes(pcap([(NOW, bytes(60_000))] * 700))
    told: list[float] = []
    read(tmp_path / "some.pcap", told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 2


def test_a_file_that_became_shorter_is_an_error_and_no_crash(tmp_path: Path) -> None:
    capture = written(tmp_path, pcap(ETHERNET))
    (tmp_path / "some.pcap").write_bytes(b"")
    with pytest.raises(TraceError, match="shorter"):
        capture.reset_connections[0].trace()


# --- whatever bytes come ---------------------------------------------------------------------


def survives(content: bytes) -> None:
    """Reading and explaining ends, with a capture or with a TraceError."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            capture = read(file.name)
        except TraceError:
            return
        assert capture.segments <= capture.packets
        assert sum(connection.count for connection in capture.reset_connections) <= capture.segments
        for connection in capture.reset_connections:
            trace = connection.trace()
            assert len(trace.packets) == len(connection.frames) == connection.count  # none of these is long
            explain(trace)
        Records(Path(file.name)).close()


BASES = [
    pcap(ETHERNET), pcap(ETHERNET, order=">", nano=True), pcapng(ETHERNET), pcapng(ETHERNET, 1, ">"),
    pcap([(NOW, LINKS["qinq"][1](p)) for p in SIX]), pcap(framed("cooked v2"), 276), gzip.compress(pcap(ETHERNET)),
    section() + interface(resolution=9, offset=1) + simple(ETHERNET[0][1]) + old(ETHERNET[1][1], 5) + pcapng(ETHERNET),
]  # fmt: skip


@given(st.sampled_from(BASES), st.lists(st.tuples(st.integers(0, 500), st.binary(max_size=8)), max_size=6))
@example(BASES[4], [(24 + 16 + 22 + 6, b"\0")])
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_captures(base: bytes, changes: list[tuple[int, bytes]]) -> None:
    content = bytearray(base)
    for place, value in changes:
        content[place : place + len(value)] = value
    survives(bytes(content))


@given(st.binary(max_size=300), st.sampled_from([0, 1, 12, 101, 108, 113, 228, 229, 276]), st.booleans())
@settings(max_examples=500, deadline=None)
def test_any_bytes_as_a_packet(packet: bytes, link: int, six: bool) -> None:
    head = b"\x60\0\0\0\0\x30" if six else b"\x45\0"
    survives(pcap([(NOW, packet), (NOW, head + packet), (NOW, b"\0\0\0\x02" + head + packet)], link))


@given(st.sampled_from([b"", *(base[:30] for base in BASES)]), st.binary(max_size=400))
@settings(max_examples=500, deadline=None)
def test_any_bytes_as_a_file(head: bytes, content: bytes) -> None:
    survives(head + content)


SMALL = [(NOW + n, LINKS["ethernet"][1](ip(CLIENT, SERVER, tcp(n, 80, SYN, n, 0, bytes(n % 90))))) for n in range(800)]
LARGER = [pcap(SMALL), pcap(SMALL, order=">"), pcapng(SMALL), pcapng(SMALL[:400]) + pcapng(SMALL[400:], 1, ">")]


@given(
    st.sampled_from(LARGER),
    st.lists(st.tuples(st.integers(0, 70_000), st.binary(min_size=1, max_size=40)), max_size=8),
    st.integers(0, 60_000),
)
@settings(max_examples=300, deadline=None)
def test_records_that_are_followed_at_once_are_those_that_are_followed_one_by_one(
    base: bytes, changes: list[tuple[int, bytes]], cut: int
) -> None:
    content = bytearray(base[: len(base) - cut])
    for place, value in changes:
        content[place : place + len(value)] = value

    def found() -> object:
        records = Records(Path(file.name))
        with contextlib.suppress(TraceError):
            starts = [(piece.base + piece.starts).tolist() for piece in records.pieces()]
            return [*starts, records.told]
        return records.told

    with tempfile.NamedTemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        file.write(content)
        file.flush()
        at_once = found()
        patch.setattr("rstkit.pieces._FEW", 1 << 30)
        assert found() == at_once
