"""Sending a track: aiortc's sender, which reads from one feed for as long as it lives."""

import asyncio
from collections.abc import Callable
from fractions import Fraction
from typing import Any, cast

import aiortc
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from av import AudioFrame, VideoFrame

from mediapeer.transport import DtlsTransport

#: What tells of aiortc's tasks, by its private names.
EVENTS = ("rtp_started", "rtp_exited", "rtcp_started", "rtcp_exited")


class TrackFeed(MediaStreamTrack):
    """The frames of whichever track is attached, on one timeline.

    aiortc's sender ends for good with its track. So it gets this one, which outlives the tracks of the program:
    one can be taken away, or be replaced by another, and what is sent goes on where it was.

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
        frame = _copy(frame)
        frame.pts += round(offset / frame.time_base)
        return frame


def _copy(frame: Any) -> Any:
    """A frame of one's own: others may read the same one, so its ``pts`` is not ours to change."""
    if isinstance(frame, AudioFrame):
        copy: Any = AudioFrame(frame.format.name, frame.layout.name, frame.samples)
        copy.sample_rate = frame.sample_rate
    elif isinstance(frame, VideoFrame):
        copy = VideoFrame(frame.width, frame.height, frame.format.name)
    else:
        return frame  # an encoded packet, which has one reader
    for source, target in zip(frame.planes, copy.planes, strict=True):
        target.update(_lines(bytes(source), getattr(source, "line_size", 0), getattr(target, "line_size", 0)))
    copy.pts, copy.time_base = frame.pts, frame.time_base
    return copy


def _lines(data: bytes, source: int, target: int) -> bytes:
    """The lines of a plane, each as long in memory as it is in another frame, in bytes."""
    if source == target:
        return data
    lines = (data[start : start + min(source, target)] for start in range(0, len(data), source))
    return b"".join(line.ljust(target, b"\0") for line in lines)


class RTCRtpSender(aiortc.RTCRtpSender):
    """aiortc's sender, whose track can come later, end, and be replaced.

    :param trackOrKind: the track to send, or ``audio`` or ``video``.
    :param transport: the DTLS transport.
    """

    def __init__(self, trackOrKind: MediaStreamTrack | str, transport: DtlsTransport) -> None:
        track = trackOrKind if isinstance(trackOrKind, MediaStreamTrack) else None
        kind = trackOrKind if isinstance(trackOrKind, str) else trackOrKind.kind
        self._feed = TrackFeed(kind)
        self._is_sending = False
        self._is_stopped = False
        self.on_track: Callable[[], None] | None = None
        "Told when there is something to send."
        super().__init__(self._feed, cast(Any, transport))
        # What tells of aiortc's tasks is made when there are any: hundreds of a server's senders may never send.
        self._set_events(lambda: None)
        self.replaceTrack(track)

    def _set_events(self, make: Callable[[], asyncio.Event | None]) -> None:
        for name in EVENTS:
            setattr(self, f"_RTCRtpSender__{name}", make())

    @property
    def track(self) -> MediaStreamTrack | None:  # type: ignore[override]
        """The track that is sent, or ``None``."""
        return self._feed.attached

    @property
    def transport(self) -> DtlsTransport:  # type: ignore[override]
        """The DTLS transport it is carried by."""
        transport: object = super().transport
        if not isinstance(transport, DtlsTransport):
            raise TypeError("not a transport of ours")
        return transport

    def use_transport(self, transport: DtlsTransport) -> None:
        """Be carried by another transport from now on."""
        if transport is not self.transport:
            self.setTransport(cast(Any, transport))

    @property
    def is_sending(self) -> bool:
        """Whether :meth:`send` was called, and not :meth:`stop`."""
        return self._is_sending and not self._is_stopped

    def replaceTrack(self, track: MediaStreamTrack | None) -> None:
        """Send another track from now on, without negotiation; or none (W3C webrtc §5.2, ``replaceTrack``).

        :raises ValueError: when the track is of the other kind.
        """
        if track is self._feed:
            super().replaceTrack(track)  # the base class, which reads from here on
            return
        if track is not None and track.kind != self._feed.kind:
            raise ValueError(f"a sender of {self._feed.kind} cannot send a track of {track.kind}")
        self._feed.attach(track)
        if track is not None:
            self._track_id = track.id
            if self.on_track is not None:
                self.on_track()

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Begin to send. A second call changes nothing."""
        if not self._is_stopped:
            if not self._is_sending:
                self._set_events(asyncio.Event)
            self._is_sending = True
            await super().send(parameters)

    async def stop(self) -> None:
        """Send nothing any more, and stop the track. Idempotent."""
        if self._is_stopped:
            return
        self._is_stopped = True
        await super().stop()
        self._feed.stop()
