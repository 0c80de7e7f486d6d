"""`explain` on the packets of varied programs, against what the kernel says: its reasons, calls and counters.

The programs are in `tests.truth`; python -m tests.truth runs more of them and prints the table.
"""

import os
from pathlib import Path

import pytest

from rstkit.capture import write_pcapng
from rstkit.captures import read
from rstkit.explain import explain
from rstkit.grouping import Told, tell
from rstkit.trace import Trace

from .truth.mix import KINDS, certificate
from .truth.runs import run_all
from .truth.score import DECIDED, RIGHT, WHOLE, WRONG, Score, ways

SEEDS = range(7000, 7000 + 6 * len(KINDS))

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel's reasons take real root")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Trace]]:
    return list(run_all(SEEDS, certificate(tmp_path_factory.mktemp("tls"))))


@pytest.fixture(scope="module")
def score(runs: list[tuple[str, Trace]]) -> Score:
    found = Score()
    for name, trace in runs:
        found.add(name, trace)
    return found


@as_root
def test_no_explanation_of_packets_alone_is_wrong(score: Score) -> None:
    """Where one packet in thirty is missing, it may be the one that tells: there it may be wrong, but hardly ever."""
    thinned = [told for told in score.wrong if " incomplete, " in told]
    assert [told for told in score.wrong if told not in thinned] == [], score.table()
    graded = sum(count for (way, _, _), count in score.counts.items() if way.startswith("incomplete"))
    assert graded > 500
    assert len(thinned) <= 1, thinned


@as_root
def test_what_packets_can_decide_is_decided(score: Score) -> None:
    right = score.total(RIGHT, WHOLE, DECIDED)
    assert right > 300, score.table()
    assert len(score.missed) <= 0.05 * (right + len(score.missed)), "\n".join([score.table(), *score.missed])


@as_root
def test_the_runs_are_varied(score: Score) -> None:
    found = {key for _, key, grade in score.counts if grade != WRONG}
    assert found >= {
        "no-listener", "data-after-close", "unread-data", "linger-zero", "listener-closed", "connect-aborted",
        "half-open-scan", "keepalive-timeout", "unknown-connection", "gave-up", "accept-queue-overflow",
    }, score.table()  # fmt: skip
    assert score.untold < 0.1 * sum(score.counts.values())


@as_root
def test_connections_of_one_shape_are_told_alike(runs: list[tuple[str, Trace]], tmp_path: Path) -> None:
    """What `rstkit explain` says of all after looking at one."""
    told: dict[bytes, list[Told]] = {}
    shared, unlike = 0, []
    for name, trace in runs:
        for way, seen in ways(trace).items():
            write_pcapng(seen, tmp_path / "seen.pcapng")
            for connection in read(tmp_path / "seen.pcapng").reset_connections:
                if len(connection.shape) < 16:  # like no other
                    continue
                whole = connection.trace()
                own = [tell(reset, whole) for reset in explain(whole)]
                shared += connection.shape in told
                if told.setdefault(connection.shape, own) != own:
                    unlike.append(f"{name} {way}: {told[connection.shape]} and {own}")
    assert shared > 500
    assert unlike == []
