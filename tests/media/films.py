"""Recordings for tests, made by ffmpeg's command, and what ffmpeg's commands say of files."""

import json
import pathlib
import subprocess
from typing import Any

from mediapeer.media.manifest import Manifest, ManifestTrack, RecordedData, Segment, write_manifest

#: What the recorder writes with each container, so that little is lost when it is killed.
_LIVE = {
    "webm": ("-cluster_time_limit", "1000", "-flush_packets", "1"),
    "mkv": ("-cluster_time_limit", "1000", "-flush_packets", "1"),
    "mp4": ("-movflags", "frag_keyframe+empty_moov+default_base_moof", "-frag_duration", "500000"),
}
ENCODERS = {
    "vp8": ("libvpx", "-deadline", "realtime", "-cpu-used", "8"),
    "vp9": ("libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "h264": ("libx264", "-preset", "ultrafast", "-bf", "0"),
    "h265": ("libx265", "-preset", "ultrafast", "-x265-params", "bframes=0:log-level=none"),
}


def make_film(
    path: pathlib.Path,
    seconds: float = 4,
    *,
    video: str | None = "vp8",
    audio: str | None = "libopus",
    size: str = "160x120",
    container: str | None = None,
) -> pathlib.Path:
    """A moving picture with a keyframe each second, and a tone."""
    inputs, codecs = [], []
    if video:
        inputs += ["-f", "lavfi", "-i", f"testsrc=size={size}:rate=30:duration={seconds}"]
        # One thread: libvpx's spin while they wait for each other, for minutes where others have the processors.
        codecs += [
            "-c:v",
            *ENCODERS[video],
            "-threads",
            "1",
            "-g",
            "30",
            "-pix_fmt",
            "yuv420p",
            "-b:v",
            "300k",
        ]
    if audio:
        inputs += ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={seconds}"]
        codecs += ["-c:a", audio]
    container = container or path.suffix[1:]
    kind = {"mkv": "matroska"}.get(container, container)
    command = ["ffmpeg", "-v", "error", "-y", *inputs, *codecs, *_LIVE[container], "-f", kind, str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def probe(path: pathlib.Path) -> dict[str, Any]:
    """What ffprobe says: ``duration`` in seconds, and for each kind of track its facts, with the packets counted."""
    command = [
        "ffprobe",
        "-v",
        "error",
        "-count_packets",
        "-show_streams",
        "-show_format",
        "-of",
        "json",
        str(path),
    ]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    streams = {stream["codec_type"]: stream for stream in said["streams"]}
    return {"duration": float(said["format"]["duration"]), "format": said["format"]["format_name"], **streams}


def decoding_errors(path: pathlib.Path) -> str:
    """What ffmpeg complains of when it decodes a file to its end; nothing, of one that is in order."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "null", "-"]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stderr + (f"status {result.returncode}" if result.returncode else "")


def note(directory: pathlib.Path, name: str, *files: tuple[str, float, float], **changes: Any) -> Manifest:
    """Write the manifest of a recording with a picture and a tone: of each file its name, start and length."""
    manifest = Manifest(
        session="session",
        created="2026-01-02T03:04:05+00:00",
        state="finished",
        duration=max((start + length for _, start, length in files), default=0.0),
        tracks=[
            ManifestTrack(id="v", kind="video", codec="vp8", width=160, height=120),
            ManifestTrack(id="a", kind="audio", codec="opus", clock_rate=48_000),
        ],
        segments=[
            Segment(file, file.removesuffix(".part")[-4:].strip("."), start, length, tracks=["v", "a"])
            for file, start, length in files
        ],
    )
    if "messages" in changes:
        manifest.data = RecordedData(f"{name}.data.jsonl", changes.pop("messages"))
    for key, value in changes.items():
        setattr(manifest, key, value)
    write_manifest(directory / f"{name}.json", manifest)
    return manifest
