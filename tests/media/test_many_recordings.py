"""Many calls recorded at once, in real time: nothing is lost, memory stays flat, and every file can be read.

``python -m tests.media.test_many_recordings --seconds 60`` does it for a minute, and prints its figures.
"""

import argparse
import asyncio
import dataclasses
import multiprocessing
import pathlib
import resource
import tempfile
import time

import av
import pytest

from benchmarks._streams import RATE, Pipe, send
from mediapeer import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from mediapeer.ice import UdpMux
from mediapeer.media import Recorder, RecordingSummary
from tests.tools.relay import LOOPBACK

RECORDINGS, SECONDS = 20, 8.0
#: Seconds until all calls flow and every buffer has been as full as it gets.
WARM_UP = 5.0
SAMPLE_INTERVAL = 0.25
#: By how much the second half may need more memory than the first: what the files' indices hold, and the allocator's
#: whims. A recording that kept its frames would take 250 kB a second.
GROWTH_OF_A_RECORDING = 100_000
PATIENCE = 120.0
#: The kernel loses what comes while something else has the cores: that says nothing about us, unless it is always so.
ATTEMPTS = 3


@dataclasses.dataclass
class Outcome:
    """What came of a run."""

    sent: int = 0
    "Packets."
    latest: float = 0.0
    "Seconds that the sender was behind at the worst."
    received: int = 0
    lost: int = 0
    dropped: int = 0
    "Frames that were received and not written."
    written: int = 0
    "Frames."
    first_half: int = 0
    "The most memory that was resident in the first half, in bytes."
    second_half: int = 0
    share: float = 0.0
    "Of a core, that the recording process took."
    errors: tuple[str, ...] = ()
    counters: dict[str, int] = dataclasses.field(default_factory=dict)
    "What the transports dropped."


class _Call:
    """A call that is answered and recorded."""

    def __init__(self, mux: UdpMux, path: pathlib.Path) -> None:
        self.end = RTCPeerConnection(RTCConfiguration(iceMux=mux, iceLite=True))
        self.recorder = Recorder(path)
        self.end.on("track", self.recorder.add_track)

    async def answer(self, offer: str) -> str:
        self.recorder.start()
        await self.end.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self.end.setLocalDescription(await self.end.createAnswer())
        return self.end.localDescription.sdp

    def account(self, outcome: Outcome) -> None:
        """Add what has come of it."""
        for transport in self.end.transports:
            for stream in transport.media.streams():
                outcome.received += stream.packets_received
                outcome.lost += stream.packets_lost
            for name, count in transport.counters.items():
                outcome.counters[name] = outcome.counters.get(name, 0) + count
        outcome.dropped += self.recorder.statistics["dropped"]
        outcome.written += self.recorder.statistics["written"]

    async def close(self) -> RecordingSummary:
        try:
            return await self.recorder.stop()
        finally:
            await self.end.close()


def _record(pipe: Pipe, directory: pathlib.Path, seconds: float) -> None:
    """Record the calls whose offers come out of the pipe; in a process of its own."""
    asyncio.run(_record_calls(pipe, directory, seconds))


async def _record_calls(pipe: Pipe, directory: pathlib.Path, seconds: float) -> None:
    mux = await UdpMux.open([LOOPBACK])
    offers = await asyncio.to_thread(pipe.recv)
    calls = [_Call(mux, directory / f"{number}.webm") for number in range(len(offers))]
    pipe.send([await call.answer(offer) for call, offer in zip(calls, offers, strict=True)])
    await asyncio.sleep(WARM_UP)
    outcome = Outcome()
    cpu, started = time.process_time(), time.monotonic()
    outcome.first_half = await _peak(seconds / 2)
    outcome.second_half = await _peak(seconds / 2)
    outcome.share = (time.process_time() - cpu) / (time.monotonic() - started)
    pipe.send("enough")
    await asyncio.to_thread(pipe.recv)  # the sender has ended
    await asyncio.sleep(SAMPLE_INTERVAL)
    for call in calls:
        call.account(outcome)
    summaries = [await call.close() for call in calls]
    await mux.close()
    outcome.errors = tuple(summary.error for summary in summaries if summary.error is not None)
    pipe.send(outcome)


async def _peak(seconds: float) -> int:
    """The most memory that is resident for a while, in bytes."""
    peak, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        peak = max(peak, _resident())
        await asyncio.sleep(SAMPLE_INTERVAL)
    return peak


def _resident() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def run(directory: pathlib.Path, recordings: int, seconds: float) -> Outcome:
    """Send ``recordings`` streams from one process, and record them in another."""
    context = multiprocessing.get_context("spawn")
    from_sender, at_sender = context.Pipe()
    from_recorder, at_recorder = context.Pipe()
    sender = context.Process(target=send, args=(at_sender, recordings), daemon=True)
    recorder = context.Process(target=_record, args=(at_recorder, directory, seconds), daemon=True)
    sender.start()
    recorder.start()
    try:
        from_recorder.send(_next(from_sender, PATIENCE))
        from_sender.send(_next(from_recorder, PATIENCE))
        from_sender.send(_next(from_recorder, PATIENCE + seconds))
        sent, latest = _next(from_sender, PATIENCE)
        from_recorder.send("ended")
        outcome: Outcome = _next(from_recorder, PATIENCE)
    finally:
        for process in (sender, recorder):
            process.join(5)
            if process.is_alive():
                process.kill()
    return dataclasses.replace(outcome, sent=sent, latest=latest)


def _next(pipe: Pipe, patience: float) -> object:
    if not pipe.poll(patience):
        raise TimeoutError(f"nothing was said for {patience:.0f} s")
    return pipe.recv()


def pictures_in(path: pathlib.Path) -> int:
    """How many pictures a file has, all of them read."""
    with av.open(path) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


@pytest.mark.xdist_group("networks")  # with the others that look at real time and not at a browser
def test_many_recordings_at_once_lose_nothing(tmp_path: pathlib.Path) -> None:
    """As many as go beside other tests; ``python -m tests.media.test_many_recordings`` makes fifty for a minute."""
    for attempt in range(ATTEMPTS):
        directory = tmp_path / str(attempt)
        directory.mkdir()
        outcome = run(directory, RECORDINGS, SECONDS)
        if outcome.lost == 0:
            break
    assert not outcome.errors
    assert (outcome.received, outcome.lost, outcome.dropped) == (outcome.sent, 0, 0), outcome
    assert outcome.second_half - outcome.first_half < RECORDINGS * GROWTH_OF_A_RECORDING, outcome
    files = sorted(directory.glob("*.webm"))
    assert len(files) == RECORDINGS
    assert not list(directory.glob("*.part"))
    assert min(map(pictures_in, files)) >= 0.95 * SECONDS * RATE


def main() -> None:
    """Do it for as long as is said, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        outcome = run(directory, options.recordings, options.seconds)
        pictures = [pictures_in(path) for path in directory.glob("*.webm")]
    print(outcome)
    print(f"{len(pictures)} files with {min(pictures)} to {max(pictures)} pictures")
    print(f"{100 * outcome.share / options.recordings:.2f} % of a core for each recording")


if __name__ == "__main__":
    main()
