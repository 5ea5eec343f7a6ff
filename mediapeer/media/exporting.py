"""Packets of a recording into another file: as they are, or decoded and encoded anew."""

import contextlib
import fractions
import os
from collections.abc import Iterator
from typing import Any, Protocol

import av
from av.container import OutputContainer
from av.filter import Graph

from mediapeer.media.probe import MediaPacket
from mediapeer.media.silence import is_silence

#: ffmpeg's encoders, the preferred first, with their options.
_VIDEO_ENCODERS: dict[str, tuple[tuple[str, dict[str, str]], ...]] = {
    "h264": (
        ("libx264", {"preset": "veryfast", "crf": "22"}),
        ("libopenh264", {}),
        ("h264_videotoolbox", {}),
    ),
    "h265": (("libx265", {"preset": "veryfast", "crf": "25", "x265-params": "log-level=error"}),),
    "vp8": (("libvpx", {"deadline": "realtime", "cpu-used": "4", "crf": "16"}),),
    "vp9": (("libvpx-vp9", {"deadline": "realtime", "cpu-used": "6", "crf": "32", "row-mt": "1"}),),
    "av1": (("libsvtav1", {"preset": "9", "crf": "32"}), ("libaom-av1", {"cpu-used": "8", "crf": "32"})),
}
_AUDIO_ENCODERS = {"opus": ("libopus", "s16", 96_000), "aac": ("aac", "fltp", 128_000)}
#: Encoders that take a bit rate beside their quality, which is the most they use, in bits per second.
_MAXIMUM_RATE = {"vp8": 4_000_000, "libopenh264": 2_500_000}
_RATE = 48_000
#: Sound that is this far from where its predecessor ended stays there: silence goes between. In seconds.
_TOLERANCE = 0.04
#: Silence that a file begins with gives way to sound that reaches further than this into it, in seconds.
_OVERLAP = 0.005
#: How much silence is written into gaps, in seconds, before what says where they are is not believed.
MAXIMUM_SILENCE = 24 * 3600
#: Larger pictures are not decoded, in pixels, and none is made: a peer can announce any with a few bytes.
MAXIMUM_PIXELS = 8192 * 4352
_VIDEO_BASE = fractions.Fraction(1, 90_000)


class Output(Protocol):
    """A track of the file that is written."""

    def put(self, packet: MediaPacket, position: float) -> float:
        """Add a packet of the recording, and say where the track ends now, in seconds.

        :param position: its place on the recording's time line, in seconds.
        """

    def finish(self) -> float:
        """Write what is held back, and say where the track ends, in seconds."""


