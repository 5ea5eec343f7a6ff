"""Encodes decoded frames into a WebM file, away from the event loop.

VP8 and Opus in WebM is what both browsers play without help from the system. The work is PyAV's and happens
in one thread per file; the event loop only puts frames into a short queue.
"""

import collections
import errno
import fractions
import io
import logging
import os
import pathlib
import threading
from dataclasses import dataclass, field
from typing import Any

import av
import av.filter
from av.container import OutputContainer

from mediapeer.media.timeline import TrackClock

logger = logging.getLogger(__name__)

AUDIO_RATE = 48_000
AUDIO_FRAME_SAMPLES = 960
VIDEO_TIME_BASE = fractions.Fraction(1, 1000)
#: How far audio may stray from its timestamps before it is put right, in seconds: three packets.
AUDIO_TOLERANCE = 0.06
#: A track that has not begun this long after the first one is not waited for, in seconds.
OPENING_PATIENCE = 2.0
#: How long the opening lasts at least, so that the earliest arrival of each track is known, in seconds.
OPENING_MINIMUM = 0.2
#: Decoded pictures are large: no more of them are held before the file is opened.
OPENING_PICTURES = 40
#: What the queue to the thread holds, in frames; then the newest is dropped and counted.
QUEUE_CAPACITY = {"audio": 500, "video": 30}
#: How long aiortc's jitter buffer holds a frame back, in seconds: audio until four later packets of 20 ms are
#: there, video until the next picture begins. Taken off, so that sound and picture are in step again.
RECEIVE_DELAY = {"audio": 0.080, "video": 0.033}
KEYFRAME_INTERVAL = 60
BITS_PER_PIXEL = 0.16
#: Free space on the disk is looked at once for so many bytes written.
SPACE_CHECK_INTERVAL = 1 << 20


@dataclass(slots=True)
class Item:
    """A frame on its way to the writer."""

    track: int
    arrival: float
    frame: Any

    @property
    def timestamp(self) -> float | None:
        """The frame's own time in seconds, if it has one."""
        if self.frame.pts is None or self.frame.time_base is None:
            return None
        return float(self.frame.pts * self.frame.time_base)


