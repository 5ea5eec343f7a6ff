"""What a program does with tracks: play files, hand them to several readers, and record them."""

from mediapeer.media.manifest import Manifest, ManifestError, ManifestTrack, Segment
from mediapeer.media.media_recorder import MediaRecorder
from mediapeer.media.options import RecordingOptions
from mediapeer.media.player import FilePlayer, FileTrack, PlayerError
from mediapeer.media.recorder import Recorder
from mediapeer.media.relay import RelayedTrack, TrackRelay
from mediapeer.media.state import CallRecorder, RecordingError, RecordingState, RecordingSummary

__all__ = [
    "CallRecorder",
    "FilePlayer",
    "FileTrack",
    "Manifest",
    "ManifestError",
    "ManifestTrack",
    "MediaRecorder",
    "PlayerError",
    "Recorder",
    "RecordingError",
    "RecordingOptions",
    "RecordingState",
    "RecordingSummary",
    "RelayedTrack",
    "Segment",
    "TrackRelay",
]
