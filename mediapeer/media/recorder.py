"""Recording what a peer sends: the interface a call uses, and the recorder that stands behind it for now."""

import asyncio
import concurrent.futures
import enum
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from mediapeer.media.webm import FrameQueue, Item, WebmWriter

logger = logging.getLogger(__name__)

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
    """A finished recording."""

    path: pathlib.Path
    size: int
    "Bytes."
    duration: float
    "Seconds."
    tracks: tuple[str, ...]
    "The kinds of its tracks: ``audio``, ``video``."
    dropped: Mapping[str, int]
    "Frames left out, by kind, because the encoder was late."


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
        """Bytes in the file so far."""

    @property
    def error(self) -> str | None:
        """Why it failed, in words, once ``state`` is ``FAILED``."""

    def start(self) -> None:
        """Begin. The tracks are read from now on."""

    async def stop(self) -> RecordingSummary:
        """Close the file and give it its name. Idempotent.

        :raises RecordingError: when there is no recording to speak of; ``state`` is then ``FAILED``.
        """


class WebmRecorder:
    """Decoded tracks into a WebM file with VP8 and Opus, encoded in a thread of its own.

    The file is called ``NAME.part`` until it is closed properly. A recording that fails, because the disk is
    full for one, ends by itself; the tracks, and so the call, go on. Use it from one event loop.

    :param path: the file to make.
    :param tracks: what to record; the recorder becomes their reader. Frames are not written to.
    :param minimum_free: what to leave free on the disk, in bytes.
    :param clock: tells the seconds of a monotonic clock; the event loop's own by default.
    :raises RecordingError: when there are no tracks.
    """

    def __init__(
        self,
        path: pathlib.Path,
        tracks: Sequence[MediaStreamTrack],
        minimum_free: int = DEFAULT_MINIMUM_FREE,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not tracks:
            raise RecordingError("There is no audio and no video to record.")
        self.path = path
        self._part = path.with_name(path.name + ".part")
        self._tracks = list(tracks)
        kinds = [track.kind for track in tracks]
        self._queue = FrameQueue(kinds)
        self._writer = WebmWriter(self._part, kinds, minimum_free, self._queue)
        self._readers: list[asyncio.Task[None]] = []
        self._completion: asyncio.Task[RecordingSummary | None] | None = None
        self._error: str | None = None
        self._clock = clock or asyncio.get_running_loop().time

    @property
    def state(self) -> RecordingState:
        """Where it is."""
        if self._error is not None:
            return RecordingState.FAILED
        if self._completion is None:
            return RecordingState.NEW
        if self._completion.done():
            return RecordingState.FINISHED
        return RecordingState.RECORDING if self._writer.written_kinds else RecordingState.WAITING

    @property
    def duration(self) -> float:
        """Seconds recorded so far."""
        return self._writer.duration

    @property
    def bytes_written(self) -> int:
        """Bytes in the file so far."""
        return self._writer.size

    @property
    def error(self) -> str | None:
        """Why it failed, in words."""
        return self._error

    def start(self) -> None:
        """Begin: read the tracks, and write in a thread. Has no effect the second time."""
        if self._completion is not None:
            return
        self._completion = asyncio.create_task(self._complete(), name=f"recording {self.path.name}")
        self._readers = [
            asyncio.create_task(self._read(index, track), name=f"recording {track.kind} to {self.path.name}")
            for index, track in enumerate(self._tracks)
        ]

    async def stop(self) -> RecordingSummary:
        """Stop reading, write what has come, close the file and give it its name.

        :raises RecordingError: when nothing came, or writing failed.
        """
        if self._completion is None:
            raise RecordingError("The recording was never started.")
        self._queue.close()
        # Whoever waits may give up waiting; the file is closed all the same.
        summary = await asyncio.shield(self._completion)
        if summary is None:
            raise RecordingError(self._error)
        return summary

    async def _read(self, index: int, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            self._queue.put(Item(index, self._clock(), frame))

    async def _complete(self) -> RecordingSummary | None:
        """Wait for the writer's thread; ``None`` when it failed."""
        executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="recording")
        try:
            await asyncio.get_running_loop().run_in_executor(executor, self._write)
            if not self._writer.written_kinds:
                self._error = "Nothing was recorded: no audio or video arrived."
                return None
        except Exception as error:
            # Encoders and muxers fail in many ways, and none of them may reach the call.
            self._error = f"The recording ended: {_in_words(error)}."
            expected = isinstance(error, OSError | av.FFmpegError)
            logger.error("recording %s ended: %s", self.path.name, error, exc_info=not expected)
            return None
        finally:
            # Also when the event loop ends without stop(): the thread finishes the file, and the process can end.
            self._queue.close()
            executor.shutdown(wait=False)
            await self._stop_reading()
        return RecordingSummary(
            self.path,
            self.path.stat().st_size,
            self._writer.duration,
            tuple(self._writer.written_kinds),
            dict(self._queue.dropped),
        )

    def _write(self) -> None:
        """In the thread: write the file to its end, and give it its name."""
        self._writer.run()
        if self._writer.written_kinds:
            self._part.rename(self.path)

    async def _stop_reading(self) -> None:
        for task in self._readers:
            task.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for track in self._tracks:
            track.stop()


def _in_words(error: BaseException) -> str:
    """What went wrong, without the name of a class."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
