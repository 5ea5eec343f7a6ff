"""VP8 (RFC 7741)."""

import random
from collections.abc import Sequence

from mediapeer.rtp.payload.base import Unit, pieces
from mediapeer.rtp.payload.errors import PayloadError

_START_CODE = b"\x9d\x01\x2a"
#: How long a descriptor with extension is by the bits I, L, T and K, with a short picture ID (RFC 7741 §4.2).
_LENGTHS = tuple(2 + (bits >> 3) + (bits >> 2 & 1) + (bits & 3 != 0) for bits in range(16))


class Vp8Depacketizer:
    """Puts partitions together; it keeps nothing."""

    def begins_frame(self, payload: bytes) -> bool:
        """The start of the first partition (RFC 7741 §4.2: S set, PID 0)."""
        return len(payload) > 1 and payload[0] & 0x17 == 0x10

    def depacketize(self, payloads: Sequence[bytes]) -> Unit:
        """See :meth:`Depacketizer.depacketize`. The size is that of the keyframe's header (RFC 6386 §9.1)."""
        try:
            return self._depacketize(payloads)
        except IndexError:
            raise PayloadError("a VP8 payload descriptor is truncated") from None

    def _depacketize(self, payloads: Sequence[bytes]) -> Unit:
        if not self.begins_frame(payloads[0]):
            raise PayloadError("a VP8 frame without its beginning")
        parts = []
        for payload in payloads:
            position = 1
            if payload[0] & 0x80:
                bits = payload[1]
                position = _LENGTHS[bits >> 4]
                if bits & 0x80 and payload[2] & 0x80:
                    position += 1
            part = payload[position:]
            if not part:
                raise PayloadError("a VP8 payload without a payload")
            parts.append(part)
        data = b"".join(parts)
        temporal_layer = _temporal_layer(payloads[0])
        if data[0] & 0x01:
            return Unit(data, False, None, None, None, temporal_layer)
        if data[3:6] != _START_CODE or len(data) < 10:
            raise PayloadError("a VP8 keyframe without its start code")
        width = int.from_bytes(data[6:8], "little") & 0x3FFF
        height = int.from_bytes(data[8:10], "little") & 0x3FFF
        if not width or not height:
            raise PayloadError(f"a VP8 keyframe of {width} × {height}")
        return Unit(data, True, width, height, None, temporal_layer)


def _temporal_layer(payload: bytes) -> int | None:
    """The TID of a payload whose descriptor has been found whole."""
    if not payload[0] & 0x80 or not payload[1] & 0x20:
        return None
    bits = payload[1]
    position = 2
    if bits & 0x80:
        position = 4 if payload[2] & 0x80 else 3
    return payload[position + bool(bits & 0x40)] >> 6


class Vp8Packetizer:
    """Divides frames without regard to partitions, with picture IDs of 15 bits that count up."""

    def __init__(self) -> None:
        self._picture_id = random.getrandbits(15)

    def packetize(self, data: bytes, *, is_keyframe: bool, maximum: int) -> list[bytes]:
        """See :meth:`Packetizer.packetize`."""
        if not data:
            raise PayloadError("an empty VP8 frame")
        extension = b"\x80" + (0x8000 | self._picture_id).to_bytes(2, "big")
        payloads = [b"\x80" + extension + piece for piece in pieces(data, maximum - 4)]
        payloads[0] = b"\x90" + payloads[0][1:]
        self._picture_id = (self._picture_id + 1) & 0x7FFF
        return payloads
