"""``RemoteTrack``: what the other side sends, encoded for those who take it so, decoded for those who read it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from mediapeer.peer.decoding import FrameCounts, TrackDecoder
from mediapeer.peer.frames import ENCODED_FRAMES, LatestFrames, read_encoded
from mediapeer.peer.timeline import Timeline
from mediapeer.rtp import EncodedFrame, FrameConsumer, RepairCounts
from mediapeer.transport import GuardedEmitter

logger = logging.getLogger(__name__)

#: A track that was not read for so many seconds is not decoded any more.
READING_PATIENCE = 5.0


class TrackSource(Protocol):
    """What a track asks of its receiver."""

    @property
    def counts(self) -> RepairCounts:
        """What became of the packets of the track."""

    @property
    def cname(self) -> str | None:
        """The canonical name of its sender, once it said it."""

    def counts_of(self, ssrc: int) -> FrameCounts:
        """What became of the frames of a source."""

    def count(self, reason: str) -> None:
        """Count what was dropped."""

    def request_keyframe(self) -> None:
        """Ask the sender for a keyframe."""


class SubscribedTrack(Protocol):
    """A track, as a subscription to it knows it."""

    @property
    def kind(self) -> str:
        """``audio`` or ``video``."""

    @property
    def counts(self) -> RepairCounts:
        """What became of its packets."""

    def request_keyframe(self) -> None:
        """Ask for a keyframe."""


class Subscription:
    """What a consumer of a track holds while it gets frames, and what the track gives them to.

    A consumer that raises is logged, and gets no more.

    :param leave: called by :meth:`close`, each time.
    """

    def __init__(
        self, track: SubscribedTrack, consumer: FrameConsumer, leave: Callable[["Subscription"], None]
    ) -> None:
        self._track = track
        self._is_closed = False
        self._consumer = consumer
        self._leave = leave

    @property
    def counts(self) -> RepairCounts:
        """What became of the packets of the track, since the call began."""
        return self._track.counts

    def request_keyframe(self) -> None:
        """Ask the sender for a keyframe. It may be asked for often; the sender is asked twice a second at most."""
        self._track.request_keyframe()

    def close(self) -> None:
        """Get no more frames, nor the end. Idempotent."""
        self._is_closed = True
        self._leave(self)

    def take_frame(self, frame: EncodedFrame) -> None:
        """Give the consumer a frame."""
        if self._is_closed:
            return  # by another consumer of the same frame
        try:
            self._consumer.take_frame(frame)
        except Exception:
            logger.exception("a consumer of %s did not take a frame, and gets no more", self._track.kind)
            self.close()

    def end(self) -> None:
        """Tell the consumer that no frame follows, once."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._consumer.end()
        except Exception:
            logger.exception("a consumer of %s did not take the end of its track", self._track.kind)


