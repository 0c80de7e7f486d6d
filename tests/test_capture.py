"""Packets for other tools: read back by tshark and scapy."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6
from scapy.utils import PcapNgReader

from rstkit.capture import to_scapy, write_pcapng
from rstkit.explain import explain
from rstkit.lab import Lab
from rstkit.tcp import Flags
from rstkit.trace import Trace

from .builder import data_after_close, packet
from .test_lab import knock, say_hello, serve_one

needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")


def tshark(path: Path, *options: str) -> list[str]:
    return subprocess.run(
        ["tshark", "-r", path, *options], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def fields(path: Path, *names: str) -> list[list[str]]:
    """The fields of each packet, as tshark reads them."""
    chosen = [option for name in names for option in ("-e", name)]
    return [line.split("\t") for line in tshark(path, "-T", "fields", *chosen)]


@needs_tshark
def test_tshark_reads_packets_times_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    trace = data_after_close()
    write_pcapng(trace, path)
    (reset,) = explain(trace)
    told = f"{reset.cause.title} ({reset.confidence})."
    assert fields(path, "frame.number", "frame.time_epoch", "frame.len", "frame.comment") == [
        ["1", "1790000000.001000000", "54", ""],
        ["2", "1790000000.021100000", "54", ""],
        ["3", "1790000000.041200000", "54", ""],
        ["4", "1790000000.041400000", "65", ""],
        ["5", "1790000000.041600000", "54", ""],
        ["6", "1790000000.061500000", "54", ""],
        ["7", "1790000000.102000000", "54", ""],
        ["8", "1790000001.062000000", "65", f"Provoked the RST, packet 9: {told}"],
        ["9", "1790000001.082100000", "54", f"RST: {told} {reset.why}"],
    ]


@needs_tshark
@pytest.mark.parametrize("ip", [4, 6])
def test_tshark_finds_nothing_wrong_with_a_real_run(lab: Lab, tmp_path: Path, ip: int) -> None:
    path = tmp_path / "trace.pcapng"
    trace = lab.run(serve_one, say_hello, ip=ip, rtt=10, drop=[("client", 3)])
    trace.save(path)
    check = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    assert tshark(path, *check, "-Y", "_ws.malformed or tcp.checksum.status == 0 or ip.checksum.status == 0") == []
    read = fields(path, "tcp.seq_raw", "tcp.len", "frame.comment")
    assert read == [[str(p.seq), str(p.length), f"Never arrived ({p.lost})." if p.lost else ""] for p in trace.packets]
    assert [comment for *_, comment in read if comment] == ["Never arrived (dropped: on the list of frames to drop)."]


@needs_tshark
def test_a_refusal_points_both_ways(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    lab.run(None, knock).save(path)
    (syn,), (rst,) = fields(path, "frame.comment")
    assert syn.startswith("Provoked the RST, packet 2: ")
    assert rst.startswith("RST: ")


@needs_tshark
def test_the_repeats_of_a_rst_point_at_the_first(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    trace = data_after_close()
    again = trace.packets[-1]._replace(number=10, sent=1.1, arrived=1.12)
    trace = dataclasses.replace(trace, packets=(*trace.packets, again))
    assert [len(reset.packets) for reset in explain(trace)] == [2]
    write_pcapng(trace, path)
    assert fields(path, "frame.comment")[-1] == ["One more RST of the same reset as packet 9."]


@pytest.mark.skipif(not shutil.which("capinfos"), reason="capinfos is not installed")
def test_the_file_says_how_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    write_pcapng(data_after_close(), path)
    told = subprocess.run(["capinfos", path], capture_output=True, text=True, check=True).stdout
    lines = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in told.splitlines())}
    assert lines["Capture comment"] == (
        "Made by rstkit 0.1.0 in the backend 'namespaces' on Linux 6.18. Values: rtt=40, nap=1.0."
    )
    assert lines["Capture application"] == "rstkit 0.1.0"
    assert lines["Capture oper-sys"] == "Linux 6.18"
    assert lines["File timestamp precision"] == "nanoseconds (9)"
    assert lines["File encapsulation"] == "Ethernet"
    assert lines["Number of interfaces in file"] == "1"


@needs_tshark
def test_odd_texts_and_long_ones_keep_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    odd = packet(1, "client", 0.0, None, Flags.SYN, 0, lost="größer \udce9")
    long = packet(2, "client", 1.0, None, Flags.SYN, 0, lost="ü" * 70_000)
    write_pcapng(Trace((odd, long), values={"words": "x" * 100_000}), path)
    first, second = fields(path, "frame.comment")
    assert first == ["Never arrived (größer \\udce9)."]
    assert second[0].startswith("Never arrived (üüü")
    assert set(second[0].removeprefix("Never arrived (")) == {"ü"}


@needs_tshark
def test_a_frame_that_a_capture_cut_keeps_its_length(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    whole = packet(1, "client", 0.0, 0.1, Flags.PSH | Flags.ACK, 1, 1, b"hello world")
    cut = whole.from_frame(1, "client", 0.0, 0.1, whole.frame[:-7])
    assert cut is not None
    write_pcapng(Trace((cut,)), path)
    assert fields(path, "frame.len", "frame.cap_len") == [["65", "58"]]


def test_scapy_reads_the_file_as_the_list_has_it(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    trace = data_after_close()
    write_pcapng(trace, path)
    with PcapNgReader(str(path)) as reader:
        read = list(reader)
    assert [bytes(p) for p in read] == [p.frame for p in trace.packets]
    assert [p.time for p in read] == [p.time for p in to_scapy(trace)]


def test_scapy_has_the_packets_and_their_times(lab: Lab) -> None:
    trace = lab.run(serve_one, say_hello, ip=6, rtt=2)
    packets = trace.scapy()
    assert [bytes(p) for p in packets] == [p.frame for p in trace.packets]
    assert [(p[TCP].seq, p[IPv6].src) for p in packets] == [(p.seq, p.source.address) for p in trace.packets]
    assert [int(p.time * 10**9) for p in packets] == [trace.epoch_ns + round(p.sent * 1e9) for p in trace.packets]


def test_scapy_without_its_whole_collection() -> None:
    """scapy.all takes three times as long to import as what is needed."""
    code = "import sys, tests.builder as b; b.data_after_close().scapy(); print('scapy.all' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no such place"):
        write_pcapng(data_after_close(), tmp_path / "no such place" / "trace.pcapng")
