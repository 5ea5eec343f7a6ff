"""Records what a peer sends as it was encoded: nothing is decoded, and nothing encoded."""

import asyncio
import base64
import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from aiortc import MediaStreamTrack

from mediapeer.media.container import CONTAINERS
from mediapeer.media.encoding import TranscodedTrack
from mediapeer.media.job import RecordingJob, TrackReport
from mediapeer.media.manifest import PacketCounts
from mediapeer.media.options import RecordingOptions
from mediapeer.media.queue import ChannelMessage, TrackAdded, TrackEnded, TrackFrame
from mediapeer.media.snapshot import snapshot_of
from mediapeer.media.state import RecordingError, RecordingState, RecordingSummary
from mediapeer.media.writer import SharedWriter, shared_writer
from mediapeer.rtp.frame import EncodedFrame, EncodedTrack, FrameSubscription, RepairCounts

#: How many tracks one recording takes.
MAXIMUM_TRACKS = 64
#: How often the packets of a track are counted for the manifest, in seconds of arrival.
_COUNT_INTERVAL = 1.0
#: How much of a data channel's label stands with each message, in characters: it may be longer than all of them.
MAXIMUM_LABEL = 256
#: How many frames of a track are taken in a second. The shortest packets of Opus come 400 times.
MAXIMUM_RATE = 1000


class MessageChannel(Protocol):
    """What is recorded of a data channel: its messages."""

    @property
    def label(self) -> str:
        """Its name."""

    def on(self, event: str, f: Callable[..., Any]) -> Any:
        """Call ``f`` with each message."""

    def remove_listener(self, event: str, f: Callable[..., Any]) -> None:
        """Call it no more."""


