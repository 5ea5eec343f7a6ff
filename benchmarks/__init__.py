"""Benchmarks beside the peers: each runs ours and somebody else's in turn, and prints the ratio.

A benchmark is a module of this package with a docstring, whose first line ``python -m benchmarks`` lists, and
a function ``run() -> list[Result]``.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One figure of ours beside the same figure of a peer, taken in the same run."""

    case: str
    "What was done: ``mutual ECDSA P-256, X25519``."
    metric: str
    "What was measured: ``CPU of both sides``."
    unit: str
    "The unit of ``ours`` and ``peer``: ``ms``, ``µs``."
    ours: float
    "The median of our runs."
    peer: float
    "The median of the peer's runs."
    peer_name: str
    "Who the peer is, with its version."
    runs: int
    "How many pairs of runs the medians are of."

    @property
    def ratio(self) -> float:
        """Ours divided by the peer's: below 1, ours takes less."""
        return self.ours / self.peer


def cpu_seconds(work: Callable[[], object], repeat: int) -> float:
    """The CPU time of one call of ``work`` in seconds, from ``repeat`` calls in a row."""
    started = time.process_time()
    for _ in range(repeat):
        work()
    return (time.process_time() - started) / repeat


def paired_medians(ours: Callable[[], float], peer: Callable[[], float], runs: int) -> tuple[float, float]:
    """Measure ours and the peer's in turn ``runs`` times, and give the median of each.

    A pair runs back to back, the order changing from pair to pair, so that what else the machine does falls
    on both. One pair is run beforehand and thrown away; the garbage collector runs between measurements only.
    """
    ours()
    peer()
    samples: dict[Callable[[], float], list[float]] = {ours: [], peer: []}
    for index in range(runs):
        for measure in (ours, peer) if index % 2 == 0 else (peer, ours):
            gc.collect()
            gc.disable()
            try:
                samples[measure].append(measure())
            finally:
                gc.enable()
    return statistics.median(samples[ours]), statistics.median(samples[peer])
