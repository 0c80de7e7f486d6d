"""Runs on the lab, several at a time."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from rstkit.lab import Lab
from rstkit.trace import Trace

from .mix import mixed

AT_ONCE = 6


def run_all(seeds: Iterable[int], pem: str) -> Iterator[tuple[str, Trace]]:
    """The name and the trace of each seed's run."""

    def run(seed: int) -> tuple[str, Trace]:
        mix = mixed(seed, pem)
        return f"{mix.kind} {seed}", Lab(tell=lambda _: None).run(mix.server, mix.client, **mix.values)

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from pool.map(run, seeds)
    finally:
        Lab().backend.close()
