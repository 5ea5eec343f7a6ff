"""Encoding a track that is not encoded: VP8 and Opus, away from the event loop."""

import asyncio
import fractions
import logging
import random
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import av
import av.filter
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av.video.frame import PictureType

from mediapeer.media.relay import RelayedTrack
from mediapeer.peer.track import Subscription
from mediapeer.rtp.frame import EncodedFrame, FrameConsumer, RepairCounts

logger = logging.getLogger(__name__)

AUDIO_RATE = 48_000
VIDEO_RATE = 90_000
FRAME_SAMPLES = 960
#: How far audio may stray from its timestamps before it is put right, in seconds: three packets.
AUDIO_TOLERANCE = 0.06
#: A keyframe comes at the latest after so many pictures.
KEYFRAME_INTERVAL = 150
BITS_PER_PIXEL = 0.16
#: So many frames in a row that no encoder takes end the track.
MAXIMUM_ERRORS = 50


class Encoded(NamedTuple):
    """A piece of the bitstream."""

    data: bytes
    timestamp: int
    "In units of the codec's clock rate."
    is_keyframe: bool
    duration: int | None
    width: int | None = None
    height: int | None = None


class OpusEncoder:
    """Any audio in, packets of 20 ms in stereo out, on a time line in samples."""

    def __init__(self) -> None:
        self._encoder = av.CodecContext.create("libopus", "w")
        self._encoder.sample_rate = AUDIO_RATE
        self._encoder.layout = "stereo"
        self._encoder.format = "s16"
        self._encoder.bit_rate = 64_000
        self._encoder.time_base = fractions.Fraction(1, AUDIO_RATE)
        self._resampler = self._new_resampler()
        self._source: tuple[Any, ...] | None = None
        self._received: float | None = None
        self._next_sample = 0

    def encode(self, frame: av.AudioFrame, position: float, force_keyframe: bool) -> list[Encoded]:
        """Encode a frame that belongs at ``position`` seconds."""
        source = (frame.format.name, frame.layout.name, frame.sample_rate, frame.time_base)
        if source != self._source:
            self._resampler, self._source = self._new_resampler(), source
        if self._received is None or abs(position - self._received) > AUDIO_TOLERANCE:
            # A gap stays a gap: the next packet takes the later time.
            self._next_sample = max(self._next_sample, round(position * AUDIO_RATE))
            self._received = position
        self._received += frame.samples / frame.sample_rate
        encoded = []
        for resampled in self._resampler.resample(frame):
            resampled.pts = self._next_sample
            resampled.time_base = fractions.Fraction(1, AUDIO_RATE)
            for packet in self._encoder.encode(resampled):
                encoded.append(Encoded(bytes(packet), self._next_sample, True, FRAME_SAMPLES))
            self._next_sample += resampled.samples
        return encoded

    @staticmethod
    def _new_resampler() -> av.AudioResampler:
        return av.AudioResampler(format="s16", layout="stereo", rate=AUDIO_RATE, frame_size=FRAME_SAMPLES)


