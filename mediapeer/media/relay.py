"""One track, any number of readers: each with its own short queue, so that a slow one holds nobody up."""

import asyncio
import collections
import logging
from typing import Any

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

logger = logging.getLogger(__name__)

#: What a reader that is behind may have waiting, in frames: a second of audio, and of video what a live
#: picture can afford to be late.
DEFAULT_CAPACITY = {"audio": 50, "video": 5}


class RelayedTrack(MediaStreamTrack):
    """A reader's own view of a track. It has one reader at a time.

    A reader that falls behind loses the oldest frames; ``dropped`` counts them. Frames are shared between the
    readers: do not write to one, nor change its ``pts``.
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

    async def recv(self) -> Any:
        """The next frame.

        :raises MediaStreamError: when the track has ended, after the frames that were waiting.
        """
        while not self._frames:
            if self._source_ended:
                self.stop()
            if self.readyState != "live":
                raise MediaStreamError
            self._changed.clear()
            await self._changed.wait()
        return self._frames.popleft()

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

    def end(self) -> None:
        """Note that no frame will follow."""
        self._source_ended = True
        self._changed.set()


class TrackRelay:
    """Reads a track from start to end and hands each frame to every subscriber.

    It reads also while nobody listens: a received track that is not read would keep every decoded frame.
    Create it inside a running event loop, and ``await close()`` it.
    """

    def __init__(self, source: MediaStreamTrack) -> None:
        self.source = source
        self.frames = 0
        "Frames read so far."
        self._subscribers: list[RelayedTrack] = []
        self._ended = False
        self._task = asyncio.create_task(self._run(), name=f"relay of {source.kind}")

    def subscribe(self, capacity: int | None = None) -> RelayedTrack:
        """A new reader, from the next frame on.

        :param capacity: how many frames may wait for it; by default what suits the kind of track.
        """
        if capacity is None:
            capacity = DEFAULT_CAPACITY[self.source.kind]
        subscriber = RelayedTrack(self, capacity)
        if self._ended:
            subscriber.end()
        else:
            self._subscribers.append(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: RelayedTrack) -> None:
        """Forget a reader; nothing happens if it is not known."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)

    async def close(self) -> None:
        """Stop reading and end every subscriber. Idempotent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._end_subscribers()  # a task that is cancelled before its first step does not do it

    async def _run(self) -> None:
        try:
            while True:
                frame = await self.source.recv()
                self.frames += 1
                for subscriber in tuple(self._subscribers):
                    subscriber.put(frame)
        except MediaStreamError:
            logger.debug("the %s track ended after %d frames", self.source.kind, self.frames)
        except Exception:
            # A track of the user's own may raise anything; its readers see an end, and the log says why.
            logger.exception("the %s track broke off after %d frames", self.source.kind, self.frames)
        finally:
            self._end_subscribers()

    def _end_subscribers(self) -> None:
        self._ended = True
        for subscriber in self._subscribers:
            subscriber.end()
        self._subscribers.clear()
