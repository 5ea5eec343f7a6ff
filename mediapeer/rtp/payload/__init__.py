"""Payload formats: how frames of each codec are put into RTP packets, and out of them."""

from collections.abc import Callable, Mapping

from mediapeer.rtp.payload.audio import AudioPacketizer, OpusDepacketizer, PcmDepacketizer
from mediapeer.rtp.payload.av1 import Av1Depacketizer, Av1Packetizer
from mediapeer.rtp.payload.base import (
    MAXIMUM_FRAME_LENGTH,
    MAXIMUM_FRAME_PACKETS,
    Depacketizer,
    Packetizer,
    Unit,
)
from mediapeer.rtp.payload.errors import PayloadError
from mediapeer.rtp.payload.h264 import H264Depacketizer, H264Packetizer
from mediapeer.rtp.payload.h265 import H265Depacketizer, H265Packetizer
from mediapeer.rtp.payload.red import RedBlock, split_red
from mediapeer.rtp.payload.vp8 import Vp8Depacketizer, Vp8Packetizer
from mediapeer.rtp.payload.vp9 import Vp9Depacketizer, Vp9Packetizer

__all__ = [
    "MAXIMUM_FRAME_LENGTH",
    "MAXIMUM_FRAME_PACKETS",
    "Depacketizer",
    "Packetizer",
    "PayloadError",
    "RedBlock",
    "Unit",
    "depacketizer_for",
    "packetizer_for",
    "split_red",
]

_PCM = frozenset({"pcmu", "pcma", "g722"})
_DEPACKETIZERS: Mapping[str, Callable[[], Depacketizer]] = {
    "vp8": Vp8Depacketizer,
    "vp9": Vp9Depacketizer,
    "h264": H264Depacketizer,
    "h265": H265Depacketizer,
    "av1": Av1Depacketizer,
    "opus": OpusDepacketizer,
}
_PACKETIZERS: Mapping[str, Callable[[], Packetizer]] = {
    "vp8": Vp8Packetizer,
    "vp9": Vp9Packetizer,
    "h265": H265Packetizer,
    "av1": Av1Packetizer,
    "opus": AudioPacketizer,
    "pcmu": AudioPacketizer,
    "pcma": AudioPacketizer,
    "g722": AudioPacketizer,
}
_NO_PARAMETERS: Mapping[str, str | int | None] = {}


def depacketizer_for(codec: str, clock_rate: int, channels: int | None = None) -> Depacketizer | None:
    """What puts together the frames of a source; ``None`` for codecs that are not known here.

    :param codec: the codec's name, in any case.
    :param clock_rate: in Hertz; durations are in its units.
    """
    codec = codec.lower()
    if codec in _PCM:
        return PcmDepacketizer(channels or 1)
    make = _DEPACKETIZERS.get(codec)
    return None if make is None else make()


def packetizer_for(
    codec: str, parameters: Mapping[str, str | int | None] = _NO_PARAMETERS
) -> Packetizer | None:
    """What divides the frames of a source; ``None`` for codecs that are not known here.

    :param codec: the codec's name, in any case.
    :param parameters: those of the format that was negotiated (``a=fmtp``).
    """
    codec = codec.lower()
    if codec == "h264":
        # Without the parameter the mode is 0 (RFC 6184 §8.1).
        return H264Packetizer(0 if str(parameters.get("packetization-mode") or 0) == "0" else 1)
    make = _PACKETIZERS.get(codec)
    return None if make is None else make()