class Vp8Encoder:
    """Pictures in, frames out, each as large as its picture: a change of size begins with a keyframe."""

    def __init__(self) -> None:
        self._encoder: Any = None
        self._size = (0, 0)
        self._last = -1
        self._graph: av.filter.Graph | None = None
        self._source: tuple[Any, ...] | None = None

    def encode(self, frame: av.VideoFrame, position: float, force_keyframe: bool) -> list[Encoded]:
        """Encode a picture that is shown from ``position`` seconds on."""
        # VP8 has no odd sizes in 4:2:0 that every player shows alike.
        size = max(2, frame.width & ~1), max(2, frame.height & ~1)
        if self._encoder is None or size != self._size:
            self._encoder, self._size = self._new_encoder(*size), size
        pts = round(position * VIDEO_RATE)
        if pts <= self._last:
            return []
        self._last = pts
        picture = self._fit(frame, size)
        picture.pts, picture.time_base = pts, fractions.Fraction(1, VIDEO_RATE)
        picture.pict_type = PictureType.I if force_keyframe else PictureType.NONE
        return [
            Encoded(bytes(packet), pts, packet.is_keyframe, None, *size)
            for packet in self._encoder.encode(picture)
        ]

    def _fit(self, frame: av.VideoFrame, size: tuple[int, int]) -> av.VideoFrame:
        """The picture as a frame of our own, in the encoder's format: the one given has other readers too."""
        source = (frame.width, frame.height, frame.format.name)
        if self._graph is None or source != self._source:
            graph = av.filter.Graph()
            unit = fractions.Fraction(1, VIDEO_RATE)
            graph.link_nodes(
                graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=unit),
                graph.add("scale", f"{size[0]}:{size[1]}"),
                graph.add("format", "yuv420p"),
                graph.add("buffersink"),
            ).configure()
            self._graph, self._source = graph, source
        self._graph.vpush(frame)
        return self._graph.vpull()

    @staticmethod
    def _new_encoder(width: int, height: int) -> Any:
        pixels = width * height
        encoder = av.CodecContext.create("libvpx", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base = fractions.Fraction(1, VIDEO_RATE)
        encoder.framerate = fractions.Fraction(30)
        encoder.gop_size = KEYFRAME_INTERVAL
        encoder.thread_count = 1 if pixels <= 640 * 480 else 2
        encoder.bit_rate = min(8_000_000, max(300_000, int(pixels * 30 * BITS_PER_PIXEL)))
        encoder.options = {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0", "qmax": "50"}
        return encoder


class Encoder(Protocol):
    """What encodes a kind of frame."""

    def encode(self, frame: Any, position: float, force_keyframe: bool) -> list[Encoded]:
        """Encode a frame that belongs at ``position`` seconds."""


class TranscodedTrack:
    """A track of decoded frames as an encoded track, VP8 or Opus.

    It is read while somebody subscribes, one frame at a time, and encoded in a thread: an encoder that is late
    reads late, and what happens then is the source's matter. A :class:`RelayedTrack` is stopped when the last
    subscriber leaves, as it is its reader's own.

    :param clock: tells the seconds on the scale of ``EncodedFrame.arrival``; the event loop's by default.
    """

    def __init__(self, source: MediaStreamTrack, clock: Callable[[], float] | None = None) -> None:
        self.kind: str = source.kind
        self.id: str = source.id
        self.cname: str | None = None
        self.counts = RepairCounts()
        self._source = source
        self._clock = clock
        self._encoder: Encoder = OpusEncoder() if source.kind == "audio" else Vp8Encoder()
        self._ssrc = random.getrandbits(32)
        self._subscriptions: list[Subscription] = []
        self._task: asyncio.Task[None] | None = None
        self._wants_keyframe = True
        self._offset: float | None = None

    def subscribe(self, consumer: FrameConsumer) -> Subscription:
        """Give every frame from now on to ``consumer``. The first subscriber makes it begin to read."""
        subscription = Subscription(self, consumer, self._leave)
        self._subscriptions.append(subscription)
        self._wants_keyframe = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"encoding {self.kind}")
        return subscription

    def request_keyframe(self) -> None:
        """Make the next picture a keyframe."""
        self._wants_keyframe = True

    def _leave(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        if not self._subscriptions and self._task is not None:
            self._task.cancel()
            self._task = None
            if isinstance(self._source, RelayedTrack):
                self._source.stop()

    async def _run(self) -> None:
        clock = self._clock or asyncio.get_running_loop().time
        errors = 0
        while errors < MAXIMUM_ERRORS:
            try:
                frame = await self._source.recv()
            except MediaStreamError:
                break
            arrival = clock()
            force, self._wants_keyframe = self._wants_keyframe, False
            try:
                position = self._position(frame, arrival)
                encoded = await asyncio.to_thread(self._encoder.encode, frame, position, force)
            except (av.FFmpegError, ValueError) as error:
                errors += 1
                logger.warning("a frame could not be encoded: %s", error)
                continue
            errors = 0
            for each in encoded:
                self._give(each, arrival)
        for subscription in list(self._subscriptions):
            subscription.end()

    def _position(self, frame: Any, arrival: float) -> float:
        """The frame's own time in seconds; when it has none, its arrival since the first."""
        if frame.pts is not None and frame.time_base is not None:
            return max(0.0, float(frame.pts * frame.time_base))
        if self._offset is None:
            self._offset = arrival
        return arrival - self._offset

    def _give(self, encoded: Encoded, arrival: float) -> None:
        is_audio = self.kind == "audio"
        frame = EncodedFrame(
            codec="opus" if is_audio else "vp8",
            data=encoded.data,
            ssrc=self._ssrc,
            timestamp=encoded.timestamp & 0xFFFFFFFF,
            clock_rate=AUDIO_RATE if is_audio else VIDEO_RATE,
            arrival=arrival,
            is_keyframe=encoded.is_keyframe,
            width=encoded.width if encoded.is_keyframe else None,
            height=encoded.height if encoded.is_keyframe else None,
            duration=encoded.duration,
        )
        for subscription in list(self._subscriptions):
            subscription.take_frame(frame)
