"""A recording as one file of a chosen format: copied where that format takes the codecs, encoded anew where not."""

import heapq
import pathlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import av
from av.container import InputContainer, OutputContainer

from mediapeer.media.catalog import CatalogEntry, EntrySegment
from mediapeer.media.exporting import AudioTranscoder, Copier, Output, VideoTranscoder
from mediapeer.media.probe import (
    MediaPacket,
    ProbeError,
    StreamFacts,
    in_words,
    open_media,
    packets_of,
    tracks_of,
)
from mediapeer.media.repair import FORMATS

#: What each container takes as it is, and browsers and players then find in it.
COPIED = {
    "webm": {"vp8", "vp9", "av1", "opus", "vorbis"},
    "mp4": {"h264", "h265", "av1", "aac", "opus", "mp3"},
    "mkv": {"vp8", "vp9", "av1", "h264", "h265", "opus", "vorbis", "aac", "mp3", "flac", "pcm_s16le"},
}
#: What is made of the rest.
ENCODED = {"webm": ("vp9", "opus"), "mp4": ("h264", "aac"), "mkv": ("h264", "opus")}
#: The codecs that can be asked for.
VIDEO_CODECS = ("h264", "h265", "vp8", "vp9", "av1")
AUDIO_CODECS = ("opus", "aac")
#: A temporary name, which no list of recordings shows.
_TEMPORARY = ".exporting"

Progress = Callable[[float], None]


class ExportError(Exception):
    """A recording cannot be exported. The message says why, in words for the person who asked."""


class ExportCancelled(ExportError):
    """It was cancelled, and nothing of it is left."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to make."""

    container: str
    "``webm``, ``mp4`` or ``mkv``."
    video: str = "auto"
    "``auto``, ``copy``, ``none``, or one of :data:`VIDEO_CODECS`."
    audio: str = "auto"
    "``auto``, ``copy``, ``none``, or one of :data:`AUDIO_CODECS`."
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was made."""

    path: pathlib.Path
    size: int
    "In bytes."
    duration: float
    "In seconds."
    copied: tuple[str, ...]
    "The codecs that are as they were."
    encoded: tuple[str, ...]
    "What was encoded anew, as ``vp8 → h264``."


@dataclass(slots=True)
class _Track:
    """A track of the recording through all of its files."""

    id: str
    kind: str
    codec: str
    width: int = 0
    height: int = 0
    is_uniform: bool = True
    "Whether all files have it in the same codec with the same parameters, so that it can be joined as it is."
    extradata: bytes | None = None
    streams: dict[int, int] = field(default_factory=dict)
    "The number of its stream, by the number of the file."


def export_recording(
    entry: CatalogEntry,
    target: pathlib.Path,
    options: ExportOptions,
    progress: Progress | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> ExportReport:
    """Write a recording to one file. Its own files are only read.

    It takes the time it takes, a thread's in a server. The file gets its name when it is whole; whatever ends an
    export before that, ``progress`` raising an exception too, leaves nothing behind.

    :param progress: is told how much is done, from 0 to 1.
    :param is_cancelled: is asked between packets.
    :raises ExportCancelled: when it said so.
    :raises ExportError: when there is nothing to export, the format cannot hold it, or writing fails.
    """
    if options.container not in FORMATS:
        raise ExportError(f"{options.container} is not a format: choose one of {', '.join(sorted(FORMATS))}.")
    segments = [segment for segment in entry.whole_segments if segment.size]
    if not segments:
        raise ExportError(f"{entry.name} has no file that is whole. If it was interrupted, repair it first.")
    if target.exists() and not options.overwrite:
        raise ExportError(f"{target} is there already.")
    if any(target.exists() and target.samefile(segment.path) for segment in segments):
        raise ExportError(f"{target} is a file of the recording itself.")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        job = _Job(
            entry, segments, options, progress or (lambda share: None), is_cancelled or (lambda: False)
        )
        duration = job.write(temporary)
        size = temporary.stat().st_size
        temporary.replace(target)
    except ProbeError as error:
        raise ExportError(str(error)) from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ExportError(f"{target.name} could not be written: {in_words(error)}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return ExportReport(target, size, duration, tuple(job.copied), tuple(job.encoded))


class _Job:
    """One export."""

    def __init__(
        self,
        entry: CatalogEntry,
        segments: Sequence[EntrySegment],
        options: ExportOptions,
        progress: Progress,
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._segments = segments
        self._options = options
        self._progress = progress
        self._is_cancelled = is_cancelled
        self._tracks = _find_tracks(segments)
        self._expected = entry.duration or max(
            each.start + (each.duration or _length(each.path)) for each in segments
        )
        self.copied: list[str] = []
        self.encoded: list[str] = []

    def write(self, path: pathlib.Path) -> float:
        """Write the file, and return its length in seconds."""
        wanted = self._wanted()
        if not wanted:
            raise ExportError("There is no track to export.")
        movie = {"movflags": "+faststart"} if self._options.container == "mp4" else {}
        with ExitStack() as stack:
            inputs = _Inputs(self._segments, stack)
            container = av.open(f"file:{path}", "w", format=FORMATS[self._options.container], options=movie)
            stack.enter_context(container)
            outputs = {track.id: self._output(container, track, codec, inputs) for track, codec in wanted}
            by_stream = {
                (number, index): outputs[track.id]
                for track, _ in wanted
                for number, index in track.streams.items()
            }
            end = done = 0.0
            for position, number, packet in _merge(self._segments, inputs, by_stream.keys()):
                if self._is_cancelled():
                    raise ExportCancelled("The export was cancelled.")
                output = by_stream[number, packet.stream_index]
                end = max(end, output.put(packet, position))
                done = max(done, min(position / self._expected, 1.0) if self._expected else 0.0)
                self._progress(done)
            for output in outputs.values():
                end = max(end, output.finish())
        self._progress(1.0)
        return end

    def _wanted(self) -> list[tuple[_Track, str]]:
        """The tracks that are exported, with what each becomes: a codec, or ``copy``."""
        container = self._options.container
        chosen = {"video": self._options.video, "audio": self._options.audio}
        wanted = []
        for track in self._tracks:
            choice = chosen[track.kind]
            if choice == "none":
                continue
            is_taken = track.codec in COPIED[container]
            if choice == "auto":
                choice = (
                    "copy" if is_taken and track.is_uniform else ENCODED[container][track.kind == "audio"]
                )
            elif choice == "copy" and not (is_taken and track.is_uniform):
                reason = "changes between the files" if is_taken else f"does not go into {container}"
                raise ExportError(f"The {track.kind}, {track.codec}, cannot be copied: it {reason}.")
            elif choice not in (*COPIED[container], "copy"):
                raise ExportError(f"{choice} does not go into {container}.")
            wanted.append((track, choice))
        if container == "mp4" and self._options.audio == "auto":
            # Who asks for MP4 instead of what was recorded wants it for players that know no Opus either.
            is_encoded = any(track.kind == "video" and codec != "copy" for track, codec in wanted)
            if is_encoded or not any(track.kind == "video" for track, _ in wanted):
                wanted = [(track, "aac" if track.kind == "audio" else codec) for track, codec in wanted]
        return wanted

    def _output(self, container: OutputContainer, track: _Track, codec: str, inputs: "_Inputs") -> Output:
        if codec == "copy" or codec == track.codec == "aac":
            number, index = next(iter(track.streams.items()))
            self.copied.append(track.codec)
            return Copier(container, inputs.open(number).streams[index])
        self.encoded.append(f"{track.codec} → {codec}")
        if track.kind == "audio":
            return AudioTranscoder(container, codec)
        return VideoTranscoder(container, codec, track.width, track.height)


class _Inputs:
    """The files of the recording, each opened when it is needed."""

    def __init__(self, segments: Sequence[EntrySegment], stack: ExitStack) -> None:
        self._segments = segments
        self._open: dict[int, InputContainer] = {}
        stack.callback(self.close)

    def open(self, number: int) -> InputContainer:
        """The file of that number."""
        if number not in self._open:
            self._open[number] = open_media(self._segments[number].path)
        return self._open[number]

    def release(self, number: int) -> None:
        """It is not needed again."""
        if number in self._open:
            self._open.pop(number).close()

    def close(self) -> None:
        """Close all."""
        for number in list(self._open):
            self.release(number)


def _length(path: pathlib.Path) -> float:
    """What the file's head says of its length, in seconds; 0 when it says nothing."""
    with open_media(path) as container:
        return (container.duration or 0) / av.time_base


