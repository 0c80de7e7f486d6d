"""The command `rstkit explain`: what it prints and writes, and its exit status."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from rstkit import cli
from rstkit.tcp import Endpoint, Flags

from .test_findings import LATE, REFUSED, UNREAD, Story

_BEGAN = 1_790_000_000
HTML = b"<img src=x onerror=alert(1)>\x1b[2J\x1b]0;owned\x07"


def frame(source: Endpoint, destination: Endpoint, flags: Flags, seq: int, ack: int, payload: bytes) -> bytes:
    """An Ethernet frame; checksums are left at zero."""
    tcp = struct.pack("!HHIIBBHHH", source.port, destination.port, seq, ack, 0x50, flags, 502, 0, 0) + payload
    ends = b"".join(bytes(map(int, end.address.split("."))) for end in (source, destination))
    return bytes(12) + b"\x08\x00" + struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 7, 0, 64, 6, 0) + ends + tcp


def frames(story: Story, client: Endpoint, server: Endpoint) -> list[bytes]:
    ends, start, made = {"client": client, "server": server}, {"client": 1_000_000, "server": 4_294_967_290}, []
    for sender, flags, seq, ack, payload in story:
        other = "server" if sender == "client" else "client"
        number = 0 if story is REFUSED and flags & Flags.RST else (start[sender] + seq) % 2**32
        told = (start[other] + ack) % 2**32 if flags & Flags.ACK else 0
        made.append(frame(ends[sender], ends[other], flags, number, told, payload))
    return made


def pcap(path: Path, *stories: list[bytes]) -> Path:
    """A capture in which connections follow each other, a packet each ten milliseconds."""
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for place, one in enumerate(packet for story in stories for packet in story):
        seconds, rest = divmod(place, 100)
        data += struct.pack("<IIII", _BEGAN + seconds, rest * 10_000, len(one), len(one)) + one
    path.write_bytes(data)
    return path


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A service that answers too late, one that does not read, and a scan."""
    other = [frame(Endpoint("10.0.9.9", 5), Endpoint("10.0.9.8", 6), Flags.ACK, 1, 1, b"no reset here")]
    return pcap(
        tmp_path / "some.pcap",
        other,
        frames(LATE, Endpoint("10.0.1.9", 40000), Endpoint("10.0.0.4", 8080)),
        frames(UNREAD, Endpoint("10.0.1.1", 40001), Endpoint("10.0.0.2", 8080)),
        *(frames(REFUSED, Endpoint("203.0.113.7", 50000 + n), Endpoint("10.0.0.2", n)) for n in range(1, 13)),
        other,
    )


