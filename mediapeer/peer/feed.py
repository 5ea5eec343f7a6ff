"""What a sender reads: one timeline out of tracks that come, end and are replaced."""

import asyncio
import logging
from fractions import Fraction
from typing import Any

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, Packet, VideoFrame

logger = logging.getLogger(__name__)


class TrackFeed(MediaStreamTrack):
    """The frames of whichever track is attached, on one timeline.

    A sender reads this one for as long as it lives. The tracks of the program come and go: one can be taken away,
    end, or be replaced by another, and what is sent goes on where it was.

    :param kind: ``audio`` or ``video``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self._attached: MediaStreamTrack | None = None
        self._changed = asyncio.Event()
        self._reading: asyncio.Future[Any] | None = None
        self._offset: Fraction | None = Fraction(0)
        # Where the timeline stands: a frame's time in seconds, and the clock's when it was read.
        self._latest: tuple[Fraction, float] | None = None

    @property
    def attached(self) -> MediaStreamTrack | None:
        """The track that is read, or ``None``."""
        return self._attached

    def attach(self, track: MediaStreamTrack | None) -> None:
        """Read from another track from now on, or from none."""
        if track is self._attached:
            return
        self._attached = track
        self._offset = None if self._latest is not None else Fraction(0)
        self._changed.set()
        if self._reading is not None:
            self._reading.cancel()

    async def recv(self) -> Any:
        """The next frame of the attached track; waits while there is none, or it has ended.

        :raises MediaStreamError: when the feed itself was stopped.
        """
        while self.readyState == "live":
            track = self._attached
            self._changed.clear()
            if track is not None and (frame := await self._read(track)) is not None:
                return self._placed(frame)
            if self._attached is track:
                await self._changed.wait()
        raise MediaStreamError

    def stop(self) -> None:
        """End the feed, and the track that is attached."""
        super().stop()
        self._changed.set()
        if self._attached is not None:
            self._attached.stop()

    async def _read(self, track: MediaStreamTrack) -> Any:
        """A frame, or ``None`` when the track has ended or is not the attached one any more."""
        self._reading = asyncio.ensure_future(track.recv())
        try:
            frame = await self._reading
        except MediaStreamError:
            return None
        except Exception:
            # A track of the program's own may raise anything; that ends it, and the log says why.
            logger.exception("the %s track broke off", track.kind)
            return None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._attached is track or (task is not None and task.cancelling()):
                raise
            return None
        finally:
            self._reading = None
        return frame if self._attached is track else None

    def _placed(self, frame: Any) -> Any:
        """The frame with its place on the feed's timeline."""
        if frame.pts is None or frame.time_base is None:
            return frame
        time = Fraction(frame.pts) * frame.time_base
        now = asyncio.get_running_loop().time()
        if self._offset is None and self._latest is not None:
            latest, read_at = self._latest
            self._offset = latest + Fraction(max(now - read_at, 0.001)).limit_denominator(1000) - time
        offset = self._offset or Fraction(0)
        self._latest = (time + offset, now)
        if not offset:
            return frame
        frame = copy_frame(frame)
        frame.pts += round(offset / frame.time_base)
        return frame


def copy_frame(frame: Any) -> Any:
    """A frame of one's own: others may read the same one, so its ``pts`` is not ours to change."""
    if isinstance(frame, AudioFrame):
        copy: Any = AudioFrame(frame.format.name, frame.layout.name, frame.samples)
        copy.sample_rate = frame.sample_rate
    elif isinstance(frame, VideoFrame):
        copy = VideoFrame(frame.width, frame.height, frame.format.name)
    elif isinstance(frame, Packet):
        return _copy_packet(frame)
    else:
        return frame
    for source, target in zip(frame.planes, copy.planes, strict=True):
        target.update(_lines(bytes(source), getattr(source, "line_size", 0), getattr(target, "line_size", 0)))
    copy.pts, copy.time_base = frame.pts, frame.time_base
    return copy


def _copy_packet(packet: Any) -> Any:
    copy: Any = Packet(bytes(packet))
    copy.pts, copy.time_base, copy.is_keyframe = packet.pts, packet.time_base, packet.is_keyframe
    copy.opaque = packet.opaque
    if packet.stream is not None:
        copy.stream = packet.stream
    return copy


def _lines(data: bytes, source: int, target: int) -> bytes:
    """The lines of a plane, each as long in memory as it is in another frame, in bytes."""
    if source == target:
        return data
    lines = (data[start : start + min(source, target)] for start in range(0, len(data), source))
    return b"".join(line.ljust(target, b"\0") for line in lines)