class FrameQueue:
    """The bounded queue between the event loop and the writer's thread."""

    def __init__(self, kinds: list[str]) -> None:
        self.dropped: collections.Counter[str] = collections.Counter()
        "Frames thrown away, by kind, because the encoder was late."
        self._kinds = kinds
        self._items: collections.deque[Item] = collections.deque()
        self._waiting: collections.Counter[str] = collections.Counter()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: Item) -> None:
        """Add a frame, or drop it when the encoder is too far behind or has ended."""
        kind = self._kinds[item.track]
        with self._changed:
            if self._closed:
                return
            if self._waiting[kind] >= QUEUE_CAPACITY[kind]:
                self.dropped[kind] += 1
                return
            self._waiting[kind] += 1
            self._items.append(item)
            self._changed.notify()

    def get(self) -> Item | None:
        """The next frame, waiting for it, or ``None`` when the queue is closed and empty."""
        with self._changed:
            while not self._items:
                if self._closed:
                    return None
                self._changed.wait()
            item = self._items.popleft()
            self._waiting[self._kinds[item.track]] -= 1
            return item

    def close(self) -> None:
        """Let the reader have what is there and then end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class FileSink(io.RawIOBase):
    """The file under the muxer: counts what is written and refuses to fill the disk to the brim."""

    def __init__(self, path: pathlib.Path, minimum_free: int) -> None:
        super().__init__()
        # O_EXCL: neither a symbolic link nor somebody else's file is written to.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._minimum_free = minimum_free
        self._unchecked = SPACE_CHECK_INTERVAL
        self.size = 0
        "Length of the file in bytes."

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._check_space(len(view))
        total = len(view)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self.size = max(self.size, os.lseek(self._descriptor, 0, os.SEEK_CUR))
        return total

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def close(self) -> None:
        """Bring the file to the disk and close it. Idempotent."""
        if not self.closed:
            try:
                os.fsync(self._descriptor)
            finally:
                os.close(self._descriptor)
                super().close()

    def _check_space(self, length: int) -> None:
        self._unchecked += length
        if self._unchecked < SPACE_CHECK_INTERVAL:
            return
        self._unchecked = 0
        status = os.fstatvfs(self._descriptor)
        if status.f_bavail * status.f_frsize < self._minimum_free:
            raise OSError(
                errno.ENOSPC, f"less than {self._minimum_free // 1_000_000} MB are left on the disk"
            )


class AudioEncoding:
    """An Opus stream: any audio in, packets of 20 ms out, on a time line in samples."""

    def __init__(self, container: OutputContainer) -> None:
        stream = container.add_stream("libopus", rate=AUDIO_RATE)
        stream.codec_context.layout = "stereo"
        stream.codec_context.format = "s16"
        stream.codec_context.bit_rate = 64_000
        stream.codec_context.time_base = fractions.Fraction(1, AUDIO_RATE)
        self._stream = stream
        self._container = container
        self._resampler = self._new_resampler()
        self._source: tuple[Any, ...] | None = None
        self._received: float | None = None
        self._next_sample = 0
        self.end = 0.0
        "Where the written audio ends, in seconds."

    @staticmethod
    def _new_resampler() -> av.AudioResampler:
        return av.AudioResampler(
            format="s16", layout="stereo", rate=AUDIO_RATE, frame_size=AUDIO_FRAME_SAMPLES
        )

    def write(self, frame: av.AudioFrame, position: float) -> None:
        """Encode a frame that belongs at ``position`` seconds."""
        source = (frame.format.name, frame.layout.name, frame.sample_rate, frame.time_base)
        if source != self._source:
            self._resampler, self._source = self._new_resampler(), source
        if self._received is None or position - self._received > AUDIO_TOLERANCE:
            # A gap stays a gap: the next packet takes the later time.
            self._next_sample = max(self._next_sample, round(position * AUDIO_RATE))
            self._received = position
        elif self._received - position > AUDIO_TOLERANCE:
            return  # belongs before what is already written
        self._received += frame.samples / frame.sample_rate
        for resampled in self._resampler.resample(frame):
            self._encode(resampled)

    def flush(self) -> None:
        """Write what the encoder still holds."""
        if self._received is not None:
            self._container.mux(self._stream.encode(None))

    def _encode(self, frame: av.AudioFrame) -> None:
        frame.pts = self._next_sample
        frame.time_base = fractions.Fraction(1, AUDIO_RATE)
        self._next_sample += frame.samples
        self.end = self._next_sample / AUDIO_RATE
        self._container.mux(self._stream.encode(frame))


class VideoEncoding:
    """A VP8 stream of one size; pictures of another are scaled into it and keep their proportions."""

    def __init__(self, container: OutputContainer, width: int, height: int) -> None:
        # VP8 has no odd sizes in 4:2:0 that every player shows alike.
        self._width, self._height = max(2, width & ~1), max(2, height & ~1)
        pixels = self._width * self._height
        stream = container.add_stream("libvpx", rate=30)
        stream.width, stream.height, stream.pix_fmt = self._width, self._height, "yuv420p"
        stream.codec_context.time_base = VIDEO_TIME_BASE
        stream.codec_context.gop_size = KEYFRAME_INTERVAL
        stream.codec_context.thread_count = 1 if pixels <= 640 * 480 else 2
        stream.bit_rate = min(8_000_000, max(300_000, int(pixels * 30 * BITS_PER_PIXEL)))
        stream.options = {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0", "qmax": "50"}
        self._stream = stream
        self._container = container
        self._graph: av.filter.Graph | None = None
        self._source: tuple[Any, ...] | None = None
        self._last_pts = -1
        self.end = 0.0
        "Where the last picture ends, in seconds."

    def write(self, frame: av.VideoFrame, position: float) -> None:
        """Encode a picture that is shown from ``position`` seconds on."""
        pts = round(position / VIDEO_TIME_BASE)
        if pts <= self._last_pts:
            return
        picture = self._fit(frame)
        picture.pts, picture.time_base = pts, VIDEO_TIME_BASE
        picture.pict_type = 0  # a key frame for another reader is none here
        self._last_pts = pts
        self.end = position + 1 / 30
        self._container.mux(self._stream.encode(picture))

    def flush(self) -> None:
        """Write what the encoder still holds."""
        if self._last_pts >= 0:
            self._container.mux(self._stream.encode(None))

    def _fit(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The picture in the stream's size, as a frame of our own: the one given has other readers too."""
        source = (frame.width, frame.height, frame.format.name)
        if self._graph is None or source != self._source:
            self._graph, self._source = self._new_graph(frame), source
        self._graph.vpush(frame)
        return self._graph.vpull()

    def _new_graph(self, frame: av.VideoFrame) -> av.filter.Graph:
        size = f"{self._width}:{self._height}"
        graph = av.filter.Graph()
        graph.link_nodes(
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=fractions.Fraction(1, 90_000),
            ),
            graph.add("scale", f"{size}:force_original_aspect_ratio=decrease"),
            graph.add("pad", f"{size}:-1:-1"),
            graph.add("setsar", "1"),
            graph.add("format", "yuv420p"),
            graph.add("buffersink"),
        ).configure()
        return graph


