"""VP9 (RFC 9628)."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from mediapeer.rtp.payload.base import Unit, pieces
from mediapeer.rtp.payload.bits import BitReader
from mediapeer.rtp.payload.errors import PayloadError

_SYNC_CODE = 0x498342
_SRGB = 7
#: How many frames an index has room for (VP9 specification, Annex B).
_MAXIMUM_LAYERS = 8


class _Descriptor(NamedTuple):
    """What is used of a payload descriptor."""

    length: int
    temporal_layer: int | None
    spatial_layer: int | None
    size: tuple[int, int] | None
    "Of the highest layer, out of the scalability structure."


class Vp9Depacketizer:
    """Puts pictures together. The frames of several spatial layers become a superframe with its index, as decoders
    and files want it; it keeps nothing.
    """

    def begins_frame(self, payload: bytes) -> bool:
        """The start of a frame (RFC 9628 §4.2: B set) of the lowest spatial layer."""
        if len(payload) < 2 or not payload[0] & 0x08:
            return False
        try:
            return not _describe(payload).spatial_layer
        except PayloadError:
            return False

    def depacketize(self, payloads: Sequence[bytes]) -> Unit:
        """See :meth:`Depacketizer.depacketize`.

        The size is that of the highest spatial layer where the scalability structure tells it, and otherwise that of
        the keyframe's header.
        """
        frames: list[list[bytes]] = []
        first = highest = None
        size = None
        for payload in payloads:
            descriptor = _describe(payload)
            if payload[0] & 0x08:
                if len(frames) == _MAXIMUM_LAYERS:
                    raise PayloadError("a VP9 picture of too many layers")
                frames.append([])
                first = first or descriptor
                highest = descriptor
            elif not frames:
                raise PayloadError("a VP9 frame without its beginning")
            size = descriptor.size or size
            frames[-1].append(payload[descriptor.length :])
        if first is None or highest is None:
            raise PayloadError("no VP9 payload")
        joined = [b"".join(frame) for frame in frames]
        is_keyframe, own_size = _read_header(joined[0])
        width, height = (size or own_size or (None, None)) if is_keyframe else (None, None)
        data = joined[0] if len(joined) == 1 else _superframe(joined)
        return Unit(data, is_keyframe, width, height, highest.spatial_layer, first.temporal_layer)


def _describe(payload: bytes) -> _Descriptor:
    """RFC 9628 §4.2."""
    try:
        bits = payload[0]
        position = 1
        temporal = spatial = None
        if bits & 0x80:  # I
            position = 3 if payload[1] & 0x80 else 2
        if bits & 0x20:  # L
            layers = payload[position]
            temporal, spatial = layers >> 5, layers >> 1 & 0x07
            position += 1 if bits & 0x10 else 2  # TL0PICIDX only without F
        if bits & 0x50 == 0x50:  # F and P: at most three differences
            count = 1
            while payload[position] & 0x01:
                position += 1
                count += 1
                if count > 3:
                    raise PayloadError("a VP9 payload with too many references")
            position += 1
        size = None
        if bits & 0x02:  # V
            position, size = _skip_structure(payload, position)
    except IndexError:
        raise PayloadError("a VP9 payload descriptor is truncated") from None
    if position >= len(payload):
        raise PayloadError("a VP9 payload without a payload")
    return _Descriptor(position, temporal, spatial, size)


def _skip_structure(payload: bytes, position: int) -> tuple[int, tuple[int, int] | None]:
    """Where the scalability structure ends (RFC 9628 §4.2.1), and the size of its highest layer."""
    bits = payload[position]
    position += 1
    size = None
    if bits & 0x10:  # Y
        position += 4 * (bits >> 5) + 4
        last = payload[position - 4 : position]
        size = int.from_bytes(last[:2], "big"), int.from_bytes(last[2:], "big")
    if bits & 0x08:  # G
        count = payload[position]
        position += 1
        for _ in range(count):
            position += 1 + (payload[position] >> 2 & 0x03)
    return position, size if size and all(size) else None


def _read_header(frame: bytes) -> tuple[bool, tuple[int, int] | None]:
    """Whether it is a keyframe, and its size then (VP9 specification §6.2)."""
    reader = BitReader(frame[:20])
    if reader.bits(2) != 2:
        raise PayloadError("a VP9 frame without its marker")
    profile = reader.bits(1) | reader.bits(1) << 1
    if profile == 3:
        reader.flag()
    if reader.flag() or reader.flag():  # show_existing_frame, frame_type
        return False, None
    reader.bits(2)
    if reader.bits(24) != _SYNC_CODE:
        raise PayloadError("a VP9 keyframe without its sync code")
    if profile >= 2:
        reader.flag()
    if reader.bits(3) != _SRGB:
        reader.bits(1 if profile in (0, 2) else 4)
    elif profile in (1, 3):
        reader.flag()
    return True, (reader.bits(16) + 1, reader.bits(16) + 1)


def _superframe(frames: Sequence[bytes]) -> bytes:
    """Frames with their index (VP9 specification, Annex B)."""
    size_length = max(1, (max(map(len, frames)).bit_length() + 7) // 8)
    marker = bytes([0xC0 | size_length - 1 << 3 | len(frames) - 1])
    sizes = b"".join(len(frame).to_bytes(size_length, "little") for frame in frames)
    return b"".join([*frames, marker, sizes, marker])


class Vp9Packetizer:
    """Divides frames, without layers and in the mode that is not flexible.

    :param picture_id: the first one; at random by default.
    """

    def __init__(self, picture_id: int | None = None) -> None:
        self._picture_id = random.getrandbits(15) if picture_id is None else picture_id & 0x7FFF

    def packetize(self, data: bytes, *, is_keyframe: bool, maximum: int) -> list[bytes]:
        """See :meth:`Packetizer.packetize`."""
        if not data:
            raise PayloadError("an empty VP9 frame")
        bits = 0x80 if is_keyframe else 0xC0  # I, P
        picture_id = (0x8000 | self._picture_id).to_bytes(2, "big")
        parts = list(pieces(data, maximum - 3))
        last = len(parts) - 1
        self._picture_id = (self._picture_id + 1) & 0x7FFF
        return [
            bytes([bits | (0x08 if number == 0 else 0) | (0x04 if number == last else 0)]) + picture_id + part
            for number, part in enumerate(parts)
        ]
