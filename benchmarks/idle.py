"""Memory, CPU and threads of a call in which nothing is said: 500 at once, beside fewer of aiortc's.

The calls are those of the benchmark ``setup``: audio, video and a data channel, negotiated, connected and left alone.
A fresh process answers them, as an ICE-lite agent on one port or as aiortc; the callers are in another. Memory is the
growth of the resident memory by the calls, for each of them; some come beforehand, so that what is there once is not
counted. CPU is that of ten seconds in which ICE looks whether the peer is still there, and aiortc reports.

aiortc has a thread for each track that it might receive, so it gets a hundred calls. One pair takes minutes, most of
them for making the calls.
"""

import asyncio
import functools
import statistics
import threading
import time
from unittest import mock

import aiortc

from benchmarks import Figures, Result
from benchmarks.memory import in_process_of_its_own, resident_bytes
from benchmarks.setup import (
    AIORTC,
    Callers,
    MakeAnswerer,
    aiortc_answerer,
    answer_calls,
    end_calls,
    lite_answerer,
)
from mediapeer.dtls import ProtocolVersion
from mediapeer.ice import UdpMux
from tests.tools.relay import LOOPBACK

_PAIRS = 1
_BEFOREHAND = 20
_AT_ONCE = 20
_OURS, _AIORTCS = 500, 100
_SECONDS = 10.0
_MEMORY, _CPU, _THREADS = "resident memory of a call", "CPU of a call in a second", "threads of a call"
_UNITS = {_MEMORY: "kB", _CPU: "µs", _THREADS: ""}
#: A thread that all calls share, as the event loop's executor has them, is none of a call's.
_TARGETS = {_MEMORY: 100.0, _THREADS: 0.01}


async def _answer(
    callers: Callers, make: MakeAnswerer, mux: UdpMux, count: int
) -> list[aiortc.RTCPeerConnection]:
    answerers: list[aiortc.RTCPeerConnection] = []
    for _ in range(0, count, _AT_ONCE):
        make_one = functools.partial(make, mux)
        await answer_calls(callers.pipe, make_one, _AT_ONCE, ProtocolVersion.DTLS_1_2, answerers)
    return answerers


async def _idle(callers: Callers, make: MakeAnswerer, count: int, seconds: float) -> Figures:
    mux = await UdpMux.open([LOOPBACK])
    answerers = await _answer(callers, make, mux, _BEFOREHAND)
    memory, threads = resident_bytes(), threading.active_count()
    answerers += await _answer(callers, make, mux, count)
    # The last of them may still be about to start something.
    await asyncio.sleep(1)
    memory, threads = resident_bytes() - memory, threading.active_count() - threads
    cpu = time.process_time()
    await asyncio.sleep(seconds)
    cpu = time.process_time() - cpu
    await end_calls(callers.pipe, answerers)
    await mux.close()
    return {
        _MEMORY: memory / count / 1000,
        _CPU: 1e6 * cpu / (_BEFOREHAND + count) / seconds,
        _THREADS: threads / count,
    }


def idle(make: MakeAnswerer, count: int, seconds: float = _SECONDS) -> Figures:
    """Answer ``count`` calls and leave them alone for so many seconds.

    :param count: a multiple of twenty.
    """
    with mock.patch("aioice.ice.get_host_addresses", return_value=[LOOPBACK]), Callers() as callers:
        return asyncio.run(_idle(callers, make, count, seconds))


def run() -> list[Result]:
    """Measure ours and aiortc's in turn."""
    samples: list[tuple[Figures, Figures]] = [
        (
            in_process_of_its_own(functools.partial(idle, lite_answerer, _OURS)),
            in_process_of_its_own(functools.partial(idle, aiortc_answerer, _AIORTCS)),
        )
        for _ in range(_PAIRS)
    ]
    return [
        Result(
            case=f"{_OURS} calls beside {_AIORTCS}",
            metric=metric,
            unit=unit,
            ours=statistics.median(ours[metric] for ours, _ in samples),
            peer=statistics.median(peer[metric] for _, peer in samples),
            peer_name=AIORTC,
            runs=_PAIRS,
            target=_TARGETS.get(metric),
        )
        for metric, unit in _UNITS.items()
    ]
