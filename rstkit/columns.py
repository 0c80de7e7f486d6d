"""Columns of TCP: the header fields of many packets at once, from the bytes of a piece of a capture.

Which headers come before TCP's: Ethernet (with any stack of VLAN tags), Linux cooked v1 and v2,
BSD null and loop, raw IP; IPv4 with options, IPv6 with extension headers (RFC 8200, 4); tunnels.
"""

from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from .packets import AUTHENTICATION, EXTENSIONS, FRAGMENT, TCP
from .pieces import Ints, Piece, big_endian, rows, values
from .tunnels import IPV4, IPV6, inner, untag, version

_NULL, _ETHERNET, _LOOP, _COOKED, _COOKED2, _RAW = 0, 1, 108, 113, 276, (12, 14, 101, 228, 229)
_MOST_EXTENSIONS, _MOST_LAYERS = 8, 4  # the latter of IP, one in a tunnel through another
_HEADER = 20  # bytes of TCP's header without options

UInts = npt.NDArray[np.uint64]
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # splitmix64's constants
_KEYED = np.uint64(0x9E3779B97F4A7C15)


@dataclass(slots=True)
class Segments:
    """Columns of the TCP segments of a piece, in the order of the file.

    ``numbers`` are those of the frames, from 1; ``offsets`` where the IP header begins in the file,
    ``captured`` the bytes from there that were captured, ``times`` nanoseconds since 1970.
    ``keys`` are the same for both directions of a connection, and ``flips`` tell these apart.
    """

    numbers: npt.NDArray[np.uint32]
    offsets: Ints
    captured: npt.NDArray[np.uint32]
    times: Ints
    keys: UInts
    flips: npt.NDArray[np.bool_]
    seqs: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint8]


@dataclass(slots=True)
class Odd:
    """Counts of what is left out: fragments, TCP headers that are cut off or wrong, packets of an unknown link type."""

    fragments: int = 0
    cut: int = 0
    malformed: int = 0
    unknown: int = 0
    links: set[int] = field(default_factory=set)  # the unknown types


def joined(parts: list[Segments]) -> Segments:
    """Several pieces' segments as one."""
    if not parts:
        none = np.zeros(0, np.int64)
        return Segments(*(none.astype(k) for k in ("u4", "i8", "u4", "i8", "u8", "?", "u4", "u1")))
    return Segments(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Segments)))


def segments(piece: Piece, first: int, odd: Odd) -> Segments:
    """The TCP segments of a piece; ``first`` is the number of its first frame."""
    at, types = _network(piece, odd)
    ends = piece.starts + piece.captured
    tcp, total = np.full(len(at), -1, np.int64), np.zeros(len(at), np.int64)
    source, destination = np.zeros(len(at), np.uint64), np.zeros(len(at), np.uint64)
    for _ in range(_MOST_LAYERS):
        for read, kind in ((_ipv4, IPV4), (_ipv6, IPV6)):
            which = np.flatnonzero(types == kind)
            if which.size:
                told = read(piece.data, at[which], ends[which], odd)
                tcp[which], total[which], source[which], destination[which] = told
        types[tcp >= 0] = 0
        rest = np.flatnonzero(types)
        if not rest.size:
            break
        at[rest], types[rest] = inner(piece.data, at[rest], types[rest])
        types[at >= ends] = 0
    found = np.flatnonzero(tcp >= 0)
    whole = tcp[found] + _HEADER <= ends[found]
    odd.cut += int((~whole).sum())
    found = found[whole]
    head = rows(piece.data, tcp[found], _HEADER)
    size = (head[:, 12] >> 4).astype(np.int64) * 4
    good = (size >= _HEADER) & (size <= at[found] + total[found] - tcp[found])  # or a receiver drops it (tcp_v4_rcv)
    odd.malformed += int((~good).sum())
    found, head = found[good], head[good]
    ports = head[:, :4].copy().view(">u2").astype(np.uint64)
    one = _mixed(source[found] + ports[:, 0] * _KEYED)
    other = _mixed(destination[found] + ports[:, 1] * _KEYED)
    return Segments(
        numbers=(found + first).astype(np.uint32),
        offsets=at[found] + piece.base,
        captured=(ends[found] - at[found]).astype(np.uint32),
        times=piece.times[found],
        keys=_mixed(one + other),
        flips=one > other,
        seqs=head[:, 4:8].copy().view(">u4").ravel().astype(np.uint32),
        flags=head[:, 13].copy(),
    )


