"""The backend for machines on which nothing can run: what was recorded on another one's live lab."""

import difflib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import LabUnavailable, ProgramChanged, TraceError
from ..recordings import Identity, Recording, folders, plain, recordings
from ..stored import plain_value, to_dict
from ..trace import RECORDED, Trace
from .identity import everything, identity, meaning
from .job import Job

RECORD = "RSTKIT_RECORD"  # names the folder in which a live lab keeps each run
_FAR = 10.0  # how far apart two values are that are no numbers; numbers are at most 1 apart where all is in range
_LATE, _TRIES = 0.003, 8  # seconds that a packet of a recording may be late; runs in which to find one
_DOCTOR = "`rstkit doctor` tells what would make the lab live."
_ALIKE, _AT_HAND = 0.5, 0.3  # the share of its lines that a changed program has kept; in the notebook at hand


class Recorded:
    """Recordings in place of runs."""

    name = RECORDED
    instant = True
    remedy = (
        "The course's recordings are installed with rstkit, and `rstkit record` makes those of notebooks of your own "
        "on a machine with a live lab; they belong in a folder `recordings` beside the notebook."
    )
    about = "Not live: what is shown was recorded earlier, at some of the values. A changed program cannot run here."

    def __init__(self) -> None:
        self.lacks: Mapping[str, str] = {}
        self._at_hand: Path | None = None  # the file of the last recording: the notebook that is being read

    def probe(self) -> str | None:
        """Look for recordings."""
        try:
            if recordings():
                return None
        except TraceError as error:
            return str(error)
        return f"there are no recordings in {', '.join(map(str, folders())) or 'any folder'}"

    def warm_up(self) -> None:
        """Do nothing: a recording is at hand at once."""

    def begin(self, tell: Callable[[str], None]) -> "RecordedRun":
        """The place for a job; ``tell`` is told what is shown in place of what was asked for."""
        return RecordedRun(self, tell)

    def close(self) -> None:
        """Do nothing: nothing is kept open."""

    def find(self, job: Job) -> tuple[Recording, str, str]:
        """The recording for a job, and in a sentence each which programs and which values are others than asked for.

        LabUnavailable where there is no recording of programs like these.
        """
        asked = {host: identity(host, program) for host, program in job.programs.items()}
        known = recordings()
        same = [recording for recording in known if _same(asked, recording.programs)]
        changed = [] if same else self._originals(asked, known)
        if not same and not changed:
            names = " and ".join(program.name for program in asked.values())
            raise LabUnavailable(
                f"Nothing runs live here, and no recording is of {names} or of anything like it. {_DOCTOR}"
            )
        wanted = everything(job)
        found = self._nearest(wanted, same or changed)
        self._at_hand = found.file
        other = {name: value for name, value in found.values.items() if name in wanted and _apart(wanted[name], value)}
        return found, _about_programs(asked, found) if changed else "", _about_values(wanted, other) if other else ""

    def _originals(self, asked: Mapping[str, Identity], known: Iterable[Recording]) -> list[Recording]:
        """The recordings of the programs that those asked for were most likely made from."""
        best: tuple[float, float, bool] = (0, 0, False)
        found: list[Recording] = []
        kept: dict[tuple[str, str], float] = {}
        for recording in known:
            if not _same_names(asked, recording.programs):
                continue
            shares = []
            for host, program in asked.items():
                pair = program.text, recording.programs[host].text
                if pair not in kept:
                    kept[pair] = _share(*pair)
                shares.append(kept[pair])
            at_hand = recording.file == self._at_hand
            unchanged = sum(share == 1 for share in shares)
            if not unchanged and min(shares) < (_AT_HAND if at_hand else _ALIKE):
                continue
            rank = unchanged, sum(shares), at_hand
            if rank > best:
                best, found = rank, []
            if rank == best:
                found.append(recording)
        return found

    def _nearest(self, wanted: Mapping[str, Any], candidates: Sequence[Recording]) -> Recording:
        """The recording at the values nearest to those wanted, each number measured by its recorded range."""
        ranges = {}
        for name in wanted:
            numbers = [r.values[name] for r in candidates if name in r.values and _number(r.values[name])]
            ranges[name] = (max(numbers) - min(numbers) if numbers else 0) or 1.0

        def distance(recording: Recording) -> tuple[float, bool]:
            values = recording.values
            far = (_apart(wanted[name], values[name], ranges[name]) for name in wanted if name in values)
            return sum(far), recording.file != self._at_hand

        return min(candidates, key=distance)


