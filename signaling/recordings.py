"""The directory of recordings: making them, listing them, taking them away."""

import datetime
import json
import logging
import pathlib
import re
import secrets
import stat
from collections.abc import Callable, Sequence
from typing import Any

from mediapeer import MediaStreamTrack
from mediapeer.media import CallRecorder, RecordingError, RecordingState, RecordingSummary, WebmRecorder

logger = logging.getLogger(__name__)

SUFFIX = ".webm"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.webm")
_RUNNING = (RecordingState.WAITING, RecordingState.RECORDING)

RecorderFactory = Callable[[pathlib.Path, Sequence[MediaStreamTrack]], CallRecorder]


class ActiveRecording:
    """A recording of a call, from its start until it is in the list or has failed."""

    def __init__(self, store: "RecordingStore", call_id: str, name: str, recorder: CallRecorder) -> None:
        self.name = name
        self.call_id = call_id
        self.created_at = datetime.datetime.now(datetime.UTC)
        self._store = store
        self._recorder = recorder
        self._entry: dict[str, Any] | None = None

    @property
    def running(self) -> bool:
        """Whether it records, or waits for the first frame."""
        return self._recorder.state in _RUNNING

    def describe(self) -> dict[str, Any]:
        """Its state as JSON."""
        return {
            "name": self.name,
            "state": self._recorder.state.value,
            "duration": round(self._recorder.duration, 3),
            "size": self._recorder.bytes_written,
            "created": self.created_at.isoformat(),
            "error": self._recorder.error,
        }

    async def stop(self) -> dict[str, Any]:
        """Close the file and put it in the list. Idempotent.

        :returns: its entry in the list.
        :raises RecordingError: when nothing was recorded, or it failed.
        """
        summary = await self._recorder.stop()
        if self._entry is None:
            # Once: by the next time it may have been deleted.
            self._entry = self._store.add(self, summary)
        return self._entry

    async def close(self) -> None:
        """Stop it because the call ends: what goes wrong is logged."""
        try:
            await self.stop()
        except RecordingError as error:
            logger.warning("call %s: recording %s: %s", self.call_id, self.name, error)


class RecordingStore:
    """Recordings in one directory, each with a ``.json`` beside it that says what it is.

    :param directory: where they are; it is made when the first recording starts.
    :param recorder_factory: makes the recorder for a path and tracks.
    """

    def __init__(self, directory: pathlib.Path, recorder_factory: RecorderFactory | None = None) -> None:
        self.directory = directory
        self._new_recorder: RecorderFactory = recorder_factory or WebmRecorder

    def start(
        self, call_id: str, tracks: Sequence[MediaStreamTrack], previous: ActiveRecording | None
    ) -> ActiveRecording:
        """Begin to record the tracks.

        :raises RecordingError: when ``previous`` still runs, there are no tracks, or the directory cannot be
            made.
        """
        if previous is not None and previous.running:
            raise RecordingError("The call is being recorded already.")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(f"The directory for recordings cannot be made: {error.strerror}.") from error
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d_%H-%M-%S")
        name = f"{moment}_{secrets.token_hex(3)}{SUFFIX}"
        recorder = self._new_recorder(self.directory / name, tracks)
        recorder.start()
        logger.info("call %s: recording to %s", call_id, name)
        return ActiveRecording(self, call_id, name, recorder)

    def add(self, recording: ActiveRecording, summary: RecordingSummary) -> dict[str, Any]:
        """Write down what a finished recording is.

        :returns: its entry in the list.
        """
        facts = {
            "duration": round(summary.duration, 3),
            "created": recording.created_at.isoformat(),
            "call": recording.call_id,
            "tracks": list(summary.tracks),
            "dropped": dict(summary.dropped),
        }
        try:
            self._facts_path(recording.name).write_text(json.dumps(facts), encoding="utf-8")
        except OSError as error:
            # The recording is whole without it.
            logger.warning("the facts about %s were not written: %s", recording.name, error)
        return {"name": recording.name, "size": summary.size, **facts}

    def list(self) -> list[dict[str, Any]]:
        """Every finished recording, the newest first."""
        try:
            names = sorted((path.name for path in self.directory.iterdir()), reverse=True)
        except OSError:
            return []  # there is none before the first recording
        entries = (self.describe(name) for name in names)
        return [entry for entry in entries if entry is not None]

    def describe(self, name: str) -> dict[str, Any] | None:
        """The entry of a finished recording, or ``None`` when there is none of that name."""
        path = self.path(name)
        if path is None:
            return None
        status = path.stat()
        facts = self._read_facts(name)
        created = (
            facts.get("created") or datetime.datetime.fromtimestamp(status.st_mtime, datetime.UTC).isoformat()
        )
        return {
            "name": name,
            "size": status.st_size,
            "duration": facts.get("duration"),
            "created": created,
            "call": facts.get("call"),
            "tracks": facts.get("tracks", []),
            "dropped": facts.get("dropped", {}),
        }

    def path(self, name: str) -> pathlib.Path | None:
        """The file of a finished recording; ``None`` when there is none, or the name is not one of ours."""
        if not _NAME.fullmatch(name):
            return None
        path = self.directory / name
        try:
            # A link could lead out of the directory.
            return path if stat.S_ISREG(path.lstat().st_mode) else None
        except OSError:
            return None

    def delete(self, name: str) -> bool:
        """Take a recording away; false when there is none of that name."""
        path = self.path(name)
        if path is None:
            return False
        path.unlink(missing_ok=True)
        self._facts_path(name).unlink(missing_ok=True)
        return True

    def _facts_path(self, name: str) -> pathlib.Path:
        return self.directory / (name.removesuffix(SUFFIX) + ".json")

    def _read_facts(self, name: str) -> dict[str, Any]:
        try:
            facts = json.loads(self._facts_path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}
