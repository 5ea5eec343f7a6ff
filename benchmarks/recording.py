"""CPU and memory of recording calls of 720p30 with 2 Mbit/s, beside aiortc's recorder, its decoder alone, and pion.

The streams are VP8 and Opus, encoded beforehand, and come from another process over loopback, each in a call of its
own; the recording process has one core and the sending one another. CPU is what the recording process uses, its
threads included, divided by the time and by the streams, from when all streams flow. Memory is by how much its
resident memory has grown at the most since it had loaded everything, by stream. aiortc's recorder decodes and
encodes again; its decoder alone is what a program that only looks at the pictures pays. Each file is read
afterwards: one in which pictures are missing is no result.
"""

import asyncio
import functools
import multiprocessing
import os
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any, Protocol
from unittest import mock

import aiortc
import av
from aiortc.contrib.media import MediaBlackhole
from aiortc.contrib.media import MediaRecorder as AiortcMediaRecorder

import mediapeer
from benchmarks import Figures, Result
from benchmarks._streams import RATE, Pipe, send
from benchmarks.memory import resident_bytes
from mediapeer.ice import UdpMux
from mediapeer.media import Recorder
from tests.tools import endpoints
from tests.tools.relay import LOOPBACK

AIORTC = f"aiortc {aiortc.__version__}"
STREAMS = (1, 10, 50, 100)

_CPU = "share of a core, each stream"
_MEMORY = "memory, each stream"
_CAME = "packets that came"
_WARM_UP = 3.0
_SECONDS = 15.0
_MAXIMUM_SHARE = 1.0
_LEAST_RATIO = 80.0


class Receiver(Protocol):
    """What takes a call and does something with its media."""

    async def answer(self, offer: str, path: pathlib.Path) -> str:
        """Take an offer, and answer it."""

    async def close(self) -> None:
        """Finish the file and hang up."""

    def counts(self) -> tuple[int, int] | None:
        """Packets that came, and those that did not; ``None`` where that cannot be known."""


class OurRecording:
    """A call recorded by ours, without transcoding.

    :param mux: the port of all calls.
    """

    def __init__(self, mux: UdpMux) -> None:
        self._end = mediapeer.RTCPeerConnection(mediapeer.RTCConfiguration(iceMux=mux, iceLite=True))
        self._recorder: Recorder | None = None

    async def answer(self, offer: str, path: pathlib.Path) -> str:
        self._recorder = recorder = Recorder(path.with_suffix(".webm"))
        self._end.on("track", recorder.add_track)
        recorder.start()
        await self._end.setRemoteDescription(mediapeer.RTCSessionDescription(offer, "offer"))
        await self._end.setLocalDescription(await self._end.createAnswer())
        description = self._end.localDescription
        return description.sdp if description is not None else ""

    def counts(self) -> tuple[int, int] | None:
        streams = [stream for each in self._end.transports for stream in each.media.streams()]
        return sum(s.packets_received for s in streams), sum(s.packets_lost for s in streams)

    async def close(self) -> None:
        if self._recorder is not None:
            await self._recorder.stop()
        await self._end.close()


class AiortcReceiver:
    """A call of aiortc's with one of its sinks.

    :param sink: makes it, for a file.
    """

    def __init__(self, sink: Callable[[pathlib.Path], Any]) -> None:
        self._make_sink = sink
        self._end = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))

    async def answer(self, offer: str, path: pathlib.Path) -> str:
        self._sink = self._make_sink(path.with_suffix(".mp4"))
        self._end.on("track", self._sink.addTrack)
        await self._end.setRemoteDescription(aiortc.RTCSessionDescription(offer, "offer"))
        await self._sink.start()
        await self._end.setLocalDescription(await self._end.createAnswer())
        return self._end.localDescription.sdp

    def counts(self) -> tuple[int, int] | None:
        return None

    async def close(self) -> None:
        await self._sink.stop()
        await self._end.close()


def our_recording(mux: UdpMux) -> Receiver:
    """A call that ours records."""
    return OurRecording(mux)


def aiortc_recorder(_: UdpMux) -> Receiver:
    """A call that aiortc's ``MediaRecorder`` records, as it does by default: H.264 and AAC in MP4."""
    return AiortcReceiver(lambda path: AiortcMediaRecorder(os.fspath(path)))


