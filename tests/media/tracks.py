"""Tracks for tests: a tone and a moving picture, as fast as they are read, on a clock that they turn."""

import array
import asyncio
import fractions
import math

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tone(index: int, *, frequency: float = 440.0, pts: int | None = None) -> av.AudioFrame:
    """The ``index``-th 20 ms of a tone at 48 kHz, in stereo."""
    frame = av.AudioFrame(format="s16", layout="stereo", samples=960)
    samples = array.array("h")
    for n in range(index * 960, index * 960 + 960):
        samples.extend([int(10_000 * math.sin(2 * math.pi * frequency * n / 48_000))] * 2)
    frame.planes[0].update(samples.tobytes())
    frame.sample_rate = 48_000
    frame.time_base = fractions.Fraction(1, 48_000)
    frame.pts = index * 960 if pts is None else pts
    return frame


def picture(
    index: int, *, width: int = 320, height: int = 240, luma: int | None = None, pts: int | None = None
) -> av.VideoFrame:
    """The ``index``-th picture of 30 a second, one grey."""
    frame = av.VideoFrame(width, height, "yuv420p")
    for number, plane in enumerate(frame.planes):
        value = 128 if number else (index * 3 % 256 if luma is None else luma)
        plane.update(bytes([value]) * plane.buffer_size)
    frame.time_base = fractions.Fraction(1, 90_000)
    frame.pts = index * 3000 if pts is None else pts
    return frame


class PushTrack(MediaStreamTrack):
    """Gives the frames that the test puts in."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self._frames: asyncio.Queue[object] = asyncio.Queue()

    def put(self, frame: object) -> None:
        """Add a frame; ``None`` ends the track, an exception is raised to the reader."""
        self._frames.put_nowait(frame)

    async def recv(self) -> object:
        if self.readyState != "live":
            raise MediaStreamError
        frame = await self._frames.get()
        if isinstance(frame, Exception):
            raise frame
        if frame is None:
            self.stop()
            raise MediaStreamError
        return frame


async def settle(turns: int = 10) -> None:
    """Let every task that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def play(clock: Clock, script: list[tuple[float, PushTrack, object]]) -> None:
    """Put frames into their tracks, each at its moment of the clock."""
    for moment, track, frame in sorted(script, key=lambda entry: entry[0]):
        clock.now = moment
        track.put(frame)
        await settle()
