"""A whole trace as JSON, and back without loss.

A file may come from anywhere: what does not fit the trace's types is a `TraceError`, so that
nothing behind it has to look again.
"""

import base64
import dataclasses
import functools
import gzip
import json
import types
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .errors import TraceError
from .tcp import Endpoint
from .trace import Call, Counter, Packet, Program, Reason, State, Trace

FORMAT = "rstkit trace 1"
_T = TypeVar("_T")

_PARTS: dict[str, type[Any]] = {
    "calls": Call,
    "states": State,
    "counters": Counter,
    "reasons": Reason,
    "programs": Program,
}
_ENDPOINTS = ("local", "peer", "source", "destination")


def write(trace: Trace, path: Path) -> None:
    """Write the trace as JSON, compressed where the path ends in ``.gz``; OSError where it cannot be written."""
    data = json.dumps(to_dict(trace), separators=(",", ":")).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read(path: Path) -> Trace:
    """Read what `write` wrote; TraceError where it is no trace."""
    try:
        data = path.read_bytes()
        return from_dict(json.loads(gzip.decompress(data) if path.suffix == ".gz" else data))
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from error
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise TraceError(f"{path}: not a readable rstkit trace ({error}).") from error


def to_dict(trace: Trace) -> dict[str, Any]:
    """The trace as JSON types; bytes become base64, and packets are kept as their frames."""
    whole = {f.name: getattr(trace, f.name) for f in dataclasses.fields(trace)}
    for name in _PARTS:
        whole[name] = [dataclasses.asdict(part) for part in whole[name]]
    whole["packets"] = [
        [p.number, p.sender, p.sent, p.arrived, base64.b64encode(p.frame).decode(), p.lost] for p in trace.packets
    ]
    whole["values"] = {name: plain_value(value) for name, value in trace.values.items()}
    return {"format": FORMAT, **whole, "hosts": dict(trace.hosts)}


def from_dict(whole: Any) -> Trace:
    """The trace that `to_dict` wrote; TraceError where ``whole`` is none."""
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise TraceError(f"this is no rstkit trace: its format is not {FORMAT!r}.")
    try:
        rest = {name: value for name, value in whole.items() if name != "format"}
        for name, kind in _PARTS.items():
            rest[name] = tuple(_made(kind, _revive(row)) for row in whole[name])
        rest["packets"] = tuple(_packet(*row) for row in whole["packets"])
        rest["values"] = {name: value_from(value) for name, value in whole["values"].items()}
        rest["problems"] = tuple(_text(problem) for problem in whole["problems"])
        rest["hosts"] = {host: _text(address) for host, address in whole["hosts"].items()}
        return _made(Trace, rest)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TraceError(f"the saved trace is damaged: {error!r}.") from error


def _packet(number: int, sender: str, sent: float, arrived: float | None, frame: str, lost: str | None) -> Packet:
    packet = Packet.from_frame(number, sender, sent, arrived, base64.b64decode(frame, validate=True), lost)
    if packet is None:
        raise ValueError(f"packet {number} holds no TCP segment")
    return _checked(packet)


def _revive(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of JSON with its endpoints as endpoints again."""
    return {k: _checked(Endpoint(*v)) if k in _ENDPOINTS and v is not None else v for k, v in row.items()}


def plain_value(value: Any) -> Any:
    """A value of a run as JSON; tuples and bytes are marked, and what has no JSON becomes its repr."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [plain_value(item) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": [[plain_value(key), plain_value(item)] for key, item in value.items()]}
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else repr(value)


def value_from(plain: Any) -> Any:
    """The value that `plain_value` was given; an exception of Python's own where ``plain`` is none of its values."""
    if isinstance(plain, list):
        return [value_from(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    ((mark, content),) = plain.items()
    match mark:
        case "tuple":
            return tuple(value_from(item) for item in content)
        case "dict":
            return {value_from(key): value_from(item) for key, item in content}
        case "bytes":
            return base64.b64decode(content, validate=True)
    raise ValueError(f"{mark!r} marks no kind of value")


def _made(kind: type[_T], fields: Mapping[str, Any]) -> _T:
    return _checked(kind(**fields))


def _checked(made: _T) -> _T:
    """What was made, if each of its fields is of the type that it is declared with; TypeError otherwise."""
    kind: Any = type(made)
    for name, allowed in _allowed(kind).items():
        value = getattr(made, name)
        if not isinstance(value, allowed):
            raise TypeError(f"{kind.__name__}.{name} is {value!r}")
    return made


@functools.cache
def _allowed(kind: type[Any]) -> dict[str, tuple[type[Any], ...]]:
    """The types that each field of a kind may have; where a float may be, a whole number may be too."""
    allowed = {}
    for name, hint in get_type_hints(kind).items():
        parts = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        kinds = tuple(get_origin(part) or part for part in parts)
        allowed[name] = (*kinds, int) if float in kinds else kinds
    return allowed


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
