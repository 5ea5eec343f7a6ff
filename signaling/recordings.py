"""The recordings of a server: making them, listing them, repairing them, taking them away."""

import asyncio
import datetime
import logging
import pathlib
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from mediapeer import MediaStreamTrack
from mediapeer.media import CallRecorder, Recorder, RecordingError, RecordingOptions, RecordingState
from mediapeer.media.catalog import MEDIA_TYPES, Catalog, CatalogEntry, EntrySegment
from mediapeer.media.recorder import MessageChannel
from mediapeer.media.repair import repair_recording

logger = logging.getLogger(__name__)

#: A picture of a recording that runs is shown to all who ask within so many seconds of who asked first.
PICTURE_TIME = 2.0
_RUNNING = (RecordingState.NEW, RecordingState.WAITING, RecordingState.RECORDING)


class StoredRecorder(CallRecorder, Protocol):
    """What a store needs of a recorder."""

    def add_track(self, track: Any) -> None:
        """Record a further track."""

    def record_channel(self, channel: MessageChannel) -> None:
        """Keep a data channel's messages."""

    def snapshot(self) -> bytes | None:
        """The latest keyframe as a PNG."""


#: Makes a recorder for the directory and name of its files, the tracks, and how they are recorded.
RecorderFactory = Callable[[pathlib.Path, Sequence[MediaStreamTrack], RecordingOptions], StoredRecorder]


def _new_recorder(
    path: pathlib.Path, tracks: Sequence[MediaStreamTrack], options: RecordingOptions
) -> Recorder:
    return Recorder(path, tracks, options=options)


class ActiveRecording:
    """A recording of a call, from its start until it is finished or has failed."""

    def __init__(
        self,
        store: "RecordingStore",
        call_id: str,
        name: str,
        recorder: StoredRecorder,
        options: RecordingOptions,
        channels: bool,
    ) -> None:
        self.name = name
        self.call_id = call_id
        self.created_at = datetime.datetime.now(datetime.UTC)
        self.recorder = recorder
        self.options = options
        self.records_channels = channels
        "Whether the messages of data channels are kept too."
        self._store = store
        self._entry: dict[str, Any] | None = None
        self._picture: asyncio.Task[bytes | None] | None = None
        self._picture_until = 0.0

    @property
    def running(self) -> bool:
        """Whether it records, or waits for the first frame."""
        return self.recorder.state in _RUNNING

    def describe(self) -> dict[str, Any]:
        """Its state as JSON."""
        return {
            "name": self.name,
            "state": self.recorder.state.value,
            "duration": round(self.recorder.duration, 3),
            "size": self.recorder.bytes_written,
            "created": self.created_at.isoformat(),
            "error": self.recorder.error,
        }

    def add_track(self, track: MediaStreamTrack) -> None:
        """Record a track that came later. One too many is left out, and the log says so."""
        if self.running:
            try:
                self.recorder.add_track(track)
            except RecordingError as error:
                logger.warning("call %s: recording %s: %s", self.call_id, self.name, error)

    def add_channel(self, channel: MessageChannel) -> None:
        """Keep the messages of a data channel, if that was asked for."""
        if self.running and self.records_channels:
            try:
                self.recorder.record_channel(channel)
            except RecordingError as error:
                logger.warning("call %s: recording %s: %s", self.call_id, self.name, error)

    async def picture(self) -> bytes | None:
        """The latest keyframe as a PNG, or one from not long ago: many who look cost one decoding."""
        now = self._store.clock()
        if self._picture is None or (self._picture.done() and now >= self._picture_until):
            self._picture_until = now + PICTURE_TIME
            self._picture = asyncio.create_task(asyncio.to_thread(self.recorder.snapshot))
        # Who leaves takes it away from nobody.
        return await asyncio.shield(self._picture)

    async def stop(self) -> dict[str, Any]:
        """Close the files. Idempotent.

        :returns: its entry in the list.
        :raises RecordingError: when nothing was recorded, or it failed.
        """
        summary = await self.recorder.stop()
        if self._entry is None:
            # Once: by the next time it may have been deleted.
            entry = await asyncio.to_thread(self._store.describe, self.name)
            self._entry = entry or {
                "name": self.name,
                "duration": round(summary.duration, 3),
                "size": summary.size,
            }
        return self._entry

    async def close(self) -> None:
        """Stop it because the call ends: what goes wrong is logged."""
        try:
            await self.stop()
        except RecordingError as error:
            logger.warning("call %s: recording %s: %s", self.call_id, self.name, error)