class RemoteTrack(GuardedEmitter, MediaStreamTrack):
    """What the other side sends. Emits ``ended``, and ``mute`` and ``unmute`` when :attr:`muted` changes.

    It can be had in three ways at the same time: decoded from :meth:`recv`, encoded from :meth:`encoded`, or encoded
    by :meth:`subscribe`. Nothing is done for a track that nobody takes, and decoded is only what is read.

    :param kind: ``audio`` or ``video``.
    :param source: its receiver; a track without one has no frames.
    """

    def __init__(self, kind: str, source: TrackSource | None = None) -> None:
        super().__init__()
        self.kind = kind
        self._muted = True
        self._source = source
        self._subscriptions: list[Subscription] = []
        self._timeline = Timeline()
        self._frames: LatestFrames | None = None
        self._decoder: TrackDecoder | None = None
        self._decoding: Subscription | None = None
        self._readers = 0
        self._last_read = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_over = False

    # What there is to know

    @property
    def muted(self) -> bool:
        """Whether the last negotiation says that the other side sends nothing (W3C mediacapture §4.3.1)."""
        return self._muted

    def _set_muted(self, muted: bool) -> None:
        if muted is not self._muted:
            self._muted = muted
            self.emit("mute" if muted else "unmute")

    @property
    def cname(self) -> str | None:
        """The canonical name of its sender (RFC 3550 §6.5.1): tracks that share it share a clock. ``None`` before
        the sender said it, some seconds into the call."""
        return self._source.cname if self._source is not None else None

    @property
    def counts(self) -> RepairCounts:
        """What became of its packets, since the call began."""
        return self._source.counts if self._source is not None else RepairCounts()

    @property
    def is_wanted(self) -> bool:
        """Whether anybody takes its frames."""
        return bool(self._subscriptions)

    def request_keyframe(self) -> None:
        """Ask the sender for a keyframe, of video. It may be asked for often; the sender is asked twice a second."""
        if self._source is not None and self.kind == "video":
            self._source.request_keyframe()

    # Encoded frames

    def subscribe(self, consumer: FrameConsumer) -> Subscription:
        """Give every frame from now on to ``consumer``, on the event loop; of video, a keyframe is asked for.

        A consumer that raises is logged, and gets no more. Of a track that has ended, it hears the end, soon.
        """
        subscription = Subscription(self, consumer, self._unsubscribe)
        if self._is_over:
            asyncio.get_running_loop().call_soon(subscription.end)
            return subscription
        self._subscriptions = [*self._subscriptions, subscription]
        self.request_keyframe()
        return subscription

    async def encoded(self, capacity: int | None = None) -> AsyncGenerator[EncodedFrame, None]:
        """The frames as the peer encoded them, from the first step of the loop to the end of the track::

            async for frame in track.encoded():
                print(frame.codec, frame.timestamp, len(frame.data), frame.is_keyframe)

        Of video, the first is a keyframe. A reader that falls behind loses the oldest pieces of sound, or the oldest
        pictures up to the next keyframe; ``encoded_frames_not_read`` in the transport's counters tells how many.
        ``frame.lost_before`` says where packets were lost.

        :param capacity: how many frames may wait; by default five seconds of them.
        """
        capacity = ENCODED_FRAMES[self.kind] if capacity is None else capacity
        frames = read_encoded(self, capacity, lambda frame: self._count("encoded_frames_not_read"))
        async with contextlib.aclosing(frames):
            async for frame in frames:
                yield frame

    def _unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions = [other for other in self._subscriptions if other is not subscription]

    def _take_frame(self, frame: EncodedFrame) -> None:
        """Give a frame to all who take them."""
        if self._is_left:
            self._stop_decoder()
        for subscription in self._subscriptions:
            subscription.take_frame(frame)

    # Decoded frames

    async def recv(self) -> Any:
        """The next decoded frame: an ``av.AudioFrame`` or ``av.VideoFrame``.

        Decoding begins with the first call, of video at the next keyframe, and ends some seconds after the last.
        ``pts`` is in units of ``time_base``, begins near 0 and always grows; sound that was lost leaves a gap in it.

        :raises MediaStreamError: when the track has ended, after the frames that were decoded before.
        """
        if self._frames is None and self.readyState != "live":
            raise MediaStreamError
        loop = asyncio.get_running_loop()
        frames = self._start_decoder(loop)
        self._readers += 1
        try:
            frame = await frames.get()
        finally:
            self._readers -= 1
            self._last_read = loop.time()
        if frame is None:
            frames.put_nowait(None)  # for whoever else waits, or comes
            raise MediaStreamError
        return frame

    def _start_decoder(self, loop: asyncio.AbstractEventLoop) -> LatestFrames:
        """What decoded frames come out of; begin to decode if nobody does."""
        if self._frames is None:
            self._frames = LatestFrames(self.kind, self._count)
        if self._decoder is None and not self._is_over and self._source is not None:
            self._decoder = TrackDecoder(
                self.kind,
                self._frames,
                self._timeline,
                counts_of=self._source.counts_of,
                count=self._count,
                request_keyframe=self.request_keyframe,
            )
            self._decoding = self.subscribe(self._decoder)
            self._loop = loop
        return self._frames

    def _stop_decoder(self) -> None:
        if self._decoding is not None:
            self._decoding.close()
        if self._decoder is not None:
            self._decoder.close()
        self._decoder = self._decoding = None
        if self._frames is not None:
            self._frames.clear()  # whoever reads again wants what is shown then

    @property
    def _is_left(self) -> bool:
        """Whether frames are decoded, and nobody has read one for long."""
        return (
            self._decoder is not None
            and not self._readers
            and self._loop is not None
            and self._loop.time() - self._last_read >= READING_PATIENCE
        )

    def _count(self, reason: str) -> None:
        if self._source is not None:
            self._source.count(reason)

    # The end

    def _end(self) -> None:
        """Nothing more comes: the track and its consumers end. What is decoded can still be read."""
        if self._is_over:
            return
        self._is_over = True
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.end()
        if self._decoder is None and self._frames is not None:
            self._frames.put_nowait(None)
        super().stop()

    def stop(self) -> None:
        """Take no more of what the other side sends. Consumers hear the end. Idempotent."""
        if self.readyState == "ended":
            return
        self._end()
        self._stop_decoder()
        if self._frames is not None:
            self._frames.put_nowait(None)
