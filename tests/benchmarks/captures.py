"""How fast a capture is explained, beside tshark and tcptrace on the same file.

Run: python -m tests.benchmarks.captures. An argument is another number of packets, or the path of a
capture of one's own.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_EXPLAIN = [sys.executable, "-c", "import sys; from rstkit.cli import main; sys.exit(main())", "explain"]
_COMMANDS = {
    "rstkit explain": _EXPLAIN,
    "tshark -q -z conv,tcp": ["tshark", "-q", "-z", "conv,tcp", "-r"],
    "tcptrace -n": ["tcptrace", "-n"],  # without -n it asks for the name of every address
}
_RUNS = 3


def measured(command: list[str]) -> tuple[float, int]:
    """Seconds from a command's start to its end, and MiB of memory at its peak."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with status {process.returncode}")
    return time.perf_counter() - began, used.ru_maxrss // 1024


def compare(path: Path) -> None:
    """Print the best of some runs of each command, taken in turn, and how many times as long the others take."""
    runs: dict[str, list[tuple[float, int]]] = {name: [] for name in _COMMANDS}
    for _ in range(_RUNS):
        for name, command in _COMMANDS.items():
            runs[name].append(measured([*command, str(path)]))
    best = {name: min(found) for name, found in runs.items()}
    own = best["rstkit explain"][0]
    for name, (seconds, peak) in best.items():
        print(f"{name:24} {seconds:7.2f} s {peak:6} MiB   {seconds / own:6.1f} times", flush=True)


def main() -> None:
    given = sys.argv[1] if len(sys.argv) > 1 else "1000000"
    if not given.isdigit():
        compare(Path(given))
        return
    with tempfile.TemporaryDirectory() as folder:
        for resets in (0.0005, 0.02, 1.0):
            path = Path(folder, "big.pcap")
            # another process makes it, whose memory does not count
            subprocess.run([sys.executable, "-m", "tests.traffic", path, given, str(resets)], check=True)
            compare(path)


if __name__ == "__main__":
    main()
