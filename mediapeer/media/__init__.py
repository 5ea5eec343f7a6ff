"""What a program does with tracks: hand them to several readers, and record them."""

from mediapeer.media.recorder import (
    CallRecorder,
    RecordingError,
    RecordingState,
    RecordingSummary,
    WebmRecorder,
)
from mediapeer.media.relay import RelayedTrack, TrackRelay

__all__ = [
    "CallRecorder",
    "RecordingError",
    "RecordingState",
    "RecordingSummary",
    "RelayedTrack",
    "TrackRelay",
    "WebmRecorder",
]
