"""What is in a media file: its tracks and how far its packets go, without decoding it."""

import fractions
import io
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import av
from av.container import InputContainer

#: A packet of any stream, as it is demultiplexed.
MediaPacket: TypeAlias = "av.Packet[Any]"

#: How many boxes of an MP4 file are looked at: an hour in fragments of half a second has 14,400 of them.
MAXIMUM_BOXES = 1_000_000
#: Our names of codecs, where ffmpeg's are others.
_CODECS = {"hevc": "h265", "pcm_mulaw": "pcmu", "pcm_alaw": "pcma", "adpcm_g722": "g722"}


#: Recordings are of these formats. A file of another, a list of files or addresses for one, would have others opened.
_OPTIONS = {"format_whitelist": "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2", "protocol_whitelist": "file"}
#: Larger pictures are not decoded, in pixels.
_MAXIMUM_PIXELS = 4096 * 2304


class ProbeError(Exception):
    """A file has nothing that can be played. The message says why."""


@dataclass(slots=True)
class StreamFacts:
    """A track of a file."""

    index: int
    "Its number in the file."
    kind: str
    codec: str
    width: int | None = None
    height: int | None = None
    clock_rate: int | None = None
    channels: int | None = None
    frames: int = 0
    "Packets; of video, pictures."
    keyframes: int = 0
    start: float | None = None
    "The timestamp of the first packet, in seconds."
    end: float = 0.0
    "Where the last packet ends, in seconds, as far as the file says."


@dataclass(slots=True)
class FileFacts:
    """What a file holds."""

    container: str
    "As ffmpeg calls it."
    size: int
    streams: list[StreamFacts] = field(default_factory=list)

    @property
    def duration(self) -> float:
        """Where the last packet ends, in seconds from the file's zero."""
        return max((stream.end for stream in self.streams), default=0.0)

    @property
    def playable(self) -> list[StreamFacts]:
        """The tracks that have something in them."""
        return [stream for stream in self.streams if stream.frames]


def open_media(path: pathlib.Path) -> InputContainer:
    """Open a file for reading.

    :raises ProbeError: when it is none that ffmpeg knows, or cannot be read.
    """
    try:
        size, whole = path.stat().st_size, _whole_length(path)
        if whole < size:
            return av.open(_Beginning(path, whole), "r", metadata_errors="replace")
        # As a path, a name such as ``http:x`` would be taken for an address.
        return av.open(f"file:{path}", metadata_errors="replace", options=dict(_OPTIONS))
    except (av.FFmpegError, OSError) as error:
        raise ProbeError(f"{path.name} cannot be read: {in_words(error)}.") from error


def _whole_length(path: pathlib.Path) -> int:
    """How many bytes of a file ffmpeg can be given: it refuses all of an MP4 file that ends within a ``moof``.

    What ends within an ``mdat`` can be read to its end.
    """
    with path.open("rb") as file:
        size, position = file.seek(0, io.SEEK_END), 0
        for _ in range(MAXIMUM_BOXES):
            file.seek(position)
            head = file.read(16)
            if len(head) < 8 or (position == 0 and head[4:8] != b"ftyp"):
                break  # no MP4, or its end
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:
                break
            if position + length > size:
                return position if head[4:8] == b"moof" else size
            position += length
    return size


class _Beginning(io.RawIOBase):
    """The first bytes of a file, as if there were no more.

    :param length: how many.
    """

    def __init__(self, path: pathlib.Path, length: int) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._length = length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._length - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            return self._file.seek(self._length + offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def tracks_of(container: InputContainer) -> list[StreamFacts]:
    """The audio and video of a file, as its header has them."""
    facts = []
    for stream in container.streams:
        if stream.type not in ("audio", "video"):
            continue
        context: Any = stream.codec_context
        if context is None:
            continue  # a codec that this ffmpeg does not have
        codec = context.codec.canonical_name if hasattr(context.codec, "canonical_name") else context.name
        each = StreamFacts(stream.index, stream.type, _CODECS.get(codec, codec))
        if stream.type == "video":
            each.width, each.height, each.clock_rate = context.width or None, context.height or None, 90_000
        else:
            each.clock_rate, each.channels = context.sample_rate or None, context.channels or None
        facts.append(each)
    return facts


def packets_of(container: InputContainer, indices: list[int]) -> Iterator[MediaPacket]:
    """The whole packets of the tracks, up to where the file ends or is torn. Their ``dts`` are set, and grow."""
    last: dict[int, int] = {}
    packets = container.demux([container.streams[index] for index in indices])
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.FFmpegError, OSError):
            return  # the torn end
        if not packet.size or packet.is_corrupt or packet.pts is None:
            continue
        dts = packet.pts if packet.dts is None else packet.dts
        if dts <= last.get(packet.stream_index, dts - 1):
            continue
        packet.dts = last[packet.stream_index] = dts
        yield packet


def probe(path: pathlib.Path) -> FileFacts:
    """Read a file to its end, or to where it is torn, and say what is in it.

    :raises ProbeError: when nothing can be read.
    """
    with open_media(path) as container:
        facts = FileFacts(container.format.name, path.stat().st_size, tracks_of(container))
        by_index = {stream.index: stream for stream in facts.streams}
        for packet in packets_of(container, list(by_index)):
            stream = by_index[packet.stream_index]
            stream.frames += 1
            stream.keyframes += packet.is_keyframe
            start, length = seconds(packet)
            stream.start = start if stream.start is None else stream.start
            stream.end = max(stream.end, start + length)
    return facts


def seconds(packet: MediaPacket) -> tuple[float, float]:
    """Where a packet is and how long it is, in seconds; no length where the file says none."""
    base = float(packet.time_base)
    return float(packet.pts or 0) * base, float(packet.duration or 0) * base


def first_picture(path: pathlib.Path, maximum_width: int = 640) -> bytes | None:
    """The first picture of a file as a PNG, or ``None`` when there is none that can be decoded.

    :param maximum_width: a larger picture is made smaller, in pixels.
    """
    try:
        with open_media(path) as container:
            if not container.streams.video:
                return None
            container.streams.video[0].codec_context.options = {"max_pixels": str(_MAXIMUM_PIXELS)}
            for frame in container.decode(container.streams.video[0]):
                return _png(frame, maximum_width)
    except (ProbeError, av.FFmpegError, OSError, ValueError):
        return None
    return None


def _png(frame: av.VideoFrame, maximum_width: int) -> bytes:
    width = min(frame.width, maximum_width)
    height = max(1, frame.height * width // frame.width)
    encoder = av.CodecContext.create("png", "w")
    if not isinstance(encoder, av.VideoCodecContext):
        raise ValueError("png is no codec of pictures")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "rgb24"
    encoder.time_base = frame.time_base or fractions.Fraction(1, 90_000)
    picture = frame.reformat(width=width, height=height, format="rgb24")
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])


def in_words(error: BaseException) -> str:
    """What went wrong, without the name of a class or a number."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
