"""Decoded frames on their way to a program that may not be reading."""

import asyncio
from collections.abc import Callable
from typing import Any

#: Frames that wait for ``track.recv()``, by the kind of track: a second of video, two of audio.
WAITING_FRAMES = {"audio": 100, "video": 30}


class LatestFrames(asyncio.Queue[Any]):
    """Holds the latest frames: when full, the oldest goes. ``None``, the end of the track, always stays.

    :param kind: ``audio`` or ``video``.
    :param count: told ``frames_not_read`` for each frame that was dropped.
    """

    def __init__(self, kind: str, count: Callable[[str], None]) -> None:
        super().__init__()
        self._limit = WAITING_FRAMES[kind]
        self._count = count

    def put_nowait(self, item: Any) -> None:
        """Add a frame, in the place of the oldest when there is no room."""
        if item is not None and self.qsize() >= self._limit:
            self.get_nowait()
            self._count("frames_not_read")
        super().put_nowait(item)

    async def put(self, item: Any) -> None:
        """Like :meth:`put_nowait`: nobody waits."""
        self.put_nowait(item)
