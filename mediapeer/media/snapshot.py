"""A picture of a recording: a keyframe, decoded and made small, as PNG."""

import fractions
import logging

import av

from mediapeer.rtp.frame import EncodedFrame

logger = logging.getLogger(__name__)

#: No snapshot is wider, or higher, in pixels.
MAXIMUM_SIDE = 640
#: Larger pictures are not decoded for it, in pixels: some kilobytes can announce gigabytes, and all recordings wait.
MAXIMUM_PIXELS = 4096 * 2304
_DECODERS = {"vp8": "vp8", "vp9": "vp9", "h264": "h264", "h265": "hevc", "av1": "libdav1d"}


def snapshot_of(frame: EncodedFrame) -> bytes | None:
    """A keyframe as a PNG, of 640 pixels at most on a side; ``None`` when it cannot be decoded.

    It takes some ten milliseconds: not for the event loop.
    """
    name = _DECODERS.get(frame.codec)
    if name is None or (frame.width or 0) * (frame.height or 0) > MAXIMUM_PIXELS:
        return None
    try:
        decoder = av.CodecContext.create(name, "r")
        decoder.thread_count = 1
        # What RTP, or the frame's first picture, says of the size need not be so.
        decoder.options = {"max_pixels": str(MAXIMUM_PIXELS)}
        pictures = [*decoder.decode(av.Packet(frame.data)), *decoder.decode(None)]  # type: ignore[attr-defined]
        return _png(pictures[0]) if pictures else None
    except (av.FFmpegError, ValueError, MemoryError) as error:
        logger.debug("no snapshot: %s", error)
        return None


def _png(picture: av.VideoFrame) -> bytes:
    scale = min(1.0, MAXIMUM_SIDE / max(picture.width, picture.height))
    width, height = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = picture.reformat(width, height, "rgb24")
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "rgb24"
    encoder.time_base = fractions.Fraction(1, 1)
    small.pts, small.time_base = 0, fractions.Fraction(1, 1)
    return b"".join(bytes(packet) for packet in [*encoder.encode(small), *encoder.encode(None)])
