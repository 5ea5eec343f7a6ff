"""Sound, where a packet is a frame: Opus (RFC 7587), G.711 and G.722 (RFC 3551)."""

from collections.abc import Sequence

from mediapeer.rtp.payload.base import Unit
from mediapeer.rtp.payload.errors import PayloadError

#: RFC 6716 §3.1: samples of one frame at 48 kHz, by the configuration number.
_FRAME_SAMPLES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
#: By the first byte: of one frame, or two; of code 3 the second byte tells how many there are (RFC 6716 §3.2).
_PACKET_SAMPLES = tuple(_FRAME_SAMPLES[toc >> 3] * (1, 2, 2, 0)[toc & 0x03] for toc in range(256))
#: RFC 6716 §3.2.5: an Opus packet lasts 120 ms at most.
_MAXIMUM_SAMPLES = 5760


def opus_duration(packet: bytes) -> int:
    """How long an Opus packet lasts, in samples at 48 kHz (RFC 6716 §3.1 and §3.2).

    :raises PayloadError: when it has no or an impossible duration.
    """
    if not packet:
        raise PayloadError("an empty Opus packet")
    if samples := _PACKET_SAMPLES[packet[0]]:
        return samples
    if len(packet) < 2:
        raise PayloadError("an Opus packet without its number of frames")
    count = packet[1] & 0x3F
    samples = _FRAME_SAMPLES[packet[0] >> 3] * count
    if not 0 < samples <= _MAXIMUM_SAMPLES:
        raise PayloadError(f"an Opus packet of {count} frames that lasts {samples} samples")
    return samples


class OpusDepacketizer:
    """An Opus packet is the payload; its duration is in the first bytes."""

    def begins_frame(self, payload: bytes) -> bool:
        """Each is a frame."""
        return True

    def depacketize(self, payloads: Sequence[bytes]) -> Unit:
        """See :meth:`Depacketizer.depacketize`."""
        data = _single(payloads)
        return Unit(data, True, None, None, None, None, opus_duration(data))


class PcmDepacketizer:
    """Sound with a byte for each tick of the RTP clock and each channel.

    G.711 at 8000 Hz (RFC 3551 §4.5.14), and G.722 too: its byte has two samples at 16 kHz, and its RTP clock has
    8000 Hz (§4.5.2).

    :param channels: how many are interleaved.
    """

    def __init__(self, channels: int = 1) -> None:
        self._channels = max(1, channels)

    def begins_frame(self, payload: bytes) -> bool:
        """Each is a frame."""
        return True

    def depacketize(self, payloads: Sequence[bytes]) -> Unit:
        """See :meth:`Depacketizer.depacketize`."""
        data = _single(payloads)
        duration, rest = divmod(len(data), self._channels)
        if rest or not data:
            raise PayloadError(f"{len(data)} bytes of sound for {self._channels} channels")
        return Unit(data, True, None, None, None, None, duration)


class AudioPacketizer:
    """A frame is a payload."""

    def packetize(self, data: bytes, *, is_keyframe: bool, maximum: int) -> list[bytes]:
        """See :meth:`Packetizer.packetize`. Sound cannot be divided."""
        if not data:
            raise PayloadError("an empty frame of sound")
        if len(data) > maximum:
            raise PayloadError(f"a frame of sound of {len(data)} bytes, when {maximum} are the most")
        return [data]


def _single(payloads: Sequence[bytes]) -> bytes:
    if len(payloads) != 1:
        raise PayloadError(f"a frame of sound in {len(payloads)} packets")
    return payloads[0]
