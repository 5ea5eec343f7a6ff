"""Frames on their way to a program that may not be reading, encoded and decoded."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from mediapeer.rtp import EncodedFrame, EncodedTrack, FrameSubscription

#: Frames that wait for ``track.recv()``, or for the decoder, by the kind of track: a second of video, two of audio.
WAITING_FRAMES = {"audio": 100, "video": 30}
#: Encoded frames that wait for a reader of ``track.encoded()``: five seconds.
ENCODED_FRAMES = {"audio": 250, "video": 150}
#: How much of encoded frames waits at the most, in bytes, whatever their number: of 20 Mbit/s, three seconds.
WAITING_BYTES = 8 * 2**20
#: Pictures that are larger are not taken: a few kilobytes of video can announce gigabytes of them.
MAXIMUM_PICTURE = 4096 * 2304
#: How much of pictures waits at the most, in pixels: half a second of 1080p, or three of the largest.
WAITING_PIXELS = 32 * 2**20


def pixels(frame: object) -> int:
    """How large a picture is; 0 for anything that is none."""
    width, height = getattr(frame, "width", 0), getattr(frame, "height", 0)
    return width * height if isinstance(width, int) and isinstance(height, int) else 0


class LatestFrames(asyncio.Queue[Any]):
    """Holds the latest frames: when full, the oldest goes. ``None``, the end of the track, always stays.

    :param kind: ``audio`` or ``video``.
    :param count: told ``frames_not_read`` or ``pictures_too_large`` for each frame that was dropped.
    """

    def __init__(self, kind: str, count: Callable[[str], None]) -> None:
        super().__init__()
        self._limit = WAITING_FRAMES[kind]
        self._count = count
        self._pixels = 0

    def put_nowait(self, item: Any) -> None:
        """Add a frame, in the place of the oldest when there is no room."""
        size = pixels(item)
        if size > MAXIMUM_PICTURE:
            self._count("pictures_too_large")
            return
        if item is not None:
            while self.qsize() and (self.qsize() >= self._limit or self._pixels + size > WAITING_PIXELS):
                self.get_nowait()
                self._count("frames_not_read")
        super().put_nowait(item)

    async def put(self, item: Any) -> None:
        """Like :meth:`put_nowait`: nobody waits."""
        self.put_nowait(item)

    def clear(self) -> None:
        """Forget what waits."""
        while self.qsize():
            self.get_nowait()

    def _put(self, item: Any) -> None:
        self._pixels += pixels(item)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self._pixels -= pixels(item)
        return item


class EncodedFrames:
    """Encoded frames that wait for one reader.

    When there is no room, sound loses its oldest frame. Pictures hang together: the oldest go up to the next keyframe
    that waits, or, when none does, all of them and what follows until one comes.

    :param kind: ``audio`` or ``video``.
    :param on_drop: told of each frame that was dropped.
    :param capacity: how many frames may wait, at least one.
    :param maximum_bytes: how large they may be together.
    """

    def __init__(
        self,
        kind: str,
        on_drop: Callable[[EncodedFrame], None],
        capacity: int,
        maximum_bytes: int = WAITING_BYTES,
    ) -> None:
        self.holds = False
        "Whether nothing is taken before the next keyframe."
        self._is_video = kind == "video"
        self._on_drop = on_drop
        self._capacity = max(capacity, 1)
        self._maximum_bytes = maximum_bytes
        self._frames: deque[EncodedFrame] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: EncodedFrame) -> bool:
        """Take a frame; ``False`` when nothing is of use before a keyframe, so that one is to be asked for."""
        if self._must_hold(frame):
            return False
        while self._frames and self._is_full(frame):
            self._make_room()
        if self._must_hold(frame):
            return False
        self.holds = False
        self._frames.append(frame)
        self._bytes += len(frame.data)
        return True

    def _must_hold(self, frame: EncodedFrame) -> bool:
        if not self.holds or frame.is_keyframe or not self._is_video:
            return False
        self._on_drop(frame)
        return True

    def get(self) -> EncodedFrame:
        """The oldest frame.

        :raises IndexError: when there is none.
        """
        frame = self._frames.popleft()
        self._bytes -= len(frame.data)
        return frame

    def skip_to_keyframe(self) -> None:
        """Drop what cannot be decoded any more because what came before it is lost."""
        while self._frames and not self._frames[0].is_keyframe:
            self._on_drop(self.get())
        if not self._frames:
            self.holds = True

    def clear(self) -> None:
        """Forget what waits, and take anything next."""
        self._frames.clear()
        self._bytes = 0
        self.holds = False

    def _is_full(self, frame: EncodedFrame) -> bool:
        return len(self._frames) >= self._capacity or self._bytes + len(frame.data) > self._maximum_bytes

    def _make_room(self) -> None:
        self._on_drop(self.get())
        if self._is_video:
            self.skip_to_keyframe()


async def read_encoded(
    track: EncodedTrack, capacity: int, on_drop: Callable[[EncodedFrame], None]
) -> AsyncGenerator[EncodedFrame, None]:
    """The encoded frames of a track from now on, of video from a keyframe on, to its end.

    :param capacity: how many may wait, see :class:`EncodedFrames`.
    :param on_drop: told of those that were dropped for want of room.
    """
    reader = _EncodedReader(EncodedFrames(track.kind, on_drop, capacity), has_begun=track.kind != "video")
    subscription = reader.subscription = track.subscribe(reader)
    try:
        while (frame := await reader.next_frame()) is not None:
            yield frame
    finally:
        subscription.close()


class _EncodedReader:
    """The consumer behind :func:`read_encoded`."""

    def __init__(self, frames: EncodedFrames, has_begun: bool) -> None:
        self.subscription: FrameSubscription | None = None
        self._frames = frames
        self._changed = asyncio.Event()
        self._has_begun = has_begun
        self._is_over = False

    def take_frame(self, frame: EncodedFrame) -> None:
        if not self._has_begun and not frame.is_keyframe:
            return
        self._has_begun = True
        if not self._frames.put(frame) and self.subscription is not None:
            self.subscription.request_keyframe()
        self._changed.set()

    def end(self) -> None:
        self._is_over = True
        self._changed.set()

    async def next_frame(self) -> EncodedFrame | None:
        """The oldest frame that waits; ``None`` at the end."""
        while not self._frames:
            if self._is_over:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._frames.get()
