"""A trace as data: its repr, and saving and loading without loss."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstkit.errors import TraceError
from rstkit.tcp import Endpoint, Flags
from rstkit.trace import Call, Counter, Packet, Program, Reason, State, Trace

from .builder import data_after_close, frame, packet


def test_the_repr_says_what_matters() -> None:
    trace = data_after_close()
    assert repr(trace) == ("<Trace: 9 packets, 1 RST (first: packet 9, from the client), 10 calls, 1.170 s, completed>")
    assert repr(Trace(trace.packets[:1], trace.calls[:1])) == "<Trace: 1 packet, no RST, 1 call, 0.000 s, completed>"


def test_a_packet_knows_its_connection_and_what_follows_it() -> None:
    syn, syn_ack = data_after_close().packets[:2]
    assert syn.connection == syn_ack.connection == {syn.source, syn.destination}
    assert syn.next_seq == 3_000_000_001
    wraps = packet(1, "server", 0, 1, Flags.PSH | Flags.ACK, 3, 0, b"abcd")  # 4,294,967,293 and four bytes
    assert wraps.next_seq == 1


def test_a_frame_of_another_protocol_is_no_packet() -> None:
    assert Packet.from_frame(1, "client", 0.0, 0.1, bytes(60)) is None


def test_counters_and_programs_are_found_by_host() -> None:
    trace = Trace(
        (), counters=(Counter("server", "Tcp:OutRsts", 2, 5),), programs=(Program("server", "s", "", True, 0.0),)
    )
    assert trace.counter("server", "Tcp:OutRsts") == 3
    assert trace.counter("client", "Tcp:OutRsts") == 0
    assert trace.program("server") == trace.programs[0]
    assert trace.program("client") is None


@pytest.mark.parametrize(
    ("state", "held"),
    [
        (State("server", 0, Endpoint("a", 1), None, "SYN_SENT", 0, 0, 1), (0, 0, 0)),
        (State("server", 0, Endpoint("a", 1), None, "ESTABLISHED", 3, 2, 1), (3, 2, 1)),
        (State("server", 0, Endpoint("a", 1), None, "FIN_WAIT1", 0, 0, 12), (0, 0, 11)),
        (State("server", 0, Endpoint("a", 1), None, "FIN_WAIT1", 0, 5, 12), (0, 4, 12)),
        (State("server", 0, Endpoint("a", 1), None, "CLOSE_WAIT", 12, 0, 3), (11, 0, 3)),
        (State("server", 0, Endpoint("a", 1), None, "CLOSE_WAIT", 0, 0, 0), (0, 0, 0)),
        (State("server", 0, Endpoint("a", 1), None, "LAST_ACK", 0, 0, 1), (0, 0, 0)),
    ],
)
def test_syn_and_fin_are_no_bytes_held(state: State, held: tuple[int, int, int]) -> None:
    assert state.held == held


# --- saving and loading ----------------------------------------------------------------------

texts = st.text(max_size=8)
numbers = st.integers(-(2**63), 2**63)
times = st.floats(allow_nan=False)
endpoints = st.builds(Endpoint, texts, st.integers(0, 65535))


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


packets = st.builds(
    Packet.from_frame,
    numbers,
    texts,
    times,
    maybe(times),
    st.builds(
        frame,
        st.sampled_from(["client", "server"]),
        st.integers(0, 255).map(Flags),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=9),
        st.integers(0, 65535),
    ),
    maybe(texts),
)
calls = st.builds(
    Call, numbers, texts, numbers, texts, texts, times, maybe(times), maybe(texts), maybe(texts), maybe(texts),
    numbers, maybe(numbers), maybe(endpoints), maybe(endpoints), st.booleans(),
)  # fmt: skip
programs = st.builds(
    Program, texts, texts, texts, st.booleans(), times, maybe(times), maybe(numbers), maybe(texts), maybe(texts), texts
)
values = st.recursive(
    st.none() | st.booleans() | numbers | times | texts | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(texts | numbers, inner, max_size=3)
    ),
    max_leaves=6,
)
traces = st.builds(
    Trace,
    some(packets),
    some(calls),
    some(st.builds(State, texts, times, endpoints, maybe(endpoints), texts, numbers, numbers, numbers)),
    some(st.builds(Counter, texts, texts, numbers, numbers)),
    some(st.builds(Reason, times, endpoints, endpoints, texts)),
    some(programs),
    st.dictionaries(texts, texts, max_size=2),
    st.dictionaries(texts, values, max_size=3),
    texts,
    some(texts),
    times,
    numbers,
    texts,
    texts,
    texts,
)


@given(traces)
def test_any_trace_comes_back_as_it_was(trace: Trace) -> None:
    assert Trace.from_dict(json.loads(json.dumps(trace.to_dict()))) == trace


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_a_file_holds_the_whole_trace(tmp_path: Path, name: str) -> None:
    trace = data_after_close()
    trace.save(tmp_path / name)
    assert Trace.load(str(tmp_path / name)) == trace
    once = (tmp_path / name).read_bytes()
    trace.save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == once  # a recording in git changes only with what it holds
    assert once.startswith(b"\x1f\x8b") is name.endswith(".gz")


def test_a_value_without_json_comes_back_as_its_repr() -> None:
    trace = Trace((), values={"words": {1}, "nested": [range(3)]})
    assert Trace.from_dict(trace.to_dict()).values == {"words": "{1}", "nested": ["range(0, 3)"]}


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"trace\.txt: name it \.pcapng"):
        data_after_close().save(tmp_path / "trace.txt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", b""),
        ("a.json", b"\xff\xfe"),
        ("a.json", b"[1, 2]"),
        ("a.json", b'{"format": "rstkit trace 2"}'),
        ("a.json", b"[" * 100_000),
        ("a.json.gz", b"no gzip"),
        ("a.json.gz", gzip.compress(b"{}")),
        ("a.json.gz", gzip.compress(b"{}" * 99)[:-9]),
        ("a.json.gz", gzip.compress(bytes(99))[:12] + b"\xff" * 30),
    ],
)
def test_a_file_that_holds_no_trace(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TraceError, match=rf"{name}: (this is no rstkit trace|not a readable rstkit trace)"):
        Trace.load(tmp_path / name)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.json"):
        Trace.load(tmp_path / "none.json")


def without(*path: Any) -> dict[str, Any]:
    whole = data_after_close().to_dict()
    place = whole
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return whole


def with_value(value: Any, *path: Any) -> dict[str, Any]:
    whole: Any = json.loads(json.dumps(data_after_close().to_dict()))
    place = whole
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return whole  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "damaged",
    [
        without("packets"),
        without("calls", 0, "host"),
        without("packets", 0, 5),
        with_value("AAAA", "packets", 0, 4),  # a frame without a segment
        with_value("not base64!", "packets", 0, 4),
        with_value("soon", "packets", 0, 2),
        with_value(5, "calls"),
        with_value(5, "calls", 0),
        with_value("x", "calls", 0, "unheard_of"),
        with_value("late", "calls", 0, "began"),
        with_value(["10.0.0.1"], "calls", 0, "local"),
        with_value([1, "10.0.0.1"], "calls", 0, "local"),
        with_value("1", "duration"),
        with_value(["10.0.0.1"], "hosts"),
        with_value({"client": 1}, "hosts"),
        with_value([1], "problems"),
        with_value({"set": [1]}, "values", "nap"),
        with_value({"bytes": "!"}, "values", "nap"),
        with_value({}, "values", "nap"),
        with_value("x", "unheard_of"),
    ],
)
def test_damaged_data_is_told(damaged: dict[str, Any]) -> None:
    with pytest.raises(TraceError, match="damaged"):
        Trace.from_dict(damaged)


json_values = st.recursive(
    st.none() | st.booleans() | numbers | times | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_any_damage_is_told_or_harmless(data: st.DataObject) -> None:
    whole: Any = json.loads(json.dumps(data_after_close().to_dict()))
    place = whole
    steps: list[Any] = []
    while isinstance(place, dict | list) and place and (not steps or data.draw(st.booleans())):
        step = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        steps.append(step)
        parent, place = place, place[step]
    parent[steps[-1]] = data.draw(json_values)
    try:
        trace = Trace.from_dict(whole)
    except TraceError:
        return
    assert repr(trace).startswith("<Trace: ")
    assert Trace.from_dict(trace.to_dict()) == trace