def test_explains_a_capture(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", str(capture)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == "some.pcap: 38 packets, 15 TCP connections in 370 ms, from 2026-09-21 14:13:20.000 UTC."
    assert lines[1] == "14 RSTs in 14 connections: 3 findings (data loss 2, probed 12), the worst first."
    assert "   who    10.0.1.9 reset a connection to 10.0.0.4:8080." in lines
    assert "   see    10.0.1.9:40000 to 10.0.0.4:8080, frames 2 to 8" in lines
    assert "   who    10.0.0.2, ports 1-12, refused 12 connections from 203.0.113.7." in lines
    late = out[out.index("Data arrived after close (") :]
    assert "frame 7 (14 bytes of data)" in " ".join(late.split())
    assert "began after the handshake" not in out  # each connection is whole, the refused ones too
    assert "\x1b" not in out


def test_prints_json(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "--json", str(capture)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["packets"], told["connections"], told["resets"]) == (38, 15, 14)
    late = next(finding for finding in told["findings"] if finding["cause"] == "data-after-close")
    assert late["example"]["trigger"] == 7
    assert late["example"]["rst"] == [8]
    assert [finding["harm"] for finding in told["findings"]] == ["data loss", "data loss", "probed"]
    assert len(told["findings"][2]["connections"]) == 12


def test_annotates_the_connections_that_were_reset(capture: Path, tmp_path: Path) -> None:
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed")
    written = tmp_path / "out.pcapng"
    assert cli.main(["explain", str(capture), "--annotate", str(written)]) == 0
    fields = ["-T", "fields", "-e", "frame.number", "-e", "ip.src", "-e", "frame.time_epoch", "-e", "frame.comment"]
    read = subprocess.run(["tshark", "-r", str(written), *fields], capture_output=True, text=True, check=True)
    assert not [line for line in read.stderr.splitlines() if "Running as user" not in line]
    rows = [line.split("\t") for line in read.stdout.splitlines()]
    assert len(rows) == 36  # all but the two packets of a connection without RST
    assert rows[0][1:3] == ["10.0.1.9", "1790000000.010000000"]
    rst, trigger = rows[6][3], rows[5][3]
    assert rst.startswith("RST: Data arrived after close (likely).")
    assert "frame 6 (14 bytes of data)" in rst
    assert "(Frame 8 of some.pcap.)" in rst
    assert trigger.startswith("Provoked the RST, frame 7: Data arrived after close")
    assert rows[0][3] == ""


def test_the_annotated_file_can_be_explained_and_says_the_same(capture: Path, tmp_path: Path) -> None:
    from rstkit.captures import read
    from rstkit.findings import findings

    written = tmp_path / "out.pcapng"
    cli.main(["explain", str(capture), "--annotate", str(written)])
    again, first = findings(read(written)), findings(read(capture))
    assert [(f.cause, f.confidence, f.who) for f in again] == [(f.cause, f.confidence, f.who) for f in first]


def test_the_capture_is_not_written_over(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = capture.read_bytes()
    assert cli.main(["explain", str(capture), "--annotate", str(capture)]) == 1
    assert "is the capture itself" in capsys.readouterr().err
    assert capture.read_bytes() == before


def test_a_damaged_file_is_read_as_far_as_it_goes(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture.write_bytes(capture.read_bytes()[:-150])
    assert cli.main(["explain", str(capture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("! The file is damaged at byte")


@pytest.mark.parametrize("content", [b"", b"no capture at all", None])
def test_a_bad_file_gets_one_line_and_status_1(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x\x1b[2J.pcap"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["explain", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rstkit: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err


@pytest.mark.parametrize(
    "arguments", [[], ["explain"], ["explain", "a", "b"], ["explain", "a", "--annotate"], ["what"]]
)
def test_wrong_use_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert raised.value.code == 2
    assert "usage: rstkit" in capsys.readouterr().err


def test_hostile_payloads_and_names_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = [(*line[:4], HTML if line[4] else b"") for line in LATE]
    path = pcap(tmp_path / "a\u202e\x1b[2J.pcap", frames(hostile, Endpoint("10.0.1.9", 1), Endpoint("10.0.0.4", 80)))
    for arguments in (["explain", str(path)], ["explain", "--json", str(path)]):
        assert cli.main(arguments) == 0
        assert all(character.isprintable() or character == "\n" for character in capsys.readouterr().out)


def test_loads_only_what_it_needs(capture: Path) -> None:
    code = (
        "import sys; from rstkit.cli import main; main(sys.argv[1:]); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", str(capture)], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert "numpy" in loaded
    assert not loaded & {"scapy", "plotly", "IPython", "ipywidgets", "tqdm", "cloudpickle", "asyncio"}


def test_who_stops_reading_is_no_error(capture: Path) -> None:
    command = f"{sys.executable} -c 'import sys; from rstkit.cli import main; sys.exit(main(sys.argv[1:]))'"
    shell = f"set -o pipefail; {command} explain --json {capture} | head -c 1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.stdout == "{"
    assert done.stderr == ""


class Terminal:
    """Stands for a terminal on stderr."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_once_it_takes_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, now = Terminal(), [0.0]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("rstkit.cli.time.monotonic", lambda: now[0])
    show = cli._progress("reading")
    assert show
    show(0.1)
    assert terminal.text == ""
    now[0] = 1.1
    show(0.5)
    assert "reading:  50%" in terminal.text
    show(1.0)
    assert terminal.text.endswith("\r")  # the bar is wiped away
    monkeypatch.undo()
    assert cli._progress("reading") is None or sys.stderr.isatty()