def _network(piece: Piece, odd: Odd) -> tuple[Ints, Ints]:
    """Where each packet's network layer begins, and its ethertype; 0 where it is not known."""
    at, types = piece.starts.copy(), np.zeros(len(piece.starts), np.int64)
    for link in values(piece.links):
        which = np.flatnonzero(piece.links == link)
        starts = piece.starts[which]
        if link == _ETHERNET:
            skip, kind = 14, 12
        elif link == _COOKED:
            skip, kind = 16, 14
        elif link == _COOKED2:
            skip, kind = 20, 0
        elif link in (_NULL, _LOOP):
            skip, kind = 4, -1
        elif link in _RAW:
            skip, kind = 0, -1
        else:
            odd.unknown += len(which)
            odd.links.add(link)
            continue
        at[which] = starts + skip
        if kind >= 0:
            types[which] = big_endian(rows(piece.data, starts + kind, 2))
            untag(piece.data, at, types, which)
        else:  # the first four bits of an IP header are its version
            types[which] = version(rows(piece.data, at[which], 1)[:, 0])
    types[at >= piece.starts + piece.captured] = 0
    return at, types


def _ipv4(data: memoryview, at: Ints, ends: Ints, odd: Odd) -> tuple[Ints, Ints, UInts, UInts]:
    """Where TCP begins (-1 where it does not), the length of all, and both addresses as one number each."""
    head = rows(data, at, 20)
    size = (head[:, 0] & 15).astype(np.int64) * 4
    good = (head[:, 0] >> 4 == 4) & (size >= 20) & (at + size <= ends) & (head[:, 9] == TCP)
    fragment = big_endian(head[:, 6:8]) & 0x3FFF  # where it lies in the whole, and whether more comes
    odd.fragments += int((good & (fragment > 0)).sum())
    good &= fragment & 0x1FFF == 0
    addresses = head[:, 12:20].copy().view(">u4").astype(np.uint64)
    total = big_endian(head[:, 2:4])
    total = np.where(total == 0, ends - at, total)  # the network card is to cut it into segments (TSO)
    return np.where(good, at + size, -1), total, addresses[:, 0], addresses[:, 1]


def _ipv6(data: memoryview, at: Ints, ends: Ints, odd: Odd) -> tuple[Ints, Ints, UInts, UInts]:
    head = rows(data, at, 40)
    kind, tcp = head[:, 6].astype(np.int64), at + 40
    good = (head[:, 0] >> 4 == 6) & (tcp <= ends)
    for _ in range(_MOST_EXTENSIONS):
        more = np.flatnonzero(good & np.isin(kind, (*EXTENSIONS, FRAGMENT, AUTHENTICATION)))
        if not more.size:
            break
        extension = rows(data, tcp[more], 8)
        of, length = kind[more], extension[:, 1].astype(np.int64)
        fragment = of == FRAGMENT
        partial = fragment & (big_endian(extension[:, 2:4]) & 0xFFF9 > 0)
        odd.fragments += int(partial.sum())
        good[more] &= ~(fragment & (big_endian(extension[:, 2:4]) & 0xFFF8 > 0))
        tcp[more] += np.select([fragment, of == AUTHENTICATION], [8, (length + 2) * 4], (length + 1) * 8)
        kind[more] = extension[:, 0]
        good &= tcp <= ends
    words = head[:, 8:40].copy().view(">u8").astype(np.uint64)
    source, destination = (_mixed(words[:, i] + _mixed(words[:, i + 1] ^ _KEYED)) for i in (0, 2))
    return np.where(good & (kind == TCP), tcp, -1), big_endian(head[:, 4:6]) + 40, source, destination


def _mixed(values: UInts) -> UInts:
    """Numbers that look like chance, the same for the same (splitmix64): alike only for one pair in 2**64."""
    values = (values ^ values >> np.uint64(30)) * _MIX[0]
    values = (values ^ values >> np.uint64(27)) * _MIX[1]
    return values ^ values >> np.uint64(31)
