"""What waits between the event loop and the thread that writes."""

import threading
from typing import NamedTuple

from mediapeer.rtp.frame import EncodedFrame

#: What may wait of one recording: at 2 Mbit/s a minute's worth.
MAXIMUM_BYTES = 16_000_000
MAXIMUM_FRAMES = 8_000


class TrackAdded(NamedTuple):
    """A track is recorded from now on."""

    track: int
    id: str
    kind: str


class TrackEnded(NamedTuple):
    """No frame of a track follows."""

    track: int
    is_removed: bool = False
    "Whether the recording goes on without it, by the program's will."


class TrackFrame(NamedTuple):
    """A frame of a track, and the CNAME of its sender as far as it is known."""

    track: int
    frame: EncodedFrame
    cname: str | None


class ChannelMessage(NamedTuple):
    """A data channel's message, as a line of JSON."""

    line: bytes


Item = TrackAdded | TrackEnded | TrackFrame | ChannelMessage


class WriterQueue:
    """The bounded queue of one recording. What does not fit is refused, and the caller counts it."""

    def __init__(self) -> None:
        self.is_closed = False
        "Whether nothing is taken any more."
        self._lock = threading.Lock()
        self._items: list[Item] = []
        self._bytes = 0

    def put(self, item: Item, size: int) -> bool:
        """Add a frame or a message of ``size`` bytes; false when there is no room, or nobody to take it."""
        with self._lock:
            if self.is_closed or self._bytes + size > MAXIMUM_BYTES or len(self._items) >= MAXIMUM_FRAMES:
                return False
            self._bytes += size
            self._items.append(item)
            return True

    def put_change(self, item: TrackAdded | TrackEnded) -> None:
        """Add what must not be lost; there are few of them."""
        with self._lock:
            if not self.is_closed:
                self._items.append(item)

    def take(self) -> list[Item]:
        """Everything that waits."""
        with self._lock:
            items, self._items, self._bytes = self._items, [], 0
            return items

    def close(self) -> None:
        """Take nothing more."""
        with self._lock:
            self.is_closed = True
