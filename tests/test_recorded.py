"""Recordings and the backend that shows them: found, named for what they are, never taken for live."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets import Dropdown, fixed
from nbclient import NotebookClient

import rstkit.lab.recorded
import rstkit.recordings
from rstkit import Lab, Trace, compare, describe, explore, sequence_diagram
from rstkit.card import _outcome
from rstkit.errors import LabUnavailable, ProgramChanged, SettingError, TraceError
from rstkit.lab import choice
from rstkit.lab.identity import identity, meaning
from rstkit.lab.job import Job
from rstkit.lab.recorded import Recorded, keep
from rstkit.lab.settings import check_settings, split_values
from rstkit.panel import Panel
from rstkit.record import grid
from rstkit.recordings import read, write

from .builder import data_after_close
from .page import Page

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ORIGIN = "recorded on 2026-11-24, Linux 6.18.5, rstkit 0.0.9"
PAUSE = 1.0


def server(address: Any, nap: float = 1.0) -> None:
    print("hello")
    print("a second line")
    print("and a third")


def client(address: Any, polite: bool = True) -> None:
    print(PAUSE)


def stranger(address: Any) -> None:
    print("nobody knows me")


def kept(folder: Path, server: Any, client: Any, **values: Any) -> None:
    """Keep a run as a live lab does; its trace is hand-made, and its duration tells the nap."""
    programs = {"server": server, "client": client} if server else {"client": client}
    job = Job(programs, split_values(programs, values), check_settings(values), values)
    trace = data_after_close()
    live = {"backend": "namespaces", "kernel": "Linux 6.18.5", "version": "0.0.9", "epoch_ns": 1795543200 * 10**9}
    folder.mkdir(exist_ok=True)
    keep(job, replace(trace, duration=100 + values.get("nap", 1.0), values=values, **live), folder)  # type: ignore[arg-type]


def made(folder: Path, name: str = "lesson") -> Path:
    """A file of what was kept."""
    path = folder.parent / "recordings" / f"{name}.zip"
    write(path, [json.loads(file.read_text()) for file in folder.iterdir()], "rstkit record here")
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with recordings of the programs above, where nothing else can run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RSTKIT_BACKEND", "recorded")
    monkeypatch.setattr(choice, "_verdicts", {})
    monkeypatch.setattr(rstkit.recordings, "folders", lambda: [tmp_path / "recordings"])
    for nap in (0.0, 1.0, 3.0):
        for rtt in (0, 20, 200):
            kept(tmp_path / "kept", server, client, nap=nap, rtt=rtt)
    kept(tmp_path / "kept", server, client, nap=1.0, polite=False)
    kept(tmp_path / "kept", None, ["true"], fin_timeout=2)
    made(tmp_path / "kept")
    return tmp_path


def changed(source: str, name: str, tmp_path: Path, **uses: Any) -> Callable[..., None]:
    """A function with another source."""
    import linecache

    file = str(tmp_path / f"{name}{len(linecache.cache)}.py")
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names: dict[str, Any] = {"__name__": __name__, "Any": Any, **uses}
    exec(compile(source, file, "exec"), names)
    found: Callable[..., None] = names[name]
    return found


def silent(text: str) -> None:
    raise AssertionError(text)


def test_what_was_recorded_is_found_by_its_programs_and_values(here: Path) -> None:
    lab = Lab(tell=silent)
    assert lab.backend.name == "recorded"
    trace = lab.run(server, client, nap=3.0, rtt=200)
    assert (trace.duration, trace.values["nap"], trace.values["rtt"]) == (103.0, 3.0, 200)
    assert (trace.backend, trace.kernel, trace.version) == ("recorded", "Linux 6.18.5", "0.0.9")
    assert trace.problems == data_after_close().problems
    assert trace.packets == data_after_close().packets
    assert lab.run(None, ["true"], fin_timeout=2).values["fin_timeout"] == 2


def test_a_default_that_is_given_is_the_same_as_one_that_is_not(here: Path) -> None:
    given = Lab(tell=silent).run(server, client, nap=1.0, rtt=20, polite=True)
    left = Lab(tell=silent).run(server, client)
    assert given.packets == left.packets
    assert {"nap", "polite"} <= given.values.keys()
    assert left.values.keys() & {"nap", "polite"} == set()


def test_comments_and_layout_make_no_other_program(here: Path) -> None:
    source = "def client( address: Any,polite: bool=True )->None:  # the client\n\n   print( PAUSE )\n"
    same = changed(source, "client", here, PAUSE=1.0)
    assert Lab(tell=silent).run(server, same).backend == "recorded"


def test_the_nearest_values_are_shown_and_named(here: Path) -> None:
    told: list[str] = []
    trace = Lab(tell=told.append).run(server, client, nap=2.5, rtt=30)
    note = "There is no recording at rtt=30, nap=2.5. What is shown is the nearest one: rtt=20, nap=3."
    assert told == [note]
    assert trace.problems[0] == note
    assert (trace.duration, trace.values["nap"], trace.values["rtt"]) == (103.0, 3.0, 20)
    # what counts is the share of the recorded range that lies between
    assert Lab(tell=told.append).run(server, client, nap=2.1, rtt=80).values["nap"] == 3.0
    # what is no number is the same or far
    trace = Lab(tell=told.append).run(server, client, nap=3.0, rtt=20, polite=False)
    assert (trace.values["nap"], trace.values["polite"]) == (1.0, False)


def test_a_changed_program_does_not_run_and_its_original_comes_with_the_error(here: Path) -> None:
    source = 'def server(address: Any, nap: float = 1.0) -> None:\n    print("hello")\n    print("another line")\n'
    with pytest.raises(ProgramChanged) as caught:
        Lab(tell=silent).run(changed(source, "server", here), client, nap=2.5)
    told = "server was changed, and cannot run: nothing runs live here."
    assert str(caught.value) == f"{told} `rstkit doctor` tells what would make the lab live."
    trace = caught.value.original
    assert trace.origin == ORIGIN
    assert trace.problems[:2] == (
        f"{told} What is shown was recorded of the original, in lesson.",
        "There is no recording at nap=2.5. What is shown is the nearest one: nap=3.",
    )
    assert trace.duration == 103.0
    assert trace.program("server") == data_after_close().program("server")


def test_a_program_that_uses_something_changed_is_changed(here: Path) -> None:
    source = "def client(address: Any, polite: bool = True) -> None:\n    print(PAUSE)\n"
    with pytest.raises(ProgramChanged, match=r"^client was changed"):
        Lab(tell=silent).run(server, changed(source, "client", here, PAUSE=2.0))


def test_of_a_program_like_no_other_nothing_is_shown(here: Path) -> None:
    with pytest.raises(
        LabUnavailable, match=r"Nothing runs live here, and no recording is of stranger or .* `rstkit doctor`"
    ):
        Lab(tell=silent).run(None, stranger)
    unlike = changed("def server(address: Any) -> None:\n    raise OSError\n", "server", here)
    with pytest.raises(LabUnavailable, match="no recording"):
        Lab(tell=silent).run(unlike, changed("def client(a: Any) -> None:\n    0 / 0\n", "client", here))


def test_the_notebook_that_is_read_comes_before_others(here: Path) -> None:
    other = changed('def server(address: Any) -> None:\n    print("hello")\n    print(2)\n', "server", here)
    shutil.rmtree(here / "kept")
    kept(here / "kept", other, stranger)
    made(here / "kept", "another")
    lab = Lab(tell=lambda _: None)
    third = changed('def server(address: Any) -> None:\n    print("hello")\n    print(3)\n', "server", here)
    lab.run(other, stranger)
    with pytest.raises(ProgramChanged) as caught:
        lab.run(third, stranger)
    assert "in another." in caught.value.original.problems[0]
    lab.run(server, client)
    with pytest.raises(ProgramChanged) as caught:
        lab.run(third, client)
    assert "in lesson." in caught.value.original.problems[0]


def test_wrong_values_are_told_as_by_a_live_lab(here: Path) -> None:
    with pytest.raises(SettingError, match="no program and no lab setting is named nip"):
        Lab(tell=silent).run(server, client, nip=1)
    with pytest.raises(SettingError, match="rtt=-1 is no value"):
        Lab(tell=silent).run(server, client, rtt=-1)


def test_everything_that_shows_a_recorded_trace_says_so(here: Path) -> None:
    trace = Lab(tell=silent).run(server, client)
    assert trace.origin == ORIGIN
    assert ORIGIN in repr(trace)
    assert trace.text().splitlines()[0] == f"({ORIGIN})"
    assert f"Not live: {ORIGIN}." in describe(trace).splitlines()
    assert ORIGIN in sequence_diagram(trace).to_json()
    assert ORIGIN in sequence_diagram(trace)._repr_mimebundle_()["text/plain"]
    compared = compare(replace(trace, backend="namespaces"), trace)
    assert compared.to_json().count("recorded on 2026-11-24") == 1
    assert f"The second run was {ORIGIN}." in compared._repr_mimebundle_()["text/plain"].splitlines()
    for shown in _outcome(trace, "", "", ""):
        assert f"Not live: {ORIGIN}." in shown
    trace.save(here / "trace.pcapng")
    assert f"Not live: {ORIGIN}.".encode() in (here / "trace.pcapng").read_bytes()
    assert trace.scapy().listname == f"rstkit, {ORIGIN}"
    trace.save(here / "trace.json")
    assert Trace.load(here / "trace.json").origin == ORIGIN
    live = replace(trace, backend="namespaces")
    assert live.origin == ""
    assert "recorded" not in f"{live!r}{live.text()}{describe(live)}{sequence_diagram(live).to_json()}".replace(
        "were not recorded", ""
    )


def test_what_a_file_says_of_its_origin_is_data() -> None:
    trace = replace(data_after_close(), backend="recorded", kernel="\x1b[31m\n<b>", epoch_ns=10**40)
    assert trace.origin == "recorded on 9999-12-31, ?[31m?<b>, rstkit 0.1.0"
    assert "<b>" not in sequence_diagram(trace).to_json().replace("<b>client</b>", "").replace("<b>server</b>", "")


@pytest.mark.parametrize("earliest", [-(10**40), -1, 0])
def test_the_day_of_a_recording_is_one(earliest: int) -> None:
    assert "recorded on 1970-01-01" in replace(data_after_close(), backend="recorded", epoch_ns=earliest).origin


def test_the_panel_shows_a_recording_at_once_and_says_what_it_is(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page()
    monkeypatch.setattr(InteractiveShell.instance(), "display_pub", page)
    shown = explore(server, client, nap=(0.0, 3.0, 0.5), rtt=(0, 200, 10))
    assert f"Not live: {ORIGIN}." in page.card["text/html"]
    assert "Not live: what is shown was recorded" in page.card["text/html"]
    assert "There is no recording" not in page.card["text/html"]
    assert "From a recording." in shown._status.value
    shown._controls["nap"].value = 2.5
    assert "There is no recording at nap=2.5. What is shown is the nearest one: nap=3." in page.card["text/html"]
    shown.close()
    source = 'def server(address: Any, nap: float = 1.0) -> None:\n    print("<other>")\n'
    explore(changed(source, "server", here), client, nap=(0.0, 3.0, 0.5)).close()
    assert "server was changed, and cannot run: nothing runs live here." in page.card["text/html"]
    assert f"Not live: {ORIGIN}." in page.card["text/html"]
    assert page.figures
    InteractiveShell.clear_instance()


def test_the_same_recordings_make_the_same_file(here: Path) -> None:
    path = here / "recordings" / "lesson.zip"
    before = path.read_bytes()
    for file in sorted((here / "kept").iterdir(), reverse=True):
        file.rename(file.with_name(f"x{file.name[::-1]}"))
    assert made(here / "kept").read_bytes() == before
    index = json.loads(zipfile.ZipFile(path).read("index.json"))
    assert index["made"] == {"command": "rstkit record here", "first": ORIGIN}
    assert len(index["programs"]) == 3
    assert len(index["recordings"]) == len(read(path)) == 11


def damage(path: Path, member: str, change: Callable[[Any], Any]) -> None:
    """Change what stands in a member of a file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: json.loads(archive.read(name)) for name in archive.namelist()}
    members[member] = change(members[member])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content if isinstance(content, bytes) else json.dumps(content))


