"""What tunnels carry: where the inner packet begins, for many packets at once.

IP in IP (RFC 2003, 4213), GRE (RFC 2784, 2890) and ERSPAN in it, VXLAN (RFC 7348), Geneve (RFC 8926),
GTP-U (3GPP TS 29.281), PPPoE (RFC 2516) and MPLS (RFC 3032), as mirrors and providers' networks use them.
"""

import numpy as np
import numpy.typing as npt

from .pieces import Ints, big_endian, rows

IPV4, IPV6 = 0x0800, 0x86DD  # ethertypes
VLANS = (0x8100, 0x88A8, 0x9100)
_ETHERNET, _ERSPAN, _ERSPAN3, _PPPOE, _MPLS = 0x6558, 0x88BE, 0x22EB, 0x8864, (0x8847, 0x8848)
_IP_IN_IP, _UDP, _IPV6_IN_IP, _GRE = 4, 17, 41, 47
_PPP = {0x0021: IPV4, 0x0057: IPV6}
_VXLAN, _GENEVE, _GTP = (4789, 8472), 6081, 2152  # ports; Linux began with another for VXLAN
_GTP_DATA = 255
_MOST_LABELS, _MOST_TAGS = 8, 4
_WIDTH = 64  # bytes of a packet's network layer that are looked at


def inner(data: memoryview, at: Ints, types: Ints) -> tuple[Ints, Ints]:
    """For packets whose network layers begin somewhere: where those begin that they carry, and their ethertypes.

    The ethertype is 0 where a packet carries none.
    """
    head = rows(data, at, _WIDTH)
    begins, kinds = np.zeros_like(at), np.zeros_like(types)
    for kind in np.flatnonzero(np.bincount(types)).tolist():
        which = np.flatnonzero(types == kind)
        if kind in (IPV4, IPV6):
            begins[which], kinds[which] = _in_ip(head[which], kind)
        elif kind == _PPPOE:
            begins[which], kinds[which] = 8, _translated(big_endian(head[which, 6:8]), _PPP)
        elif kind in _MPLS:
            begins[which], kinds[which] = _in_mpls(head[which])
    begins += at
    ethernet = np.flatnonzero(kinds == _ETHERNET)
    kinds[ethernet] = big_endian(rows(data, begins[ethernet] + 12, 2))
    begins[ethernet] += 14
    untag(data, begins, kinds, ethernet)
    return begins, kinds


def untag(data: memoryview, at: Ints, types: Ints, which: Ints) -> None:
    """Step over VLAN tags, one or several (IEEE 802.1Q, 802.1ad)."""
    for _ in range(_MOST_TAGS):
        which = which[np.isin(types[which], VLANS)]
        if not which.size:
            return
        types[which] = big_endian(rows(data, at[which] + 2, 2))
        at[which] += 4


def version(first: npt.NDArray[np.uint8]) -> Ints:
    """The ethertype of IP packets by their first byte; 0 where it begins none."""
    return _translated((first >> 4).astype(np.int64), {4: IPV4, 6: IPV6})


def _in_ip(head: npt.NDArray[np.uint8], kind: int) -> tuple[Ints, Ints]:
    """What an IP header is followed by: of a fragment's later part nothing is known, nor behind IPv6 extensions."""
    if kind == IPV4:
        size, protocol = (head[:, 0] & 15).astype(np.int64) * 4, head[:, 9]
        protocol = np.where(big_endian(head[:, 6:8]) & 0x1FFF > 0, 0, protocol)
    else:
        size, protocol = np.full(len(head), 40), head[:, 6]
    flat = head.tobytes()
    rest = rows(flat, np.arange(len(head)) * _WIDTH + size, 24)
    begins, kinds = size.copy(), _translated(protocol.astype(np.int64), {_IP_IN_IP: IPV4, _IPV6_IN_IP: IPV6})
    for which, read in ((np.flatnonzero(protocol == _GRE), _in_gre), (np.flatnonzero(protocol == _UDP), _in_udp)):
        skip, kinds[which] = read(rest[which])
        begins[which] += skip
    return begins, kinds


def _in_gre(head: npt.NDArray[np.uint8]) -> tuple[Ints, Ints]:
    bits, kind = head[:, 0], big_endian(head[:, 2:4])
    numbered = bits & 0x10 > 0
    size = 4 + 4 * ((bits & 0x80 > 0).astype(np.int64) + (bits & 0x20 > 0) + numbered)  # a checksum, a key, a number
    size += np.select([(kind == _ERSPAN) & numbered, kind == _ERSPAN3], [8, 12], 0)
    kind = np.where((kind == _ERSPAN) | (kind == _ERSPAN3), _ETHERNET, kind)
    return size, np.where(head[:, 1] & 7 == 0, kind, 0)  # version 1 is PPTP's


def _in_udp(head: npt.NDArray[np.uint8]) -> tuple[Ints, Ints]:
    port = big_endian(head[:, 2:4])
    vxlan = np.isin(port, _VXLAN) & (head[:, 8] == 8)  # the one flag says that it has a number
    geneve = (port == _GENEVE) & (head[:, 8] >> 6 == 0)
    gtp = (port == _GTP) & (head[:, 8] >> 5 == 1) & (head[:, 9] == _GTP_DATA) & (head[:, 8] & 4 == 0)
    begins = np.select([vxlan, geneve, gtp], [16, 16 + (head[:, 8] & 63).astype(np.int64) * 4, 16], 8)
    begins = np.where(gtp & (head[:, 8] & 3 > 0), 20, begins)
    of_gtp = version(np.where(head[:, 8] & 3 > 0, head[:, 20], head[:, 16]))
    return begins, np.select([vxlan, geneve, gtp], [_ETHERNET, big_endian(head[:, 10:12]), of_gtp], 0)


def _in_mpls(head: npt.NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """What stands behind the labels, by its first byte: no label tells it."""
    bottom = head[:, 2 : 4 * _MOST_LABELS : 4] & 1
    begins = (bottom.argmax(axis=1) + 1) * 4
    first = rows(head.tobytes(), np.arange(len(head)) * _WIDTH + begins, 1)[:, 0]
    return begins, np.where(bottom.any(axis=1), version(first), 0)


def _translated(numbers: Ints, meaning: dict[int, int]) -> Ints:
    return np.select([numbers == number for number in meaning], list(meaning.values()), 0)
