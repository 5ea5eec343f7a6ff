"""The files of a recording, one after the other: when one ends and the next begins, without a frame lost."""

import datetime
import logging
import os
import pathlib
from collections.abc import Callable, Iterable

import av

from mediapeer.media.container import (
    ContainerFile,
    StreamFormat,
    choose_container,
    configuration_of,
    create_file,
    keeps_changes,
)
from mediapeer.media.manifest import Gap, ManifestTrack, Segment
from mediapeer.media.options import RecordingOptions
from mediapeer.media.silence import Silence, SilenceFiller
from mediapeer.media.sink import FileSink
from mediapeer.media.timeline import Timeline, TrackTimeline
from mediapeer.rtp.frame import EncodedFrame

logger = logging.getLogger(__name__)

#: A track that has not begun this long after the file's first frame is not waited for, in seconds.
PATIENCE = 2.0
#: A picture that has not moved for so long is not waited for when a file is due to end, in seconds.
IDLE = 2.0
#: No two changes of what a peer sends make files closer to each other than this, in seconds.
MINIMUM_SEGMENT = 0.5
#: After so many changes that time doubles, so many times at the most: a peer ends no recording by them.
CHANGES = 50
MAXIMUM_DOUBLINGS = 7
#: To take a keyframe apart costs the thread of all recordings a quarter of a millisecond: of a picture that never
#: stays as it is, so many are looked at, and then one in that many seconds. The others are left out.
CONFIGURATIONS = 10
CONFIGURATION_INTERVAL = 0.1
#: How many files a recording may come to by what a peer sends, and in all.
MAXIMUM_CHANGES = 1000
MAXIMUM_SEGMENTS = 10_000
#: How many names that files have are passed over, for each file.
MAXIMUM_TAKEN = 10_000
#: What a file holds, until it is known which tracks it has, at the most, in bytes.
MAXIMUM_HELD = 16_000_000
#: FFmpeg keeps an index of the whole MP4 file in memory, so that one ends after this, in seconds.
LONGEST_MP4 = 3600.0
#: A track without anything for so long has a gap worth telling of, in seconds.
GAP = 0.5
MAXIMUM_GAPS = 100
#: A frame is not said to last longer than this for want of another, in seconds.
LONGEST_FRAME = 0.1
#: So many frames that the muxer refuses, one after the other, end the recording.
MAXIMUM_REFUSED = 100
#: When only the frame says how large the picture is, and the frame does not.
DEFAULT_SIZE = (640, 480)
#: Larger pictures are not believed, in pixels.
MAXIMUM_SIDE = 16_384
#: Seconds from NTP's beginning to that of POSIX time (RFC 5905 §6).
NTP_TO_POSIX = 2_208_988_800
#: A sender's clock that is further than this from ours does not tell the date, in seconds.
PLAUSIBLE_DATE = 3600.0


