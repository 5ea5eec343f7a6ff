"""A recording in the writer's thread: frames and messages in, files and a manifest out."""

import datetime
import errno
import logging
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import av

from mediapeer.media.manifest import Manifest, ManifestTrack, PacketCounts, RecordedData, write_manifest
from mediapeer.media.options import RecordingOptions
from mediapeer.media.queue import ChannelMessage, Item, TrackAdded, TrackEnded, TrackFrame, WriterQueue
from mediapeer.media.segments import FileNames, Lane, SegmentFile, TrackState
from mediapeer.media.sink import want_of_space
from mediapeer.media.snapshot import snapshot_of
from mediapeer.media.state import RecordingSummary
from mediapeer.media.timeline import Timeline
from mediapeer.rtp.frame import EncodedFrame

logger = logging.getLogger(__name__)

#: How much of a recording's beginning is looked at before anything has its place, in seconds.
OPENING = 0.4
#: How often the manifest is written at the most, and the disk looked at, in seconds.
MANIFEST_INTERVAL = 5.0
SPACE_INTERVAL = 1.0
#: Messages of data channels beyond this are not kept, in bytes.
MAXIMUM_DATA = 64_000_000
#: What is held of the beginning at the most, in bytes.
MAXIMUM_OPENING = 16_000_000
#: Longer ids of tracks are not written down, in bytes: a peer chooses them, and each file names them. Those of
#: browsers have 38.
MAXIMUM_ID = 48


@dataclass(slots=True)
class TrackReport:
    """What the event loop knows of a track, read by the writer from time to time."""

    packets: PacketCounts
    dropped: int = 0
    cname: str | None = None
    latest_keyframe: EncodedFrame | None = None


