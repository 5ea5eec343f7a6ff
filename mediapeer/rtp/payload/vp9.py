"""VP9 (RFC 9628)."""

import itertools
import random
from collections.abc import Sequence
from typing import NamedTuple

from mediapeer.rtp.payload.base import Unit, pieces
from mediapeer.rtp.payload.bits import BitReader
from mediapeer.rtp.payload.errors import PayloadError
from mediapeer.rtp.payload.vp9_header import hide

_SYNC_CODE = 0x498342
_SRGB = 7
#: How many frames an index has room for (VP9 specification, Annex B).
_MAXIMUM_LAYERS = 8


class _Descriptor(NamedTuple):
    """What is used of a payload descriptor."""

    length: int
    temporal_layer: int | None
    spatial_layer: int | None
    sizes: tuple[tuple[int, int], ...]
    "Of the spatial layers, out of the scalability structure."


class Vp9Depacketizer:
    """Puts pictures together. The frames of several spatial layers become a superframe with its index, as decoders
    and files want it.

    Of such a picture only the highest layer is to be seen, but senders mark every layer as shown, and there are
    decoders that show what is so marked. So the mark is taken from the others.
    """

    def __init__(self) -> None:
        self._sizes: tuple[tuple[int, int], ...] = ()
        "Of the spatial layers, by the last scalability structure."

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
        layers: list[int] = []
        first = highest = None
        sizes: tuple[tuple[int, int], ...] = ()
        for payload in payloads:
            descriptor = _describe(payload)
            if payload[0] & 0x08:
                if len(frames) == _MAXIMUM_LAYERS:
                    raise PayloadError("a VP9 picture of too many layers")
                frames.append([])
                layers.append(descriptor.spatial_layer or 0)
                first = first or descriptor
                highest = descriptor
            elif not frames:
                raise PayloadError("a VP9 frame without its beginning")
            sizes = descriptor.sizes or sizes
            frames[-1].append(payload[descriptor.length :])
        if first is None or highest is None:
            raise PayloadError("no VP9 payload")
        joined = [b"".join(frame) for frame in frames]
        is_keyframe, own_size = _read_header(joined[0])
        size = sizes[-1] if sizes else own_size
        width, height = size if is_keyframe and size else (None, None)
        self._sizes = sizes or (() if is_keyframe else self._sizes)
        if len(joined) == 1:
            data = joined[0]
        else:
            lower = itertools.pairwise(layers)
            data = _superframe([*map(self._hide, joined[:-1], lower), joined[-1]])
        return Unit(data, is_keyframe, width, height, highest.spatial_layer, first.temporal_layer)

    def _hide(self, frame: bytes, layers: tuple[int, int]) -> bytes:
        """The frame of a lower layer, not to be shown; as it is if that cannot be done.

        :param layers: its own, and that of the next frame.
        """
        layer, following = layers
        if max(layers) >= len(self._sizes) or self._sizes[layer] == self._sizes[following]:
            return frame
        try:
            return hide(frame, self._sizes[layer][0])
        except PayloadError:
            return frame  # the decoder will tell


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
        sizes: tuple[tuple[int, int], ...] = ()
        if bits & 0x02:  # V
            position, sizes = _read_structure(payload, position)
    except IndexError:
        raise PayloadError("a VP9 payload descriptor is truncated") from None
    if position >= len(payload):
        raise PayloadError("a VP9 payload without a payload")
    return _Descriptor(position, temporal, spatial, sizes)


def _read_structure(payload: bytes, position: int) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Where the scalability structure ends (RFC 9628 §4.2.1), and the sizes of its layers."""
    bits = payload[position]
    position += 1
    sizes: list[tuple[int, int]] = []
    if bits & 0x10:  # Y
        for _ in range((bits >> 5) + 1):
            each = payload[position : position + 4]
            sizes.append((int.from_bytes(each[:2], "big"), int.from_bytes(each[2:], "big")))
            position += 4
    if bits & 0x08:  # G
        count = payload[position]
        position += 1
        for _ in range(count):
            position += 1 + (payload[position] >> 2 & 0x03)
    return position, tuple(sizes) if all(all(size) for size in sizes) else ()


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
    """Divides frames, without layers and in the mode that is not flexible."""

    def __init__(self) -> None:
        self._picture_id = random.getrandbits(15)

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