@contextlib.contextmanager
def _unchanged_scheduling() -> Iterator[None]:
    """Have the calling thread, and those that are made meanwhile, run as it does now.

    As root, SVT-AV1 makes the thread that opens it, and its own, threads of real time, before which nothing else gets
    to run.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    before, others = _scheduling(0), _threads()
    try:
        yield
    finally:
        for thread in (0, *(_threads() - others)):
            with contextlib.suppress(OSError):  # it has ended
                if _scheduling(thread) != before and os.sched_getscheduler(thread) == os.SCHED_FIFO:
                    os.sched_setscheduler(thread, before[0], os.sched_param(before[1]))


def _scheduling(thread: int) -> tuple[int, int]:
    """The policy and the priority of a thread; 0 is the calling one."""
    return os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority


def _threads() -> set[int]:
    """The threads of this process, where the system tells."""
    try:
        return set(map(int, os.listdir("/proc/self/task")))
    except OSError:
        return set()


def _held_back(decoder: Any) -> list[Any]:
    """The last frames of a decoder, which takes nothing more; none when there is no decoder."""
    if decoder is None:
        return []
    try:
        frames: list[Any] = decoder.decode(None)
    except (av.FFmpegError, ValueError):
        return []
    return frames


class Copier:
    """A track as it was recorded."""

    def __init__(self, container: OutputContainer, template: Any) -> None:
        self._container = container
        self._stream = container.add_stream_from_template(template, opaque=True)
        self._last: int | None = None
        self._end = 0.0

    def put(self, packet: MediaPacket, position: float) -> float:
        """Write it where it belongs; timestamps grow, whatever two files say that follow each other."""
        base = packet.time_base
        if position < self._end - _OVERLAP and is_silence(bytes(packet)):
            return self._end
        dts = round(position / float(base))
        if self._last is not None and dts <= self._last:
            dts = self._last + 1
        self._last = dts
        offset = dts - (packet.dts or 0)
        pts = (packet.pts or 0) + offset
        packet.dts, packet.pts = dts, max(pts, dts)
        self._end = float((pts + (packet.duration or 0)) * base)
        packet.stream = self._stream
        self._container.mux(packet)
        return self._end

    def finish(self) -> float:
        """Nothing is held back."""
        return 0.0


class VideoTranscoder:
    """Pictures encoded anew, all of one size: those of another are fitted in with bars beside them.

    :param width: of the file, in pixels; odd ones are made even, as encoders want them.
    """

    def __init__(self, container: OutputContainer, codec: str, width: int, height: int) -> None:
        self._container = container
        self._codec = codec
        if width * height > MAXIMUM_PIXELS:
            width = height = round(MAXIMUM_PIXELS**0.5)
        self._size = (max(2, width + width % 2), max(2, height + height % 2))
        self._stream: Any = self._new_stream()
        self._decoder: Any = None
        self._source: Any = None
        self._graph: Graph | None = None
        self._graph_of: tuple[int, int, str] | None = None
        self._shift = 0.0
        "From the timestamps of the file that is read to the recording's time line, in seconds."
        self._last = -1
        self._end = 0.0

    def put(self, packet: MediaPacket, position: float) -> float:
        """Decode, fit and encode it. What cannot be decoded is left out."""
        if packet.stream is not self._source:
            self._drain()
            self._source, self._decoder = packet.stream, packet.stream.codec_context
            self._decoder.options = {"max_pixels": str(MAXIMUM_PIXELS)}
            self._shift = position - float((packet.dts or 0) * packet.time_base)
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError:
            return self._end
        for frame in frames:
            self._encode(frame)
        return max(self._end, position + float((packet.duration or 0) * packet.time_base))

    def finish(self) -> float:
        """Write what decoder and encoder hold back."""
        self._drain()
        self._container.mux(self._stream.encode(None))
        return self._end

    def _new_stream(self) -> Any:
        problem: Exception | None = None
        for name, options in _VIDEO_ENCODERS[self._codec]:
            try:
                stream: Any = self._container.add_stream(name, rate=30, options=dict(options))
            except (ValueError, av.FFmpegError) as error:
                problem = error
                continue
            stream.width, stream.height = self._size
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = _VIDEO_BASE
            stream.codec_context.thread_count = min(4, os.cpu_count() or 1)
            rate = _MAXIMUM_RATE.get(name) or _MAXIMUM_RATE.get(self._codec)
            stream.bit_rate = rate or 0
            if name == "libsvtav1":
                # Now, and not with the first packet of any track.
                with _unchanged_scheduling():
                    stream.codec_context.open()
            return stream
        raise ValueError(f"this ffmpeg has no encoder for {self._codec}") from problem

    def _drain(self) -> None:
        for frame in _held_back(self._decoder):
            self._encode(frame)
        self._decoder = None

    def _encode(self, frame: av.VideoFrame) -> None:
        if frame.pts is None or frame.time_base is None:
            return
        position = self._shift + float(frame.pts * frame.time_base)
        pts = max(round(position / float(_VIDEO_BASE)), 0)
        if pts <= self._last:
            pts = self._last + 1
        self._last = pts
        fitted = self._fit(frame)
        fitted.pts, fitted.time_base = pts, _VIDEO_BASE
        fitted.pict_type = av.video.frame.PictureType.NONE
        self._end = max(self._end, float(pts * _VIDEO_BASE))
        self._container.mux(self._stream.encode(fitted))

    def _fit(self, frame: av.VideoFrame) -> av.VideoFrame:
        if (frame.width, frame.height) == self._size:
            return frame.reformat(format="yuv420p")
        kind = (frame.width, frame.height, frame.format.name)
        if self._graph is None or self._graph_of != kind:
            self._graph, self._graph_of = _fitting_graph(frame, *self._size), kind
        self._graph.push(frame)
        fitted = self._graph.pull()
        if not isinstance(fitted, av.VideoFrame):
            raise ValueError("the filter gave no picture")
        return fitted


def _fitting_graph(frame: av.VideoFrame, width: int, height: int) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or _VIDEO_BASE
    )
    scale = graph.add("scale", f"{width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2")
    pad = graph.add("pad", f"{width}:{height}:(ow-iw)/2:(oh-ih)/2")
    shape = graph.add("format", "yuv420p")
    sink = graph.add("buffersink")
    for first, second in ((source, scale), (scale, pad), (pad, shape), (shape, sink)):
        first.link_to(second)
    graph.configure()
    return graph


class AudioTranscoder:
    """Sound encoded anew, 48 kHz in stereo. Gaps in the recording become silence, and stay as long as they were."""

    def __init__(self, container: OutputContainer, codec: str) -> None:
        name, self._format, bit_rate = _AUDIO_ENCODERS[codec]
        self._container = container
        stream: Any = container.add_stream(name, rate=_RATE, layout="stereo")
        stream.bit_rate = bit_rate
        self._stream = stream
        self._fifo = av.AudioFifo()
        self._resampler = self._new_resampler()
        self._source: Any = None
        self._decoder: Any = None
        self._written = 0
        "Samples given to the encoder or waiting for it: where the next one is on the time line."
        self._encoded = 0
        self._silent = 0
        "Samples of silence in gaps."

    def put(self, packet: MediaPacket, position: float) -> float:
        """Decode and encode it. What cannot be decoded becomes silence."""
        if packet.stream is not self._source:
            self._drain()
            self._source, self._decoder = packet.stream, packet.stream.codec_context
            self._resampler = self._new_resampler()
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError:
            return self._written / _RATE
        for number, frame in enumerate(frames):
            self._add(frame, position if number == 0 else None)
        return self._written / _RATE

    def finish(self) -> float:
        """Write what decoder, queue and encoder hold back."""
        self._drain()
        self._encode(partial=True)
        self._container.mux(self._stream.encode(None))
        return self._written / _RATE

    def _new_resampler(self) -> av.AudioResampler:
        return av.AudioResampler(format=self._format, layout="stereo", rate=_RATE)

    def _add(self, frame: av.AudioFrame, position: float | None) -> None:
        if position is not None:
            ahead = round(position * _RATE) - self._written
            if ahead < -_TOLERANCE * _RATE:
                return  # two files overlap: what is there first stays
            if ahead > _TOLERANCE * _RATE:
                self._silence(ahead)
        frame.pts = None
        for resampled in self._resampler.resample(frame):
            self._write(resampled)

    def _silence(self, samples: int) -> None:
        self._silent += samples
        if self._silent > MAXIMUM_SILENCE * _RATE:
            raise ValueError("it has gaps of more than a day")
        while samples > 0:
            length = min(samples, _RATE)
            frame = av.AudioFrame(format=self._format, layout="stereo", samples=length)
            frame.sample_rate = _RATE
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            self._write(frame)
            samples -= length

    def _write(self, frame: av.AudioFrame) -> None:
        frame.pts = None
        frame.time_base = fractions.Fraction(1, _RATE)
        self._fifo.write(frame)
        self._written += frame.samples
        self._encode()

    def _encode(self, partial: bool = False) -> None:
        size = self._stream.codec_context.frame_size or 960
        while (frame := self._fifo.read(size, partial)) is not None:
            frame.pts = self._encoded
            frame.time_base = fractions.Fraction(1, _RATE)
            self._encoded += frame.samples
            self._container.mux(self._stream.encode(frame))

    def _drain(self) -> None:
        """Take what decoder and resampler hold back: it follows what was written."""
        if self._decoder is None:
            return
        for frame in _held_back(self._decoder):
            self._add(frame, None)
        for resampled in self._resampler.resample(None):
            self._write(resampled)
        self._decoder = None
