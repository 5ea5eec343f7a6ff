"""Benchmarks beside the peers: each runs ours and somebody else's in turn, and prints the ratio.

A benchmark is a module of this package with a docstring, whose first line ``python -m benchmarks`` lists, and
a function ``run() -> list[Result]``.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

Figures = Mapping[str, float]
"What one run came to: for each metric a number, in the unit that the benchmark says."


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One figure of ours beside the same figure of a peer, taken in the same run."""

    case: str
    "What was done: ``mutual ECDSA P-256, X25519``."
    metric: str
    "What was measured: ``CPU of both sides``."
    unit: str
    "The unit of ``ours``, ``peer`` and ``target``: ``ms``, ``µs``."
    ours: float
    "The median of our runs."
    peer: float
    "The median of the peer's runs."
    peer_name: str
    "Who the peer is, with its version."
    runs: int
    "How many pairs of runs the medians are of."
    target: float | None = None
    "What ours is not to exceed, if something was set."

    @property
    def ratio(self) -> float:
        """Ours divided by the peer's: below 1, ours takes less."""
        return self.ours / self.peer

    @property
    def is_met(self) -> bool | None:
        """Whether ours keeps to the target; ``None`` without one."""
        return None if self.target is None else self.ours <= self.target


def no_targets(peer: Figures) -> Figures:
    """For what is measured to be known, and no more."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Ours and a peer's way of doing one thing. Each function does it once, or a fixed number of times."""

    case: str
    unit: str
    ours: Callable[[], Figures]
    peer: Callable[[], Figures]
    peer_name: str
    targets: Callable[[Figures], Figures] = no_targets
    "From the peer's medians, for targets relative to it, to what ours is not to exceed, by metric."

    def results(self, runs: int) -> list[Result]:
        """A result for each metric, from ``runs`` pairs."""
        ours, peer = paired_medians(self.ours, self.peer, runs)
        targets = self.targets(peer)
        return [
            Result(
                case=self.case,
                metric=metric,
                unit=self.unit,
                ours=value,
                peer=peer[metric],
                peer_name=self.peer_name,
                runs=runs,
                target=targets.get(metric),
            )
            for metric, value in ours.items()
        ]


class CpuClock:
    """Adds up the CPU time that this process spends inside its ``with`` blocks."""

    __slots__ = ("_started", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.process_time()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds += time.process_time() - self._started


def paired_medians(
    ours: Callable[[], Figures], peer: Callable[[], Figures], runs: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Measure ours and the peer's in turn ``runs`` times, and give the median of each metric.

    A pair runs back to back, the order changing from pair to pair, so that what else the machine does falls
    on both. One pair is run beforehand and thrown away; the garbage collector runs between measurements only.
    """
    ours()
    peer()
    samples: dict[Callable[[], Figures], list[Figures]] = {ours: [], peer: []}
    for index in range(runs):
        for measure in (ours, peer) if index % 2 == 0 else (peer, ours):
            gc.collect()
            gc.disable()
            try:
                samples[measure].append(measure())
            finally:
                gc.enable()
    return _medians(samples[ours]), _medians(samples[peer])


def _medians(samples: list[Figures]) -> dict[str, float]:
    return {metric: statistics.median(figures[metric] for figures in samples) for metric in samples[0]}