class RecordingStore:
    """Recordings in one directory, as :class:`~mediapeer.media.catalog.Catalog` finds them.

    :param directory: where they are; it is made when the first recording starts.
    :param options: how calls are recorded when nobody says otherwise.
    :param recorder_factory: makes the recorder of a call.
    :param clock: tells the seconds.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        recorder_factory: RecorderFactory | None = None,
        options: RecordingOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        self.options = options or RecordingOptions()
        self.clock = clock
        self.catalog = Catalog(directory, self.is_running)
        self._new_recorder: RecorderFactory = recorder_factory or _new_recorder
        self._active: dict[str, ActiveRecording] = {}
        self._repairing = asyncio.Lock()

    def start(
        self,
        call_id: str,
        tracks: Sequence[MediaStreamTrack],
        previous: ActiveRecording | None,
        options: RecordingOptions | None = None,
        channels: Sequence[MessageChannel] | None = None,
    ) -> ActiveRecording:
        """Begin to record the tracks.

        :param options: how; by default as the store was told.
        :param channels: data channels whose messages are kept; ``None``: of none, also later.
        :raises RecordingError: when ``previous`` still runs, there is nothing to record, or the directory cannot be
            made.
        """
        if previous is not None and previous.running:
            raise RecordingError("The call is being recorded already.")
        if not tracks and not channels:
            raise RecordingError("There is no audio and no video to record.")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(f"The directory for recordings cannot be made: {error.strerror}.") from error
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d_%H-%M-%S")
        name = f"{moment}_{secrets.token_hex(3)}"
        options = options or self.options
        recorder = self._new_recorder(self.directory / name, tracks, options)
        recording = ActiveRecording(self, call_id, name, recorder, options, channels is not None)
        for channel in channels or ():
            recording.add_channel(channel)
        recorder.start()
        self._active = {key: each for key, each in self._active.items() if each.running}
        self._active[name] = recording
        logger.info("call %s: recording to %s", call_id, name)
        return recording

    def is_running(self, name: str) -> bool:
        """Whether a recording of that name is being made here."""
        active = self._active.get(name)
        return active is not None and active.running

    def list(self) -> list[dict[str, Any]]:
        """Every recording, the newest first."""
        return [self._document(entry) for entry in self.catalog.list()]

    def describe(self, name: str) -> dict[str, Any] | None:
        """The entry of a recording, or ``None`` when there is none of that name."""
        entry = self.catalog.describe(_stem(name))
        return None if entry is None else self._document(entry)

    def segment(self, name: str, number: int = 1) -> EntrySegment | None:
        """A file of a recording that can be played, counted from 1; ``None`` when there is none."""
        entry = self.catalog.describe(_stem(name))
        segments = entry.whole_segments if entry else ()
        return segments[number - 1] if 0 < number <= len(segments) else None

    def manifest_path(self, name: str) -> pathlib.Path | None:
        """The file that says what a recording is; ``None`` when there is none."""
        entry = self.catalog.describe(_stem(name))
        return self.catalog.manifest_path(entry.name) if entry and entry.manifest else None

    def data_path(self, name: str) -> pathlib.Path | None:
        """The data channels' messages; ``None`` when there are none."""
        entry = self.catalog.describe(_stem(name))
        return entry.data if entry else None

    async def thumbnail(self, name: str) -> pathlib.Path | bytes | None:
        """A PNG of a recording: its file, or while it runs a late keyframe. ``None`` when there is none."""
        active = self._active.get(name)
        if active is not None and active.running:
            return await active.picture()
        entry = await asyncio.to_thread(self.catalog.describe, _stem(name))
        return entry.snapshot if entry else None

    async def repair(self, name: str) -> dict[str, Any]:
        """Make whole what a crash left; one recording at a time.

        :returns: its entry in the list.
        :raises RepairError: when it cannot be.
        """
        async with self._repairing:
            await asyncio.to_thread(repair_recording, self.catalog, _stem(name))
        return await asyncio.to_thread(self.describe, name) or {}

    def delete(self, name: str) -> bool:
        """Take a recording away with all its files; false when there is none of that name.

        :raises CatalogError: when it is being recorded, or a file cannot be removed.
        """
        return self.catalog.delete(_stem(name))

    def _document(self, entry: CatalogEntry) -> dict[str, Any]:
        """The entry as JSON, with the addresses of what belongs to it."""
        document = entry.document()
        url = f"/api/recordings/{quote(entry.name)}"
        number = 0
        for segment in document["segments"]:
            number += segment["whole"]
            segment["url"] = f"{url}/parts/{number}" if segment["whole"] else None
            segment["type"] = MEDIA_TYPES[segment["container"]]
        is_shown = entry.snapshot is not None or self.is_running(entry.name)
        document |= {
            "file": document["segments"][0]["file"] if document["segments"] else None,
            "url": url if number else None,
            "thumbnail": f"{url}/thumbnail" if is_shown else None,
            "manifest": f"{url}/manifest" if entry.manifest else None,
            "data": f"{url}/data" if entry.data else None,
        }
        active = self._active.get(entry.name)
        if active is not None and active.running:
            # The files on the disk are behind.
            document |= {
                "duration": round(active.recorder.duration, 3),
                "size": active.recorder.bytes_written,
            }
        return document


def _stem(name: str) -> str:
    """The name of a recording, of which the first file's name is taken too."""
    stem, _, suffix = name.rpartition(".")
    return stem if suffix in MEDIA_TYPES else name
