"""Big captures of mixed traffic, made from a seed: a million packets in a few seconds, always the same.

Run: python -m tests.traffic FILE [PACKETS [RESETS]], with RESETS as `make` takes them.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_START = 1_790_000_000  # seconds
_STEP = 500_000  # packets that are made at once
_LONGEST = 1448
_HEAD = np.dtype(
    [("seconds", "<u4"), ("micros", "<u4"), ("size", "<u4"), ("whole", "<u4"), ("macs", "V12"), ("type", ">u2"),
     ("version", "u1"), ("service", "u1"), ("total", ">u2"), ("id", ">u2"), ("fragment", ">u2"), ("ttl", "u1"),
     ("protocol", "u1"), ("sum", ">u2"), ("source", ">u4"), ("destination", ">u4"), ("sport", ">u2"), ("dport", ">u2"),
     ("seq", ">u4"), ("ack", ">u4"), ("offset", "u1"), ("flags", "u1"), ("window", ">u2"), ("check", ">u2"),
     ("urgent", ">u2"), ("options", "V12")]
)  # fmt: skip

# A story is a list of packets: whether the server sent it, its flags, seq and ack (relative; of the bulk that
# stands at X, see below), and how many bytes it carries. A bulk is data from the server, each two acknowledged.
_OPEN = [(0, _SYN, 0, 0, 0), (1, _SYN | _ACK, 0, 1, 0), (0, _ACK, 1, 1, 0), (0, _PSH | _ACK, 1, 1, 400)]
_ENDS: dict[str, list[tuple[int, int, int, int, int]]] = {  # seq and ack count from the end of request and bulk
    "closed": [(1, _FIN | _ACK, 0, 0, 0), (0, _ACK, 0, 1, 0), (0, _FIN | _ACK, 0, 1, 0), (1, _ACK, 1, 1, 0)],
    "unread data": [(0, _RST | _ACK, 0, 0, 0)],
    "after close": [(0, _FIN | _ACK, 0, 0, 0), (1, _ACK, 0, 1, 0), (1, _PSH | _ACK, 0, 1, 100), (0, _RST, 1, 0, 0)],
    "server aborts": [(1, _RST | _ACK, 0, 0, 0)],
    "hurry": [(1, _FIN | _ACK, 0, 0, 0), (0, _FIN | _ACK, 0, 1, 0), (1, _ACK, 1, 1, 0), (0, _RST | _ACK, 1, 1, 0)],
}
_REFUSED = [(0, _SYN, 0, 0, 0), (1, _RST | _ACK, 0, 1, 0)]


@dataclass(frozen=True)
class Made:
    """What a capture holds."""

    packets: int
    connections: int
    resets: int
    reset_connections: int


def make(path: Path, packets: int, *, resets: float = 0.02, scanned: int = 5000, seed: int = 1) -> Made:
    """Write a pcap file of so many packets (a few more): connections of many lengths, one in ``1 / resets`` reset.

    One host scans ``scanned`` ports of another meanwhile; each is refused. A few packets are UDP.
    """
    chance = np.random.default_rng(seed)
    told = np.zeros(4, np.int64)
    made = first = 0
    with path.open("wb") as file:
        file.write(np.array([0xA1B2C3D4, 0x00040002, 0, 0, 262144, 1], "<u4").tobytes())
        while made < packets:
            now = min(_STEP, packets - made)
            part = scanned * now // packets
            head, loads, counts = _connections(chance, now, first, part, resets, _START + made * 50e-6)
            head.tofile(file) if not loads.any() else _write(file, head, loads)
            made, first = made + len(head), first + int(counts[1])
            told += counts
    return Made(*map(int, told))


def _connections(
    chance: np.random.Generator, packets: int, first: int, scanned: int, resets: float, start: float
) -> tuple[Any, Any, Any]:
    """The heads of packets in order of time, and the lengths of what they carry."""
    stories, reset = [], []
    bulks = chance.geometric(0.06, packets) * chance.choice([0, 1, 1, 4], packets)
    kinds = chance.random(packets)
    names = list(_ENDS)[1:]
    length = number = 0
    while length < packets - 2 * scanned:
        end = "closed" if kinds[number] >= resets else names[int(kinds[number] / resets * len(names))]
        bulk = int(bulks[number])
        stories.append(_story(end, bulk))
        reset.append(end != "closed")
        length += len(stories[-1])
        number += 1
    udp = np.array([(0, 255, 0, 0, 80)] * max(1, packets // 100), np.int64)
    refused = np.array(_REFUSED, np.int64)
    stories += [refused] * scanned + [udp]
    rows = np.concatenate(stories)
    sizes = np.array([len(story) for story in stories])
    which = np.repeat(np.arange(len(stories)), sizes)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    began = chance.random(len(stories)) * packets * 50e-6
    gap = np.repeat(chance.choice([100e-6, 1e-3, 20e-3], len(stories)), sizes)
    time = start + began[which] + gap * place
    order = np.argsort(time, kind="stable")
    scan = (which >= number) & (which < number + scanned)
    client = 0x0A000000 + (first + which) // 60 % 250_000 + 1
    server = 0x0A640001 + which % 200
    sport, dport = 20_000 + (first + which) % 40_000, np.array([80, 443, 8080, 5432])[which % 4]
    client[scan], server[scan] = 0xCB007107, 0x0A640001
    sport[scan], dport[scan] = 40_000 + which[scan] % 20_000, 1 + (first + which[scan]) % 65_535
    isn = chance.integers(0, 2**32, (2, len(stories)))
    away, flags, seq, ack, size = rows.T
    head = np.zeros(len(rows), _HEAD)
    head["seconds"], head["micros"] = time, time % 1 * 1e6
    head["size"] = head["whole"] = 66 + size
    head["type"], head["version"], head["total"], head["id"], head["fragment"] = 0x800, 0x45, 52 + size, place, 0x4000
    head["ttl"], head["protocol"] = np.where(away, 57, 64), np.where(flags == 255, 17, 6)
    head["source"], head["destination"] = np.where(away, [server, client], [client, server])
    head["sport"], head["dport"] = np.where(away, [dport, sport], [sport, dport])
    head["seq"] = (np.where(away, isn[1][which], isn[0][which]) + seq) % 2**32
    head["ack"] = np.where(flags & _ACK, (np.where(away, isn[0][which], isn[1][which]) + ack) % 2**32, 0)
    head["seq"][scan & (flags & _RST > 0)] = 0
    head["offset"], head["flags"], head["window"] = 0x80, np.where(flags == 255, 0, flags), 502
    head["options"] = np.void(b"\x01\x01\x08\x0a" + bytes(8))
    is_rst = (flags != 255) & (flags & _RST > 0)
    counts = np.array([len(rows), len(stories) - 1, is_rst.sum(), sum(reset) + scanned])
    return head[order], size[order], counts


_MADE: dict[tuple[str, int], Any] = {}


def _story(end: str, bulk: int) -> Any:
    if (end, bulk) not in _MADE:
        rows = list(_OPEN)
        for number in range(bulk):
            rows.append((1, _ACK, 1 + _LONGEST * number, 401, _LONGEST))
            if number % 2:
                rows.append((0, _ACK, 401, 1 + _LONGEST * (number + 1), 0))
        after = 1 + _LONGEST * bulk
        base = ((401, after), (after, 401))
        rows += [(a, f, base[a][0] + seq, base[a][1] + ack, size) for a, f, seq, ack, size in _ENDS[end]]
        _MADE[end, bulk] = np.array(rows, np.int64)
    return _MADE[end, bulk]


def _write(file: Any, head: Any, loads: Any) -> None:
    """Heads and what they carry, which is text that says nothing."""
    sizes = _HEAD.itemsize + loads
    ends = np.cumsum(sizes)
    out = np.resize(np.frombuffer(b"what a packet carries says nothing here\n", np.uint8), ends[-1])
    starts = ends - sizes
    out[(starts[:, None] + np.arange(_HEAD.itemsize)).ravel()] = head.view(np.uint8).ravel()
    out.tofile(file)


def main() -> None:
    path, packets, resets = sys.argv[1:] + ["1000000", "0.02"][len(sys.argv) - 2 :]
    print(make(Path(path), int(packets), resets=float(resets)), flush=True)


if __name__ == "__main__":
    main()
