"""What this machine's labs are: which backends work, why others do not, and what would make them work."""

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import __version__
from .dissect import printable
from .errors import RstkitError
from .lab import choice

_TRACEPOINT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from rstkit.lab.reasons import read_tracepoint; "
    "sys.exit(read_tracepoint() is None)"
)


def report() -> str:
    """What a maintainer would ask for, in some 20 lines of plain text; what was not tried yet is tried now."""
    return "\n".join(map(printable, _lines()))


def _lines() -> Iterator[str]:
    system, python = f"{platform.system()} {platform.release()}", platform.python_version()
    user = f", uid {os.getuid()}" if hasattr(os, "getuid") else ""
    yield f"rstkit {__version__}, Python {python}, {system} ({platform.machine()}){user}"
    yield f"In use: {_in_use()}"
    yield f"The kernel's own reason for each RST: {_reasons()}"
    for name in ["recorded"] if choice.BROWSER else choice.BACKENDS:
        yield ""
        yield from _tell(name)


def _in_use() -> str:
    forced = os.environ.get(choice.FORCED)
    try:
        chosen = choice.choose()
        for_sysctls = choice.choose(["sysctls"])
    except RstkitError as error:
        return f"none. {error}"
    why = f"{choice.FORCED} names it" if forced else "the first of these that works"
    other = f"; for fin_timeout and sysctls {for_sysctls.name}" if for_sysctls is not chosen else ""
    return f"{chosen.name} ({why}){other}."


def _reasons() -> str:
    if not sys.platform.startswith("linux"):
        return "not told; Linux tells it."
    if os.geteuid() != 0:
        return "not told; it takes root (tracepoint tcp:tcp_send_reset)."
    import subprocess  # noqa: PLC0415 - a browser's Python, which never comes here, has none

    # in a process of its own, since this one may have threads, and reading may fork
    here = str(Path(__file__).parents[1])
    missing = subprocess.run(
        [sys.executable, "-I", "-c", _TRACEPOINT, here], capture_output=True, check=False
    ).returncode
    return (
        "not told; it takes Linux 6.10 or newer, and tracefs."
        if missing
        else "told, with namespaces (tracepoint tcp:tcp_send_reset)."
    )


def _tell(name: str) -> Iterator[str]:
    tried = choice.tried(name)
    backend, refusal = choice.verdict(name)
    if not tried:  # nobody uses it
        backend.close()
    yield f"{name}: {'works' if refusal is None else 'does not work here'}"
    yield f"  {backend.about}"
    if refusal is not None:
        yield f"  Why not: {refusal}."
        yield f"  What would help: {backend.remedy}"
    else:
        yield from (f"  Without {', '.join(names)}: {why}." for why, names in _grouped(backend.lacks).items())


def _grouped(lacks: Mapping[str, str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, why in lacks.items():
        grouped.setdefault(why, []).append(name)
    return grouped