def aiortc_decoder(_: UdpMux) -> Receiver:
    """A call that aiortc decodes for nobody."""
    return AiortcReceiver(lambda _: MediaBlackhole())


MakeReceiver = Callable[[UdpMux], Receiver]
Receive = Callable[[Pipe, pathlib.Path, float], None]
"Answers the offers that come out of a pipe, and measures for so many seconds; runs in a process of its own."


def receive(make: MakeReceiver, pipe: Pipe, directory: pathlib.Path, seconds: float) -> None:
    """Receive in this process; see :data:`Receive`."""
    with mock.patch("aioice.ice.get_host_addresses", return_value=[LOOPBACK]):
        asyncio.run(_receive(make, pipe, directory, seconds))


async def _receive(make: MakeReceiver, pipe: Pipe, directory: pathlib.Path, seconds: float) -> None:
    mux = await UdpMux.open([LOOPBACK])
    offers = await asyncio.to_thread(pipe.recv)
    resident = resident_bytes()
    receivers = [make(mux) for _ in offers]
    pipe.send(
        [
            await receiver.answer(offer, directory / f"{number}.x")
            for number, (receiver, offer) in enumerate(zip(receivers, offers, strict=True))
        ]
    )
    await asyncio.sleep(_warm_up(len(offers)))
    first = _counts(receivers)
    cpu, started = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    cpu, elapsed = time.process_time() - cpu, time.monotonic() - started
    last = _counts(receivers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for receiver in receivers:
        await receiver.close()
    await mux.close()
    packets = [after - before for before, after in zip(first, last, strict=True)]
    pipe.send(_figures(cpu / elapsed, peak - resident, len(receivers), packets))


def receive_with_pion(pipe: Pipe, directory: pathlib.Path, seconds: float) -> None:
    """Receive in a process of pion's; see :data:`Receive`."""
    asyncio.run(_receive_with_pion(pipe, directory, seconds))


async def _receive_with_pion(pipe: Pipe, directory: pathlib.Path, seconds: float) -> None:
    offers = await asyncio.to_thread(pipe.recv)
    async with endpoints.endpoint("pion") as pion:
        before = _resident(pion.pid)
        answers = []
        for number, offer in enumerate(offers):
            pion.tell("save", sdp=offer, path=os.fspath(directory / str(number)))
            answers.append((await pion.said("description"))["sdp"])
        pipe.send(answers)
        await asyncio.sleep(_warm_up(len(offers)))
        first, cpu, started = await _saved(pion), _cpu_time(pion.pid), time.monotonic()
        await asyncio.sleep(seconds)
        cpu, elapsed = _cpu_time(pion.pid) - cpu, time.monotonic() - started
        last, grown = await _saved(pion), _resident(pion.pid) - before
        pion.tell("stop-saving")
        await pion.said("closed")
    pipe.send(_figures(cpu / elapsed, grown, len(offers), [b - a for a, b in zip(first, last, strict=True)]))


async def _saved(pion: endpoints.Endpoint) -> list[int]:
    pion.tell("saved")
    said = await pion.said("saved")
    return [said["packets"], said["missed"]]


def _cpu_time(pid: int) -> float:
    """The CPU time of another process in seconds."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def _warm_up(streams: int) -> float:
    return _WARM_UP + streams / 25


def _counts(receivers: list[Receiver]) -> list[int]:
    known = [counts for receiver in receivers if (counts := receiver.counts()) is not None]
    return [sum(counts[index] for counts in known) for index in range(2)]


def _figures(share: float, grown: int, streams: int, packets: list[int]) -> Figures:
    figures = {_CPU: 100 * share / streams, _MEMORY: grown / streams / 1e6}
    if sum(packets):
        figures[_CAME] = 100 * packets[0] / sum(packets)
    return figures


def measure(
    take: Receive, streams: int, *, seconds: float = _SECONDS, suffix: str = ".webm", least: float = 0.95
) -> Figures:
    """Receive ``streams`` streams for a while.

    :param suffix: of the files that come of it; empty when there are none.
    :param least: which share of the pictures of a single stream has to be in its file.
    :raises RuntimeError: when a file is missing or has too few pictures.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        from_sender, at_sender = context.Pipe()
        from_receiver, at_receiver = context.Pipe()
        sender = context.Process(target=send, args=(at_sender, streams))
        # Not a daemon's: pion's process is its child, and has its core.
        receiver = context.Process(target=take, args=(at_receiver, directory, seconds))
        for number, process in enumerate((sender, receiver)):
            process.start()
            _pin(process.pid, number)
        try:
            from_receiver.send(_next(from_sender, sender))
            from_sender.send(_next(from_receiver, receiver))
            figures: Figures = _next(from_receiver, receiver)
            from_sender.send("enough")
            _next(from_sender, sender)
        finally:
            for process in (receiver, sender):
                process.join(10)
                if process.is_alive():
                    process.kill()
        if suffix:
            _check_files(directory, suffix, streams, least * seconds * RATE)
    return figures


def _next(pipe: Pipe, process: multiprocessing.process.BaseProcess) -> Any:
    """What a process says next.

    :raises RuntimeError: when it has ended.
    """
    while not pipe.poll(1):
        if not process.is_alive():
            raise RuntimeError(f"the process ended with {process.exitcode}")
    return pipe.recv()


def _pin(pid: int | None, number: int) -> None:
    """Give a process a core of its own, where there are several."""
    cores = sorted(os.sched_getaffinity(0))
    if pid is not None and len(cores) > 1:
        os.sched_setaffinity(pid, {cores[number % len(cores)]})


def _check_files(directory: pathlib.Path, suffix: str, streams: int, least: float) -> None:
    files = [path for path in directory.iterdir() if path.suffix == suffix]
    if len(files) != streams:
        raise RuntimeError(f"{streams} streams, and {len(files)} files")
    for path in files:
        with av.open(os.fspath(path)) as container:
            pictures = sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
        # What a core is too busy to take is told by the packets that came.
        if not pictures or (streams == 1 and pictures < least):
            raise RuntimeError(f"{pictures} pictures in {path.name} instead of {least:.0f} and more")


OURS = functools.partial(receive, our_recording)
AIORTC_RECORDER = functools.partial(receive, aiortc_recorder)
AIORTC_DECODER = functools.partial(receive, aiortc_decoder)


def _results(streams: int, ours: Figures, peer: Figures, peer_name: str, share: float) -> list[Result]:
    """What ours and a peer came to, metric by metric; ``share`` is what CPU is not to exceed."""
    return [
        Result(
            case=f"{streams} streams" if streams > 1 else "1 stream",
            metric=metric,
            unit="MB" if metric == _MEMORY else "%",
            ours=value,
            peer=peer[metric],
            peer_name=peer_name,
            runs=1,
            target=share if metric == _CPU else None,
        )
        for metric, value in ours.items()
        if metric in peer
    ]


def _beside_aiortc() -> list[Result]:
    """One stream."""
    ours = measure(OURS, 1)
    # A core is not always enough for it: what it leaves out it does not pay for.
    recorder = measure(AIORTC_RECORDER, 1, suffix=".mp4", least=0.5)
    decoder = measure(AIORTC_DECODER, 1, suffix="")
    share = min(_MAXIMUM_SHARE, recorder[_CPU] / _LEAST_RATIO)
    return [
        *_results(1, ours, recorder, f"{AIORTC}, MediaRecorder", share),
        *_results(1, ours, decoder, f"{AIORTC}, decoding only", share),
    ]


def _many(streams: int) -> list[Result]:
    """Many streams on one core, beside pion where that can be had, else beside ours once more."""
    ours = measure(OURS, streams)
    if endpoints.refusal("pion") is None:
        peer, name = measure(receive_with_pion, streams, suffix=".ivf"), "pion, saved to disk"
    else:
        peer, name = measure(OURS, streams), "ours once more (pion needs Go)"
    return _results(streams, ours, peer, name, _MAXIMUM_SHARE)


def run() -> list[Result]:
    """Measure one stream beside aiortc, and more and more of them beside pion. Takes five minutes."""
    results = _beside_aiortc()
    for streams in STREAMS:
        results += _many(streams)
    return results