class TrackState:
    """A track as the writer knows it."""

    def __init__(self, number: int, facts: ManifestTrack, timeline: Timeline) -> None:
        self.number = number
        self.facts = facts
        self.dropped = 0
        "Frames that could not be written: they came before a keyframe, or the muxer refused them."
        self.timeline = TrackTimeline(timeline, self)
        self.format: StreamFormat | None = None
        self.configuration = b""
        self._configured: EncodedFrame | None = None
        "Where it is from."
        self._tries: float = CONFIGURATIONS
        "How many keyframes may be looked at for one."
        self._tried = float("-inf")
        "When one last came that was to be looked at."
        self.segment: SegmentFile | None = None
        "The file that its frames go to."
        self.ended = False
        self.is_removed = False
        "Whether the program has taken it out of the recording."
        self.position = float("-inf")
        "Where its latest frame is, in seconds on the recording's time line."
        self.length = 1 / 30 if facts.kind == "video" else 0.02
        "How long a frame is taken to last, in seconds."

    def end(self, is_removed: bool) -> None:
        """Note that no frame follows."""
        self.ended = True
        self.is_removed = self.is_removed or is_removed

    def describe(self, frame: EncodedFrame) -> bool:
        """Take in what a keyframe says of the picture; false when that is not enough to decode it."""
        format_, size = self.format, (frame.width or 0, frame.height or 0)
        if not all(0 < side <= MAXIMUM_SIDE for side in size):
            size = DEFAULT_SIZE
            if format_ is not None and format_.codec == frame.codec:
                size = format_.width or 0, format_.height or 0
        described = StreamFormat("video", frame.codec, frame.clock_rate, *size)
        if described != format_:
            if not self._configure(described, frame):
                return False
            self.format, facts = described, self.facts
            facts.codec, facts.clock_rate, (facts.width, facts.height) = frame.codec, frame.clock_rate, size
        return True

    def may_begin(self, frame: EncodedFrame) -> bool:
        """Whether a file may begin with a keyframe that was described: it can be decoded by what it says itself."""
        return self.format is not None and (frame is self._configured or self._configure(self.format, frame))

    def _configure(self, format_: StreamFormat, frame: EncodedFrame) -> bool:
        passed = max(0.0, frame.arrival - self._tried)
        self._tries = min(CONFIGURATIONS, self._tries + passed / CONFIGURATION_INTERVAL)
        self._tried = frame.arrival
        if self._tries < 1:
            return False
        self._tries -= 1
        try:
            self.configuration = configuration_of(format_, frame.data)
        except ValueError as error:
            logger.debug("a keyframe is left out: %s", error)
            return False
        self._configured = frame
        return True

    def note(self, frame: EncodedFrame, position: float) -> None:
        """Take in what a frame says of its track."""
        facts, format_ = self.facts, self.format
        if facts.kind == "audio":
            if format_ is None or format_.codec != frame.codec or format_.clock_rate != frame.clock_rate:
                channels = 2 if frame.codec == "opus" else 1
                self.format = StreamFormat("audio", frame.codec, frame.clock_rate, channels=channels)
                facts.codec, facts.clock_rate, facts.channels = frame.codec, frame.clock_rate, channels
            if frame.duration is not None:
                self.length = frame.duration / frame.clock_rate
        step = position - self.position
        if step > GAP and facts.frames:
            self._note_gap(self.position + self.length, step - self.length)
        if facts.kind == "video":
            self.length = min(step, LONGEST_FRAME) if step > 0 else self.length
        self.position = position

    def _note_gap(self, start: float, duration: float) -> None:
        if len(self.facts.gaps) < MAXIMUM_GAPS:
            self.facts.gaps.append(Gap(max(0.0, start), duration))
        else:
            self.facts.gaps_left_out += 1


class FileNames:
    """Names for a recording's files: ``NAME.webm``, ``NAME-2.webm``, and so on.

    :param skips_taken: whether a name that a file has is passed over, and is no error.
    """

    def __init__(self, base: pathlib.Path, *, skips_taken: bool = False) -> None:
        self.base = base
        self._skips_taken = skips_taken
        self._given = self._changes = self._number = 0

    def next(self, container: str, is_change: bool) -> pathlib.Path:
        """A file's name.

        :param is_change: whether it is what a peer sends that makes another file, and not a limit that was set.
        :raises OSError: when there is such a file, or there have been too many.
        """
        self._given += 1
        self._changes += is_change
        if self._given > MAXIMUM_SEGMENTS or self._changes > MAXIMUM_CHANGES:
            raise OSError(f"The recording has come to {self._given - 1} files, and may have no more")
        for _ in range(MAXIMUM_TAKEN):
            self._number += 1
            number = "" if self._number == 1 else f"-{self._number}"
            path = self.base.with_name(f"{self.base.name}{number}.{container}")
            if not self._skips_taken or not (os.path.lexists(path) or os.path.lexists(f"{path}.part")):
                break
        if os.path.lexists(path):
            raise FileExistsError(f"There is a file {path.name} already")
        return path


