"""Time from an offer to ``connected`` and CPU of a call, of the side that answers; one call and fifty at once.

The callers are in another process and the same for both: connections of ours, one or fifty, each offering audio,
video and a data channel as a browser's page does, with nothing to send yet. They have been made before the clock
starts, and their offers come all at one moment; each call is answered as soon as the loop gets to it. The time is
the median of the calls' times from there to ``connectionState`` being ``connected``. CPU is what the answering
process used until each caller's channel was open, its threads included.

Ours answers as a server is configured, as an ICE-lite agent with one port for all calls, and with full ICE and a
port for each. The callers speak DTLS 1.2 with all, for aiortc has no other, and, with ours, 1.3 in another row.
"""

import asyncio
import functools
import multiprocessing
import multiprocessing.connection
import statistics
import time
from collections.abc import Callable
from unittest import mock

import aiortc

import mediapeer
from benchmarks import Comparison, Figures, Result
from mediapeer.dtls import ProtocolVersion
from mediapeer.ice import UdpMux
from tests.tools.relay import LOOPBACK

AIORTC = f"aiortc {aiortc.__version__}"

_PAIRS = {1: 11, 50: 5}
_TIME = "offer received to connected"
_LAST = "offers received to last connected"
_CPU = "CPU of each call"
_PATIENCE = 60.0

Pipe = multiprocessing.connection.Connection
MakeAnswerer = Callable[[UdpMux], aiortc.RTCPeerConnection]


def lite_answerer(mux: UdpMux) -> aiortc.RTCPeerConnection:
    """As a server answers: a lite agent, on the port of all calls."""
    return mediapeer.RTCPeerConnection(mediapeer.RTCConfiguration(iceMux=mux, iceLite=True))


def full_answerer(mux: UdpMux) -> aiortc.RTCPeerConnection:
    """With full ICE, on a port of its own."""
    return mediapeer.RTCPeerConnection(mediapeer.RTCConfiguration(iceAddresses=[LOOPBACK]))


def aiortc_answerer(mux: UdpMux) -> aiortc.RTCPeerConnection:
    """aiortc's own."""
    return aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))


async def until_connected(end: aiortc.RTCPeerConnection) -> None:
    """Wait until a connection is connected.

    :raises RuntimeError: when it fails or closes instead.
    """
    settled = asyncio.Event()
    end.on("connectionstatechange", settled.set)
    while end.connectionState not in ("connected", "failed", "closed"):
        settled.clear()
        await settled.wait()
    end.remove_listener("connectionstatechange", settled.set)
    if end.connectionState != "connected":
        raise RuntimeError(f"a call is {end.connectionState}")


# The callers


def _caller(version: ProtocolVersion) -> aiortc.RTCPeerConnection:
    configuration = mediapeer.RTCConfiguration(iceAddresses=[LOOPBACK], maximumDtlsVersion=version)
    caller = mediapeer.RTCPeerConnection(configuration)
    caller.addTransceiver("audio")
    caller.addTransceiver("video")
    return caller


def run_callers(pipe: Pipe) -> None:
    """Do what the other end of the pipe says, until it says ``None``; to be run in a process of its own.

    A number and a version: call so often, and say when every channel is open. ``close``: end all calls.
    """
    asyncio.run(_run_callers(pipe))


async def _run_callers(pipe: Pipe) -> None:
    callers: list[aiortc.RTCPeerConnection] = []
    while (order := await asyncio.to_thread(pipe.recv)) is not None:
        if order == "close":
            await asyncio.gather(*(caller.close() for caller in callers))
            callers.clear()
        else:
            await _call(pipe, callers, *order)
        pipe.send("done")


async def _call(
    pipe: Pipe, callers: list[aiortc.RTCPeerConnection], count: int, version: ProtocolVersion
) -> None:
    new, opened = [_caller(version) for _ in range(count)], []
    callers.extend(new)
    for caller in new:
        channel, is_open = caller.createDataChannel("chat"), asyncio.Event()
        channel.on("open", is_open.set)
        opened.append(is_open)
        await caller.setLocalDescription()
    pipe.send([caller.localDescription.sdp for caller in new])
    for _ in new:
        index, sdp = await asyncio.to_thread(pipe.recv)
        await new[index].setRemoteDescription(aiortc.RTCSessionDescription(sdp, "answer"))
    async with asyncio.timeout(_PATIENCE):
        await asyncio.gather(*(is_open.wait() for is_open in opened))