WRONG_INDEXES: list[Callable[[Any], Any]] = [
    lambda _: b"\x80\x04pickle",
    lambda _: b"[" * 100_000,
    lambda _: [],
    lambda index: index | {"format": "rstkit recordings 2"},
    lambda index: index | {"programs": [{"name": "a"}]},
    lambda index: index | {"programs": [{"name": "a", "parameters": [], "text": 1}]},
    lambda index: index | {"recordings": [{"programs": {"client": 99}, "values": {}, "trace": "0001.json"}]},
    lambda index: index | {"recordings": [{"programs": [], "values": {}, "trace": "0001.json"}]},
    lambda index: index | {"recordings": [{"programs": {}, "values": {"a": {"pickle": 1}}, "trace": "0001.json"}]},
    lambda index: index | {"recordings": [{"programs": {}, "values": {}, "trace": 1}]},
]


@pytest.mark.parametrize("number", range(len(WRONG_INDEXES)))
def test_a_damaged_index_is_told_with_its_file(here: Path, number: int) -> None:
    path = here / "recordings" / "lesson.zip"
    damage(path, "index.json", WRONG_INDEXES[number])
    with pytest.raises(TraceError, match=r"recordings/lesson.zip, index.json: "):
        read(path)
    refusal = Recorded().probe()
    assert refusal is not None
    assert "lesson.zip" in refusal