class SegmentFile:
    """One file: at first only frames that are held, until it is known which tracks it has.

    :param start: where its first frame lies, in seconds on the recording's time line.
    :param expected: the tracks to wait for.
    :param is_change: whether what a peer sends has made it necessary.
    """

    def __init__(
        self,
        start: float,
        expected: list[TrackState],
        names: FileNames,
        options: RecordingOptions,
        is_change: bool = False,
    ) -> None:
        self.start = start
        self.end = start
        self.facts: Segment | None = None
        self.path: pathlib.Path | None = None
        self.container = ""
        self.is_closed = False
        self.held_bytes = 0
        "What is held, in bytes."
        self._is_change = is_change
        self._expected = expected
        # Sound needs no first frame to be described. It is in the file though it may be silent at first.
        self._formats = {
            track: track.format
            for track in expected
            if track.facts.kind == "audio" and track.format is not None
        }
        self._configurations: dict[TrackState, bytes] = {}
        self._names = names
        self._options = options
        self._held: list[tuple[float, TrackState, EncodedFrame]] = []
        self._file: ContainerFile | None = None
        self._numbers: dict[TrackState, int] = {}
        self._last: list[int] = []
        self._refused = 0
        self._silence: SilenceFiller[TrackState] = SilenceFiller(start)

    @property
    def is_open(self) -> bool:
        """Whether its head is written, so that no track can be added."""
        return self._file is not None

    @property
    def is_complete(self) -> bool:
        """Whether every track that is waited for has begun."""
        return all(track in self._formats or track.ended for track in self._expected)

    @property
    def is_outdated(self) -> bool:
        """Whether it has a track that was removed."""
        return any(track.is_removed for track in self._formats)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.facts.size if self.facts is not None else 0

    @property
    def sink(self) -> FileSink | None:
        """What it is written to, once it is open."""
        return self._file.sink if self._file is not None else None

    def begins(self, track: TrackState) -> bool:
        """Whether the track's next frame is its first here."""
        return track not in self._formats

    def accepts(self, track: TrackState) -> bool:
        """Whether it can take the track's next frame, a keyframe, in the track's present format."""
        known, format_ = self._formats.get(track), track.format
        if self.is_closed or format_ is None:
            return False
        if known is None:
            return not self.is_open
        if known is format_ or known == format_:
            return True
        if known.codec != format_.codec or known.clock_rate != format_.clock_rate:
            return False
        container = self.container or choose_container(
            [each.codec for each in self._formats.values()], self._options.container
        )
        return keeps_changes(container, format_.codec)

    def put(self, track: TrackState, frame: EncodedFrame, position: float) -> None:
        """Take a frame.

        :raises OSError: when the file cannot be written.
        """
        if self._file is None:
            if track not in self._formats and track.format is not None:
                self._formats[track] = track.format
                self._configurations[track] = track.configuration
            self._held.append((position, track, frame))
            self.held_bytes += len(frame.data)
            return
        is_late = False
        due: Iterable[Silence[TrackState]] = ()
        if track.facts.kind == "video":
            due = self._silence.before_picture(position, self._is_coming)
        elif frame.codec == "opus":
            is_late = self._silence.is_late(track, position + track.length)
            due = self._silence.before_sound(track, position, track.length)
        for each in due:
            self._write(each.track, each.data, each.position, each.length, True)
        if is_late or not self._write(track, frame.data, position, track.length, frame.is_keyframe):
            track.dropped += 1
            return
        self.end = max(self.end, position + track.length)
        track.facts.frames += 1
        track.facts.keyframes += frame.is_keyframe

    def _write(
        self, track: TrackState, data: bytes, position: float, length: float, is_keyframe: bool
    ) -> bool:
        """Write a frame, or say that the muxer refuses it.

        :raises OSError: when the file cannot be written, or the muxer refuses everything.
        """
        file, number = self._file, self._numbers[track]
        if file is None:
            return False
        timestamp = round((position - self.start) * file.ticks_per_second)
        if timestamp <= self._last[number]:
            timestamp = self._last[number] + 1
        try:
            file.write(number, data, timestamp, round(length * file.ticks_per_second), is_keyframe)
        except OSError:
            raise
        except (av.FFmpegError, ValueError) as error:
            # Of a bitstream that makes no sense to it.
            self._refused += 1
            if self._refused > MAXIMUM_REFUSED:
                raise OSError(f"The frames could not be written: {error}") from error
            return False
        self._refused = 0
        self._last[number] = timestamp
        return True

    def _is_coming(self, track: TrackState) -> bool:
        return track.segment is self and not track.ended

    def open(self) -> None:
        """Make the file, with the tracks that have begun, and write what was held.

        :raises OSError: when it cannot be made.
        """
        held, self._held, self.held_bytes = self._held, [], 0
        held.sort(key=lambda each: each[0])
        self.start = min(self.start, held[0][0]) if held else self.start
        formats = dict(sorted(self._formats.items(), key=lambda each: each[0].facts.kind, reverse=True))
        codecs = [each.codec for each in formats.values()]
        self.container = choose_container(codecs, self._options.container)
        self.path = self._names.next(self.container, self._is_change)
        numbers = {track: number for number, track in enumerate(formats)}
        configurations = [self._configurations.get(track, b"") for track in formats]
        sink = FileSink(self.part, self._options.minimum_free)
        try:
            self._file = create_file(self.container, sink, list(formats.values()), configurations)
        except BaseException:
            sink.close()
            self.part.unlink(missing_ok=True)
            raise
        self._numbers = numbers
        self._last = [-1] * len(formats)
        self.facts = Segment(
            file=self.part.name,
            container=self.container,
            start=max(0.0, self.start),
            started_at=_date(held[0][2], held[0][0] - self.start) if held else None,
            tracks=[track.facts.id for track in formats],
        )
        self._silence = SilenceFiller(
            self.start,
            max((at for at, each, _ in held if each.facts.kind == "video"), default=self.start),
            # Without an edit list, sound that comes late would be played at the file's beginning.
            [track for track, each in formats.items() if each.codec == "opus" and self.container == "mp4"],
        )
        for position, track, frame in held:
            self.put(track, frame, position)

    @property
    def part(self) -> pathlib.Path:
        """The file's name while it is written."""
        path = self.path or self._names.base
        return path.with_name(path.name + ".part")

    def flush(self) -> None:
        """Bring to the file what is due, and see how long and how large it is."""
        if self._file is not None and self.facts is not None and not self.is_closed:
            self._file.flush()
            self.facts.size = self._file.sink.size
            self.facts.duration = self.end - self.start

    def close(self) -> None:
        """End the file and give it its name; one that nothing came for is never made. Idempotent.

        :raises OSError: when it cannot be finished: what there is of it keeps the name that ends in ``.part``.
        """
        if self.is_closed:
            return
        if self._file is None and self._held:
            self.open()
        self.is_closed = True
        if self._file is None or self.facts is None or self.path is None:
            return
        try:
            self._file.close()
        finally:
            self.facts.size = self._file.sink.size
            self.facts.duration = self.end - self.start
        if os.path.lexists(self.path):
            raise FileExistsError(f"There is a file {self.path.name} already")
        self.part.rename(self.path)
        self.facts.file = self.path.name


