"""What may be given to a run: the lab's settings and the programs' own values, checked before anything starts."""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SettingError

Program = Callable[..., Any] | Sequence[str]

ADDRESSES = {"client": {4: "10.0.0.1", 6: "fd00::1"}, "server": {4: "10.0.0.2", 6: "fd00::2"}}

_PLACE = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class Setting:
    """A setting of the lab: its default, its unit, what it does, and the check that returns its value or None.

    Without one that is ``needed`` a run would be about something else; without the others it still tells its story.
    """

    default: Any
    unit: str
    about: str
    check: Callable[[Any], Any]
    needed: bool = False


def _number(least: float, most: float, whole: bool = False) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        if whole and value != int(value):
            return None
        return (int(value) if whole else float(value)) if least <= value <= most else None

    return check


def _drop(value: Any) -> list[tuple[str, int]] | None:
    try:
        frames = [(host, number) for host, number in value]
    except (TypeError, ValueError):
        return None
    good = all(host in ADDRESSES and type(number) is int and number > 0 for host, number in frames)
    return frames if good else None


def _sysctls(value: Any) -> dict[str, dict[str, str]] | None:
    if not isinstance(value, Mapping) or not set(value) <= set(ADDRESSES):
        return None
    if not all(isinstance(of_host, Mapping) for of_host in value.values()):
        return None
    named = [name for of_host in value.values() for name in of_host]
    if not all(isinstance(name, str) and re.fullmatch(r"net(\.\w+)+", name) for name in named):
        return None
    return {host: {name: str(v) for name, v in of_host.items()} for host, of_host in value.items()}


SETTINGS: dict[str, Setting] = {
    "rtt": Setting(20.0, "ms", "round-trip time, 0 to 60,000 ms", _number(0, 60_000)),
    "loss": Setting(0.0, "%", "share of frames lost at random, 0 to 100 %", _number(0, 100)),
    "seed": Setting(0, "", "seed of that chance, a whole number", _number(0, 2**63, whole=True)),
    "drop": Setting((), "", 'frames to drop, by sender and number, such as [("client", 1)]', _drop),
    "duration": Setting(10.0, "s", "the longest that a run may take, up to 3,600 s", _number(0.001, 3600)),
    "fin_timeout": Setting(
        None, "s", "tcp_fin_timeout of both hosts, 1 to 3,600 s", _number(1, 3600, whole=True), True
    ),
    "sysctls": Setting(
        {}, "", 'by host, such as {"server": {"net.ipv4.tcp_abort_on_overflow": 1}}', _sysctls, needed=True
    ),
    "ip": Setting(4, "", "the version of IP, 4 or 6", {4: 4, 6: 6}.get),
    "port": Setting(8080, "", "the server's port, 1 to 65,535", _number(1, 65_535, whole=True)),
}


def check_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The lab's settings among ``values``, with the defaults of the others; SettingError where one is wrong."""
    settings = {name: setting.default for name, setting in SETTINGS.items()}
    for name in values.keys() & SETTINGS.keys():
        try:
            checked = SETTINGS[name].check(values[name])
        except TypeError:  # unhashable
            checked = None
        if checked is None and values[name] != SETTINGS[name].default:
            raise SettingError(f"{name}={values[name]!r} is no value for it. {name}: {SETTINGS[name].about}.")
        settings[name] = SETTINGS[name].default if checked is None else checked
    return settings


def split_values(programs: Mapping[str, Program], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Which of ``values`` go to which program; SettingError for an unknown or a missing name.

    A function takes a value by each parameter after its first, a command by a place in braces.
    """
    taken = {host: takes(host, program) for host, program in programs.items()}
    known = sorted({name for names in taken.values() for name in names} | SETTINGS.keys())
    unknown = sorted(values.keys() - set(known))
    if unknown:
        raise SettingError(f"no program and no lab setting is named {', '.join(unknown)}. Known: {', '.join(known)}.")
    for host, names in taken.items():
        missing = sorted(name for name, needed in names.items() if needed and name not in values)
        if missing:
            raise SettingError(f"the {host} needs a value for {', '.join(missing)}. Known: {', '.join(known)}.")
    return {host: {name: values[name] for name in names if name in values} for host, names in taken.items()}


def fill(command: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """A command with its places filled, and doubled braces made single."""

    def replace(match: re.Match[str]) -> str:
        return match[0][0] if match[1] is None else str(values[match[1]])

    return [_PLACE.sub(replace, word) for word in command]


def takes(host: str, program: Program) -> dict[str, bool]:
    """The names that a program takes, each with whether it must be given."""
    if isinstance(program, list | tuple) and program and all(isinstance(word, str) for word in program):
        places = [match[1] for word in program for match in _PLACE.finditer(word) if match[1]]
        return {name: True for name in places if name not in ("host", "port")}
    if not callable(program):
        raise SettingError(
            f"the {host} is {program!r}. A program is a function that takes the address, "
            'or a command as a list of strings such as ["curl", "http://{host}:{port}/"].'
        )
    if inspect.iscoroutinefunction(program):
        raise SettingError(f"the {host} is an async function. Call asyncio.run inside an ordinary one.")
    try:
        parameters = list(inspect.signature(program).parameters.values())
    except ValueError:  # some built-in functions tell no signature
        return {}
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    if not parameters or parameters[0].kind not in kinds:
        raise SettingError(f"the {host}'s function takes no address: its first parameter is (host, port).")
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p.default is inspect.Parameter.empty for p in parameters[1:] if p.kind in named}