def test_a_file_that_is_no_archive_is_told(here: Path) -> None:
    path = here / "recordings" / "lesson.zip"
    whole = path.read_bytes()
    for wrong in (b"", b"PK", whole[:-30], b"hello" * 1000):
        path.write_bytes(wrong)
        with pytest.raises(TraceError, match=r"lesson\.zip: not a readable file of recordings"):
            read(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"nothing",
        lambda _: {},
        lambda trace: trace | {"packets": [[1, "client", 0, 0, "AAAA", None]]},
        lambda trace: trace | {"backend": "namespaces"},
    ],
)
def test_a_damaged_trace_is_told_and_none_can_pass_for_live(here: Path, change: Callable[[Any], Any]) -> None:
    path = here / "recordings" / "lesson.zip"
    recording = read(path)[0]
    damage(path, recording.member, change)
    with pytest.raises(TraceError, match=f"lesson.zip, {recording.member}: "):
        recording.trace()


def test_a_member_that_would_fill_the_memory_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rstkit.recordings, "_MOST", 100)
    with pytest.raises(TraceError, match=r"lesson.zip, index.json: it would unpack to [\d,]+ bytes"):
        read(here / "recordings" / "lesson.zip")


def test_without_recordings_the_backend_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rstkit.recordings, rstkit.lab.recorded):
        monkeypatch.setattr(module, "folders", list)
    assert Recorded().probe() == "there are no recordings in any folder"


