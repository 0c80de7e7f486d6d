"""The command ``rstkit``."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import RstkitError


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command; what it returns is the status of the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="rstkit", description="Why was this TCP connection reset?")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("doctor", help="tell which labs this machine has, and what would make others work")
    record = commands.add_parser("record", help="record notebooks for machines that have no live lab")
    record.add_argument("path", nargs="+", type=Path, help="a notebook, or a folder of notebooks")
    given = parser.parse_args(arguments)
    try:
        if given.command == "doctor":
            _doctor()
        else:
            _record(given.path, shlex.join(["rstkit", *arguments]))
    except RstkitError as error:
        print(f"rstkit: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _doctor() -> None:
    from .doctor import report  # noqa: PLC0415 - each command loads what it needs

    print(report())  # noqa: T201


def _record(paths: Sequence[Path], command: str) -> None:
    from .record import record  # noqa: PLC0415

    record(paths, command, lambda text: print(text, flush=True))  # noqa: T201