@dataclass
class WebmWriter:
    """Reads the queue to its end and writes the file. ``run`` belongs in a thread of its own."""

    path: pathlib.Path
    "Where to write; the file must not exist."
    kinds: list[str]
    "The tracks, each ``audio`` or ``video``."
    minimum_free: int
    "What must stay free on the disk, in bytes."
    queue: FrameQueue
    size: int = 0
    "Bytes written so far."
    duration: float = 0.0
    "Seconds written so far."
    written_kinds: list[str] = field(default_factory=list)
    "The kinds of the tracks that the file has."

    def run(self) -> None:
        """Write the file, from the first frame to the closing of the queue.

        :raises OSError: when the file cannot be made or written, or the disk is full.
        :raises av.FFmpegError: when the encoder or the muxer refuses something.
        """
        try:
            held = self._opening()
            if held:
                self._write_file(held)
        finally:
            self.queue.close()

    def _opening(self) -> list[Item]:
        """Hold frames until every track has begun or has been waited for."""
        held: list[Item] = []
        while (item := self.queue.get()) is not None:
            held.append(item)
            span = item.arrival - held[0].arrival
            begun = {each.track for each in held}
            pictures = sum(1 for each in held if self.kinds[each.track] == "video")
            complete = len(begun) == len(self.kinds) and span >= OPENING_MINIMUM
            if complete or span >= OPENING_PATIENCE or pictures >= OPENING_PICTURES:
                break
        return held

    def _write_file(self, held: list[Item]) -> None:
        sink = FileSink(self.path, self.minimum_free)
        try:
            # Clusters of a second, written out at once: a crash costs no more than that.
            options = {"cluster_time_limit": "1000", "flush_packets": "1"}
            container = av.open(sink, "w", format="webm", options=options)
            try:
                self._write_tracks(container, held, sink)
            finally:
                container.close()
                self.size = sink.size
        finally:
            sink.close()

    def _write_tracks(self, container: OutputContainer, held: list[Item], sink: FileSink) -> None:
        encodings: dict[int, AudioEncoding | VideoEncoding] = {}
        clocks: dict[int, TrackClock] = {}
        for first in held:
            if first.track not in encodings:
                encodings[first.track] = self._new_encoding(container, first)
                clocks[first.track] = TrackClock(self._offset(first.track, held))
        self.written_kinds = sorted(self.kinds[track] for track in encodings)
        start = min(clocks[each.track].position(each.timestamp, each.arrival) for each in held)
        pending = collections.deque(held)
        held.clear()
        while True:
            item = pending.popleft() if pending else self.queue.get()
            if item is None:
                break
            if item.track not in encodings:
                continue  # it began too late to get a stream
            position = max(0.0, clocks[item.track].position(item.timestamp, item.arrival) - start)
            encodings[item.track].write(item.frame, position)
            self.duration = max(self.duration, encodings[item.track].end)
            self.size = sink.size
        for encoding in encodings.values():
            encoding.flush()

    def _new_encoding(self, container: OutputContainer, item: Item) -> AudioEncoding | VideoEncoding:
        if self.kinds[item.track] == "audio":
            return AudioEncoding(container)
        return VideoEncoding(container, item.frame.width, item.frame.height)

    def _offset(self, track: int, held: list[Item]) -> float:
        """From a track's timestamps to arrival: the least delay seen, as the others came late."""
        delays = [
            item.arrival - item.timestamp
            for item in held
            if item.track == track and item.timestamp is not None
        ]
        return min(delays, default=0.0) - RECEIVE_DELAY[self.kinds[track]]