def _find_tracks(segments: Sequence[EntrySegment]) -> list[_Track]:
    """The tracks of all files: the same id is the same track, and without ids the first of its kind is the first."""
    tracks: dict[str, _Track] = {}
    for number, segment in enumerate(segments):
        with open_media(segment.path) as container:
            facts = tracks_of(container)
            kinds: dict[str, int] = {}
            for position, stream in enumerate(facts):
                kinds[stream.kind] = kinds.get(stream.kind, 0) + 1
                has_ids = len(segment.tracks) == len(facts)
                name = segment.tracks[position] if has_ids else f"{stream.kind} {kinds[stream.kind]}"
                extradata = container.streams[stream.index].codec_context.extradata
                _add_stream(tracks, name, stream, number, extradata)
    return sorted(tracks.values(), key=lambda track: track.kind != "video")


def _add_stream(
    tracks: dict[str, _Track], name: str, stream: StreamFacts, number: int, extradata: bytes | None
) -> None:
    track = tracks.get(name)
    if track is None:
        track = tracks[name] = _Track(name, stream.kind, stream.codec, extradata=extradata)
    elif stream.kind != track.kind:
        raise ExportError(f"The track {name} is audio in one file and video in another.")
    elif stream.codec != track.codec or (extradata != track.extradata and stream.codec not in ("vp8", "vp9")):
        track.is_uniform = False
    track.width = max(track.width, stream.width or 0)
    track.height = max(track.height, stream.height or 0)
    track.streams[number] = stream.index


def _merge(
    segments: Sequence[EntrySegment], inputs: _Inputs, wanted: Iterable[tuple[int, int]]
) -> Iterator[tuple[float, int, MediaPacket]]:
    """The packets of all files by their place on the recording's time line: position in seconds, file, packet.

    A file is opened when its time comes, so that a recording of many files does not have them all open.
    """
    streams: dict[int, list[int]] = {}
    for number, index in wanted:
        streams.setdefault(number, []).append(index)
    waiting: list[tuple[float, int, Iterator[tuple[float, MediaPacket]]]] = []
    heads: dict[int, MediaPacket] = {}
    for number in streams:
        reader = _positions(inputs, segments[number], number, streams[number])
        heapq.heappush(waiting, (segments[number].start, number, reader))
    while waiting:
        position, number, reader = heapq.heappop(waiting)
        packet = heads.pop(number, None)
        if packet is not None:
            yield position, number, packet
        following = next(reader, None)
        if following is None:
            inputs.release(number)
            continue
        heads[number] = following[1]
        heapq.heappush(waiting, (following[0], number, reader))


def _positions(
    inputs: _Inputs, segment: EntrySegment, number: int, indices: list[int]
) -> Iterator[tuple[float, MediaPacket]]:
    for packet in packets_of(inputs.open(number), indices):
        yield segment.start + float(packet.dts or 0) * float(packet.time_base), packet
