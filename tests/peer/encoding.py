"""Encoded frames for tests, made with PyAV, and what stands for the transport that brings them."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from fractions import Fraction
from typing import Any

import av

from mediapeer.peer.receiver import RTCRtpReceiver
from mediapeer.rtp import EncodedFrame, InboundStream, RepairCounts
from tests.media.tracks import picture, tone

ENCODERS = {
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}),
    "h265": ("libx265", {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none"}),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "pred-struct=1:lookahead=0"}),
}
SOUND = {
    "opus": ("libopus", "stereo", 48_000, 48_000, 960),
    "g722": ("g722", "mono", 16_000, 8_000, 320),
    "pcmu": ("pcm_mulaw", "mono", 8_000, 8_000, 160),
    "pcma": ("pcm_alaw", "mono", 8_000, 8_000, 160),
}
#: Thirty pictures a second, on the RTP clock.
STEP = 3000


def video(
    codec: str, frames: int, *, keyframes: tuple[int, ...] = (0,), size: tuple[int, int] = (64, 48)
) -> list[EncodedFrame]:
    """So many pictures, one every 1/30 s, with keyframes where they are asked for."""
    name, options = ENCODERS[codec]
    encoder: Any = av.CodecContext.create(name, "w")
    encoder.width, encoder.height = size
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 90_000), Fraction(30)
    encoder.gop_size, encoder.max_b_frames, encoder.thread_count = 1000, 0, 1
    encoder.options = options
    packets = []
    for index in range(frames):
        frame = picture(index, width=size[0], height=size[1])
        if index in keyframes:
            frame.pict_type = av.video.frame.PictureType.I
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return [
        EncodedFrame(
            codec,
            bytes(packet),
            ssrc=1,
            timestamp=(1000 + STEP * index) & 0xFFFFFFFF,
            clock_rate=90_000,
            arrival=100 + index / 30,
            is_keyframe=packet.is_keyframe,
            payload_type=96,
            width=size[0] if packet.is_keyframe else None,
            height=size[1] if packet.is_keyframe else None,
        )
        for index, packet in enumerate(packets)
    ]


def sound(codec: str, frames: int) -> list[EncodedFrame]:
    """So many pieces of 20 ms of a tone."""
    name, layout, rate, clock_rate, samples = SOUND[codec]
    encoder: Any = av.CodecContext.create(name, "w")
    encoder.format, encoder.layout, encoder.sample_rate = "s16", layout, rate
    encoder.time_base = Fraction(1, rate)
    resampler = av.AudioResampler("s16", layout, rate, frame_size=samples)
    packets = []
    for index in range(frames + 1):
        for frame in resampler.resample(tone(index)):
            packets += encoder.encode(frame)
    step = clock_rate // 50
    return [
        EncodedFrame(codec, bytes(packet), 2, step * index, clock_rate, 100 + index / 50, True, 111)
        for index, packet in enumerate(packets[:frames])
    ]


class Inline(Executor):
    """Runs what it is given when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.runs = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.waiting.append(lambda: fn(*args, **kwargs))
        return Future()

    def run(self) -> bool:
        """Do what waits; ``False`` when nothing does."""
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            self.runs += 1
            work()
        return bool(waiting)


class Media:
    """As much of a media path as a receiver asks for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.repairs = RepairCounts()
        self.inbound: list[InboundStream] = []

    def request_keyframe(self, mid: str) -> None:
        self.asked.append(mid)

    def counts(self, mid: str) -> RepairCounts:
        return self.repairs

    def streams(self) -> list[InboundStream]:
        return self.inbound

    def selected_stream(self, mid: str) -> InboundStream | None:
        return self.inbound[0] if self.inbound else None


class Transport:
    """As much of a transport."""

    state = "connected"
    _stats_id = "transport_1"

    def __init__(self) -> None:
        self.media = Media()
        self.counters: Counter[str] = Counter()

    def count(self, reason: str) -> None:
        self.counters[reason] += 1

    def _get_stats(self) -> dict[str, Any]:
        return {}


class Collector:
    """A consumer that keeps everything."""

    def __init__(self) -> None:
        self.frames: list[EncodedFrame] = []
        self.ends = 0

    def take_frame(self, frame: EncodedFrame) -> None:
        self.frames.append(frame)

    def end(self) -> None:
        self.ends += 1


def receiver_of(kind: str) -> tuple[RTCRtpReceiver, Transport]:
    """A receiver of the section ``0``, and its transport."""
    transport = Transport()
    receiver = RTCRtpReceiver(kind, transport)  # type: ignore[arg-type]
    receiver.mid = "0"
    return receiver, transport


def numbered(frames: list[EncodedFrame]) -> Iterator[tuple[int, EncodedFrame]]:
    """Frames with their numbers."""
    return iter(enumerate(frames))
