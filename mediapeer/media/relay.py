"""One track, any number of readers: each with its own short queue, so that a slow one holds nobody up."""

import asyncio
import collections
import logging
from collections.abc import AsyncGenerator
from typing import Any

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from mediapeer.peer.frames import ENCODED_FRAMES, read_encoded
from mediapeer.rtp import EncodedFrame, FrameConsumer, FrameSubscription, RepairCounts

logger = logging.getLogger(__name__)

#: What a reader that is behind may have waiting, in frames: a second of audio, and of video what a live
#: picture can afford to be late.
DEFAULT_CAPACITY = {"audio": 50, "video": 5}
#: A reader that has not read for so many seconds is none any more, until it reads again.
READING_PATIENCE = 5.0


class RelayedTrack(MediaStreamTrack):
    """A reader's own view of a track. It has one reader at a time.

    Frames are kept for it from its first :meth:`recv` on. A reader that falls behind loses the oldest; ``dropped``
    counts them. Frames are shared between the readers: do not write to one, nor change its ``pts``.
    """

    def __init__(self, relay: "TrackRelay", capacity: int) -> None:
        super().__init__()
        self.kind = relay.source.kind
        self.dropped = 0
        "Frames thrown away because the reader was late."
        self._relay = relay
        self._frames: collections.deque[Any] = collections.deque(maxlen=capacity)
        self._changed = asyncio.Event()
        self._source_ended = False
        self._waits = False
        self._last_read = 0.0

    async def recv(self) -> Any:
        """The next frame.

        :raises MediaStreamError: when the track has ended, after the frames that were waiting.
        """
        loop = asyncio.get_running_loop()
        self._last_read = loop.time()
        self._waits = True
        try:
            while not self._frames:
                if self._source_ended:
                    self.stop()
                if self.readyState != "live":
                    raise MediaStreamError
                self._relay.read_for(self)
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._waits = False
            self._last_read = loop.time()
        return self._frames.popleft()

    def is_reading(self, now: float) -> bool:
        """Whether somebody reads it, or has just done so. ``now`` is the event loop's time."""
        return self._waits or now - self._last_read < READING_PATIENCE

    def stop(self) -> None:
        """Leave the relay. Other readers go on."""
        super().stop()
        self._relay.unsubscribe(self)
        self._frames.clear()
        self._changed.set()

    def put(self, frame: Any) -> None:
        """Take a frame from the relay."""
        if len(self._frames) == self._frames.maxlen:
            self.dropped += 1
        self._frames.append(frame)
        self._changed.set()

    def clear(self) -> None:
        """Forget what waits."""
        self._frames.clear()

    def end(self) -> None:
        """Note that no frame will follow."""
        self._source_ended = True
        self._changed.set()


