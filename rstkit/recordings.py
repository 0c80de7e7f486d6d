"""Recordings: traces of live runs in a file for each notebook, for machines that have no live lab.

A file is a zip archive: ``index.json`` tells of each recording which programs it shows and at
which values, and each trace is a member of its own (`rstkit.stored`), so that one can be read
without the others. It may come from anywhere: what is not as it should be is a `TraceError`.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import TraceError
from .stored import from_dict, value_from
from .trace import RECORDED, Trace

FORMAT = "rstkit recordings 1"
FOLDER = "recordings"
_INDEX = "index.json"
_MOST = 64 << 20  # bytes of a member, unpacked
_DAMAGE = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError)
_DATED = (1980, 1, 1, 0, 0, 0)  # of every member: the same recordings make the same file


@dataclass(frozen=True)
class Identity:
    """What tells a program from others.

    ``text`` is a function's source and that of what it uses, or the words of a command;
    ``parameters`` are the names of the values that it takes.
    """

    name: str
    parameters: Sequence[str]
    text: str


@dataclass(frozen=True)
class Recording:
    """One recorded run: its programs by host and its values, and where its trace is.

    ``values`` are all that the run depended on, those with defaults included: the lab's settings by
    their names, a program's values as ``client pause``.
    """

    file: Path
    member: str
    programs: Mapping[str, Identity]
    values: Mapping[str, Any]

    @property
    def notebook(self) -> str:
        """The notebook that was recorded."""
        return self.file.stem

    def trace(self) -> Trace:
        """What the run showed; its backend is ``recorded``. TraceError where it is damaged."""
        trace: Trace = _read(self.file, self.member, from_dict)
        if trace.backend != RECORDED:
            raise TraceError(f"{self.file}, {self.member}: it does not say that it was recorded.")
        return trace


def folders() -> list[Path]:
    """Where recordings are looked for: in the working folder, and where rstkit has those of its course."""
    package = Path(__file__).parent
    course = (package / FOLDER, package.parent / "notebooks" / FOLDER)  # installed, and in a checkout
    found = dict.fromkeys(folder.resolve() for folder in (Path.cwd() / FOLDER, *course) if folder.is_dir())
    return list(found)


def recordings() -> list[Recording]:
    """All recordings that are found; TraceError where a file is none or is damaged."""
    return [recording for folder in folders() for path in sorted(folder.glob("*.zip")) for recording in read(path)]


_known: dict[Path, tuple[tuple[int, int], list[Recording]]] = {}


def read(path: Path) -> list[Recording]:
    """The recordings in a file, without their traces; TraceError where it is none or is damaged."""
    try:
        stamp = path.stat().st_mtime_ns, path.stat().st_size
    except OSError as error:
        raise TraceError(f"{path}: not readable ({error}).") from error
    if path not in _known or _known[path][0] != stamp:
        _known[path] = stamp, _read(path, _INDEX, lambda index: list(_recordings(path, index)))
    return _known[path][1]


def _recordings(path: Path, index: Any) -> Iterator[Recording]:
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise TraceError(f"its format is not {FORMAT!r}.")
    programs = [Identity(**program) for program in index["programs"]]
    for program in programs:
        if not all(isinstance(text, str) for text in (program.name, program.text, *program.parameters)):
            raise TypeError(f"{program!r} is no program")
    for row in index["recordings"]:
        if not isinstance(row["trace"], str):
            raise TypeError(f"{row!r} is no recording")
        values = {name: value_from(value) for name, value in row["values"].items()}
        yield Recording(path, row["trace"], {host: programs[n] for host, n in row["programs"].items()}, values)


def write(path: Path, kept: Sequence[Mapping[str, Any]], made_by: str) -> None:
    """Write what was kept of runs (``programs``, ``values`` and ``trace``, as JSON types) to a file.

    ``made_by`` is the command. The same recordings make the same bytes. OSError where the file
    cannot be written.
    """
    from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo  # noqa: PLC0415 - it loads threading

    kept = sorted(kept, key=lambda run: json.dumps([run["programs"], run["values"]], sort_keys=True))
    programs: list[Any] = []
    for run in kept:
        programs += [program for program in run["programs"].values() if program not in programs]
    rows = [
        {
            "programs": {host: programs.index(program) for host, program in run["programs"].items()},
            "values": run["values"],
            "trace": f"{number:04}.json",
        }
        for number, run in enumerate(kept, 1)
    ]
    first = min((from_dict(run["trace"]) for run in kept), key=lambda trace: trace.epoch_ns)
    made = {"command": made_by, "first": first.origin}
    index = {"format": FORMAT, "made": made, "programs": programs, "recordings": rows}
    path.parent.mkdir(exist_ok=True)
    with ZipFile(path, "w", ZIP_DEFLATED, compresslevel=9) as archive:

        def add(name: str, content: Any) -> None:
            member = ZipInfo(name, _DATED)
            member.compress_type, member.external_attr = ZIP_DEFLATED, 0o644 << 16
            archive.writestr(member, json.dumps(content, separators=(",", ":")))

        add(_INDEX, index)
        for row, run in zip(rows, kept, strict=True):
            add(str(row["trace"]), run["trace"])


def plain(identity: Identity) -> dict[str, Any]:
    """A program as JSON types."""
    return asdict(identity) | {"parameters": list(identity.parameters)}


def _read(path: Path, member: str, made: Any) -> Any:
    """What ``made`` makes of a member's JSON; TraceError where that cannot be."""
    from zipfile import BadZipFile, ZipFile  # noqa: PLC0415 - it loads threading

    try:
        with ZipFile(path) as archive:
            size = archive.getinfo(member).file_size
            if size > _MOST:
                raise TraceError(f"it would unpack to {size:,} bytes.")
            # no more than it claims to be: the claim itself is data
            with archive.open(member) as content:
                return made(json.loads(content.read(size)))
    except TraceError as error:
        raise TraceError(f"{path}, {member}: {error}") from error
    except _DAMAGE as error:
        raise TraceError(f"{path}, {member}: damaged ({error!r}).") from error
    except (BadZipFile, NotImplementedError, OSError, EOFError, RuntimeError, zlib.error) as error:
        raise TraceError(f"{path}: not a readable file of recordings ({error}).") from error