class RecordedRun:
    """The place for one job, which is looked up."""

    def __init__(self, backend: Recorded, tell: Callable[[str], None]) -> None:
        self._backend, self._tell = backend, tell

    def carry_out(self, job: Job) -> Trace:
        """The recording of the job, or the nearest one, which says so in ``problems``.

        ProgramChanged where only the originals of its programs were recorded: code that judges a
        run may not take theirs for it. LabUnavailable where there is nothing of the kind, and
        TraceError where the recording is damaged.
        """
        recording, other_programs, other_values = self._backend.find(job)
        trace = recording.trace()
        notes = [other_values] if other_values else []
        if other_programs:
            notes = [f"{other_programs} What is shown was recorded of the original, in {recording.notebook}.", *notes]
        trace = replace(trace, values=_values(job, recording), problems=(*notes, *trace.problems))
        if other_programs:
            raise ProgramChanged(f"{other_programs} {_DOCTOR}", trace)
        if other_values:
            self._tell(other_values)
        return trace

    def stop(self) -> None:
        """Do nothing: there is nothing to wait for."""


def keep(job: Job, trace: Trace, folder: Path) -> bool:
    """Keep a live run for a file of recordings, as a file in ``folder`` for `rstkit.recordings.write`.

    Of the runs of one job the one is kept whose packets were on time: a busy machine lets them
    wait. False where another run should be tried. LabUnavailable where the run was not live.
    """
    if trace.backend == RECORDED:
        raise LabUnavailable("Only live runs can be recorded, and nothing runs live here.")
    programs = {host: plain(identity(host, program)) for host, program in job.programs.items()}
    values = {name: plain_value(value) for name, value in everything(job).items()}
    key = json.dumps([programs, values], sort_keys=True)
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    before = json.loads(path.read_text()) if path.exists() else {"late": math.inf, "tries": 0}
    late, tries = _late(trace, job.settings["rtt"]), before["tries"] + 1
    if late < before["late"]:
        before = {
            "programs": programs,
            "values": values,
            "trace": to_dict(replace(trace, backend=RECORDED)),
            "late": late,
        }
    path.write_text(json.dumps(before | {"tries": tries}))
    return min(late, before["late"]) <= _LATE or tries >= _TRIES


def _late(trace: Trace, rtt: float) -> float:
    """How many seconds longer than half the round-trip time (ms) the slowest packet was on its way."""
    ways = (p.arrived - p.sent for p in trace.packets if p.arrived is not None)
    return max(ways, default=0.0) - rtt / 2000


def _values(job: Job, recording: Recording) -> dict[str, Any]:
    """The values of the recorded run, by the names under which they were asked for, as in a live trace."""
    keys = {name: name for name in job.settings}
    keys |= {name: f"{host} {name}" for name in job.values for host, taken in job.taken.items() if name in taken}
    values = {name: recording.values[key] for name, key in keys.items() if key in recording.values}
    for name, asked in job.values.items():
        if name in values and isinstance(asked, int):
            values[name] = _whole(values[name])
    return values


def _same_names(asked: Mapping[str, Identity], known: Mapping[str, Identity]) -> bool:
    return asked.keys() == known.keys() and all(asked[host].name == known[host].name for host in asked)


def _same(asked: Mapping[str, Identity], known: Mapping[str, Identity]) -> bool:
    return asked.keys() == known.keys() and all(
        meaning(asked[host].text) == meaning(known[host].text) for host in asked
    )


def _share(text: str, other: str) -> float:
    """How much of what a program does another does, by lines, whatever their indentation; 1 if all is the same."""
    if meaning(text) == meaning(other):
        return 1.0
    one, two = (
        [line.strip() for line in meaning(t).splitlines() if not line.startswith(("def ", "import "))]
        for t in (text, other)
    )
    return min(difflib.SequenceMatcher(None, one, two, autojunk=False).ratio(), 0.99)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> Any:
    """The value, but a whole number without its point: settings are floats, and people give them as 20."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _apart(wanted: Any, recorded: Any, span: float = 1.0) -> float:
    """How far a recorded value is from the one wanted, in units of ``span``; 0 where they are the same."""
    if _number(wanted) and _number(recorded):
        return 0.0 if math.isclose(wanted, recorded, rel_tol=1e-9, abs_tol=1e-9) else abs(wanted - recorded) / span
    return 0.0 if plain_value(wanted) == plain_value(recorded) else _FAR


def _about_programs(asked: Mapping[str, Identity], found: Recording) -> str:
    changed = [p.name for host, p in asked.items() if meaning(p.text) != meaning(found.programs[host].text)]
    were = "was" if len(changed) == 1 else "were"
    return f"{' and '.join(changed)} {were} changed, and cannot run: nothing runs live here."


def _about_values(wanted: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    asked, shown = (
        ", ".join(dict.fromkeys(f"{name.rpartition(' ')[2]}={_whole(values[name])!r}" for name in other))
        for values in (wanted, other)
    )
    return f"There is no recording at {asked}. What is shown is the nearest one: {shown}."
