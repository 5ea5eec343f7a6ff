"""Finishing what a crash left: torn files made whole, and the manifest completed."""

import datetime
import os
import pathlib
import secrets
from dataclasses import dataclass

import av

from mediapeer.media.catalog import PART, UNPLAYABLE, Catalog, CatalogEntry, EntrySegment, EntryState
from mediapeer.media.manifest import Manifest, ManifestTrack, RecordedData, Segment, write_manifest
from mediapeer.media.matroska import MatroskaFile, MatroskaTrack
from mediapeer.media.probe import (
    FileFacts,
    ProbeError,
    StreamFacts,
    first_picture,
    in_words,
    open_media,
    packets_of,
    probe,
    seconds,
)
from mediapeer.media.sink import FileSink

#: What ffmpeg calls the containers.
FORMATS = {"webm": "webm", "mkv": "matroska", "mp4": "mp4"}
#: Codecs that PyAV does not copy to Matroska, and the recorder's own muxer does.
_OUR_MUXERS = ("pcmu", "pcma", "g722")
#: What a file ends in while a repair makes it.
_TEMPORARY = ".repairing"


class RepairError(Exception):
    """A recording cannot be repaired. The message says why, in words for the person who asked."""


@dataclass(frozen=True, slots=True)
class RepairedFile:
    """A file that was made whole."""

    path: pathlib.Path
    "Where it is now."
    duration: float
    "In seconds."
    frames: int
    "Of all its tracks."
    size: int
    "In bytes."


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair has done."""

    name: str
    files: tuple[RepairedFile, ...]
    "None when the recording was whole."
    lost: tuple[str, ...]
    "Names of files in which there is nothing to play. They are kept under a name that ends in ``.unplayable``."
    duration: float
    "Of the recording, in seconds."

    @property
    def frames(self) -> int:
        """Of all files that were made whole."""
        return sum(file.frames for file in self.files)


def repair_recording(catalog: Catalog, name: str) -> RepairReport:
    """Make whole what nobody finished. It takes the time that copying the files takes; run it in a thread.

    A torn file stays until what could be read of it is written and has been read again. A recording that is whole
    is left as it is.

    :raises RepairError: when there is no such recording, it is being recorded, or nothing in it can be played.
    """
    entry = catalog.describe(name)
    if entry is None:
        raise RepairError(f"There is no recording {name} in {catalog.directory}.")
    if entry.state is EntryState.RECORDING:
        raise RepairError(f"{name} is being recorded: stop the recording first.")
    if entry.state is not EntryState.INTERRUPTED:
        return RepairReport(name, (), (), entry.duration or 0.0)
    repaired: list[RepairedFile] = []
    lost: list[EntrySegment] = []
    kept: list[tuple[EntrySegment, pathlib.Path, FileFacts]] = []
    for segment in entry.segments:
        try:
            if segment.is_whole:
                kept.append((segment, segment.path, probe(segment.path)))
                continue
            file = repair_file(segment.path)
            repaired.append(file)
            kept.append((segment, file.path, probe(file.path)))
        except (RepairError, ProbeError):
            lost.append(segment)
    kept = [each for each in kept if each[2].playable]
    if not kept:
        raise RepairError(
            f"There is nothing in {name} that can be played: it was interrupted before the first second was written."
        )
    _write_manifest(catalog, entry, kept, repaired)
    for segment in lost:
        _set_aside(segment.path)
    duration = max(segment.start + facts.duration for segment, _, facts in kept)
    return RepairReport(name, tuple(repaired), tuple(segment.path.name for segment in lost), duration)


def repair_file(path: pathlib.Path) -> RepairedFile:
    """Make one torn file whole: ``NAME.webm.part`` becomes ``NAME.webm``.

    :param path: what the recorder left; of WebM, Matroska or MP4, as its name says.
    :raises RepairError: when nothing in it can be played, or the whole file cannot be written.
    """
    final = path.with_name(path.name.removesuffix(PART))
    container = final.suffix[1:]
    if container not in FORMATS:
        raise RepairError(f"{path.name} is none of {', '.join(sorted(FORMATS))}.")
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        facts = probe(path)
        if not facts.playable:
            raise RepairError(f"There is nothing in {path.name} that can be played.")
        _copy(path, temporary, container, facts.playable)
        written = probe(temporary)
        missing = _count(facts) - _count(written)
        if missing > 0:
            raise RepairError(f"{path.name} could not be copied: {missing} frames would be lost.")
        _settle(temporary, final)
        if path != final:
            path.unlink(missing_ok=True)
    except ProbeError as error:
        raise RepairError(str(error)) from error
    except (
        av.FFmpegError,
        OSError,
        ValueError,
    ) as error:  # the last: a codec that the container does not take
        raise RepairError(f"{path.name} could not be made whole: {in_words(error)}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return RepairedFile(final, written.duration, _count(written), final.stat().st_size)


def _set_aside(path: pathlib.Path) -> None:
    """Keep a file that cannot be played under a name that no recording waits for."""
    try:
        path.replace(path.with_name(path.name.removesuffix(PART) + UNPLAYABLE))
    except OSError as error:
        raise RepairError(f"{path.name} cannot be renamed: {in_words(error)}.") from error


def _count(facts: FileFacts) -> int:
    return sum(stream.frames for stream in facts.playable)


def _copy(source: pathlib.Path, target: pathlib.Path, container: str, tracks: list[StreamFacts]) -> None:
    """Write the packets of a torn file to a new one, with a duration and an index."""
    if any(track.codec in _OUR_MUXERS for track in tracks):
        _copy_by_ourselves(source, target, tracks)
        return
    options = {"movflags": "+faststart"} if container == "mp4" else {}
    with (
        open_media(source) as torn,
        av.open(f"file:{target}", "w", format=FORMATS[container], options=options) as whole,
    ):
        indices = [track.index for track in tracks]
        outputs = {
            index: whole.add_stream_from_template(torn.streams[index], opaque=True) for index in indices
        }
        for packet in packets_of(torn, indices):
            packet.stream = outputs[packet.stream_index]
            whole.mux(packet)


def _copy_by_ourselves(source: pathlib.Path, target: pathlib.Path, tracks: list[StreamFacts]) -> None:
    """The same by the recorder's own muxer, to Matroska."""
    with open_media(source) as torn:
        indices = [track.index for track in tracks]
        described = [
            MatroskaTrack(
                track.codec,
                track.width or 0,
                track.height or 0,
                track.channels or 1,
                torn.streams[track.index].codec_context.extradata or b"",
            )
            for track in tracks
        ]
        whole = MatroskaFile(FileSink(target, 0), described, is_webm=False)
        try:
            for packet in packets_of(torn, indices):
                number = indices.index(packet.stream_index)
                data = bytes(packet)
                if tracks[number].codec in ("h264", "h265"):
                    data = _with_start_codes(data)
                start, length = seconds(packet)
                whole.write(number, data, round(start * 1000), round(length * 1000), packet.is_keyframe)
        finally:
            whole.close()


