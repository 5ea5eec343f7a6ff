"""RTP as a peer would send it, well-formed and otherwise."""

import struct
from collections.abc import Mapping

from mediapeer.rtp import ExtensionIds, PayloadFormat, RtpPacket, RtpSection

MID, RID, REPAIRED_RID, SEND_TIME, TRANSPORT_NUMBER, CAPTURE_TIME = 4, 10, 11, 2, 5, 13
VP8, VP8_RTX, H264, OPUS = 96, 97, 102, 111
IDS = ExtensionIds(MID, RID, REPAIRED_RID, SEND_TIME, abs_capture_time=CAPTURE_TIME)
VIDEO_FORMATS: Mapping[int, PayloadFormat] = {
    VP8: PayloadFormat("vp8", 90000),
    VP8_RTX: PayloadFormat("rtx", 90000, VP8),
    H264: PayloadFormat("h264", 90000),
}
KEYFRAME = b"\x10\x10\x02\x00\x9d\x01\x2a\x80\x02\x68\x01"
DELTA = b"\x10\x31\x02\x00\x00"


def one_byte_elements(elements: Mapping[int, bytes]) -> bytes:
    """The block of the one-byte form, padded, without its profile and length."""
    block = b"".join(bytes([key << 4 | len(value) - 1]) + value for key, value in elements.items())
    return block + bytes(-len(block) % 4)


def two_byte_elements(elements: Mapping[int, bytes]) -> bytes:
    """The block of the two-byte form."""
    block = b"".join(bytes([key, len(value)]) + value for key, value in elements.items())
    return block + bytes(-len(block) % 4)


def rtp(
    sequence_number: int = 1,
    payload: bytes = DELTA,
    *,
    ssrc: int = 1000,
    payload_type: int = VP8,
    timestamp: int = 0,
    marker: bool = False,
    padding: int = 0,
    block: bytes | None = None,
    profile: int = 0xBEDE,
    **elements: bytes | str | None,
) -> bytes:
    """A packet. The names of elements go into a header extension: ``mid``, ``rid``, ``send_time`` and so on."""
    names = {
        "mid": MID,
        "rid": RID,
        "repaired_rid": REPAIRED_RID,
        "send_time": SEND_TIME,
        "transport_number": TRANSPORT_NUMBER,
        "capture_time": CAPTURE_TIME,
    }
    values = {
        names[name]: value.encode() if isinstance(value, str) else value
        for name, value in elements.items()
        if value is not None
    }
    if values and block is None:
        block = one_byte_elements(values)
    first = 0x80 | (0x10 if block is not None else 0) | (0x20 if padding else 0)
    packet = struct.pack(
        "!BBHII",
        first,
        payload_type | (0x80 if marker else 0),
        sequence_number & 0xFFFF,
        timestamp & 0xFFFFFFFF,
        ssrc,
    )
    if block is not None:
        packet += struct.pack("!HH", profile, len(block) // 4) + block
    packet += payload
    if padding:
        packet += bytes(padding - 1) + bytes([padding])
    return packet


def parsed(*arguments: int | bytes, **keywords: object) -> RtpPacket:
    """The same, read."""
    return RtpPacket.parse(rtp(*arguments, **keywords))  # type: ignore[arg-type]


def video(mid: str = "1", **changes: object) -> RtpSection:
    """A section that receives VP8 and H.264, with RTX for VP8."""
    values: dict[str, object] = {"mid": mid, "kind": "video", "formats": VIDEO_FORMATS, "extensions": IDS}
    return RtpSection(**{**values, **changes})  # type: ignore[arg-type]


def audio(mid: str = "0", **changes: object) -> RtpSection:
    """A section that receives Opus."""
    formats = {OPUS: PayloadFormat("opus", 48000)}
    values: dict[str, object] = {"mid": mid, "kind": "audio", "formats": formats, "extensions": IDS}
    return RtpSection(**{**values, **changes})  # type: ignore[arg-type]
