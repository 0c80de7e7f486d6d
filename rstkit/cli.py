"""The command ``rstkit``."""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .errors import RstkitError, TraceError


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command; what it returns is the status of the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="rstkit", description="Why was this TCP connection reset?")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("doctor", help="tell which labs this machine has, and what would make others work")
    record = commands.add_parser("record", help="record notebooks for machines that have no live lab")
    record.add_argument("path", nargs="+", type=Path, help="a notebook, or a folder of notebooks")
    explain = commands.add_parser("explain", help="tell why the connections in a capture were reset")
    explain.add_argument("path", type=Path, metavar="CAPTURE", help="a pcap or pcapng file, compressed by gzip or not")
    explain.add_argument("--json", action="store_true", help="print JSON for programs (rstkit.report.as_json)")
    explain.add_argument(
        "--annotate",
        type=Path,
        metavar="OUT.pcapng",
        help="also write the connections that were reset, with comments that Wireshark shows",
    )
    given = parser.parse_args(arguments)
    try:
        if given.command == "doctor":
            _doctor()
        elif given.command == "explain":
            _explain(given.path, given.json, given.annotate)
        else:
            _record(given.path, shlex.join(["rstkit", *arguments]))
    except RstkitError as error:
        print(f"rstkit: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


def _doctor() -> None:
    from .doctor import report  # noqa: PLC0415 - each command loads what it needs

    print(report())  # noqa: T201


def _record(paths: Sequence[Path], command: str) -> None:
    from .record import record  # noqa: PLC0415

    record(paths, command, lambda text: print(text, flush=True))  # noqa: T201


def _explain(path: Path, as_json: bool, annotated: Path | None) -> None:
    # numpy would start a thread for each core, for algebra that nothing here does
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from . import report  # noqa: PLC0415
    from .captures import read  # noqa: PLC0415
    from .dissect import printable  # noqa: PLC0415
    from .findings import findings  # noqa: PLC0415

    try:
        capture = read(path, _progress("reading"))
        found = findings(capture, _progress("explaining"))
        if annotated is not None:
            from .annotate import annotate  # noqa: PLC0415

            annotate(capture, found, annotated, _progress("writing"))
    except TraceError as error:
        raise TraceError(printable(str(error))) from error  # a name of a file may hold anything
    text = json.dumps(report.as_json(capture, found), indent=1) if as_json else report.report(capture, found)
    print(text)  # noqa: T201


def _progress(what: str) -> Callable[[float], None] | None:
    """Shows how far something is, on a terminal, once it has taken a second."""
    if not sys.stderr.isatty():
        return None
    began = time.monotonic()
    bars: list[Any] = []

    def show(part: float) -> None:
        if not bars and time.monotonic() - began >= 1 and part < 1:
            from tqdm import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415

            form = "{l_bar}{bar}| {remaining} left"
            bars.append(tqdm(total=100, desc=what, unit="%", leave=False, initial=part * 100, bar_format=form))
        for bar in bars:
            bar.update(part * 100 - bar.n)
            if part >= 1:
                bar.close()

    return show
