"""Which container for which codecs, and one face for what writes it: our own muxer, or FFmpeg's by way of PyAV."""

import fractions
import functools
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from mediapeer.media import matroska
from mediapeer.media.sink import RESERVE, FileSink

#: The containers, and the suffixes of their files.
CONTAINERS = ("webm", "mp4", "mkv")
_HOLDS = {"webm": {"vp8", "vp9", "av1", "opus"}, "mp4": {"h264", "h265", "av1", "opus"}}
_FFMPEG_NAMES = {"h265": "hevc"}
#: A crash costs half a second, and a track that pauses holds the others up no longer than a third of one.
_MP4_OPTIONS = {
    "movflags": "hybrid_fragmented",
    "frag_duration": "500000",
    "flush_packets": "1",
    "max_interleave_delta": "300000",
}
#: What FFmpeg keeps of a frame in a file's index, and writes at its end, in bytes.
INDEX_ENTRY = 40
VIDEO_RATE = 90_000
OPUS_RATE = 48_000
#: A track's first frame that is so much behind what is written is put off to there, in units of 1/90000 s.
LATE_BEGINNING = VIDEO_RATE // 5
_MP4_UNIT = fractions.Fraction(1, VIDEO_RATE)


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What a container must know of a track before its first frame is written."""

    kind: str
    codec: str
    clock_rate: int
    width: int | None = None
    height: int | None = None
    channels: int = 1


class ContainerFile(Protocol):
    """A file that is being written."""

    sink: FileSink
    ticks_per_second: int
    "The unit of times."

    def write(self, track: int, data: bytes, timestamp: int, duration: int, is_keyframe: bool) -> None:
        """Add a frame; the timestamps of a track grow.

        :param track: its number among the file's tracks.
        :raises OSError: when the file cannot be written.
        :raises ValueError: when the muxer refuses the frame.
        """

    def flush(self) -> None:
        """Write what can be written."""

    def close(self) -> None:
        """Finish the file and close it, whatever happens.

        :raises OSError: when it cannot be finished.
        """


def choose_container(codecs: Sequence[str], wanted: str = "auto") -> str:
    """The container for these codecs: the one that is wanted, if it takes them.

    Otherwise WebM for what it was made for, MP4 for the codecs of the ITU, Matroska for anything.
    """
    for container in [wanted] if wanted == "mkv" else [wanted, "webm", "mp4"]:
        if container == "mkv" or (container in _HOLDS and _HOLDS[container].issuperset(codecs)):
            return container
    return "mkv"


def keeps_changes(container: str, codec: str) -> bool:
    """Whether pictures of another size may follow in the same file: where it does not name their parameters."""
    return codec in ("vp8", "vp9") or (codec == "av1" and container in ("webm", "mkv"))


def create_file(
    container: str, sink: FileSink, formats: Sequence[StreamFormat], configurations: Sequence[bytes]
) -> ContainerFile:
    """Begin a file in a sink, which it closes.

    :param configurations: of each, what :func:`configuration_of` says.
    :raises OSError: when its head cannot be written.
    """
    if container == "mp4":
        return Mp4File(sink, formats)
    tracks = [
        matroska.MatroskaTrack(each.codec, each.width or 0, each.height or 0, each.channels, configuration)
        for each, configuration in zip(formats, configurations, strict=True)
    ]
    return matroska.MatroskaFile(sink, tracks, container == "webm")


class _Waiting(NamedTuple):
    data: bytes
    timestamp: int
    duration: int
    is_keyframe: bool


class Mp4File:
    """A file by FFmpeg's muxer: fragments while it is written, an ordinary MP4 file once it is closed.

    Parameter sets are taken from the first keyframe, so that must come first. FFmpeg puts a fragment where
    the one before it ends: each frame waits for the next of its track, so that its duration is the true one.
    """

    ticks_per_second = VIDEO_RATE

    def __init__(self, sink: FileSink, formats: Sequence[StreamFormat]) -> None:
        self.sink = sink
        self._output: OutputContainer = av.open(sink, "w", format="mp4", options=_MP4_OPTIONS)
        self._streams = [_new_stream(self._output, each) for each in formats]
        self._waiting: list[_Waiting | None] = [None] * len(formats)
        self._frames = 0
        # FFmpeg refuses two frames in one unit of the track, which for sound is longer than ours.
        self._steps = [1 if each.kind == "video" else -(-VIDEO_RATE // OPUS_RATE) for each in formats]
        self._last = [-1] * len(formats)
        self._newest = 0

    def write(self, track: int, data: bytes, timestamp: int, duration: int, is_keyframe: bool) -> None:
        """Add a frame."""
        before = self._waiting[track]
        self._waiting[track] = _Waiting(data, timestamp, duration, is_keyframe)
        if before is not None:
            self._mux(track, before, timestamp - before.timestamp)

    def flush(self) -> None:
        """FFmpeg writes by itself; only the room for its index is seen to."""
        self.sink.reserve(RESERVE + self._frames * INDEX_ENTRY // RESERVE * RESERVE)

    def close(self) -> None:
        """Finish the file and close it."""
        try:
            for track, waiting in enumerate(self._waiting):
                if waiting is not None:
                    self._mux(track, waiting, waiting.duration)
        finally:
            try:
                self._output.close()
            finally:
                self.sink.close()

    def _mux(self, track: int, frame: _Waiting, duration: int) -> None:
        start = max(frame.timestamp, self._last[track] + self._steps[track])
        end = frame.timestamp + duration
        if self._last[track] < 0 and self._newest - start > LATE_BEGINNING:
            # FFmpeg aborts the process when a track begins before fragments that are written already.
            start = max(self._newest, start)
        frame, duration = frame._replace(timestamp=start), max(1, end - start)
        self._last[track] = start
        self._newest = max(self._newest, start)
        packet = av.Packet(frame.data)
        packet.stream = self._streams[track]
        packet.time_base = _MP4_UNIT
        packet.pts = packet.dts = frame.timestamp
        packet.duration = duration
        packet.is_keyframe = frame.is_keyframe
        self._output.mux_one(packet)
        self._frames += 1


def _new_stream(output: OutputContainer, format: StreamFormat) -> Stream:
    if format.kind == "audio":
        stream: Stream = output.add_stream_from_template(_opus_template().streams.audio[0])
        stream.time_base = fractions.Fraction(1, OPUS_RATE)
        return stream
    name = _FFMPEG_NAMES.get(format.codec, format.codec)
    stream = output.add_mux_stream(name, width=format.width or 0, height=format.height or 0)
    stream.time_base = _MP4_UNIT
    return stream


def configuration_of(format: StreamFormat, keyframe: bytes) -> bytes:
    """What a decoder must know beforehand (avcC, hvcC, av1C), as FFmpeg makes it of a keyframe.

    VP8 and VP9 have none.

    :raises ValueError: when the keyframe does not say it.
    """
    if format.codec in ("vp8", "vp9"):
        return b""
    memory = io.BytesIO()
    try:
        with av.open(memory, "w", format="matroska") as output:
            packet = av.Packet(keyframe)
            packet.stream = _new_stream(output, format)
            packet.time_base, packet.pts, packet.dts, packet.is_keyframe = _MP4_UNIT, 0, 0, True
            output.mux_one(packet)
        memory.seek(0)
        with av.open(memory, "r", format="matroska") as made:
            configuration = made.streams.video[0].codec_context.extradata
    except (av.FFmpegError, IndexError) as error:
        raise ValueError("The keyframe cannot be understood.") from error
    if not configuration or configuration[0] == 0:
        raise ValueError("The keyframe has no parameter sets.")
    return bytes(configuration)


@functools.cache
def _opus_template() -> InputContainer:
    """A file of nothing that describes Opus: a stream made for muxing alone would have no channels."""
    tags = b"OpusTags" + struct.pack("<I4sI", 4, b"none", 0)
    pages = [(2, 0, matroska.opus_head()), (0, 0, tags), (4, 960, b"\xfc\xff\xfe")]
    data = b"".join(_ogg_page(number, *page) for number, page in enumerate(pages))
    return av.open(io.BytesIO(data), "r", format="ogg")


def _ogg_page(number: int, flags: int, granule: int, packet: bytes) -> bytes:
    """A page of Ogg with one packet (RFC 3533 §6)."""
    head = b"OggS\0" + struct.pack("<BqII", flags, granule, 1, number)
    tail = bytes((1, len(packet))) + packet
    return head + struct.pack("<I", _ogg_checksum(head + bytes(4) + tail)) + tail


def _ogg_checksum(data: bytes) -> int:
    register = 0
    for byte in data:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register & 0x80000000 else 0)) & 0xFFFFFFFF
    return register