def _with_start_codes(data: bytes) -> bytes:
    """NAL units behind their lengths in four bytes as they stand behind start codes (Annex B)."""
    parts = []
    position = 0
    while position + 4 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        parts += [b"\0\0\0\1", data[position + 4 : position + 4 + length]]
        position += 4 + length
    return b"".join(parts)


def _settle(temporary: pathlib.Path, final: pathlib.Path) -> None:
    """Give a file its name once the disk has it, so that a loss of power leaves the one or the other."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(final)
    descriptor = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_manifest(
    catalog: Catalog,
    entry: CatalogEntry,
    kept: list[tuple[EntrySegment, pathlib.Path, FileFacts]],
    repaired: list[RepairedFile],
) -> None:
    """Say in the manifest what there is now."""
    manifest = entry.manifest or Manifest(session=entry.session or "", created=entry.created.isoformat())
    tracks = {track.id: track for track in manifest.tracks}
    for track in tracks.values():
        track.frames = track.keyframes = 0
    former = {segment.file.removesuffix(PART): segment for segment in manifest.segments}
    manifest.segments = []
    start = 0.0
    for segment, path, facts in kept:
        # A file of which nothing is known comes after those before it.
        start = segment.start if path.name in former else max(start, segment.start)
        ids = _name_tracks(facts, segment.tracks, tracks)
        manifest.segments.append(
            Segment(
                file=path.name,
                container=segment.container,
                start=start,
                duration=facts.duration,
                size=path.stat().st_size,
                started_at=former[path.name].started_at if path.name in former else None,
                tracks=ids,
            )
        )
        start += facts.duration
    manifest.tracks = list(tracks.values())
    manifest.state = "finished"
    manifest.duration = max(segment.start + segment.duration for segment in manifest.segments)
    manifest.size = sum(segment.size for segment in manifest.segments)
    moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    seconds = sum(file.duration for file in repaired)
    note = f"It was interrupted, and repaired at {moment}: {seconds:.1f} s were recovered."
    manifest.error = f"{manifest.error} {note}" if manifest.error else note
    _complete_beside(catalog, entry, manifest)
    try:
        write_manifest(catalog.manifest_path(entry.name), manifest)
    except OSError as error:
        raise RepairError(f"The manifest of {entry.name} cannot be written: {in_words(error)}.") from error


def _name_tracks(facts: FileFacts, ids: tuple[str, ...], tracks: dict[str, ManifestTrack]) -> list[str]:
    """The ids of a file's tracks, whose frames are counted; tracks that are not known are added."""
    names: list[str] = []
    for position, stream in enumerate(facts.streams):
        name = ids[position] if len(ids) == len(facts.streams) else None
        if name is None:
            name = _likely(stream, tracks, names)
        names.append(name)
        track = tracks.setdefault(name, ManifestTrack(id=name, kind=stream.kind))
        track.codec = track.codec or stream.codec
        track.width, track.height = track.width or stream.width, track.height or stream.height
        track.clock_rate = track.clock_rate or stream.clock_rate
        track.channels = track.channels or stream.channels
        track.frames += stream.frames
        track.keyframes += stream.keyframes
    return names


def _likely(stream: StreamFacts, tracks: dict[str, ManifestTrack], taken: list[str]) -> str:
    """The track of the same kind that no other stream of the file is, or a new name."""
    for name, track in tracks.items():
        if track.kind == stream.kind and name not in taken:
            return name
    name, number = stream.kind, 2
    while name in tracks:
        name, number = f"{stream.kind}-{number}", number + 1
    return name


def _complete_beside(catalog: Catalog, entry: CatalogEntry, manifest: Manifest) -> None:
    """The messages, counted, and a picture where there is none."""
    if entry.data is not None and manifest.data is None:
        with entry.data.open("rb") as file:
            manifest.data = RecordedData(entry.data.name, sum(1 for line in file if line.endswith(b"\n")))
    if entry.snapshot is not None:
        manifest.snapshot = entry.snapshot.name
        return
    manifest.snapshot = None
    for segment in manifest.segments:
        picture = first_picture(catalog.directory / segment.file)
        if picture is not None:
            manifest.snapshot = _write_picture(catalog.directory / f"{entry.name}.png", picture)
            return


def _write_picture(path: pathlib.Path, picture: bytes) -> str | None:
    """Write it beside the recording, which is whole without it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(picture)
        temporary.replace(path)  # a link of that name is replaced, not followed
    except OSError:
        temporary.unlink(missing_ok=True)
        return None
    return path.name