def test_recordings_are_looked_for_beside_the_notebook_and_in_rstkit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    course = [ROOT / "notebooks" / "recordings"]
    assert rstkit.recordings.folders() == course
    (tmp_path / "recordings").mkdir()
    assert rstkit.recordings.folders() == [tmp_path / "recordings", *course]


def test_the_text_of_a_program_makes_it_anew(tmp_path: Path) -> None:
    source = (
        "import time as clock\nfrom struct import pack\n\n\ndef helper():\n    return SIZE + len(pack('i', 1))\n\n\n"
        "def program(address, _=1):\n    connection, _ = helper(), clock\n    return lambda: (connection, LIST)\n"
    )
    names: dict[str, Any] = {"SIZE": 3, "LIST": [1, b"2"], "_": 17, "connection": "no"}
    found = identity("client", changed(source, "program", tmp_path, **names))
    assert (found.name, found.parameters) == ("program", ("_",))
    again: dict[str, Any] = {}
    exec(meaning(found.text), again)
    assert again["program"](None)() == (7, [1, b"2"])
    assert again.keys() - {"__builtins__"} == {"clock", "pack", "helper", "SIZE", "LIST", "program"}


def test_a_program_is_the_same_where_a_library_has_another_private_module(tmp_path: Path) -> None:
    """Python 3.13 keeps Path in pathlib._local, and others in pathlib."""
    moved = type("Path", (), {"__module__": "pathlib._local", "__qualname__": "Path"})
    source = "def program(address):\n    Path('x')\n"
    texts = [identity("client", changed(source, "program", tmp_path, Path=one)).text for one in (Path, moved)]
    assert texts == ["from pathlib import Path as Path\n" + source] * 2


