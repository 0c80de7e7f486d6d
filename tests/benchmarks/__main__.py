"""How fast the lab and the diagram are: medians, to be read by a person. Run: python -m tests.benchmarks."""

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rstkit import Lab, Trace, sequence_diagram
from rstkit.lab.choice import verdict
from rstkit.lab.guest import Guest

Address = tuple[str, int]


def knock(address: Address) -> None:
    socket.socket().connect_ex(address)


def drain(address: Address) -> None:
    with socket.create_server(address) as listener:
        connection, _ = listener.accept()
        while connection.recv(1 << 20):
            pass


def pour(address: Address, size: int) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(bytes(size))


def times(count: int, action: Callable[[], object], pause: float = 0) -> list[float]:
    """Seconds that an action takes, again and again."""
    found = []
    for _ in range(count):
        time.sleep(pause)
        began = time.perf_counter()
        action()
        found.append(time.perf_counter() - began)
    return found


def say(what: str, values: list[float], unit: str, aim: str) -> None:
    """Print a median with its spread."""
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{what:58} median {middle:8.1f} {unit:9} ({low:.1f} to {high:.1f}; aim: {aim})", flush=True)


FIRST = """
import time; began = time.perf_counter()
import socket
from rstkit import Lab, explore, sequence_diagram, describe
def client(address): socket.socket().connect_ex(address)
trace = Lab().run(None, client)
sequence_diagram(trace); describe(trace)
print(time.perf_counter() - began - 0.02)
"""


def first_run(backend: str) -> float:
    environment = os.environ | {"RSTKIT_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", FIRST], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def memory(group: int) -> float:
    """MiB of a process group, what processes share counted once (PSS)."""
    told = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                where, rss, pss, *_ = (entry / "smaps_rollup").read_text().splitlines()
                told[where, rss] = int(pss.split()[1])  # alike in both: one memory, as threads have it
        except (OSError, ValueError):  # it has ended
            continue
    return sum(told.values()) / 1024


def measure_guest() -> None:
    backend, refusal = verdict("guest")
    if refusal:
        print(f"no guest: {refusal}")
        return
    assert isinstance(backend, Guest)
    say(
        "guest: the first run in a new kernel, its boot included",
        [first_run("guest") for _ in range(5)],
        "s",
        "at most 8",
    )
    os.environ["RSTKIT_BACKEND"] = "guest"
    lab = Lab()
    lab.run(None, knock)
    assert backend._kernel
    warm = [1000 * (t - 0.02) for t in times(20, lambda: lab.run(None, knock, rtt=20), pause=1.5)]
    sizes = [memory(backend._kernel._process.pid)]
    say("guest: a warm run beyond its round trip", warm, "ms", "at most 150")
    say("guest: memory after these runs", sizes, "MiB", "at most 160")
    backend.close()


def frame_rate(lab: Lab) -> float:
    """Frames a second over a bulk transfer without delay."""
    trace = lab.run(drain, pour, size=20_000_000, rtt=0, duration=30)
    assert trace.outcome == "completed", trace.problems
    return len(trace.packets) / (trace.packets[-1].sent - trace.packets[0].sent)


def trace_of(lab: Lab, size: int, packets: int) -> Trace:
    trace = lab.run(drain, pour, size=size, rtt=2, duration=30)
    assert len(trace.packets) >= packets, f"{len(trace.packets)} packets"
    return trace


def main() -> None:
    lab = Lab()
    lab.run(None, knock)
    warm = [1000 * (t - 0.02) for t in times(40, lambda: lab.run(None, knock, rtt=20), pause=0.2)]
    say("a warm run beyond its round trip", warm, "ms", "at most 30")
    row = [1000 * (t - 0.02) for t in times(40, lambda: lab.run(None, knock, rtt=20))]
    say("the same, one run right after another", row, "ms", "no aim")
    say(
        "the first run in a new kernel, imports included",
        [first_run("namespaces") for _ in range(7)],
        "s",
        "at most 1.5",
    )
    say("the wire, rtt 0", [frame_rate(lab) for _ in range(5)], "frames/s", "at least 5,000")
    for packets, size, count in ((30, 22_000, 15), (2000, 2_400_000, 5)):
        trace = trace_of(lab, size, packets)
        drawn = [1000 * t for t in times(count, lambda trace=trace: sequence_diagram(trace))]  # type: ignore[misc]
        say(f"a diagram of {len(trace.packets)} packets", drawn, "ms", "50" if packets == 30 else "1,000")
    lab.backend.close()
    measure_guest()


if __name__ == "__main__":
    main()
