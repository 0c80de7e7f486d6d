"""The clock on which the lab's processes agree, in nanoseconds, and how the wall clock stands to it."""

import sys
import time

# CLOCK_MONOTONIC, but on Windows: there, before Python 3.13, time.monotonic_ns() moves in steps of 16 ms
clock = time.perf_counter_ns if sys.platform == "win32" else time.monotonic_ns


def realtime_offset() -> int:
    """How far the wall clock (CLOCK_REALTIME) is ahead of `clock`, in nanoseconds.

    Of several readings the one that took least time counts: this process may be put off between two clocks.
    """
    readings = []
    for _ in range(5):
        before, wall, after = clock(), time.time_ns(), clock()
        readings.append((after - before, wall - (before + after) // 2))
    return min(readings)[1]
