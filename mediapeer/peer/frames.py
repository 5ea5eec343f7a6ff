"""Frames on their way to a program that may not be reading: encoded ones to the decoder, decoded ones from it."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

#: Frames that wait for ``track.recv()``, or for the decoder, by the kind of track: a second of video, two of audio.
WAITING_FRAMES = {"audio": 100, "video": 30}
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

    def _put(self, item: Any) -> None:
        self._pixels += pixels(item)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self._pixels -= pixels(item)
        return item


class EncodedFrames(queue.Queue[Any]):
    """Holds what waits for aiortc's decoder thread. When that is too far behind, all of it goes.

    The rest of a group of pictures is worth nothing without its beginning, so a new keyframe is asked for. The end,
    ``None``, does not wait for what is left: aiortc joins the thread on the event loop.

    :param kind: ``audio`` or ``video``.
    :param decoder_error: what makes aiortc ask the sender for a keyframe, when it is set.
    :param count: told ``frames_not_decoded`` for each frame that was dropped.
    """

    def __init__(self, kind: str, decoder_error: threading.Event, count: Callable[[str], None]) -> None:
        super().__init__()
        self._limit = WAITING_FRAMES[kind]
        self._decoder_error = decoder_error
        self._count = count

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add a frame; never waits."""
        if item is None or self.qsize() >= self._limit:
            with self.mutex:
                dropped = len(self.queue)
                self.queue.clear()
            if item is not None:
                self._decoder_error.set()
                for _ in range(dropped):
                    self._count("frames_not_decoded")
        super().put(item, block, timeout)
