"""A media file's packets, as RTP can carry them. All of this blocks: it is for threads, one at a time."""

import logging
import os
import pathlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer

from mediapeer.peer.outgoing import rtp_name

logger = logging.getLogger(__name__)

#: The codecs that RTP carries, with the rate of their timestamps in Hertz.
CLOCK_RATES = {
    "vp8": 90_000, "vp9": 90_000, "h264": 90_000, "h265": 90_000, "av1": 90_000,
    "opus": 48_000, "g722": 8_000, "pcmu": 8_000, "pcma": 8_000,
}  # fmt: skip
#: Sound of these is cut into packets of 20 ms; they have 64 kbit/s.
_CUT = frozenset({"g722", "pcmu", "pcma"})
_CUT_LENGTH = 160
_CUT_SECONDS = Fraction(1, 50)
#: How many channels of sound RTP carries (RFC 3551 §4.5, RFC 7587 §4).
_CHANNELS = {"opus": 2, "g722": 1, "pcmu": 1, "pcma": 1}
_DECODERS = {"h265": "hevc", "pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}
#: What turns length fields into start codes, and puts parameter sets before keyframes.
_TO_ANNEX_B = {"h264": "h264_mp4toannexb", "h265": "hevc_mp4toannexb"}
#: How long a packet lasts whose file does not say so, in seconds.
_DEFAULT_DURATION = {"video": Fraction(1, 30), "audio": Fraction(1, 50)}
#: The formats that are read, with those of sound alone, by libavformat's names. Others have more than media in them:
#: lists of files and addresses, which would be opened.
_OPTIONS = {
    "format_whitelist": "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,ivf,ogg,wav,mp3,flac,aac,avi,mpegts,h264,hevc,obu",
    "protocol_whitelist": "file",
}
#: Larger pictures are not decoded, in pixels.
_MAXIMUM_PIXELS = 8192 * 4352
#: The most packets that one call reads, whatever their times.
_MAXIMUM_READ = 2000


class PlayerError(Exception):
    """A file cannot be played. The message says why, and what can be done."""


@dataclass(slots=True)
class FilePacket:
    """A packet of a file. Times are in seconds from the file's beginning, those of repetitions after it."""

    kind: str
    data: bytes
    position: float
    "When it is to be decoded, and so when it is sent."
    time: Fraction
    "When it is shown or heard."
    is_keyframe: bool


@dataclass(slots=True)
class FileStream:
    """A stream of a file that is read."""

    kind: str
    codec: str
    "As RTP calls it; what RTP does not carry, as libavcodec does."
    extradata: bytes | None
    sample_rate: int | None
    layout: str | None
    channels: int = 1
    is_reordered: bool = False
    "Whether its pictures are decoded in another order than shown: a browser shows few of them."

    @property
    def is_carried(self) -> bool:
        """Whether there is an RTP payload format of it here, and of that many channels."""
        if self.codec not in _CHANNELS:
            return self.codec in CLOCK_RATES
        # G.711 can be of any rate in a file, what files say of Opus and G.722 means nothing.
        if self.codec in ("pcmu", "pcma") and self.sample_rate != CLOCK_RATES[self.codec]:
            return False
        # Sound around the listener is several streams of Opus in a packet, and RTP has no name for that.
        return self.channels <= _CHANNELS[self.codec]

    def __str__(self) -> str:
        if self.codec not in _CHANNELS:
            return self.codec
        return f"{self.codec} with {self.channels} channels at {self.sample_rate} Hz"

    def decoder(self) -> Any:
        """A decoder of its packets, as :class:`FileReader` gives them."""
        context: Any = av.CodecContext.create(_DECODERS.get(self.codec, self.codec), "r")
        if self.extradata and self.codec not in _TO_ANNEX_B:
            context.extradata = self.extradata
        if self.kind == "video":
            context.options = {"max_pixels": str(_MAXIMUM_PIXELS)}
        if self.sample_rate is not None:
            context.sample_rate = self.sample_rate
            context.layout = self.layout or "stereo"
        return context


def _why(path: str, error: Exception) -> str:
    """What is wrong with a file, without libavformat's numbers."""
    try:
        if os.path.getsize(path) == 0:
            return "it is empty"
    except (OSError, ValueError):
        return getattr(error, "strerror", None) or str(error)
    if isinstance(error, av.ArgumentError):
        return "it is of no format that is played, such as WebM, MP4, Matroska, IVF or Ogg"
    if isinstance(error, av.InvalidDataError):
        return "it is damaged, or no media file at all"
    return getattr(error, "strerror", None) or str(error)


def _described(stream: Any) -> FileStream:
    context = stream.codec_context
    is_audio = stream.type == "audio"
    return FileStream(
        kind=stream.type,
        codec=rtp_name(context.codec.canonical_name),
        extradata=context.extradata,
        sample_rate=context.sample_rate if is_audio else None,
        layout=context.layout.name if is_audio else None,
        channels=context.layout.nb_channels if is_audio else 1,
        is_reordered=not is_audio and bool(context.has_b_frames),
    )


class FileReader:
    """Reads a file, from beginning to end, once or again and again.

    :param path: the file.
    :param kinds: ``audio``, ``video`` or both: what is read of it, if it is there.
    :param repeat: whether to begin again at the end. Times go on.
    :raises PlayerError: when it cannot be read, or has none of these.
    """

    def __init__(self, path: pathlib.Path | str, kinds: tuple[str, ...], *, repeat: bool = False) -> None:
        self._path = str(path)
        self._repeat = repeat
        self._container = self._open()
        first = {stream.type: stream for stream in reversed(self._container.streams) if stream.type in kinds}
        self.streams: dict[str, FileStream] = {kind: _described(stream) for kind, stream in first.items()}
        "By kind."
        if not self.streams:
            self._container.close()
            raise PlayerError(f"{self._path} has no {' and no '.join(kinds)} in it")
        self.ended = False
        "Whether there is no more."
        self._offset = Fraction(0)
        self._packets = self._demux()

    def read(self, until: float) -> list[FilePacket]:
        """The next packets, those to that position or to the end; at least one, unless it has ended."""
        packets: list[FilePacket] = []
        while not self.ended and len(packets) < _MAXIMUM_READ:
            packet = next(self._packets, None)
            if packet is None:
                self.ended = True
            else:
                packets.append(packet)
                if packet.position >= until:
                    break
        return packets

    def close(self) -> None:
        """Let go of the file."""
        self.ended = True
        self._packets.close()
        self._container.close()

    def _open(self) -> InputContainer:
        try:
            # As a path, a name such as ``http:x`` would be taken for an address.
            return av.open(f"file:{self._path}", options=dict(_OPTIONS))
        except FileNotFoundError as error:
            raise PlayerError(f"there is no file {self._path}") from error
        except (av.FFmpegError, OSError, ValueError) as error:
            why = _why(self._path, error)
            raise PlayerError(f"{self._path} cannot be read as a media file: {why}") from error

    def _demux(self) -> Generator[FilePacket, None, None]:
        """All packets; the file is opened anew for each repetition, since not every format can be rewound."""
        while True:
            end = Fraction(0)
            for packet, duration in self._once():
                end = max(end, packet.time + duration)
                yield packet
            if not self._repeat or end <= self._offset:
                return
            self._offset = end
            self._container.close()
            try:
                self._container = self._open()
            except PlayerError as error:
                logger.error("a file is not played again: %s", error)
                return

    def _once(self) -> Iterator[tuple[FilePacket, Fraction]]:
        """The packets of one pass, each with how long it lasts."""
        streams: list[Any] = [
            next(stream for stream in self._container.streams if stream.type == kind) for kind in self.streams
        ]
        filters: dict[int, Any] = {}
        for stream in streams:
            name = _TO_ANNEX_B.get(self.streams[stream.type].codec)
            if name is not None:
                filters[stream.index] = av.BitStreamFilterContext(name, stream)
        starts = [stream.start_time * stream.time_base for stream in streams if stream.start_time is not None]
        begin = min(starts, default=Fraction(0))
        try:
            read: Any
            for read in self._container.demux(*streams):
                if read.size == 0:
                    continue
                kind: str = read.stream.type
                codec = self.streams[kind].codec
                stream_base: Fraction = read.stream.time_base
                filter = filters.get(read.stream.index)
                for packet in filter.filter(read) if filter is not None else (read,):
                    yield from self._pieces(packet, kind, codec, stream_base, begin)
        except (av.FFmpegError, OSError) as error:
            logger.error("%s breaks off: %s", self._path, error)

    def _pieces(
        self, packet: Any, kind: str, codec: str, time_base: Fraction, begin: Fraction
    ) -> Iterator[tuple[FilePacket, Fraction]]:
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is None:
            return
        dts = packet.dts if packet.dts is not None else pts
        time = pts * time_base - begin + self._offset
        position = float(dts * time_base - begin + self._offset)
        data = bytes(packet)
        if codec in _CUT and self.streams[kind].is_carried:
            for index, start in enumerate(range(0, len(data), _CUT_LENGTH)):
                later = index * _CUT_SECONDS
                piece = data[start : start + _CUT_LENGTH]
                yield FilePacket(kind, piece, position + float(later), time + later, True), _CUT_SECONDS
            return
        duration = packet.duration * time_base if packet.duration else _DEFAULT_DURATION[kind]
        yield FilePacket(kind, data, position, time, packet.is_keyframe or kind == "audio"), duration