class Recorder:
    """Encoded tracks into files: ``NAME.webm``, ``NAME.mp4`` or ``NAME.mkv``, as the codecs want it.

    Frames are written a few times a second by a thread that all recordings share. A file is called
    ``NAME.webm.part`` until it is closed properly; after a crash it has all but the last second. Where the
    container cannot go on, as when the codec changes, a further file ``NAME-2.webm`` begins. ``NAME.json``
    says what the recording is (:class:`~mediapeer.media.Manifest`), and ``NAME.png`` shows its last keyframe.

    A recording that fails, because the disk is full for one, ends by itself: what was written can be played,
    and the tracks, and so the call, go on. Use it from one event loop.

    :param path: the directory and the NAME. A suffix ``.webm``, ``.mp4`` or ``.mkv`` is taken for the
        container that is wanted.
    :param tracks: what to record. Tracks that are not encoded, as a program's own, are encoded for it.
    :param options: see :class:`RecordingOptions`.
    :param clock: tells the seconds on the scale of ``EncodedFrame.arrival``; the event loop's by default.
    :param session: what the manifest calls the call; NAME by default.
    """

    def __init__(
        self,
        path: pathlib.Path | str,
        tracks: Sequence[EncodedTrack | MediaStreamTrack] = (),
        *,
        options: RecordingOptions | None = None,
        clock: Callable[[], float] | None = None,
        session: str | None = None,
        writer: SharedWriter | None = None,
    ) -> None:
        path, options = pathlib.Path(path), options or RecordingOptions()
        if path.suffix[1:] in CONTAINERS:
            if options.container == "auto":
                options = dataclasses.replace(options, container=path.suffix[1:])
            path = path.with_suffix("")
        self.path = path
        "The directory and the NAME."
        self.options = options
        self._session = session
        self._clock = clock
        self._writer = writer or shared_writer()
        self._taps: dict[int, _TrackTap] = {}
        self._reports: dict[int, TrackReport] = {}
        self._channels: list[_ChannelTap] = []
        self._job: RecordingJob | None = None
        self._ended: asyncio.Future[None] | None = None
        self._zero = 0.0
        for track in tracks:
            self.add_track(track)

    @property
    def state(self) -> RecordingState:
        """Where it is. One that ended at a limit of its own is ``FINISHED``."""
        job = self._job
        if job is None:
            return RecordingState.NEW
        if job.is_done:
            return RecordingState.FINISHED if job.error is None else RecordingState.FAILED
        return RecordingState.RECORDING if job.has_begun else RecordingState.WAITING

    @property
    def duration(self) -> float:
        """Seconds recorded so far."""
        return self._job.duration if self._job else 0.0

    @property
    def bytes_written(self) -> int:
        """Bytes in the files so far."""
        return self._job.size if self._job else 0

    @property
    def error(self) -> str | None:
        """Why it failed, in words."""
        return self._job.error if self._job else None

    @property
    def statistics(self) -> Mapping[str, int]:
        """Frames ``written``, ``keyframes`` among them, and frames and messages ``dropped``."""
        tracks = self._job.manifest.tracks if self._job else []
        data = self._job.manifest.data if self._job else None
        return {
            "tracks": len(tracks),
            "written": sum(track.frames for track in tracks),
            "keyframes": sum(track.keyframes for track in tracks),
            "dropped": sum(report.dropped for report in self._reports.values())
            + sum(track.dropped for track in (self._job.tracks if self._job else ())),
            "messages": data.messages if data else 0,
            "messages_dropped": self._job.refused_messages + self._job.dropped_messages if self._job else 0,
        }

    def add_track(self, track: EncodedTrack | MediaStreamTrack) -> None:
        """Record this track too. While the recording runs, another file begins with it.

        :raises RecordingError: when there are too many, or the recording has ended.
        """
        self._check_not_ended()
        if len(self._reports) >= MAXIMUM_TRACKS:
            raise RecordingError(f"A recording takes no more than {MAXIMUM_TRACKS} tracks.")
        if any(tap.source is track for tap in self._taps.values()):
            return
        number = len(self._reports)
        self._reports[number] = TrackReport(PacketCounts())
        # mypy knows no class that is both.
        encoded: Any = track
        if self.options.transcode or not hasattr(track, "subscribe"):
            encoded = TranscodedTrack(encoded, self._clock)
        tap = self._taps[number] = _TrackTap(self, number, track, encoded)
        if self._job is not None:
            tap.begin(self._job)

    def remove_track(self, track: EncodedTrack | MediaStreamTrack) -> None:
        """Record this track no longer. While the recording runs, another file begins without it.

        One that is not recorded is no error.
        """
        for number, tap in list(self._taps.items()):
            if tap.source is track:
                tap.close(is_removed=True)
                del self._taps[number]

    def record_channel(self, channel: MessageChannel) -> None:
        """Keep a data channel's messages, in ``NAME.data.jsonl``.

        Each is a line of JSON: ``time`` in seconds on the recording's time line, ``label`` of the channel, and
        ``text``, or ``base64`` for one in bytes.

        :raises RecordingError: when there are too many, or the recording has ended.
        """
        self._check_not_ended()
        if len(self._channels) >= MAXIMUM_TRACKS:
            raise RecordingError(f"A recording takes no more than {MAXIMUM_TRACKS} data channels.")
        self._channels.append(_ChannelTap(self, channel))

    def start(self) -> None:
        """Begin. Has no effect the second time.

        :raises RecordingError: when the system has no thread to write it.
        """
        if self._job is not None:
            return
        loop = asyncio.get_running_loop()
        self._clock = self._clock or loop.time
        self._zero = self._clock()
        self._ended = loop.create_future()

        def call(function: Callable[..., object], *arguments: object) -> None:
            try:
                loop.call_soon_threadsafe(function, *arguments)
            except RuntimeError:
                return  # the event loop has ended, and nobody waits

        self._job = RecordingJob(
            self.path,
            self.options,
            self._zero,
            self._reports,
            ask=lambda number: call(self._request_keyframe, number),
            is_abandoned=loop.is_closed,
            on_end=lambda: call(self._finish),
            session=self._session or self.path.name,
        )
        try:
            self._writer.add(self._job)
        except RuntimeError as error:
            self._job = None
            raise RecordingError(f"The recording cannot be written: {error}.") from error
        for tap in self._taps.values():
            tap.begin(self._job)

    async def stop(self) -> RecordingSummary:
        """Write what has come, close the files and give them their names. Idempotent.

        :returns: what has come of it; ``error`` there tells that it ended early.
        :raises RecordingError: when nothing was recorded, or it was never started.
        """
        if self._job is None or self._ended is None:
            raise RecordingError("The recording was never started.")
        for tap in self._taps.values():
            tap.close()
        self._job.should_stop = True
        self._writer.hurry()
        # Whoever waits may give up waiting; the files are closed all the same.
        await asyncio.shield(self._ended)
        if self._job.summary is None:
            raise RecordingError(self._job.error)
        return self._job.summary

    def snapshot(self) -> bytes | None:
        """The latest keyframe as a PNG, if there is one. It takes some ten milliseconds: call it in a thread."""
        for tap in list(self._taps.values()):
            frame = tap.report.latest_keyframe
            if frame is not None:
                return snapshot_of(frame)
        return None

    def _check_not_ended(self) -> None:
        """What came after the end would hold a track for ever, and have it repaired and ordered for nobody."""
        if self._job is not None and (self._job.is_done or self._job.should_stop):
            raise RecordingError("The recording has ended.")

    def _put_message(self, label: str, message: str | bytes) -> None:
        if self._job is None or self._clock is None:
            return
        entry: dict[str, object] = {
            "time": round(self._clock() - self._zero, 3),
            "label": label[:MAXIMUM_LABEL],
        }
        if isinstance(message, str):
            entry["text"] = message
        else:
            entry["base64"] = base64.b64encode(message).decode()
        line = json.dumps(entry).encode() + b"\n"
        if not self._job.queue.put(ChannelMessage(line), len(line)):
            self._job.refused_messages += 1

    def _request_keyframe(self, number: int) -> None:
        tap = self._taps.get(number)
        if tap is not None:
            tap.request_keyframe()

    def _finish(self) -> None:
        """On the event loop, once the last file is closed."""
        for tap in self._taps.values():
            tap.close()
        for channel in self._channels:
            channel.close()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


