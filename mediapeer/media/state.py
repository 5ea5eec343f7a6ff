"""What every recorder says of itself: where it is, what has come of it, and its one error."""

import enum
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

#: A recording ends rather than leave less than this on the disk, in bytes.
DEFAULT_MINIMUM_FREE = 100_000_000


class RecordingError(Exception):
    """A recording did not come about. The message says why, in words for the person who asked for it."""


class RecordingState(enum.StrEnum):
    """Where a recording is."""

    NEW = "new"
    WAITING = "waiting"
    "Started, and no frame has come yet."
    RECORDING = "recording"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RecordingSummary:
    """A recording that has ended."""

    path: pathlib.Path
    "Its file; the first of them, if it has several."
    size: int
    "Bytes, of all files."
    duration: float
    "Seconds."
    tracks: tuple[str, ...]
    "The kinds of its tracks: ``audio``, ``video``."
    dropped: Mapping[str, int]
    "Frames left out, by kind: the writer was late, or they could not be shown without others that were lost."
    files: tuple[pathlib.Path, ...] = ()
    "All files with audio and video, in the order of time."
    manifest: pathlib.Path | None = None
    "The file that describes it, if one was written."
    error: str | None = None
    "Why it ended before it was stopped, in words: what was written until then can be played."


class CallRecorder(Protocol):
    """What a call needs of a recorder, whatever it does inside."""

    @property
    def state(self) -> RecordingState:
        """Where it is."""

    @property
    def duration(self) -> float:
        """Seconds recorded so far."""

    @property
    def bytes_written(self) -> int:
        """Bytes in the files so far."""

    @property
    def error(self) -> str | None:
        """Why it failed, in words, once ``state`` is ``FAILED``."""

    def start(self) -> None:
        """Begin. The tracks are read from now on."""

    async def stop(self) -> RecordingSummary:
        """Close the file and give it its name. Idempotent.

        :raises RecordingError: when there is no recording to speak of; ``state`` is then ``FAILED``.
        """