class Callers:
    """The process of the callers, for one measurement or many."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=run_callers, args=(theirs,), daemon=True)

    def __enter__(self) -> "Callers":
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.send(None)
        self._process.join(1)
        # It may be waiting for a call that has failed.
        self._process.terminate()
        self._process.join()
        self.pipe.close()


# The answerers


async def _answer(
    pipe: Pipe, answerer: aiortc.RTCPeerConnection, index: int, offer: str, started: float
) -> float:
    await answerer.setRemoteDescription(aiortc.RTCSessionDescription(offer, "offer"))
    await answerer.setLocalDescription(await answerer.createAnswer())
    pipe.send((index, answerer.localDescription.sdp))
    await until_connected(answerer)
    return time.perf_counter() - started


async def answer_calls(
    pipe: Pipe,
    make: Callable[[], aiortc.RTCPeerConnection],
    count: int,
    version: ProtocolVersion,
    answerers: list[aiortc.RTCPeerConnection],
) -> tuple[list[float], float]:
    """Answer ``count`` calls of :func:`run_callers` at once.

    :param answerers: gets the ends that are made.
    :return: the seconds that each took, and the CPU of all.
    """
    pipe.send((count, version))
    offers = await asyncio.to_thread(pipe.recv)
    cpu, started = time.process_time(), time.perf_counter()

    async def answer(index: int, offer: str) -> float:
        answerer = make()
        answerers.append(answerer)
        return await _answer(pipe, answerer, index, offer, started)

    async with asyncio.timeout(_PATIENCE):
        times = await asyncio.gather(*(answer(*each) for each in enumerate(offers)))
        await asyncio.to_thread(pipe.recv)
    return times, time.process_time() - cpu


async def end_calls(pipe: Pipe, answerers: list[aiortc.RTCPeerConnection]) -> None:
    """End all calls at both ends."""
    pipe.send("close")
    await asyncio.to_thread(pipe.recv)
    await asyncio.gather(*(answerer.close() for answerer in answerers))


async def _setup(pipe: Pipe, make: MakeAnswerer, count: int, version: ProtocolVersion) -> Figures:
    mux = await UdpMux.open([LOOPBACK])
    answerers: list[aiortc.RTCPeerConnection] = []
    times, cpu = await answer_calls(pipe, functools.partial(make, mux), count, version, answerers)
    await end_calls(pipe, answerers)
    await mux.close()
    figures = {_TIME: 1000 * statistics.median(times), _CPU: 1000 * cpu / count}
    return figures if count == 1 else {**figures, _LAST: 1000 * max(times)}


def setup(callers: Callers, make: MakeAnswerer, count: int, version: ProtocolVersion) -> Figures:
    """Answer ``count`` calls at once; milliseconds.

    :raises RuntimeError: when one does not become connected.
    """
    # aioice leaves loopback out; for aiortc's own ends there is no option to have it.
    with mock.patch("aioice.ice.get_host_addresses", return_value=[LOOPBACK]):
        return asyncio.run(_setup(callers.pipe, make, count, version))


def targets(peer: Figures) -> Figures:
    """Half of aiortc's."""
    return {metric: value / 2 for metric, value in peer.items()}


_CASES: list[tuple[str, MakeAnswerer, ProtocolVersion]] = [
    ("ICE-lite, one port", lite_answerer, ProtocolVersion.DTLS_1_2),
    ("ICE-lite, one port, DTLS 1.3", lite_answerer, ProtocolVersion.DTLS_1_3),
    ("full ICE", full_answerer, ProtocolVersion.DTLS_1_2),
]


def run() -> list[Result]:
    """Measure each way of answering, with one call and with fifty."""
    results: list[Result] = []
    with Callers() as callers:
        for count, pairs in _PAIRS.items():
            for case, make, version in _CASES:
                results += Comparison(
                    case=f"{count} call{'s at once' if count > 1 else ''}, {case}",
                    unit="ms",
                    ours=functools.partial(setup, callers, make, count, version),
                    peer=functools.partial(setup, callers, aiortc_answerer, count, version),
                    peer_name=AIORTC,
                    targets=targets,
                ).results(pairs)
    return results