class _TrackTap:
    """Takes a track's frames and puts those that can be shown into the queue to the writer."""

    def __init__(
        self, recorder: Recorder, number: int, source: EncodedTrack | MediaStreamTrack, track: EncodedTrack
    ) -> None:
        self.source = source
        self.report = recorder._reports[number]
        self._track = track
        self._number = number
        self._skips = recorder.options.skip_until_keyframe
        self._job: RecordingJob | None = None
        self._subscription: FrameSubscription | None = None
        self._before = RepairCounts()
        self._is_video = track.kind == "video"
        self._waits = self._is_video
        self._origin: tuple[int, str] | None = None
        self._is_closed = False
        self._counted = float("-inf")
        self._second = float("-inf")
        self._in_second = 0

    def begin(self, job: RecordingJob) -> None:
        """Subscribe."""
        self._job = job
        job.queue.put_change(TrackAdded(self._number, self._track.id, self._track.kind))
        self._subscription = self._track.subscribe(self)
        self._before = dataclasses.replace(self._subscription.counts)
        if self._is_closed:
            self._subscription.close()

    def take_frame(self, frame: EncodedFrame) -> None:
        """Take the next frame; a picture is left out that needs another that is not there."""
        if self._job is None or self._is_closed:
            return
        if frame.clock_rate <= 0 or self._is_too_many(frame):
            self.report.dropped += 1
            self._waits = self._is_video
            return
        if self._is_video:
            if frame.is_keyframe:
                self._waits = False
                self._origin = (frame.ssrc, frame.codec)
                self.report.latest_keyframe = frame
            elif (frame.lost_before and self._skips) or (frame.ssrc, frame.codec) != self._origin:
                self._waits = True
            if self._waits:
                self.report.dropped += 1
                self.request_keyframe()
                return
        cname = self._track.cname
        if cname != self.report.cname:
            self.report.cname = cname
        if not self._job.queue.put(TrackFrame(self._number, frame, cname), len(frame.data)):
            # The writer is behind: it gets a stretch less rather than frames that lead nowhere.
            self.report.dropped += 1
            self._waits = self._is_video
        elif frame.arrival - self._counted >= _COUNT_INTERVAL:
            self._counted = frame.arrival
            self._count()

    def _is_too_many(self, frame: EncodedFrame) -> bool:
        """Whether frames come faster than anybody could show: each takes its place on the time line, and its work."""
        if not 0 <= frame.arrival - self._second < 1:
            self._second, self._in_second = frame.arrival, 0
        self._in_second += 1
        return self._in_second > MAXIMUM_RATE

    def end(self, is_removed: bool = False) -> None:
        """Note that no frame follows."""
        if self._job is not None and not self._is_closed:
            self._job.queue.put_change(TrackEnded(self._number, is_removed))

    def request_keyframe(self) -> None:
        """Ask the sender for a keyframe."""
        if self._subscription is not None and not self._is_closed:
            self._subscription.request_keyframe()

    def close(self, is_removed: bool = False) -> None:
        """Take no more frames. Idempotent."""
        if self._is_closed:
            return
        self._count()
        self.end(is_removed)
        self._is_closed = True
        if self._subscription is not None:
            self._subscription.close()

    def _count(self) -> None:
        """Note what has become of the packets since the recording began."""
        if self._subscription is None:
            return
        now, before, packets = self._subscription.counts, self._before, self.report.packets
        packets.received = now.received - before.received
        packets.lost = now.lost - before.lost
        packets.repaired = now.repaired - before.repaired
        packets.given_up = now.given_up - before.given_up


class _ChannelTap:
    """Takes a data channel's messages."""

    def __init__(self, recorder: Recorder, channel: MessageChannel) -> None:
        self._recorder = recorder
        self._channel = channel
        self._is_closed = False
        channel.on("message", self._take)

    def close(self) -> None:
        """Take no more. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._channel.remove_listener("message", self._take)

    def _take(self, message: str | bytes) -> None:
        if not self._is_closed:
            self._recorder._put_message(self._channel.label, message)
