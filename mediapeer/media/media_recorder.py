"""A recorder with the face of aiortc's, for programs that come from there."""

import logging
import pathlib

from aiortc import MediaStreamTrack

from mediapeer.media.container import CONTAINERS
from mediapeer.media.options import RecordingOptions
from mediapeer.media.recorder import Recorder
from mediapeer.media.state import RecordingError
from mediapeer.rtp.frame import EncodedTrack

logger = logging.getLogger(__name__)


class MediaRecorder:
    """Writes tracks to a file, as aiortc's ``MediaRecorder`` does, without decoding what a peer has sent.

    A track of the program's own, which is not encoded, is encoded as VP8 or Opus. Where the container cannot
    hold what comes, a file of another kind is made, and a change of codec makes further ones: see
    :class:`Recorder`, which also says how it went. A file that is there is not written over: ``NAME-2`` is made
    beside it, and so on. The log says so.

    :param file: the file to make: WebM, MP4 or Matroska by its suffix.
    :param format: one of ``webm``, ``mp4``, ``mkv``, if the suffix does not say so.
    :raises ValueError: when it is to be another kind of file.
    """

    def __init__(self, file: pathlib.Path | str, format: str | None = None) -> None:
        path = pathlib.Path(file)
        container = format or path.suffix[1:] or "auto"
        if container not in (*CONTAINERS, "auto"):
            raise ValueError(f"Recordings are webm, mp4 or mkv files, and none is {container}.")
        self._wanted = path
        self._recorder = Recorder(path, options=RecordingOptions(container=container, manifest=False))

    def addTrack(self, track: EncodedTrack | MediaStreamTrack) -> None:
        """Record this track too."""
        self._recorder.add_track(track)

    async def start(self) -> None:
        """Begin.

        :raises RecordingError: when the directory is not there, or cannot be written to.
        """
        self._recorder.start()

    async def stop(self) -> None:
        """Close the file. What went wrong is logged, as there is nobody to be told."""
        try:
            summary = await self._recorder.stop()
        except RecordingError as error:
            logger.warning("recording %s: %s", self._wanted.name, error)
            return
        if summary.files != (self._wanted,):
            logger.warning(
                "recording %s is in %s", self._wanted.name, ", ".join(file.name for file in summary.files)
            )
