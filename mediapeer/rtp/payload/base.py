"""What all payload formats have in common: what they give, and their faces in both directions."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from mediapeer.rtp.payload.errors import PayloadError

#: How long a frame may be, in bytes: no encoder makes larger ones.
MAXIMUM_FRAME_LENGTH = 16 * 1024 * 1024
#: How many packets a frame may come in.
MAXIMUM_FRAME_PACKETS = 2048


class Unit(NamedTuple):
    """A frame's bitstream out of its packets, and what it says of itself."""

    data: bytes
    is_keyframe: bool
    "Of sound always."
    width: int | None = None
    "In pixels; of keyframes, where the bitstream says so."
    height: int | None = None
    spatial_layer: int | None = None
    "The highest that is in it, where layers are told."
    temporal_layer: int | None = None
    duration: int | None = None
    "Of sound, in units of the clock rate of the payload format."


class Depacketizer(Protocol):
    """Makes frames out of the payloads of one source. It may keep what later frames need, which is bounded."""

    def begins_frame(self, payload: bytes) -> bool:
        """Whether ``payload`` can be the first of a frame. It never raises: what is broken begins none."""

    def depacketize(self, payloads: Sequence[bytes]) -> Unit:
        """Put together a frame.

        :param payloads: those of all its packets, in order; at least one.
        :raises PayloadError: when they are not of the format, or something is missing in them.
        """


class Packetizer(Protocol):
    """Makes payloads out of the frames of one source."""

    def packetize(self, data: bytes, *, is_keyframe: bool, maximum: int) -> list[bytes]:
        """Divide a frame; its last payload is the one whose packet bears the marker.

        :param maximum: how long a payload may be, in bytes.
        :raises PayloadError: when the frame is not of the format, or cannot be divided so that it fits.
        """


def pieces(data: bytes, maximum: int, start: int = 0) -> Iterator[bytes]:
    """``data[start:]`` in as few pieces of at most ``maximum`` bytes as it takes, about equally long.

    Equal pieces spare the peer's forward error correction, and queues on the way, a short packet after long ones.

    :raises PayloadError: when ``maximum`` leaves no room.
    """
    if maximum < 1:
        raise PayloadError("the maximum leaves no room for a payload")
    length = len(data) - start
    count = -(-length // maximum)
    for number in range(count):
        yield data[start + length * number // count : start + length * (number + 1) // count]
