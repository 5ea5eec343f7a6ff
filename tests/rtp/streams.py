"""Encoded video and sound as libraries make it, and the payloads that libavformat's own packetizers make of it."""

import fractions
import functools
import random
from typing import Any, NamedTuple

import av
import pytest

OPTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "vp8": ("libvpx", {"deadline": "realtime", "auto-alt-ref": "0", "cpu-used": "8"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "slices=3"}),
    "h265": (
        "libx265",
        {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none:repeat-headers=1"},
    ),
    "av1": ("libsvtav1", {"preset": "11"}),
    "opus": ("libopus", {}),
    "pcmu": ("pcm_mulaw", {}),
    "pcma": ("pcm_alaw", {}),
    "g722": ("g722", {}),
}
VIDEO = ("vp8", "vp9", "h264", "h265", "av1")
SOUND = ("opus", "pcmu", "pcma", "g722")
DECODERS = {"vp8": "vp8", "vp9": "vp9", "h264": "h264", "h265": "hevc", "av1": "libdav1d", "opus": "opus"}
RATES = {"opus": 48000, "pcmu": 8000, "pcma": 8000, "g722": 16000}


class Encoded(NamedTuple):
    """A packet of an encoder."""

    data: bytes
    is_keyframe: bool


class Sink:
    """A file that keeps what is written by each call: of an RTP muxer that is a packet."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.packets.append(bytes(data))
        return len(data)


def need(codec: str) -> None:
    """Skip when there is no encoder."""
    if OPTIONS[codec][0] not in av.codecs_available:
        pytest.skip(f"this PyAV has no {OPTIONS[codec][0]}")


def _pictures(width: int, height: int, count: int) -> list[av.VideoFrame]:
    """Noise that moves over stripes: small and large frames come of it."""
    noise = random.Random(1).randbytes(2 * width + 7 * count)
    pictures = []
    for number in range(count):
        frame = av.VideoFrame(width, height, "yuv420p")
        frame.pts = number
        for plane in frame.planes:
            lines = [
                noise[(number * 7 + y) % width :][: plane.line_size]
                if y % 32 < 4
                else bytes([(y + number) & 255]) * plane.line_size
                for y in range(plane.height)
            ]
            plane.update(b"".join(line.ljust(plane.line_size, b"\0") for line in lines))
        pictures.append(frame)
    return pictures


def _sounds(rate: int, count: int) -> list[av.AudioFrame]:
    generator = random.Random(2)
    samples = rate // 50
    sounds = []
    for number in range(count):
        frame = av.AudioFrame(format="s16", layout="mono", samples=samples)
        frame.sample_rate = rate
        frame.pts = number * samples
        frame.planes[0].update(generator.randbytes(2 * samples))
        sounds.append(frame)
    return sounds


@functools.cache
def video(
    codec: str, width: int = 320, height: int = 240, count: int = 24
) -> tuple[list[Encoded], list[bytes]]:
    """Frames, with two keyframes at least, and the RTP packets that libavformat makes of them."""
    encoder, options = OPTIONS[codec]
    sink = Sink()
    made = []
    with av.open(
        sink, "w", format="rtp", options={"packetsize": "700", "strict": "experimental"}
    ) as container:
        stream: Any = container.add_stream(encoder, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate, stream.codec_context.gop_size = 1_000_000, count // 2
        stream.time_base = fractions.Fraction(1, 30)
        # libvpx's threads spin while they wait for each other, for minutes where other processes have the processors.
        stream.codec_context.thread_count = 1
        for frame in [*_pictures(width, height, count), None]:
            for packet in stream.encode(frame):
                made.append(Encoded(bytes(packet), packet.is_keyframe))
                container.mux(packet)
    return made, [packet for packet in sink.packets if not 192 <= packet[1] <= 223]


@functools.cache
def sound(codec: str, count: int = 20) -> tuple[list[Encoded], list[bytes]]:
    """The same of sound, 20 ms a packet."""
    encoder, options = OPTIONS[codec]
    sink = Sink()
    made = []
    with av.open(sink, "w", format="rtp", options={"packetsize": "700"}) as container:
        stream: Any = container.add_stream(encoder, rate=RATES[codec], options=options)
        stream.layout = "mono"
        for frame in [*_sounds(RATES[codec], count), None]:
            for packet in stream.encode(frame):
                made.append(Encoded(bytes(packet), True))
                container.mux(packet)
    return made, [packet for packet in sink.packets if not 192 <= packet[1] <= 223]


def decoded(codec: str, frames: list[bytes]) -> list[tuple[int, int]]:
    """The sizes of the pictures that a decoder makes; it raises when it does not take a frame."""
    decoder: Any = av.CodecContext.create(DECODERS[codec], "r")
    decoder.thread_count = 1
    sizes = []
    for number, data in enumerate(frames):
        packet = av.Packet(data)
        packet.pts = number
        sizes += [(picture.width, picture.height) for picture in decoder.decode(packet)]
    return sizes + [(picture.width, picture.height) for picture in decoder.decode(None)]
