"""How a recording is made."""

from dataclasses import dataclass

from mediapeer.media.container import CONTAINERS
from mediapeer.media.state import DEFAULT_MINIMUM_FREE

LAYOUTS = ("call", "track")


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """How a recording is made.

    :raises ValueError: when an option is not one of those named here, or no such number can be.
    """

    container: str = "auto"
    """``webm``, ``mp4`` or ``mkv``; ``auto``: WebM for VP8, VP9, AV1 and Opus, MP4 for H.264 and H.265 with
    Opus, Matroska for anything else. One that cannot hold the codecs gives way to one that can."""
    layout: str = "call"
    "``call``: all tracks in one file; ``track``: a file for each."
    segment_duration: float | None = None
    "When to begin another file, at the next keyframe, in seconds. MP4 files end after an hour in any case."
    segment_size: int | None = None
    "When to begin another file, at the next keyframe, in bytes."
    maximum_duration: float | None = None
    "When to end the recording, in seconds."
    maximum_size: int | None = None
    "When to end the recording, in bytes of all files."
    minimum_free: int = DEFAULT_MINIMUM_FREE
    "A recording ends rather than leave less than this on the disk, in bytes."
    skip_until_keyframe: bool = True
    "Whether pictures are left out after a loss until the next keyframe: they would be shown broken."
    manifest: bool = True
    "Whether a file ``NAME.json`` says what the recording is."
    transcode: bool = False
    "Whether tracks are decoded and encoded anew, as VP8 and Opus. It costs many times as much."

    def __post_init__(self) -> None:
        if self.container not in ("auto", *CONTAINERS):
            raise ValueError(f"There is no container {self.container!r}: use auto, webm, mp4 or mkv.")
        if self.layout not in LAYOUTS:
            raise ValueError(f"There is no layout {self.layout!r}: use call or track.")
        for name in ("segment_duration", "segment_size", "maximum_duration", "maximum_size"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be more than zero.")
        if self.minimum_free < 0:
            raise ValueError("minimum_free must not be negative.")