class RecordingJob:
    """Writes one recording. Made on the event loop; everything else happens in the writer's thread.

    :param base: the directory and name of the recording's files, without a suffix.
    :param zero: when the recording's time line begins, on the scale of arrivals.
    :param reports: what is known of each track, by its number.
    :param ask: asks for a keyframe of the track with this number.
    :param is_abandoned: whether nobody can stop the recording any more.
    :param on_end: called once when the recording has ended.
    :param session: what the manifest calls the call.
    """

    def __init__(
        self,
        base: pathlib.Path,
        options: RecordingOptions,
        zero: float,
        reports: Mapping[int, TrackReport],
        ask: Callable[[int], None],
        is_abandoned: Callable[[], bool],
        on_end: Callable[[], None],
        session: str,
    ) -> None:
        self.queue = WriterQueue()
        self.error: str | None = None
        "Why it ended before its time, in words."
        self.summary: RecordingSummary | None = None
        "What has come of it, once it has ended; ``None`` then: nothing."
        self.is_done = False
        self.should_stop = False
        "Set to have it end once what waits is written."
        self.duration = 0.0
        self.size = 0
        self.has_begun = False
        self.refused_messages = 0
        "Messages for which the queue had no room; counted on the event loop."
        self.dropped_messages = 0
        "Those that came to the writer and were too many."
        self.manifest = Manifest(session=session, created=_now())
        self._base = base
        self._options = options
        self._zero = zero
        self._reports = reports
        self._ask = ask
        self._is_abandoned = is_abandoned
        self._on_end = on_end
        # Files that no manifest names belong together by nothing but their names.
        self._names = FileNames(base, skips_taken=not options.manifest)
        self._timeline = Timeline()
        self._tracks: dict[int, TrackState] = {}
        self._lane_of: dict[int, Lane] = {}
        self._lanes: list[Lane] = []
        self._opening: list[TrackFrame | TrackEnded] | None = []
        self._opened_at: float | None = None
        self._opening_size = 0
        self._data: int | None = None
        self._data_size = 0
        self._has_manifest = False
        self._manifest_due = 0.0
        self._files_told = 0
        self._space_due = 0.0

    @property
    def tracks(self) -> list[TrackState]:
        """What is known of its tracks."""
        return list(self._tracks.values())

    def work(self) -> bool:
        """Write what has come; false once the recording has ended."""
        if self.is_done:
            return False
        try:
            # Looked at first: what was put in before is taken below.
            is_last = self.should_stop or self._is_abandoned()
            self._keep_manifest()
            self._write(self.queue.take())
            if is_last:
                self._place_opening()
            self._look_after()
            is_last = is_last or self._is_long_enough()
        except Exception as error:
            # Muxers fail in many ways, and none of them may reach the call, nor the other recordings.
            self._fail(error)
            return False
        if is_last:
            self._end()
        return not is_last

    def finish(self) -> None:
        """Write what has come, and end."""
        self.should_stop = True
        self.work()

    def _write(self, items: list[Item]) -> None:
        for item in items:
            if isinstance(item, TrackFrame):
                if self._opening is None:
                    self._put(item, self._position(item))
                else:
                    self._hold(item, self._opening)
            elif isinstance(item, TrackAdded):
                self._add(item)
            elif isinstance(item, TrackEnded):
                # In the order of the frames: until then the others wait for it.
                if self._opening is None:
                    self._tracks[item.track].end(item.is_removed)
                else:
                    self._opening.append(item)
            else:
                self._write_message(item)

    def _hold(self, item: TrackFrame, opening: list[TrackFrame | TrackEnded]) -> None:
        """Hold the first frames: their least delay says best where they all belong."""
        track = self._tracks[item.track]
        track.timeline.cname = item.cname
        track.timeline.observe(item.frame)
        opening.append(item)
        if self._opened_at is None:
            self._opened_at = item.frame.arrival
        self._opening_size += len(item.frame.data)
        if item.frame.arrival - self._opened_at >= OPENING or self._opening_size > MAXIMUM_OPENING:
            self._place_opening()

    def _place_opening(self) -> None:
        held, self._opening = self._opening or [], None
        placed = [(item, 0.0 if isinstance(item, TrackEnded) else self._position(item)) for item in held]
        # What arrived after the start may have been captured before it.
        self._zero = min([self._zero, *(at for item, at in placed if isinstance(item, TrackFrame))])
        for item, at in placed:
            if isinstance(item, TrackEnded):
                self._tracks[item.track].end(item.is_removed)
            else:
                self._put(item, at)

    def _position(self, item: TrackFrame) -> float:
        timeline = self._tracks[item.track].timeline
        timeline.cname = item.cname
        return timeline.position(item.frame)

    def _put(self, item: TrackFrame, position: float) -> None:
        self.has_begun = True
        self._lane_of[item.track].put(self._tracks[item.track], item.frame, position - self._zero)

    def _add(self, item: TrackAdded) -> None:
        facts = ManifestTrack(id=self._id_for(item), kind=item.kind)
        self.manifest.tracks.append(facts)
        track = self._tracks[item.track] = TrackState(item.track, facts, self._timeline)
        if not self._lanes or self._options.layout == "track":
            self._lanes.append(Lane(self._names, self._options, lambda state: self._ask(state.number)))
        lane = self._lanes[-1]
        lane.tracks.append(track)
        self._lane_of[item.track] = lane

    def _id_for(self, item: TrackAdded) -> str:
        """A track's id in the manifest: its own, if it is of use and no other track's."""
        is_of_use = item.id.isprintable() and len(item.id.encode(errors="replace")) <= MAXIMUM_ID
        id_ = item.id if is_of_use else item.kind
        taken = {track.id for track in self.manifest.tracks}
        return id_ if id_ not in taken else f"{id_}-{item.track}"

    def _write_message(self, item: ChannelMessage) -> None:
        if self.manifest.data is None:
            path = self._base.with_name(self._base.name + ".data.jsonl")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._data = os.open(path, flags, 0o644)
            self.manifest.data = RecordedData(path.name)
        if self._data is None or self._data_size + len(item.line) > MAXIMUM_DATA:
            self.dropped_messages += 1
            return
        self._data_size += len(item.line)
        view = memoryview(item.line)
        while view:
            view = view[os.write(self._data, view) :]
        self.manifest.data.messages += 1

    def _segments(self) -> list[SegmentFile]:
        """All files that exist, in the order of time."""
        found = [each for lane in self._lanes for each in lane.segments if each.facts is not None]
        return sorted(found, key=lambda each: each.start)

    def _look_after(self) -> None:
        """Flush, and see what there is, and whether it may become more.

        :raises OSError: when the disk is as good as full.
        """
        now = time.monotonic()
        look_at_disk, self._space_due = now >= self._space_due, max(self._space_due, now)
        if look_at_disk:
            self._space_due = now + SPACE_INTERVAL
        for lane in self._lanes:
            for segment in lane.active:
                segment.flush()
                sink = segment.sink
                if sink is None:
                    continue
                if look_at_disk:
                    sink.check_space()
                if sink.error is not None:
                    raise sink.error
        if look_at_disk and self._data is not None:
            # There may be nothing else to look at it for.
            error = want_of_space(self._data, self._options.minimum_free)
            if error is not None:
                raise error
        self._measure()

    def _measure(self) -> None:
        segments = self._segments()
        self.size = sum(segment.size for segment in segments)
        if segments:
            self.duration = max(segment.end for segment in segments) - segments[0].start

    def _is_long_enough(self) -> bool:
        options = self._options
        if options.maximum_duration is not None and self.duration >= options.maximum_duration:
            return True
        return options.maximum_size is not None and self.size + self._data_size >= options.maximum_size

    def _keep_manifest(self) -> None:
        """Write the manifest when it is due."""
        if not self._options.manifest:
            return
        segments = self._segments()
        now = time.monotonic()
        if now < self._manifest_due and len(segments) == self._files_told:
            return
        self._manifest_due, self._files_told = now + MANIFEST_INTERVAL, len(segments)
        self._write_manifest()

    @property
    def _manifest_path(self) -> pathlib.Path:
        return self._base.with_name(self._base.name + ".json")

    def _write_manifest(self) -> None:
        manifest = self.manifest
        for number, track in self._tracks.items():
            report = self._reports[number]
            track.facts.cname = report.cname
            track.facts.packets = report.packets
            track.facts.dropped = track.dropped + report.dropped
        if manifest.data is not None:
            manifest.data.dropped = self.refused_messages + self.dropped_messages
        manifest.segments = [each.facts for each in self._segments() if each.facts is not None]
        manifest.duration, manifest.size = self.duration, self.size
        try:
            # The first claims the name, which another process may choose just now.
            write_manifest(self._manifest_path, manifest, is_first=not self._has_manifest)
        except FileExistsError as error:
            raise FileExistsError(f"There is a recording {self._base.name} already") from error
        self._has_manifest = True

    def _fail(self, error: BaseException) -> None:
        self.error = f"The recording ended: {in_words(error)}."
        expected = isinstance(error, OSError | av.FFmpegError)
        logger.error("recording %s ended: %s", self._base.name, error, exc_info=not expected)
        self._end()

    def _end(self) -> None:
        """End every file, whatever has happened, and tell."""
        self.queue.close()
        try:
            self._end_files()
        except Exception as error:
            # Whoever waits for the end is told in any case.
            self.error = self.error or f"The recording could not be finished: {in_words(error)}."
            logger.exception("recording %s could not be finished", self._base.name)
        finally:
            self.is_done = True
            self._on_end()

    def _end_files(self) -> None:
        for lane in self._lanes:
            try:
                lane.close()
            except (OSError, av.FFmpegError, ValueError) as error:
                # Its other files have been ended; this one keeps the name that ends in ``.part``.
                self.error = self.error or f"The recording could not be finished: {in_words(error)}."
                logger.error("recording %s could not be finished: %s", self._base.name, error)
        if self._data is not None:
            os.close(self._data)
            self._data = None
        self._measure()
        segments = self._segments()
        written = any(track.facts.frames for track in self._tracks.values())
        if not written and self.manifest.data is None:
            self.error = self.error or f"Nothing was recorded: {self._why_nothing()}."
        try:
            self._finish_manifest(bool(segments) or self.manifest.data is not None)
        except OSError as error:
            logger.warning("the manifest of recording %s was not written: %s", self._base.name, error)
        if segments or self.manifest.data is not None:
            self.summary = self._summarize(segments)

    def _why_nothing(self) -> str:
        dropped = sum(track.dropped + self._reports[number].dropped for number, track in self._tracks.items())
        if not dropped:
            return "no audio or video arrived"
        return f"of {dropped} frames that arrived none was a keyframe that can be decoded by itself"

    def _finish_manifest(self, is_something: bool) -> None:
        self.manifest.state = "finished" if self.error is None else "failed"
        self.manifest.error = self.error
        if self._options.manifest and is_something:
            self._write_manifest()
        elif self._has_manifest:
            self._manifest_path.unlink(missing_ok=True)
        # Last: where the disk is full, the manifest has the room.
        if is_something and self._write_snapshot() and self._options.manifest:
            self._write_manifest()

    def _write_snapshot(self) -> bool:
        for number, track in self._tracks.items():
            frame = self._reports[number].latest_keyframe
            picture = snapshot_of(frame) if track.facts.kind == "video" and frame is not None else None
            if picture is None:
                continue
            path = self._snapshot_path()
            try:
                with path.open("xb") as file:
                    file.write(picture)
                self.manifest.snapshot = path.name
                return True
            except OSError as error:
                logger.warning("the snapshot of recording %s was not written: %s", self._base.name, error)
                if not isinstance(error, FileExistsError):
                    path.unlink(missing_ok=True)
            break
        return False

    def _snapshot_path(self) -> pathlib.Path:
        """Beside the manifest; where there is none, beside the first file, whose name may be another."""
        first = next((each.path for each in self._segments() if each.path is not None), None)
        name = first.stem if first is not None and not self._options.manifest else self._base.name
        return self._base.with_name(name + ".png")

    def _summarize(self, segments: list[SegmentFile]) -> RecordingSummary:
        directory = self._base.parent
        files = tuple(directory / each.facts.file for each in segments if each.facts is not None)
        for number, track in self._tracks.items():
            track.facts.dropped = track.dropped + self._reports[number].dropped
        facts = [track.facts for track in self._tracks.values()]
        dropped: dict[str, int] = {}
        for each in facts:
            if each.dropped:
                dropped[each.kind] = dropped.get(each.kind, 0) + each.dropped
        data = self.manifest.data
        return RecordingSummary(
            path=files[0] if files or data is None else directory / data.file,
            size=self.size,
            duration=self.duration,
            tracks=tuple(sorted(each.kind for each in facts if each.frames)),
            dropped=dropped,
            files=files,
            manifest=self._manifest_path if self._options.manifest else None,
            error=self.error,
        )


def in_words(error: BaseException) -> str:
    """What went wrong, without the name of a class."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        text = error.strerror or ""
        return text if "left on the disk" in text else "The disk is full"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