class Lane:
    """Tracks that share a file, and their files one after the other.

    While one file gives way to the next, both are written: each track goes over at its first frame from
    the new beginning on, a picture at its first keyframe.

    :param ask: called with a track when a keyframe of it is wanted.
    """

    def __init__(
        self, names: FileNames, options: RecordingOptions, ask: Callable[[TrackState], None]
    ) -> None:
        self.tracks: list[TrackState] = []
        self.segments: list[SegmentFile] = []
        "All its files, from the first on."
        self._names = names
        self._options = options
        self._ask = ask
        self._current: SegmentFile | None = None
        self._next: SegmentFile | None = None
        self._last_cut = float("-inf")
        self._changes = 0
        self._last_asked = float("-inf")

    @property
    def active(self) -> list[SegmentFile]:
        """The files that are being written: none, one or two."""
        return [segment for segment in (self._current, self._next) if segment is not None]

    def put(self, track: TrackState, frame: EncodedFrame, position: float) -> None:
        """Write a frame of one of its tracks.

        :raises OSError: when a file cannot be written.
        """
        is_known = track.facts.kind == "audio" or not frame.is_keyframe or track.describe(frame)
        segment = None
        if is_known:
            track.note(frame, position)
            segment = self._segment_for(track, frame, position)
            if track.facts.kind == "video" and segment is not None and segment.begins(track):
                # Without parameter sets that can be read a whole file would be lost, its sound too.
                segment = segment if track.may_begin(frame) else None
        track.segment = segment
        if segment is None:
            track.dropped += 1
            self._ask(track)
            return
        segment.put(track, frame, position)
        if not segment.is_open or self._next is not None:
            self._settle(position)

    def close(self) -> None:
        """End its files.

        :raises OSError: when one cannot be finished; the others are.
        """
        failure: Exception | None = None
        for segment in self.active:
            try:
                segment.close()
            except (OSError, av.FFmpegError, ValueError) as error:
                failure = failure or error
        self._current = self._next = None
        if failure is not None:
            raise failure

    def _segment_for(self, track: TrackState, frame: EncodedFrame, position: float) -> SegmentFile | None:
        """The file for a frame; ``None`` when it has to wait for a keyframe."""
        current, following, segment = self._current, self._next, track.segment
        if segment is not None and segment.is_closed:
            segment = None
        if track.facts.kind == "video" and not frame.is_keyframe:
            if segment is current and current is not None and self._limit_is_reached(current, position):
                self._ask_all(position)
            return segment
        if following is not None and position >= following.start and following.accepts(track):
            return following
        if segment is not None and not segment.accepts(track):
            segment = None
        if segment is None:
            newest = following or current
            return newest if newest is not None and newest.accepts(track) else self._cut(position)
        if segment is current and following is None and self._may_end(segment, track, position):
            return self._cut(position, is_due=True) or segment
        return segment

    def _may_end(self, segment: SegmentFile, track: TrackState, position: float) -> bool:
        """Whether a file is to end at this frame, which a file can begin with."""
        if not self._limit_is_reached(segment, position):
            return False
        if track.facts.kind == "video":
            return True
        return not any(
            each.facts.kind == "video" and each.segment is segment and position - each.position < IDLE
            for each in self.tracks
        )

    def _limit_is_reached(self, segment: SegmentFile, position: float) -> bool:
        if segment.is_outdated:
            return True
        options, length = self._options, position - segment.start
        if options.segment_duration is not None and length >= options.segment_duration:
            return True
        if segment.container == "mp4" and length >= LONGEST_MP4:
            return True
        return options.segment_size is not None and segment.size >= options.segment_size

    def _cut(self, position: float, is_due: bool = False) -> SegmentFile | None:
        """Begin a file; ``None`` when one has begun only just now.

        :param is_due: whether the one before has reached a limit.
        """
        is_change = self._current is not None and not is_due
        if self._current is not None:
            spacing = MINIMUM_SEGMENT * (
                1 if is_due else 1 << min(self._changes // CHANGES, MAXIMUM_DOUBLINGS)
            )
            if position - self._last_cut < spacing:
                return None
            self._last_cut = position
            self._changes += is_change
        if self._next is not None:
            self._promote()
        expected = [
            track
            for track in self.tracks
            if not track.ended and (self._current is None or position - track.position < IDLE)
        ]
        segment = SegmentFile(position, expected, self._names, self._options, is_change)
        self.segments.append(segment)
        if self._current is None:
            self._current = segment
        else:
            self._next = segment
            self._last_asked = float("-inf")
            self._ask_all(position)
        return segment

    def _ask_all(self, position: float) -> None:
        """Ask every picture for a keyframe, once a second."""
        if position - self._last_asked >= 1:
            self._last_asked = position
            for track in self.tracks:
                if track.facts.kind == "video" and not track.ended:
                    self._ask(track)

    def _settle(self, position: float) -> None:
        """Open what is complete, and end what every track has left."""
        for segment in self.active:
            is_late = position - segment.start >= PATIENCE or segment.held_bytes > MAXIMUM_HELD
            # One whose first keyframe could not be understood has nothing yet.
            if not segment.is_open and segment.held_bytes and (segment.is_complete or is_late):
                segment.open()
        following = self._next
        if following is None or not following.is_open:
            return
        remain = any(track.segment is self._current and not track.ended for track in self.tracks)
        if not remain or position - following.start >= PATIENCE:
            self._promote()

    def _promote(self) -> None:
        """End the current file, and go on with the next."""
        old, self._current, self._next = self._current, self._next, None
        if old is not None:
            old.close()


def _date(frame: EncodedFrame, offset: float) -> str:
    """The date ``offset`` seconds before a frame: by its sender's clock, if that can be right."""
    now = datetime.datetime.now(datetime.UTC).timestamp()
    date = now if frame.captured_at is None else frame.captured_at - NTP_TO_POSIX
    if abs(date - now) > PLAUSIBLE_DATE:
        date = now
    return datetime.datetime.fromtimestamp(date - offset, datetime.UTC).isoformat(timespec="milliseconds")