def test_the_grid_of_a_panel(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def both(address: Any, size: int, kind: str, flag: bool, more: Any, held: int) -> None: ...

    panel = Panel(
        None,
        both,
        {
            "size": (0, 400, 1),
            "kind": {"one": "a", "two": "b"},
            "flag": True,
            "more": Dropdown(options=[1, 2]),
            "held": fixed(7),
            "rtt": (0, 200, 100),
        },
    )
    found = grid(panel._controls)
    panel.close()
    corners, steps = found[: 3 * 2 * 2 * 2 * 3], found[3 * 2 * 2 * 2 * 3 :]
    assert found[0] == {"size": 200, "kind": "a", "flag": True, "more": 1, "held": 7, "rtt": 20}
    assert {values["size"] for values in corners} == {0, 200, 400}
    assert {values["rtt"] for values in corners} == {0, 20, 200}
    assert [values["size"] for values in steps][:3] == [8, 16, 24]
    assert {values["rtt"] for values in steps} == {20, 100}
    assert all({**values, "size": 200, "rtt": 20} == found[0] for values in steps)
    assert all(values not in found[:i] for i, values in enumerate(found))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_course_is_recorded_as_it_stands(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each notebook shows exactly what it asks for: no nearest values, no changed program, no error."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(rstkit.__file__).parents[1]))
    monkeypatch.setenv("RSTKIT_BACKEND", "recorded")
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
    anew = f"{path.name} has changed since it was recorded. Record it anew: rstkit record notebooks/{path.name}"
    for wrong in ("There is no recording", "cannot run: nothing", "no recording is of"):
        assert wrong not in outputs, anew
    assert "recorded on " in outputs
    assert "rstkit-card" in outputs


EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient

for path in sys.argv[1:]:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120).execute()
    print(sum("recorded on " in str(cell.get("outputs")) for cell in notebook.cells) > 0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding /dev takes real root")
def test_the_course_needs_no_dev(tmp_path: Path) -> None:
    environment = os.environ | {"RSTKIT_BACKEND": "recorded", "IPYTHONDIR": str(tmp_path)}
    environment["PYTHONPATH"] = str(Path(rstkit.__file__).parents[1])
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh"]
    done = subprocess.run(
        [*hidden, sys.executable, "-c", EXECUTE, *map(str, NOTEBOOKS)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["True"] * len(NOTEBOOKS), done.stderr


def test_the_recordings_of_the_course_are_small_and_whole() -> None:
    folder = ROOT / "notebooks" / "recordings"
    assert {path.stem for path in folder.iterdir()} == {path.stem for path in NOTEBOOKS}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 5_000_000
    for path in folder.iterdir():
        for recording in read(path):
            trace = recording.trace()
            assert trace.packets or trace.programs, recording
            assert str(ROOT) not in json.dumps(trace.to_dict()), "a path of the machine that recorded"


def test_of_the_runs_of_a_job_the_one_that_was_on_time_is_kept(tmp_path: Path) -> None:
    job = Job({"client": client}, {"client": {}}, check_settings({"rtt": 40}), {})  # each packet takes 20 ms
    trace = replace(data_after_close(), backend="guest")

    def late(seconds: float) -> Trace:
        first, *others = trace.packets
        return replace(trace, packets=(first._replace(arrived=first.sent + 0.02 + seconds), *others))

    def kept_late() -> float:
        (file,) = tmp_path.iterdir()
        return round(float(json.loads(file.read_text())["late"]), 6)

    assert not keep(job, late(0.05), tmp_path)
    assert not keep(job, late(0.01), tmp_path)
    assert not keep(job, late(0.09), tmp_path)
    assert kept_late() == 0.01
    assert keep(job, late(0.002), tmp_path)
    assert keep(job, late(0.05), tmp_path), "what is good enough needs no other run"
    assert kept_late() == 0.002


def test_a_run_that_is_always_late_is_kept_in_the_end(tmp_path: Path) -> None:
    job = Job({"client": client}, {"client": {}}, check_settings({"rtt": 0}), {})
    trace = replace(data_after_close(), backend="guest")
    assert [keep(job, trace, tmp_path) for _ in range(8)] == [False] * 7 + [True]


LESSON = """
import socket
from rstkit import Lab, explore

LISTENER = 1

def server(address, nap=0.01):
    with socket.create_server(address, backlog=LISTENER) as listener:
        listener.accept()

def client(address):
    socket.create_connection(address).recv(1)
"""


def test_a_notebook_of_ones_own_is_recorded_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rstkit.cli import main

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(Path(rstkit.__file__).parents[1]))
    monkeypatch.delenv("RSTKIT_BACKEND", raising=False)
    cells = [
        LESSON,
        "panel = explore(server, client, rtt=(0, 40, 20))",
        "print(repr(Lab().run(server, client, rtt=40)), Lab().run(None, client))",
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],  # type: ignore[no-untyped-call]
        metadata=kernel,
    )
    nbformat.write(notebook, tmp_path / "own.ipynb")  # type: ignore[no-untyped-call]
    assert main(["record", str(tmp_path / "own.ipynb")]) == 0
    assert "own.zip: 4 recordings, " in capsys.readouterr().out
    known = read(tmp_path / "recordings" / "own.zip")
    assert sorted((len(r.programs), r.values["rtt"]) for r in known) == [(1, 20.0), (2, 0.0), (2, 20.0), (2, 40.0)]
    assert {r.trace().backend for r in known} == {"recorded"}
    assert "cells" in json.loads((tmp_path / "own.ipynb").read_text())
    assert nbformat.read(tmp_path / "own.ipynb", as_version=4) == notebook  # type: ignore[no-untyped-call]

    monkeypatch.setenv("RSTKIT_BACKEND", "recorded")
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = json.dumps([cell.outputs for cell in notebook.cells])
    assert "Not live: recorded on " in shown
    assert "There is no recording" not in shown
    assert notebook.cells[2].outputs[0].text.count("<Trace: recorded on ") == 2


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("1 / 0", "cannot be recorded, for a cell of it failed: "),
        ("1", "none of its cells runs a lab"),
        ("from rstkit import explore; explore(None, ['true'], fin_timeout=[2, 0])", "fin_timeout=0 is no value"),
    ],
)
def test_a_notebook_that_cannot_be_recorded_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str, told: str
) -> None:
    from rstkit.cli import main

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(Path(rstkit.__file__).parents[1]))
    monkeypatch.delenv("RSTKIT_BACKEND", raising=False)
    cells = [nbformat.v4.new_code_cell(source)]  # type: ignore[no-untyped-call]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "own.ipynb")  # type: ignore[no-untyped-call]
    assert main(["record", str(tmp_path)]) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "recordings").exists()


def test_recording_takes_a_live_lab(here: Path) -> None:
    from rstkit.record import record

    with pytest.raises(LabUnavailable, match=r"Only a whole live lab is worth recording\. Not live"):
        record([here], "rstkit record", print)
    job = Job({"client": client}, {"client": {}}, check_settings({}), {})
    with pytest.raises(LabUnavailable, match="Only live runs can be recorded"):
        keep(job, replace(data_after_close(), backend="recorded"), here)
    assert set(os.listdir(here)) == {"kept", "recordings"}
