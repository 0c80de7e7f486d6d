"""TCP as data: flags in tcpdump's letters, sequence arithmetic, headers well made, damaged and hostile."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstkit.tcp import Endpoint, Flags, Segment, after, parse_frame, parse_options, sequence_length, tcp_header

from .builder import frame

sequence_numbers = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    ("flags", "letters"),
    [
        (Flags(0), "none"),
        (Flags.SYN, "S"),
        (Flags.SYN | Flags.ACK, "S."),
        (Flags.ACK, "."),
        (Flags.PSH | Flags.ACK, "P."),
        (Flags.FIN | Flags.PSH | Flags.ACK, "FP."),
        (Flags.RST, "R"),
        (Flags.RST | Flags.ACK, "R."),
        (Flags(0xFF), "FSRP.UEW"),
    ],
)
def test_flags_are_written_as_tcpdump_does(flags: Flags, letters: str) -> None:
    assert str(flags) == f"{flags}" == letters


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1, 0, True),
        (0, 1, False),
        (5, 5, False),
        (0, 2**32 - 1, True),  # across the wrap
        (2**32 - 1, 0, False),
        (10, 2**32 - 10, True),
        (2**31 - 1, 0, True),
        (2**31, 0, False),  # half way round: neither
        (0, 2**31, False),
    ],
)
def test_after(a: int, b: int, expected: bool) -> None:
    assert after(a, b) is expected


@given(sequence_numbers, st.integers(1, 2**31 - 1))
def test_after_holds_within_half_the_sequence_space(start: int, distance: int) -> None:
    end = (start + distance) % 2**32
    assert after(end, start)
    assert not after(start, end)


@pytest.mark.parametrize(
    ("flags", "length", "expected"),
    [(Flags.ACK, 0, 0), (Flags.SYN, 0, 1), (Flags.FIN | Flags.ACK, 10, 11), (Flags.SYN | Flags.FIN, 3, 5)],
)
def test_syn_and_fin_use_up_a_sequence_number_each(flags: Flags, length: int, expected: int) -> None:
    assert sequence_length(flags, length) == expected


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("", ()),
        ("020405b4", ((2, b"\x05\xb4"),)),
        ("01 01 0402", ((4, b""),)),
        ("020405b4 0402 080a 00000001 00000002 01 030307", None),  # as Linux sends them in a SYN
        ("0402 00 030307", ((4, b""),)),  # what follows the end of the list is no option
        ("0402 02", ((4, b""),)),  # no room for the length
        ("0402 0200", ((4, b""),)),  # a length of 0 would never end
        ("0402 0201", ((4, b""),)),
        ("0402 0205 0000", ((4, b""),)),  # longer than what is there
    ],
)
def test_options_stop_where_they_are_malformed(data: str, options: tuple[tuple[int, bytes], ...] | None) -> None:
    if options is None:
        options = ((2, b"\x05\xb4"), (4, b""), (8, b"\x00\x00\x00\x01\x00\x00\x00\x02"), (3, b"\x07"))
    assert parse_options(bytes.fromhex(data)) == options


@given(st.binary(max_size=60))
def test_any_bytes_make_options(data: bytes) -> None:
    for kind, value in parse_options(data):
        assert kind > 1
        assert bytes([kind, len(value) + 2]) + value in data


# --- frames ----------------------------------------------------------------------------------


def ipv6(payload: bytes, next_header: int = 6, length: int | None = None) -> bytes:
    addresses = bytes.fromhex("fd00" + "00" * 13 + "01"), bytes.fromhex("fd00" + "00" * 13 + "02")
    header = struct.pack(
        "!IHBB16s16s", 6 << 28, len(payload) if length is None else length, next_header, 63, *addresses
    )
    return bytes(12) + b"\x86\xdd" + header + payload


def test_a_frame_over_ipv4() -> None:
    whole = frame("client", Flags.PSH | Flags.ACK, 3_000_000_000, 4_294_967_290, b"hello")
    assert parse_frame(whole) == Segment(
        source=Endpoint("10.0.0.1", 54892),
        destination=Endpoint("10.0.0.2", 8080),
        ttl=64,
        ip_id=7,
        seq=3_000_000_000,
        ack=4_294_967_290,
        flags=Flags.PSH | Flags.ACK,
        window=502,
        options=(),
        length=5,
        payload=b"hello",
    )
    assert tcp_header(whole) == whole[34:54]


def test_a_frame_over_ipv6_with_options() -> None:
    tcp = struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 6 << 4, Flags.SYN, 5, 0, 0) + bytes.fromhex("020405b4") + b"early"
    assert parse_frame(ipv6(tcp)) == Segment(
        Endpoint("fd00::1", 1), Endpoint("fd00::2", 2), 63, 0, 3, 4, Flags.SYN, 5, ((2, b"\x05\xb4"),), 5, b"early"
    )
    assert tcp_header(ipv6(tcp)) == tcp[:24]


def test_endpoints_are_written_with_brackets_around_ipv6() -> None:
    assert str(Endpoint("10.0.0.1", 80)) == "10.0.0.1:80"
    assert str(Endpoint("fd00::1", 80)) == "[fd00::1]:80"


def test_the_padding_of_a_short_frame_is_no_payload() -> None:
    segment = parse_frame(frame("client", Flags.ACK, 1, 1) + bytes(6))  # Ethernet's least is 60 bytes
    assert segment is not None
    assert (segment.length, segment.payload) == (0, b"")


def test_a_frame_cut_short_keeps_its_length() -> None:
    whole = frame("server", Flags.PSH | Flags.ACK, 1, 1, b"hello world")
    for size in range(len(whole)):
        segment = parse_frame(whole[:size])
        if size < 54:
            assert segment is None
        else:
            assert segment is not None
            assert (segment.length, segment.payload) == (11, b"hello world"[: size - 54])


def changed(offset: int, *values: int) -> bytes:
    """The frame of a segment of data with bytes of its headers changed."""
    whole = bytearray(frame("client", Flags.PSH | Flags.ACK, 1, 1, b"hello"))
    whole[offset : offset + len(values)] = values
    return bytes(whole)


@pytest.mark.parametrize(
    "damaged",
    [
        changed(12, 0x08, 0x06),  # ARP
        changed(14, 0x65),  # IPv4 by the EtherType, version 6 in the header
        changed(14, 0x44),  # an IP header of 16 bytes
        changed(14, 0x4F),  # an IP header of 60 bytes, where the segment has but 5 more
        changed(16, 0, 39),  # an IP length that ends within the TCP header
        changed(20, 0x00, 0x01),  # not the first fragment
        changed(23, 17),  # UDP
        changed(46, 4 << 4),  # a TCP header of 16 bytes
        changed(46, 15 << 4),  # a TCP header of 60 bytes in a segment of 25
        ipv6(bytes(20), next_header=17),
        ipv6(bytes(19)),
        ipv6(bytes(40), length=10),
    ],
)
def test_a_frame_without_a_tcp_segment(damaged: bytes) -> None:
    assert parse_frame(damaged) is None


def test_the_first_fragment_is_a_segment() -> None:
    assert parse_frame(changed(20, 0x20, 0x00)) == parse_frame(changed(20, 0x40, 0x00))


prefixes = st.sampled_from([b"", bytes(12) + b"\x08\x00\x45", bytes(12) + b"\x86\xdd\x60"])


@given(prefixes, st.binary(max_size=120), st.booleans())
def test_any_bytes_make_a_segment_or_none(prefix: bytes, data: bytes, tcp: bool) -> None:
    whole = bytearray(prefix + data)
    if tcp and len(whole) > 23:
        whole[20 if prefix.endswith(b"\x60") else 23] = 6
    segment = parse_frame(bytes(whole))
    if segment is not None:
        assert len(segment.payload) <= segment.length
        assert parse_options(tcp_header(bytes(whole))[20:]) == segment.options
