"""Network devices over rtnetlink(7): as little as two hosts on a wire take.

pyroute2 does all of this and more, but importing it costs more than a whole run may.
"""

import os
import socket
import struct
from ipaddress import ip_address

_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
_NLMSG_ERROR = 2
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWNEIGH = 16, 20, 28
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 1, 3, 18, 26, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE = 8, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 0x02
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_PERMANENT = 0x80
_IFF_UP = 0x1


def attribute(kind: int, data: bytes) -> bytes:
    """A netlink attribute: length, kind, data, padded to four bytes."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


class Route:
    """An rtnetlink socket in the network namespace that is current when it is made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

    def __enter__(self) -> "Route":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def add_veth(self, name: str, peer: str, peer_mac: bytes, peer_namespace: int) -> None:
        """Add a veth pair: ``name`` here, ``peer`` in the namespace that a descriptor refers to."""
        other = _link(0) + attribute(_IFLA_IFNAME, peer.encode()) + attribute(_IFLA_ADDRESS, peer_mac)
        other += attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        data = attribute(_IFLA_INFO_KIND, b"veth") + attribute(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, other))
        body = _link(0) + attribute(_IFLA_IFNAME, name.encode()) + attribute(_IFLA_LINKINFO, data)
        self._request(_RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, body)

    def set_up(self, name: str) -> None:
        """Bring a device up, without the link-local address that IPv6 would give it.

        With that address come router solicitations and duplicate address detection: frames that
        no lesson is about.
        """
        index = socket.if_nametoindex(name)
        self._request(_RTM_NEWLINK, 0, _link(index) + _NO_LINK_LOCAL)
        self._request(_RTM_NEWLINK, 0, _link(index, _IFF_UP))

    def add_address(self, name: str, address: str, prefix: int) -> None:
        """Give a device an address; IPv6 uses it at once, without duplicate address detection."""
        packed = ip_address(address).packed
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        body = struct.pack("=BBBBI", family, prefix, _IFA_F_NODAD, 0, socket.if_nametoindex(name))
        body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
        self._request(_RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_EXCL, body)

    def add_neighbour(self, name: str, address: str, mac: bytes) -> None:
        """Tell a device its neighbour's MAC address for good, so that no ARP delays the first SYN."""
        packed = ip_address(address).packed
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        body = struct.pack("=BxxxiHBB", family, socket.if_nametoindex(name), _NUD_PERMANENT, 0, 0)
        body += attribute(_NDA_DST, packed) + attribute(_NDA_LLADDR, mac)
        self._request(_RTM_NEWNEIGH, _NLM_F_CREATE | _NLM_F_EXCL, body)

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        flags |= _NLM_F_REQUEST | _NLM_F_ACK
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        answer = self._socket.recv(65536)
        _, kind, *_ = struct.unpack_from("=IHHII", answer)
        assert kind == _NLMSG_ERROR, f"rtnetlink answered with message type {kind}"
        (error,) = struct.unpack_from("=i", answer, 16)
        if error:
            raise OSError(-error, f"rtnetlink: {os.strerror(-error)}")


def _link(index: int, flags: int = 0) -> bytes:
    """A struct ifinfomsg; the flags given are set, the others left alone."""
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


_NO_LINK_LOCAL = attribute(
    _IFLA_AF_SPEC,
    attribute(socket.AF_INET6, attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_IN6_ADDR_GEN_MODE_NONE]))),
)