class RelayedEncodedTrack(RelayedTrack):
    """A reader's own view of a track whose encoded frames can be had too; those need no decoder."""

    def __init__(self, relay: "TrackRelay", capacity: int) -> None:
        super().__init__(relay, capacity)
        self._source: Any = relay.source
        self._subscriptions: list[_RelayedSubscription] = []

    @property
    def cname(self) -> str | None:
        """The canonical name of its sender (RFC 3550 §6.5.1)."""
        cname: str | None = self._source.cname
        return cname

    def request_keyframe(self) -> None:
        """Ask the sender for a keyframe."""
        self._source.request_keyframe()

    def subscribe(self, consumer: FrameConsumer) -> FrameSubscription:
        """Give every encoded frame from now on to ``consumer``, until this track is stopped."""
        subscription = _RelayedSubscription(self, consumer)
        if self.readyState == "live" and not self._source_ended:
            self._subscriptions.append(subscription)
            subscription.begin(self._source)
        else:
            asyncio.get_running_loop().call_soon(consumer.end)
        return subscription

    def encoded(self, capacity: int | None = None) -> AsyncGenerator[EncodedFrame, None]:
        """The frames as they were encoded; see :meth:`mediapeer.RemoteTrack.encoded`. ``dropped`` counts them too."""
        return read_encoded(self, ENCODED_FRAMES[self.kind] if capacity is None else capacity, self._drop)

    def _drop(self, frame: EncodedFrame) -> None:
        self.dropped += 1

    def end(self) -> None:
        """Note that no frame will follow, and end the consumers."""
        super().end()
        self._end_consumers()

    def stop(self) -> None:
        """Leave the relay, and end the consumers. Other readers go on."""
        super().stop()
        self._end_consumers()

    def _end_consumers(self) -> None:
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.end()

    def forget(self, subscription: "_RelayedSubscription") -> None:
        """A consumer gets no more frames."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)


class _RelayedSubscription:
    """Stands between the source and a consumer, which hears the end once, from whoever is first."""

    def __init__(self, track: RelayedEncodedTrack, consumer: FrameConsumer) -> None:
        self._track = track
        self._consumer = consumer
        self._inner: FrameSubscription | None = None
        self._is_over = False

    def begin(self, source: Any) -> None:
        self._inner = source.subscribe(self)

    def take_frame(self, frame: EncodedFrame) -> None:
        self._consumer.take_frame(frame)

    def end(self) -> None:
        if not self._is_over:
            self.close()
            self._consumer.end()

    @property
    def counts(self) -> RepairCounts:
        return self._inner.counts if self._inner is not None else RepairCounts()

    def request_keyframe(self) -> None:
        if self._inner is not None:
            self._inner.request_keyframe()

    def close(self) -> None:
        self._is_over = True
        self._track.forget(self)
        if self._inner is not None:
            self._inner.close()


class TrackRelay:
    """Hands each frame of a track to every subscriber that reads.

    The source is read while there is one, so that nothing is decoded for nobody: from a subscriber's first ``recv()``
    to some seconds after the last of all. Create it inside a running event loop, and ``await close()`` it.
    """

    def __init__(self, source: MediaStreamTrack) -> None:
        self.source = source
        self.frames = 0
        "Frames read so far."
        self._subscribers: list[RelayedTrack] = []
        self._readers: list[RelayedTrack] = []
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        source.once("ended", self._source_ended)

    def subscribe(self, capacity: int | None = None) -> RelayedTrack:
        """A new reader, from its first ``recv()`` on. If the source is an ``EncodedTrack``, the reader is one too.

        :param capacity: how many frames may wait for it; by default what suits the kind of track.
        """
        if capacity is None:
            capacity = DEFAULT_CAPACITY[self.source.kind]
        is_encoded = callable(getattr(self.source, "subscribe", None))
        subscriber = (RelayedEncodedTrack if is_encoded else RelayedTrack)(self, capacity)
        if self._ended or self.source.readyState == "ended":
            subscriber.end()
        else:
            self._subscribers.append(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: RelayedTrack) -> None:
        """Forget a reader; nothing happens if it is not known."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)
        if subscriber in self._readers:
            self._readers.remove(subscriber)
            self._pause()

    def read_for(self, subscriber: RelayedTrack) -> None:
        """Read the source, also for this subscriber."""
        if self._ended or subscriber not in self._subscribers:
            return
        if subscriber not in self._readers:
            self._readers.append(subscriber)
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name=f"relay of {self.source.kind}")

    async def close(self) -> None:
        """Stop reading and end every subscriber. Idempotent."""
        self._end_subscribers()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _pause(self) -> None:
        """Read no more when nobody does."""
        if not self._readers and self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            self._task = None

    def _source_ended(self) -> None:
        """The track has ended while nobody read it."""
        if self._task is None:
            self._end_subscribers()

    async def _run(self) -> None:
        try:
            while self._readers:
                self._hand_out(await self.source.recv())
            self._task = None
        except MediaStreamError:
            logger.debug("the %s track ended after %d frames", self.source.kind, self.frames)
            self._end_subscribers()
        except Exception:
            # A track of the user's own may raise anything; its readers see an end, and the log says why.
            logger.exception("the %s track broke off after %d frames", self.source.kind, self.frames)
            self._end_subscribers()

    def _hand_out(self, frame: Any) -> None:
        self.frames += 1
        now = self._loop.time()
        for reader in tuple(self._readers):
            if reader.is_reading(now):
                reader.put(frame)
            else:
                reader.clear()
                self._readers.remove(reader)

    def _end_subscribers(self) -> None:
        self._ended = True
        for subscriber in self._subscribers:
            subscriber.end()
        self._subscribers.clear()
        self._readers.clear()
