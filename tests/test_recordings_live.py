"""The recordings of the course still show what the live lab does: the same packets and calls, times aside.

A sample of each notebook's recordings is run anew: all runs of its cells, and some of its panel's
grid. Their programs are made anew from the text that was recorded. A run in which two things race
(data and a close at the same moment) may come out one way or the other: it is tried again, and must
come out as recorded within a few tries.
"""

import linecache
import shlex
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rstkit.contrast import contrast
from rstkit.lab import Lab, Program
from rstkit.lab.settings import SETTINGS
from rstkit.recordings import Identity, Recording, read

from .test_lab import ROOT as IS_ROOT

RECORDINGS = Path(__file__).parents[1] / "notebooks" / "recordings"
LONGEST = 8.0  # seconds of a recording that is run anew
OF_A_PANEL = 10  # of all recordings of the same two programs
TRIES = 5
AT_ONCE = 6


def sample(recordings: Iterable[Recording]) -> list[Recording]:
    """Recordings of all programs, evenly spread where there are many of the same."""
    of_programs: dict[tuple[str, ...], list[Recording]] = defaultdict(list)
    for recording in recordings:
        if recording.trace().duration <= LONGEST:
            of_programs[tuple(program.text for program in recording.programs.values())].append(recording)
    return [
        same[round(i * (len(same) - 1) / max(count - 1, 1))]
        for same in of_programs.values()
        for count in [min(len(same), OF_A_PANEL)]
        for i in range(count)
    ]


def program(identity: Identity) -> Program:
    """A program made anew from its recorded text."""
    if f"def {identity.name}(" not in identity.text:
        return shlex.split(identity.text)
    name = f"<recorded {hash(identity.text)}>"
    linecache.cache[name] = (len(identity.text), None, identity.text.splitlines(keepends=True), name)
    names: dict[str, Any] = {"__name__": "notebook"}
    exec(compile(identity.text, name, "exec"), names)
    made: Program = names[identity.name]
    return made


def differences(recording: Recording) -> list[str]:
    """How a live run differs from its recording: nothing where one of several tries does not."""
    programs = {host: program(identity) for host, identity in recording.programs.items()}
    values = {name.rpartition(" ")[2]: value for name, value in recording.values.items()}
    values = {name: value for name, value in values.items() if name not in SETTINGS or value != SETTINGS[name].default}
    lab, recorded, found = Lab(tell=lambda _: None), recording.trace(), ""
    for _ in range(TRIES):
        contrasted = contrast(recorded, lab.run(programs.get("server"), programs["client"], **values))
        if not contrasted.differences:
            return []
        found = str(contrasted)
    return [f"{recording.member}, {values}:\n{found}"]


@pytest.mark.skipif(not IS_ROOT, reason="the course was recorded as real root, which may do what others may not")
@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("*.zip")), ids=lambda path: path.stem)
def test_a_live_run_does_what_was_recorded(path: Path, lab: Lab) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = [told for differing in threads.map(differences, sample(read(path))) for told in differing]
    command = f"rstkit record notebooks/{path.stem}.ipynb"
    assert not found, f"no longer as it was recorded; `{command}` records it anew:\n" + "\n\n".join(found)
